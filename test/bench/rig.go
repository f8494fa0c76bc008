package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/headgate/headgate/store"
	"github.com/headgate/headgate/store/storetest"
)

// product is what the bench's fleet runs: version before, until it may go to next.
const (
	product = "acme/rules"
	before  = "1.0.0"
	next    = "3.0.0"
)

// rig is a real server with a fleet in its database and one rollout.
type rig struct {
	dir    string
	server *exec.Cmd
	addr   string
	env    []string
	dsn    string
	db     int // process of the database; 0 if it is in the server
	ids    []int64
	order  []int // of the endpoints, shuffled: a fleet does not ask in the order in which it enrolled
}

// newRig starts a server on a database, publishes a release and enrols n
// endpoints. The caller stops it. profile names the server's profile, if one is
// to be written.
func newRig(ctx context.Context, s settings, dsn string, db, n int, profile string) (r *rig, err error) {
	r = &rig{dsn: dsn, db: db}
	if r.dir, err = os.MkdirTemp("", "headgate-bench-"); err != nil {
		return nil, err
	}
	defer func(r *rig) {
		if err != nil {
			r.stop()
		}
	}(r)
	if err := r.start(ctx, s, profile); err != nil {
		return nil, err
	}
	if err := r.publish(ctx, s.headgate); err != nil {
		return nil, err
	}
	if r.dsn == "" {
		r.dsn = filepath.Join(r.dir, "data", "headgate.db")
	}
	st, err := store.Open(ctx, r.dsn, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer st.Close()
	if r.ids, err = storetest.Populate(ctx, st, "bench", store.ReleaseKey{Product: product, Version: before}, n, time.Now()); err != nil {
		return nil, err
	}
	r.order = rand.New(rand.NewPCG(1, 2)).Perm(n)
	return r, settle(ctx, st)
}

// settle has the database do now what the bulk load left to be done, so that it
// is not charged to what is measured.
func settle(ctx context.Context, st *store.Store) error {
	texts := []string{`PRAGMA wal_checkpoint(TRUNCATE)`}
	if st.Dialect() == "postgres" {
		texts = []string{`VACUUM (ANALYZE)`, `CHECKPOINT`}
	}
	for _, text := range texts {
		if _, err := st.DB().ExecContext(ctx, text); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return nil
}

// start runs the server and waits until it says where it is.
func (r *rig) start(ctx context.Context, s settings, profile string) error {
	args := []string{"server", "--data", filepath.Join(r.dir, "data"), "--listen", "127.0.0.1:0", "--insecure-http", "-o", "json", "--log-level", "error"}
	if r.dsn != "" {
		args = append(args, "--database", r.dsn)
	}
	if s.profile != "" && profile != "" {
		args = append(args, "--cpu-profile", filepath.Join(s.profile, profile+".pprof"))
	}
	r.server = exec.CommandContext(ctx, s.headgate, args...)
	r.server.Cancel = func() error { return r.server.Process.Signal(syscall.SIGTERM) }
	r.server.WaitDelay = 10 * time.Second
	r.server.Stderr = os.Stderr
	out, err := r.server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := r.server.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("wait for the server: %w", err)
	}
	var at struct {
		URL       string `json:"url"`
		TokenFile string `json:"token_file"`
	}
	if err := json.Unmarshal(line, &at); err != nil {
		return fmt.Errorf("read where the server is: %w", err)
	}
	r.addr = strings.TrimPrefix(at.URL, "http://")
	r.env = append(os.Environ(), "HEADGATE_SERVER="+at.URL, "HEADGATE_TOKEN_FILE="+at.TokenFile, "HEADGATE_PIN=")
	return nil
}

func (r *rig) stop() {
	if r.server != nil && r.server.Process != nil {
		r.server.Process.Signal(syscall.SIGTERM)
		if err := r.server.Wait(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: the server ended:", err)
		}
	}
	os.RemoveAll(r.dir)
}

// headgate runs one command.
func (r *rig) headgate(ctx context.Context, bin string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, bin, append(args, "--yes", "-o", "json")...)
	c.Env, c.Dir = r.env, r.dir
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("headgate %s: %w: %s", strings.Join(args, " "), err, errs.Bytes())
	}
	return out, nil
}

// publish makes keys, the root of trust, a vendor and two releases.
func (r *rig) publish(ctx context.Context, bin string) error {
	commands := []string{
		"key new a.key b.key v.key w.key",
		"root new --operator a.key.pub --operator b.key.pub --key a.key --key b.key",
		"vendor add acme --vendor-key v.key.pub --vendor-key w.key.pub --threshold 2 --key a.key --key b.key",
		"product add " + product,
		"tenant add bench",
	}
	for _, v := range []string{before, next} {
		commands = append(commands,
			"release init content-"+v+" --demo "+v,
			"release sign --dir content-"+v+" --product "+product+" --version "+v+" --bundle bundle-"+v+" --key v.key",
			"release sign --bundle bundle-"+v+" --key w.key",
			"release publish --bundle bundle-"+v)
	}
	for _, c := range commands {
		if _, err := r.headgate(ctx, bin, strings.Fields(c)...); err != nil {
			return err
		}
	}
	return nil
}

// rollout starts a rollout with the window and returns the release's digest.
func (r *rig) rollout(ctx context.Context, bin string, window int) (digest string, err error) {
	policy := fmt.Sprintf(`{"name":"bench","ladder":[%d],"probation":"1ms","grace":"10m","max_harmed":1000000000}`, window)
	if err := os.WriteFile(filepath.Join(r.dir, "policy.json"), []byte(policy), 0o600); err != nil {
		return "", err
	}
	if _, err := r.headgate(ctx, bin, "rollout", "start", product, next, "--policy", "policy.json"); err != nil {
		return "", err
	}
	var list struct {
		Releases []struct {
			Version string `json:"version"`
			Digest  string `json:"digest"`
		} `json:"releases"`
	}
	out, err := r.headgate(ctx, bin, "release", "list")
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return "", fmt.Errorf("read the releases: %w: %s", err, out)
	}
	for _, r := range list.Releases {
		if r.Version == next {
			return r.Digest, nil
		}
	}
	return "", fmt.Errorf("release %s is not listed: %s", next, out)
}

// cost is processor time. SQLite's is in the server's.
type cost struct{ server, database time.Duration }

func (c cost) total() time.Duration { return c.server + c.database }

func (c cost) plus(d cost) cost { return cost{c.server + d.server, c.database + d.database} }

func (c cost) over(n int) cost {
	return cost{c.server / time.Duration(n), c.database / time.Duration(n)}
}

// cpu is the processor time of the server and its database so far.
func (r *rig) cpu() (c cost, err error) {
	if c.server, err = cpuOf([]int{r.server.Process.Pid}); err != nil || r.db == 0 {
		return c, err
	}
	c.database, err = cpuOf(family(r.db))
	return c, err
}
