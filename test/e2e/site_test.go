package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	vendor  = "acme"
	product = vendor + "/rules"
)

// site is a server process with its operators, vendor and tenant, and agents.
type site struct {
	t       *testing.T
	dir     string
	config  map[string]any // of the server
	server  *process
	url     string
	env     []string // of the command line
	proxied string   // where agents find the server, if not at url
	product string
	agents  []*agent
}

// newSite founds everything up to an enrolment token. change may set fields of
// the server's configuration.
func newSite(t *testing.T, change map[string]any) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), product: product}
	s.config = map[string]any{"data": filepath.Join(s.dir, "server"), "listen": "127.0.0.1:0", "insecure_http": true, "poll": "100ms", "beacon": "200ms", "decide_every": "100ms"}
	for k, v := range change {
		s.config[k] = v
	}
	s.start()
	s.found()
	return s
}

// start starts the server, at the address that it had before.
func (s *site) start() {
	s.t.Helper()
	b, err := json.Marshal(s.config)
	check(s.t, err)
	file := filepath.Join(s.dir, "server.json")
	check(s.t, os.WriteFile(file, b, 0o600))
	r, w := io.Pipe()
	s.server = spawn(s.t, filepath.Join(s.dir, "server.log"), os.Environ(), w, "server", "--config", file, "-o", "json")
	go func(p *process) { <-p.done; w.Close() }(s.server)
	line, err := bufio.NewReader(r).ReadBytes('\n')
	go io.Copy(io.Discard, r) // it ends with the server
	check(s.t, err)
	var at struct {
		URL       string `json:"url"`
		Pin       string `json:"pin"`
		TokenFile string `json:"token_file"`
	}
	check(s.t, json.Unmarshal(line, &at))
	s.url = at.URL
	s.config["listen"] = at.URL[strings.LastIndex(at.URL, "/")+1:]
	s.env = append(os.Environ(), "HEADGATE_SERVER="+at.URL, "HEADGATE_PIN="+at.Pin, "HEADGATE_TOKEN_FILE="+at.TokenFile)
}

// try runs a command of headgate, and returns what it wrote.
func (s *site) try(args ...string) (stdout []byte, err error) { return s.as(s.env, args...) }

func (s *site) as(env []string, args ...string) ([]byte, error) {
	cmd := exec.Command(headgate, append(args, "--yes")...)
	cmd.Env = env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("headgate %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.Bytes(), nil
}

func (s *site) do(args ...string) []byte {
	s.t.Helper()
	out, err := s.try(args...)
	check(s.t, err)
	return out
}

// read runs a command with -o json.
func (s *site) read(v any, args ...string) {
	s.t.Helper()
	check(s.t, json.Unmarshal(s.do(append(args, "-o", "json")...), v))
}

func (s *site) key(name string) string { return filepath.Join(s.dir, name+".key") }

func (s *site) found() {
	s.t.Helper()
	a, b, v1, v2 := s.key("alice"), s.key("bob"), s.key("v1"), s.key("v2")
	s.do("key", "new", a, b, v1, v2)
	s.do("root", "new", "--operator", a+".pub", "--operator", b+".pub", "--key", a, "--key", b)
	s.do("vendor", "add", vendor, "--vendor-key", v1+".pub", "--vendor-key", v2+".pub", "--threshold", "2", "--key", a, "--key", b)
	s.do("product", "add", s.product)
	s.do("tenant", "add", "corp")
	check(s.t, os.WriteFile(filepath.Join(s.dir, "enrol.token"), s.do("tenant", "token", "corp"), 0o600))
}

// content are the demo's good releases, and the one that crashes its engine.
const (
	good = "1.0.0"
	bad  = "2.0.0"
)

// publish signs and publishes a version with the demo content of another. Its
// watchdog and checks are quick enough for a test.
func (s *site) publish(version, content string, flags ...string) {
	s.t.Helper()
	dir := filepath.Join(s.dir, "release-"+version)
	s.do("release", "init", dir, "--demo", content)
	check(s.t, os.WriteFile(filepath.Join(dir, "version"), []byte(version), 0o644)) // another digest
	edit(s.t, filepath.Join(dir, "headgate.json"), `"10s"`, `"3s"`, `"5s"`, `"1s"`)
	s.publishDir(version, dir, flags...)
}

func (s *site) publishDir(version, dir string, flags ...string) {
	s.t.Helper()
	bundle := dir + ".bundle"
	s.do(append([]string{"release", "sign", "--dir", dir, "--product", s.product, "--version", version, "--bundle", bundle, "--key", s.key("v1")}, flags...)...)
	s.do("release", "sign", "--bundle", bundle, "--key", s.key("v2"))
	s.do("release", "publish", "--bundle", bundle)
}

// edit replaces words in a file.
func edit(t *testing.T, path string, words ...string) {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	for i := 0; i < len(words); i += 2 {
		if !bytes.Contains(b, []byte(words[i])) {
			t.Fatalf("%s does not hold %s", path, words[i])
		}
	}
	check(t, os.WriteFile(path, []byte(strings.NewReplacer(words...).Replace(string(b))), 0o644))
}

// policy is a quick one; over changes it.
func policy(over map[string]any) map[string]any {
	p := map[string]any{
		"name": "e2e", "ladder": []int{1, 1, 100}, "growth": 2, "probation": "1500ms", "grant_ttl": "4s", "grace": "2s", "max_harmed": 1,
		"max_harmed_share": 0.01, "min_proven": 1, "min_controls": 0.9, "fill_timeout": "2s", "revert_on_halt": true,
		"poll": "100ms", "poll_jitter": 0.2, "beacon": "200ms", "ages": []string{},
	}
	for k, v := range over {
		p[k] = v
	}
	return p
}

// everyone is a policy that holds nobody back.
func everyone(over map[string]any) map[string]any {
	p := policy(map[string]any{"ladder": []int{100}})
	for k, v := range over {
		p[k] = v
	}
	return p
}

// roll is a rollout as it is shown.
type roll struct {
	ID       int64  `json:"id,string"`
	State    string `json:"state"`
	Window   int64  `json:"window,string"`
	Reverted int64  `json:"reverted,string"`
	Started  int64  `json:"startedUs,string"`
	Asked    string `json:"resumeAskedBy"`
	Counts   counts `json:"counts"`
	Halted   []struct {
		Segment string `json:"segment"`
	} `json:"halted"`
	Reasons []struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	} `json:"reasons"`
}

type counts struct {
	Exposed int64 `json:"exposed,string"`
	Proven  int64 `json:"proven,string"`
	Harmed  int64 `json:"harmed,string"`
	Silent  int64 `json:"silent,string"`
	Open    int64 `json:"open,string"`
}

// rollOut starts a rollout and returns its name.
func (s *site) rollOut(version string, p map[string]any) string {
	s.t.Helper()
	b, err := json.Marshal(p)
	check(s.t, err)
	file := filepath.Join(s.dir, "policy.json")
	check(s.t, os.WriteFile(file, b, 0o644))
	var r struct {
		Rollout roll `json:"rollout"`
	}
	s.read(&r, "rollout", "start", s.product, version, "--policy", file)
	return fmt.Sprintf("R-%d", r.Rollout.ID)
}

func (s *site) show(id string) roll {
	s.t.Helper()
	var r struct {
		Rollout roll `json:"rollout"`
	}
	s.read(&r, "rollout", "show", id)
	return r.Rollout
}

// become waits until a rollout is in a state.
func (s *site) become(id, state string) roll {
	s.t.Helper()
	var r roll
	until(s.t, id+" is "+state, func() bool { r = s.show(id); return r.State == state })
	return r
}

// endpoint is an endpoint as it is shown.
type endpoint struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	Trouble       string `json:"trouble"`
	Installations []struct {
		Version string `json:"version"`
		Healthy bool   `json:"healthy"`
	} `json:"installations"`
	Exposures []struct {
		Rollout  int64  `json:"rollout,string"`
		State    string `json:"state"`
		Reason   string `json:"reason"`
		Detail   string `json:"detail"`
		Granted  int64  `json:"grantedUs,string"`
		Reverted bool   `json:"reverted"`
	} `json:"exposures"`
}

// runs is the version that it reports as running in health.
func (e endpoint) runs() string {
	if len(e.Installations) == 1 && e.Installations[0].Healthy {
		return e.Installations[0].Version
	}
	return ""
}

// verify ends the server and checks what it leaves.
func (s *site) verify() {
	s.t.Helper()
	for _, a := range s.agents {
		a.stop()
	}
	s.server.stop()
	db := filepath.Join(s.config["data"].(string), "headgate.db")
	if d, ok := s.config["database"].(string); ok {
		db = d
	}
	var found []struct {
		Check  string `json:"check"`
		OK     bool   `json:"ok"`
		Detail string `json:"detail"`
	}
	s.read(&found, "doctor", "--database", db)
	for _, f := range found {
		if !f.OK {
			s.t.Errorf("doctor: %s: %s", f.Check, f.Detail)
		}
	}
}

// agent is a real agent: keeper, link and engine.
type agent struct {
	*process
	s    *site
	home string
	id   string
}

// enrol makes n agents and starts them; flags are more of agent enrol's.
func (s *site) enrol(n int, flags ...string) []*agent {
	s.t.Helper()
	at := s.url
	if s.proxied != "" {
		at = s.proxied
	}
	env := append(s.env, "HEADGATE_SERVER="+at)
	for range n {
		a := &agent{s: s, home: filepath.Join(s.dir, fmt.Sprintf("agent%d", len(s.agents)))}
		out, err := s.as(env, append([]string{"agent", "enrol", "--dir", a.home, "--enrolment-token-file", filepath.Join(s.dir, "enrol.token"),
			"--name", filepath.Base(a.home), "--product", s.product, "--poll", "100ms", "-o", "json"}, flags...)...)
		check(s.t, err)
		var e struct {
			Endpoint string `json:"endpoint"`
		}
		check(s.t, json.Unmarshal(out, &e))
		a.id = e.Endpoint
		a.start()
		s.agents = append(s.agents, a)
	}
	return s.agents[len(s.agents)-n:]
}

func (a *agent) start() {
	a.s.t.Helper()
	a.process = spawn(a.s.t, a.home+".log", os.Environ(), nil, "agent", "run", "--dir", a.home)
}

func (a *agent) show() endpoint {
	a.s.t.Helper()
	var r struct {
		Endpoint endpoint `json:"endpoint"`
	}
	a.s.read(&r, "endpoint", "show", a.id)
	return r.Endpoint
}

// engine is the one engine that runs; more than one, or none, is a failure.
func (a *agent) engine() seen {
	a.s.t.Helper()
	all := engines(a.s.t, a.home)
	if len(all) != 1 {
		a.s.t.Fatalf("%s has %d engines, want exactly one: %v", filepath.Base(a.home), len(all), all)
	}
	return all[0]
}

// logged counts a text in the agent's log.
func (a *agent) logged(text string) int {
	a.s.t.Helper()
	b, err := os.ReadFile(a.log)
	check(a.s.t, err)
	return bytes.Count(b, []byte(text))
}

// running founds a site whose n agents run 1.0.0, proven by R-1.
func running(t *testing.T, n int, change map[string]any, before ...func(*site)) *site {
	t.Helper()
	s := newSite(t, change)
	for _, f := range before {
		f(s)
	}
	s.publish("1.0.0", good)
	s.enrol(n)
	s.rollOut("1.0.0", everyone(nil))
	if r := s.become("R-1", "finished"); r.Counts.Proven != int64(n) {
		t.Fatalf("1.0.0 is on %+v", r.Counts)
	}
	return s
}

// quiet waits until nothing under way can come to an effect any more.
func quiet(d time.Duration) { time.Sleep(d) }
