package tuf

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/headgate/headgate/release"
)

// serve is the repository on the web, under /tuf/, with strong ETags as our server
// and any CDN give them.
func serve(t *testing.T, w *world) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, tag, err := w.files.Fetch(r.Context(), strings.TrimPrefix(r.URL.Path, "/tuf/"), 1<<30, strings.Trim(r.Header.Get("If-None-Match"), `"`))
		switch {
		case err == nil:
			rw.Header().Set("ETag", `"`+tag+`"`)
			rw.Write(b)
		case strings.Contains(err.Error(), ErrNotModified.Error()):
			rw.WriteHeader(http.StatusNotModified)
		default:
			http.NotFound(rw, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// TestAnyTUFClientCanReadTheRepository lets go-tuf's own client walk roots,
// delegations and consistent snapshots, and fetch the plan and an artifact.
func TestAnyTUFClientCanReadTheRepository(t *testing.T) {
	w := newWorld(t)
	w.apply(w.repo.SetRoot(w.sign(w.must(RotateRoot(w.repo.State[Root], w.spec())), w.ops[:2]...), w.now))
	w.release("acme/sensor", "1.2.3-rc.1+build.5")
	w.plan(2)
	s := serve(t, w)
	dir := t.TempDir()
	cfg, err := config.New(s.URL+"/tuf", w.firstRoot())
	if err != nil {
		t.Fatal(err)
	}
	cfg.LocalMetadataDir, cfg.LocalTargetsDir = filepath.Join(dir, "meta"), filepath.Join(dir, "targets")
	cfg.RemoteTargetsURL = s.URL + "/tuf/targets"
	cfg.PrefixTargetsWithHash = true
	for range 2 { // the second time from its own store
		u, err := updater.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		u.UnsafeSetRefTime(w.now)
		if err := u.Refresh(); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string][]byte{
			release.PlanTarget:                                  planBytes(t, 2),
			release.Target("acme/sensor", "1.0.0"):              artifactOf("acme/sensor", "1.0.0"),
			release.Target("acme/sensor", "1.2.3-rc.1+build.5"): artifactOf("acme/sensor", "1.2.3-rc.1+build.5"),
			release.Target("zeta/rules", "1.0.0"):               artifactOf("zeta/rules", "1.0.0"),
		} {
			info, err := u.GetTargetInfo(path)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			_, got, err := u.DownloadTarget(info, filepath.Join(dir, url.PathEscape(path)), "")
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %q, %v", path, got, err)
			}
		}
		if _, err := u.GetTargetInfo(release.Target("acme/sensor", "9.9.9")); err == nil {
			t.Error("found a release that is not there")
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "meta", "rollout.json")); err != nil {
		t.Error("the walk did not go through rollout")
	}
}
