package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// smallDisk mounts a file system of some size at dir, and unmounts it when the
// test is over.
func smallDisk(t *testing.T, dir, size string) {
	t.Helper()
	check(t, os.MkdirAll(dir, 0o700))
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=0700")
	if errors.Is(err, syscall.EPERM) {
		t.Skip("mounting a small file system is not permitted here: full disks are not tested")
	}
	check(t, err)
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	check(t, err)
	defer f.Close()
	b := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(b)
	}
	for err = nil; err == nil; { // the last bytes of the last page
		_, err = f.Write(b[:1])
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
}

// A full disk on an endpoint stops the update with a clear word at both ends,
// and nothing else.
func TestFullDiskOnAnEndpointStopsTheUpdateAndSaysSo(t *testing.T) {
	t.Parallel()
	s := running(t, 1, nil, func(s *site) { smallDisk(t, filepath.Join(s.dir, "agent0"), "4m") })
	a := s.agents[0]
	old := a.engine()
	filler := filepath.Join(a.home, "filler")
	fill(t, filler)
	s.publish("1.1.0", good)
	s.rollOut("1.1.0", everyone(nil))
	const word = "no space left on device"
	until(t, "the operator sees it from the server", func() bool { return strings.Contains(a.show().Trouble, word) })
	if e := a.show(); e.runs() != "1.0.0" || len(e.Exposures) != 1 {
		t.Errorf("it runs %q after %d exposures", e.runs(), len(e.Exposures))
	}
	if a.logged(word) == 0 {
		t.Error("the agent's log does not say it")
	}
	if now := a.engine(); now != old {
		t.Errorf("%v runs instead of %v", now, old)
	}
	// A crash on a full disk: the last known good comes back.
	a.kill()
	a.start()
	until(t, "the last known good runs after a restart on a full disk", func() bool { return len(engines(t, a.home)) == 1 })
	check(t, os.Remove(filler))
	if r := s.become("R-2", "finished"); r.Counts != (counts{Exposed: 1, Proven: 1}) {
		t.Errorf("counts %+v", r.Counts)
	}
	until(t, "the trouble is over", func() bool { return a.show().Trouble == "" })
	s.verify()
}

// onSmallDisk moves the server to a disk of some size.
func (s *site) onSmallDisk(size string) (data string) {
	s.t.Helper()
	s.server.stop()
	data = filepath.Join(s.dir, "small")
	smallDisk(s.t, data, size)
	check(s.t, os.CopyFS(data, os.DirFS(s.config["data"].(string))))
	check(s.t, filepath.Walk(data, func(p string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().IsRegular() {
			err = os.Chmod(p, 0o600) // CopyFS opens keys to all
		}
		return err
	}))
	s.config["data"] = data
	s.start()
	return data
}

// readiness is what the server says of itself to a load balancer.
func (s *site) readiness() (status int, text string) {
	s.t.Helper()
	r, err := http.Get(s.url + "/readyz")
	check(s.t, err)
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	check(s.t, err)
	return r.StatusCode, strings.TrimSpace(string(b))
}

// A full disk on the server refuses what it cannot keep, keeps what it has, says
// so, and goes on when there is room: the same process, or the next one if it
// dies of it.
func TestFullDiskOnTheServerHalfAppliesNothingAndGoesOn(t *testing.T) {
	t.Parallel()
	for name, dies := range map[string]bool{"in place": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fullServer(t, dies)
		})
	}
}

func fullServer(t *testing.T, dies bool) {
	s := running(t, 3, nil)
	data := s.onSmallDisk("24m")
	s.publish("1.1.0", good)
	s.rollOut("1.1.0", policy(map[string]any{"ladder": []int{1, 100}, "probation": "4s", "grace": "60s"}))
	until(t, "the first endpoint has it", func() bool {
		n := 0
		for _, a := range s.agents {
			n += a.logged(`"release activated"`)
		}
		return n == 4
	})
	filler := filepath.Join(data, "filler")
	fill(t, filler)
	var refused error
	added := 0
	until(t, "an order is refused", func() bool {
		if _, refused = s.try("tenant", "add", fmt.Sprint("another", added)); refused == nil {
			added++
		}
		return refused != nil
	})
	if text := refused.Error(); !strings.Contains(text, "the database's disk is full") {
		t.Errorf("a full disk is answered with %v", refused)
	}
	if status, text := s.readiness(); status != http.StatusServiceUnavailable || text != "database: its disk is full" {
		t.Errorf("readiness is %d %q", status, text)
	}
	r, err := http.Post(s.url+"/headgate.v1.AgentService/Beacon", "application/json", nil) // reading needs no room
	check(t, err)
	r.Body.Close()
	if r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a beacon without a token is answered with %s", r.Status)
	}
	pids := map[*agent]seen{}
	for _, a := range s.agents {
		pids[a] = a.engine()
	}
	if dies {
		s.server.kill()
	} else {
		quiet(3 * time.Second) // loops, jobs and agents meet the full disk
	}
	for a, e := range pids {
		if now := a.engine(); now != e {
			t.Errorf("%s: %v runs instead of %v", a.id, now, e)
		}
	}
	check(t, os.Remove(filler))
	if dies {
		s.start()
	}
	until(t, "it is ready again", func() bool { status, _ := s.readiness(); return status == http.StatusOK })
	if r := s.become("R-2", "finished"); r.Counts != (counts{Exposed: 3, Proven: 3}) {
		t.Errorf("counts %+v", r.Counts)
	}
	var list struct {
		Tenants []struct {
			Name string `json:"name"`
		} `json:"tenants"`
	}
	if s.read(&list, "tenant", "list"); len(list.Tenants) != 1+added {
		t.Errorf("%d tenants, want what was acknowledged: 1 and %d", len(list.Tenants), added)
	}
	s.verify()
}
