package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/api/headgate/v1/headgatev1connect"
	"github.com/headgate/headgate/release/tuf"
)

// run runs one command line against nothing but the environment.
func run(t *testing.T, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	status = Main(context.Background(), Programs{}, args, strings.NewReader(""), &o, &e)
	return status, o.String(), e.String()
}

func TestCommandLinesThatCannotBeMeantExitWith2(t *testing.T) {
	for _, args := range [][]string{
		{"frobnicate"}, {"rollout", "frobnicate"}, {"rollout", "show"}, {"rollout", "show", "--frob", "R-1"},
		{"rollout", "show", "R-x"}, {"tenant", "list"}, {"tenant", "list", "--server", "ftp://x"},
		{"tenant", "list", "--server", "http://example.com"}, {"version", "-o", "yaml"}, {"version", "extra"},
		{"token", "add", "bob", "--scope", "king"}, {"token", "add", "bob", "--of", "acme"},
		{"release", "sign"}, {"product", "add", "noslash"}, {"endpoint", "list", "--state", "open"}, {"server"},
		{"ledger", "verify"}, {"doctor"}, {"agent", "enrol"}, {"agent", "run"}, {"agent", "status"}, {"vendor", "add", "ROOT"},
	} {
		status, out, errs := run(t, args...)
		if status != exitUsage || out != "" || !strings.Contains(errs, "headgate: ") || !strings.Contains(errs, "--help") {
			t.Errorf("headgate %s: exit %d, stdout %q, stderr %q; want 2, nothing, and what is wrong", strings.Join(args, " "), status, out, errs)
		}
	}
}

func TestUnknownCommandNamesTheNearest(t *testing.T) {
	if _, _, errs := run(t, "rollout", "hlat"); !strings.Contains(errs, "did you mean halt?") {
		t.Errorf("stderr %q", errs)
	}
}

func TestEveryCommandExplainsItself(t *testing.T) {
	root := (&app{}).root()
	var walk func(path []string)
	walk = func(path []string) {
		status, out, errs := run(t, append(path, "--help")...)
		if status != 0 || out == "" || errs != "" {
			t.Errorf("headgate %s --help: exit %d, stderr %q", strings.Join(path, " "), status, errs)
		}
		cmd, _, err := root.Find(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cmd.Commands() {
			if c.Short == "" {
				t.Errorf("%s has no short help", c.CommandPath())
			}
			walk(append(path[:len(path):len(path)], c.Name()))
		}
	}
	for _, c := range root.Commands() {
		walk([]string{c.Name()})
	}
}

// server answers the API calls that a test gives it.
func server(t *testing.T, register func(*http.ServeMux)) (url, tokenFile string) {
	t.Helper()
	mux := http.NewServeMux()
	register(mux)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	tokenFile = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte("hgo_secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.URL, tokenFile
}

type accounts struct {
	headgatev1connect.UnimplementedAccountServiceHandler
	err   error
	auth  string
	calls int
}

func (a *accounts) ListTenants(_ context.Context, r *connect.Request[headgatev1.ListTenantsRequest]) (*connect.Response[headgatev1.ListTenantsResponse], error) {
	a.auth = r.Header().Get("Authorization")
	if a.err != nil {
		return nil, a.err
	}
	return connect.NewResponse(&headgatev1.ListTenantsResponse{Tenants: []*headgatev1.Tenant{{Name: "corp\x1b[2J", Endpoints: 3, Opacity: "public"}}}), nil
}

func (a *accounts) SetTenant(context.Context, *connect.Request[headgatev1.SetTenantRequest]) (*connect.Response[headgatev1.SetTenantResponse], error) {
	a.calls++
	return connect.NewResponse(&headgatev1.SetTenantResponse{Tenant: &headgatev1.Tenant{Name: "corp", Paused: true}}), nil
}

func TestResultsAreTablesForPeopleAndJSONForMachines(t *testing.T) {
	a := &accounts{}
	url, token := server(t, func(m *http.ServeMux) { m.Handle(headgatev1connect.NewAccountServiceHandler(a)) })
	status, out, errs := run(t, "tenant", "list", "--server", url, "--token-file", token)
	if status != 0 || errs != "" || out != "TENANT    PAUSED  ENDPOINTS  OPACITY\ncorp [2J  no      3          public\n" {
		t.Errorf("table: exit %d, stderr %q, stdout %q", status, errs, out)
	}
	if a.auth != "Bearer hgo_secret" {
		t.Errorf("authorization %q", a.auth)
	}
	status, out, _ = run(t, "tenant", "list", "--server", url, "--token-file", token, "-o", "json")
	var v struct {
		Tenants []struct {
			Name      string
			Paused    *bool
			Endpoints string
		}
	}
	if err := json.Unmarshal([]byte(out), &v); status != 0 || err != nil || len(v.Tenants) != 1 || v.Tenants[0].Paused == nil {
		t.Errorf("JSON: exit %d, %v: %s", status, err, out)
	}
}

func TestErrorsSayWhatToDoNext(t *testing.T) {
	a := &accounts{}
	url, token := server(t, func(m *http.ServeMux) { m.Handle(headgatev1connect.NewAccountServiceHandler(a)) })
	for code, want := range map[connect.Code]string{
		connect.CodeUnauthenticated:   "--token-file",
		connect.CodePermissionDenied:  "may not",
		connect.CodeUnavailable:       "just now",
		connect.CodeResourceExhausted: "try again",
		connect.CodeInvalidArgument:   "headgate: the server's words\n",
	} {
		a.err = connect.NewError(code, errString("the server's words"))
		status, out, errs := run(t, "tenant", "list", "--server", url, "--token-file", token)
		if status != 1 || out != "" || !strings.Contains(errs, want) || !strings.Contains(errs, "the server's words") {
			t.Errorf("%s: exit %d, stderr %q, want %q", code, status, errs, want)
		}
	}
	a.err = connect.NewError(connect.CodeResourceExhausted, errString("message size 9 is larger than configured max 5"))
	if _, _, errs := run(t, "tenant", "list", "--server", url, "--token-file", token); !strings.Contains(errs, "too large") || strings.Contains(errs, "busy") {
		t.Errorf("too large a message: stderr %q", errs)
	}
	if _, _, errs := run(t, "tenant", "list", "--server", "http://127.0.0.1:1", "--token-file", token); !strings.Contains(errs, "is it running") {
		t.Errorf("nobody there: stderr %q", errs)
	}
}

type errString string

func (e errString) Error() string { return string(e) }

func TestNothingChangesWithoutAYes(t *testing.T) {
	a := &accounts{}
	url, token := server(t, func(m *http.ServeMux) { m.Handle(headgatev1connect.NewAccountServiceHandler(a)) })
	status, _, errs := run(t, "tenant", "pause", "corp", "--server", url, "--token-file", token)
	if status != 1 || a.calls != 0 || !strings.Contains(errs, "--yes") || !strings.Contains(errs, "No endpoint of tenant corp") {
		t.Errorf("without --yes: exit %d, %d calls, stderr %q", status, a.calls, errs)
	}
	if status, _, errs = run(t, "tenant", "pause", "corp", "--server", url, "--token-file", token, "--yes"); status != 0 || a.calls != 1 {
		t.Errorf("with --yes: exit %d, %d calls, stderr %q", status, a.calls, errs)
	}
}

func TestPinnedCertificateIsTheOnlyOneTaken(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.StartTLS()
	defer s.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, errs := run(t, "tenant", "list", "--server", s.URL, "--token-file", token, "--pin", strings.Repeat("0", 64))
	if !strings.Contains(errs, "not the pinned one") {
		t.Errorf("wrong pin: %q", errs)
	}
	_, _, errs = run(t, "tenant", "list", "--server", s.URL, "--token-file", token)
	if !strings.Contains(errs, "--pin") {
		t.Errorf("unknown authority: %q", errs)
	}
	status, _, errs := run(t, "tenant", "list", "--server", s.URL, "--token-file", token, "--pin", "zz")
	if status != exitUsage || !strings.Contains(errs, "64 hex digits") {
		t.Errorf("malformed pin: exit %d, %q", status, errs)
	}
}

// A server that was taken over must not get delegations of its own signed.
func TestForgedTargetsAreNotSignedOn(t *testing.T) {
	key := func() *tuf.Key {
		k, err := tuf.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	alice, bob, thief, online := key(), key(), key(), key()
	make := func(signers ...*tuf.Key) *trust {
		o := &headgatev1.GetOnlineKeysResponse{RootVersion: 1, TargetsVersion: 1}
		public, err := json.Marshal(online.Public())
		if err != nil {
			t.Fatal(err)
		}
		o.SnapshotKey, o.TimestampKey, o.RolloutKey = public, public, public
		dir := t.TempDir()
		ops := operators{threshold: 2}
		for i, k := range signers {
			f := filepath.Join(dir, string(rune('a'+i)))
			if err := tuf.SaveKey(f, k); err != nil {
				t.Fatal(err)
			}
			ops.files = append(ops.files, f)
		}
		d, err := firstDocument(&ops, o, defaultLife)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.sign(signers); err != nil {
			t.Fatal(err)
		}
		return &trust{online: o, root: d.root, targets: d.targets}
	}
	real := make(alice, bob)
	if err := real.check([]*tuf.Key{bob}); err != nil {
		t.Errorf("the real root: %v", err)
	}
	forged := make(thief, key())
	if err := forged.check([]*tuf.Key{alice, bob}); err == nil || !strings.Contains(err.Error(), "none of your keys") {
		t.Errorf("a forged root: %v", err)
	}
	mixed := &trust{online: real.online, root: real.root, targets: forged.targets}
	if err := mixed.check([]*tuf.Key{alice, bob}); err == nil || !strings.Contains(err.Error(), "not the real ones") {
		t.Errorf("forged targets beneath the real root: %v", err)
	}
}
