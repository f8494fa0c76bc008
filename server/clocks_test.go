package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/headgate/headgate/psirt"
)

// clocksOf is testConfig with a clocks_file that says text.
func clocksOf(t *testing.T, text string) Config {
	t.Helper()
	cfg := testConfig(t)
	cfg.ClocksFile = filepath.Join(t.TempDir(), "clocks.json")
	check(t, os.WriteFile(cfg.ClocksFile, []byte(text), 0o600))
	return cfg
}

const ownClocks = `{"id": "acme-2026", "effective": "2026-01-01",
	"calendar": {"zone": "Pacific/Auckland", "days": ["Mon", "Fri"], "close": "17:00", "holidays": []},
	"rows": [{"name": "publish", "rule": "house rule 7", "force": "must", "from": ["report.received"], "after": "48h", "cleared_by": "public", "act": "publish"}]}`

// A server's cases are judged by its own clocks, in a zone that the machine need
// not know; without a file by the built-in ones.
func TestAClocksFileReplacesTheBuiltInDeadlines(t *testing.T) {
	s, err := New(clocksOf(t, ownClocks))
	check(t, err)
	if p := s.clocks; p.ID != "acme-2026" || len(p.Rows) != 1 || p.Rows[0].Rule != "house rule 7" || p.Calendar.Zone != "Pacific/Auckland" {
		t.Errorf("the policy in force: %+v", p)
	}
	if s, err = New(testConfig(t)); err != nil || s.clocks.ID != psirt.DefaultClocks().ID {
		t.Fatalf("without a file: %v, %v", s, err)
	}
}

// A server does not start by deadlines that it cannot read, and says what is
// wrong and where.
func TestAClocksFileThatIsWrongStopsTheStart(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no JSON":       {`id: acme`, "invalid character"},
		"empty":         {``, "unexpected end"},
		"unknown key":   {strings.Replace(ownClocks, `"act"`, `"acts"`, 1), "acts"},
		"no such zone":  {strings.Replace(ownClocks, "Pacific/Auckland", "Pacific/Atlantis", 1), "Pacific/Atlantis"},
		"no such event": {strings.Replace(ownClocks, `"public"`, `"fame"`, 1), "fame"},
		"trailing":      {ownClocks + ownClocks, "data after the JSON value"},
		"too long":      {ownClocks + strings.Repeat(" ", 1<<20), "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := clocksOf(t, c.text)
			_, err := New(cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "clocks_file "+cfg.ClocksFile) {
				t.Errorf("%v; want the file's name and %q", err, c.want)
			}
		})
	}
	cfg := testConfig(t)
	cfg.ClocksFile = filepath.Join(t.TempDir(), "none.json")
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "read clocks_file: open "+cfg.ClocksFile) {
		t.Errorf("no file: %v", err)
	}
}
