package psirt

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each table has one outcome for each combination of its inputs' values, and no
// other outcomes than it declares.
func TestSSVCTablesAreTotal(t *testing.T) {
	for _, table := range SSVCTables() {
		want := 1
		for _, p := range table.Inputs {
			want *= len(p.Values)
		}
		if len(table.Rows) != want {
			t.Errorf("%s: %d rows; its inputs have %d combinations", table.Name, len(table.Rows), want)
		}
		for i, key := range table.Rows {
			if table.Outcome.find(key) < 0 {
				t.Errorf("%s: row %d: outcome %q is not declared", table.Name, i+1, key)
			}
		}
	}
}

// The published tables, where they lie beside the project, say the same in every
// row: they are the source.
func TestSSVCTablesAreThePublishedOnes(t *testing.T) {
	files, _ := filepath.Glob("../../shared/data/ssvc/*.json")
	if len(files) == 0 {
		t.Skip("the published SSVC tables (../../shared/data/ssvc) are not here")
	}
	compared := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var published struct {
			Name, Version, Outcome string
			Mapping                []map[string]string
		}
		if err := json.Unmarshal(b, &published); err != nil {
			t.Fatal(err)
		}
		for _, table := range SSVCTables() {
			if table.Title != published.Name {
				continue
			}
			compared++
			if table.Version != published.Version || table.Outcome.ID != published.Outcome || len(table.Rows) != len(published.Mapping) {
				t.Errorf("%s: version %s, outcome %s, %d rows; published: %s, %s, %d", table.Name, table.Version, table.Outcome.ID, len(table.Rows), published.Version, published.Outcome, len(published.Mapping))
			}
			for _, row := range published.Mapping {
				answers := map[string]string{}
				for _, p := range table.Inputs {
					answers[p.Name] = row[p.ID]
				}
				got, err := table.Decide(answers)
				if err != nil || got.Key != row[table.Outcome.ID] {
					t.Errorf("%s: %v is %q (%v); published: %q", table.Name, answers, got.Key, err, row[table.Outcome.ID])
				}
			}
		}
	}
	if compared != len(SSVCTables()) {
		t.Errorf("%d of %d tables were found among the published ones", compared, len(SSVCTables()))
	}
}

func TestSSVCExplainsItsPath(t *testing.T) {
	table, err := SSVCTable("deployer")
	if err != nil {
		t.Fatal(err)
	}
	got, err := table.Decide(map[string]string{"exploitation": "active", "system-exposure": "O", "automatable": "yes", "human-impact": "very high"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Outcome != "Immediate" || got.Row != 72 || len(got.Path) != 4 || got.Path[0] != (Step{"exploitation", "Active"}) {
		t.Errorf("got %+v", got)
	}
	for _, c := range got.Changes {
		if c.Outcome == "Immediate" {
			t.Errorf("%+v changes nothing", c)
		}
	}
	if len(got.Changes) == 0 {
		t.Error("no answer would change it")
	}
}

func TestSSVCNamesTheBadAnswer(t *testing.T) {
	table, _ := SSVCTable("bod-26-04")
	good := map[string]string{"publicly-exposed": "Y", "in-kev": "Y", "automatable": "N", "technical-impact": "T"}
	for name, c := range map[string]struct {
		key, value, want string
	}{
		"missing":     {"in-kev", "", "in-kev is not answered"},
		"unknown":     {"in-kev", "maybe", `in-kev is "maybe"`},
		"no input":    {"weather", "fine", `no input "weather"`},
		"empty value": {"automatable", " ", `automatable is " "`},
	} {
		answers := map[string]string{}
		for k, v := range good {
			answers[k] = v
		}
		if answers[c.key] = c.value; c.value == "" {
			delete(answers, c.key)
		}
		if _, err := table.Decide(answers); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	if _, err := SSVCTable("astrology"); !errors.Is(err, ErrInvalid) {
		t.Errorf("unknown table: %v", err)
	}
}

// A fact that cites a version which this program does not have, older or newer, stays
// as it was recorded; nobody writes such a one anew.
func TestFactsOutliveTheirTables(t *testing.T) {
	for table, want := range map[string]string{
		"deployer 0.0.1": "this version is not known here; deployer has 1.0.0", "deployer 99.0.0": "not known here", "gone 1.0.0": "want one of", "deployer": "its version too",
	} {
		b := &TriageSSVC{Table: table, Inputs: map[string]string{"exploitation": "active"}, Outcome: "immediate"}
		c := opened(t)
		add(t, c, start, b)
		if len(c.Triage.SSVC) != 1 || c.Triage.SSVC[0].Outcome != "immediate" {
			t.Errorf("%s: folded to %+v", table, c.Triage.SSVC)
		}
		if err := CheckNew(b); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s, written anew: %v; want it to say %q", table, err, want)
		}
	}
	good, err := Categorize("deployer", map[string]string{"exploitation": "active", "system-exposure": "open", "automatable": "yes", "human-impact": "high"})
	if err != nil || CheckNew(good) != nil {
		t.Fatalf("a good one: %v, %v", err, CheckNew(good))
	}
	good.Outcome = "defer"
	if _, err := Draft(good, start, ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("an outcome that does not follow from a table that is known: %v", err)
	}
}
