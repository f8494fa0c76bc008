package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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

// A full disk on the server refuses what it cannot keep, keeps what it has, and
// goes on when there is room.
func TestFullDiskOnTheServerHalfAppliesNothingAndGoesOn(t *testing.T) {
	t.Parallel()
	s := running(t, 3, nil)
	s.server.stop()
	// The same server, on a disk that is about to be full.
	data := filepath.Join(s.dir, "small")
	smallDisk(t, data, "24m")
	check(t, os.CopyFS(data, os.DirFS(s.config["data"].(string))))
	check(t, filepath.Walk(data, func(p string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().IsRegular() {
			err = os.Chmod(p, 0o600) // CopyFS opens keys to all
		}
		return err
	}))
	s.config["data"] = data
	s.start()
	s.publish("1.1.0", good)
	s.rollOut("1.1.0", policy(map[string]any{"probation": "4s", "grace": "20s"}))
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
	until(t, "an order is refused", func() bool {
		_, refused = s.try("tenant", "add", "another")
		if refused == nil {
			_, refused = s.try("tenant", "pause", "another")
		}
		return refused != nil
	})
	if text := refused.Error(); !strings.Contains(text, "unavailable") && !strings.Contains(text, "database or disk failed") {
		t.Errorf("a full disk is answered with %v", refused)
	}
	pids := map[*agent]seen{}
	for _, a := range s.agents {
		pids[a] = a.engine()
	}
	s.server.kill() // and it dies of it
	for a, e := range pids {
		if now := a.engine(); now != e {
			t.Errorf("%s: %v runs instead of %v", a.id, now, e)
		}
	}
	check(t, os.Remove(filler))
	s.start()
	if r := s.become("R-2", "finished"); r.Counts != (counts{Exposed: 3, Proven: 3}) {
		t.Errorf("counts %+v", r.Counts)
	}
	s.verify()
}
