package intake

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func file(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEachVulnerabilityOfACSAFDocumentIsADraft(t *testing.T) {
	im, err := Read(CSAF, file(t, "advisory.csaf.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(im.Drafts) != 2 {
		t.Fatalf("%d drafts", len(im.Drafts))
	}
	want := Draft{
		Ref: "ACME-SA-1#0", Title: "Anyone may open", Text: "No check.\n\n## Summary\n\nThe gate opens for anyone.",
		Aliases: []string{"CVE-1900-0001"}, Weaknesses: []string{"CWE-862"}, Links: []string{"https://acme.example/acme-sa-1.json"}, TLP: "AMBER",
		Scores:  []Score{{"CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}},
		Credits: []Credit{{"Ada", []string{"https://ada.example"}}},
		Products: []Product{
			{Name: "Acme Gate 1.2.0", PURL: "pkg:generic/acme/gate@1.2.0", Status: "affected", Versions: []string{"1.2.0"}},
			{Name: "Acme Gate 1.2.1", Status: "fixed", Versions: []string{"1.2.1"}},
		},
	}
	if got := im.Drafts[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := im.Drafts[1]; got.Title != "Acme Gate" || got.Ref != "ACME-SA-1#1" {
		t.Errorf("the second: %+v", got)
	}
}

func TestAnOSVRecordKeepsItsRunsOfVersions(t *testing.T) {
	im, err := Read(OSV, file(t, "record.osv.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Draft{{
		Ref: "ACME-1900-1", Title: "Anyone may open", Text: "No **check**.",
		Aliases: []string{"ACME-1900-1", "CVE-1900-0001"}, Weaknesses: []string{"CWE-862"}, Links: []string{"https://acme.example/1"},
		Scores:  []Score{{"CVSS_V4", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"}},
		Credits: []Credit{{"Ada", []string{"mailto:ada@example.org"}}},
		Products: []Product{{
			Name: "Go/acme.example/gate", PURL: "pkg:golang/acme.example/gate", Status: "affected", Versions: []string{"1.2.0"},
			Ranges: []Range{{Scheme: "SEMVER", Introduced: "0", Fixed: "1.2.1"}, {Scheme: "SEMVER", Introduced: "2.0.0", LastAffected: "2.0.3"}},
		}},
	}}
	if !reflect.DeepEqual(im.Drafts, want) {
		t.Errorf("got  %+v\nwant %+v", im.Drafts, want)
	}
}

func TestASARIFLogIsADraftForEachRuleThatFoundSomething(t *testing.T) {
	im, err := Read(SARIF, file(t, "log.sarif.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(im.Drafts) != 2 || im.Passed["kind pass"] != 1 || im.Passed["suppressed"] != 1 {
		t.Fatalf("%d drafts, passed over %v", len(im.Drafts), im.Passed)
	}
	d := im.Drafts[0]
	if d.Ref != "Scan/sql" || d.Title != "Scan: SQL from input" || !reflect.DeepEqual(d.Weaknesses, []string{"CWE-89"}) {
		t.Errorf("%+v", d)
	}
	for _, want := range []string{"id reaches query", "level error", "in 2 places", "`a.go:7`", "`b.go:9`", "severity: 8.8"} {
		if !strings.Contains(d.Text, want) {
			t.Errorf("%q is not in the text:\n%s", want, d.Text)
		}
	}
	if im.Drafts[1].Ref != "Scan/undescribed" {
		t.Errorf("%+v", im.Drafts[1])
	}
}

// An import keeps the file as it came beside each report, so that what reads it must
// not write into it.
func TestReadingChangesNothingOfWhatIsRead(t *testing.T) {
	record := strings.TrimSpace(string(file(t, "record.osv.json")))
	for format, in := range map[Format]string{
		CSAF: string(file(t, "advisory.csaf.json")), SARIF: string(file(t, "log.sarif.json")),
		OSV: "[\n" + record + ",\n" + strings.Replace(record, `"id": "`, `"id": "SECOND-`, 1) + "\n]\n",
	} {
		b := []byte(in)
		first, err := Read(format, b)
		if err != nil || string(b) != in {
			t.Fatalf("%s: %v; what was read is changed: %t", format, err, string(b) != in)
		}
		second, err := Read(format, b)
		if err != nil || !reflect.DeepEqual(first, second) {
			t.Errorf("%s: read again it is %+v, %v; first it was %+v", format, second, err, first)
		}
		if format == OSV && (len(first.Drafts) != 2 || !strings.HasPrefix(first.Drafts[1].Ref, "SECOND-")) {
			t.Errorf("%+v", first.Drafts)
		}
	}
}

// What cannot be read is refused with the place where it is wrong.
func TestImportErrorsNameThePlace(t *testing.T) {
	csaf, osv, sarif := string(file(t, "advisory.csaf.json")), string(file(t, "record.osv.json")), string(file(t, "log.sarif.json"))
	for _, c := range []struct {
		name   string
		format Format
		in     string
		want   string
	}{
		{"no JSON", CSAF, "{\n  \"document\": ]", "line 2, column 15"},
		{"schema", CSAF, strings.Replace(csaf, `"CWE-862"`, `"862"`, 1), "/vulnerabilities/0/cwe/id: "},
		{"dangling product", CSAF, strings.Replace(csaf, `["P1"], "fixed"`, `["P9"], "fixed"`, 1), `/vulnerabilities/0/product_status/known_affected/0: product id "P9"`},
		{"product twice", CSAF, strings.Replace(csaf, `"P2"}`, `"P1"}`, 1), `product id "P1" is defined twice`},
		{"nothing reported", CSAF, csaf[:strings.Index(csaf, `"vulnerabilities"`)] + `"vulnerabilities": null}`, "/vulnerabilities: "},
		{"type", OSV, strings.Replace(osv, `"aliases": [`, `"aliases": [7, `, 1), "line 3:"},
		{"no id", OSV, `{"modified": "2026-01-02T03:04:05Z"}`, "id: missing"},
		{"two in one event", OSV, strings.Replace(osv, `{"fixed": "1.2.1"}`, `{"fixed": "1.2.1", "limit": "2"}`, 1), "affected[0].ranges[0].events[1]: 2 of"},
		{"end before begin", OSV, strings.Replace(osv, `{"introduced": "0"}, `, ``, 1), "affected[0].ranges[0].events[0]: ends a run"},
		{"in an array", OSV, "[" + osv + `, {"id": 7}]`, "record 1: (line 15:10): "},
		{"array cut short", OSV, "[" + osv, "unexpected end"},
		{"comma", OSV, "[" + osv + ",]", "line 15, column 2"},
		{"more than an array", OSV, "[" + osv + "] x", "line 15, column 3"},
		{"an array", SARIF, "[]", "the whole: an array, want an object"},
		{"an array as CSAF", CSAF, "[]", "the whole: got array"},
		{"version", SARIF, strings.Replace(sarif, `"2.1.0"`, `"1.0.0"`, 1), `/version: "1.0.0"`},
		{"rule index", SARIF, strings.Replace(sarif, `"ruleIndex": 1`, `"ruleIndex": 2`, 1), "/runs/0/results/1: rule index 2"},
		{"no rule", SARIF, strings.Replace(sarif, `"ruleId": "undescribed", `, "", 1), "/runs/0/results/4: neither"},
		{"type in SARIF", SARIF, strings.Replace(sarif, `"uri": "a.go"`, `"uri": 7`, 1), "uri: a number"},
		{"not UTF-8", SARIF, strings.Replace(sarif, "b.go", "\xff.go", 1), "line 12, column"},
	} {
		_, err := Read(c.format, []byte(c.in))
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
}

func TestTextCannotMoveTheCursorOrReorderWhatIsRead(t *testing.T) {
	if got := Line("a\x1b[2J\u202eb\r\n c\u0085"); got != "a [2Jb c" {
		t.Errorf("%q", got)
	}
	if got := Lines("a\r\n\x07b\u2066\tc\n"); got != "a\n b\tc" {
		t.Errorf("%q", got)
	}
}

// Whatever comes in: an error that is ours, or drafts that are clean and can be
// written as JSON.
func FuzzRead(f *testing.F) {
	for i, name := range []string{"advisory.csaf.json", "record.osv.json", "log.sarif.json"} {
		f.Add(uint8(i), file(f, name))
	}
	f.Add(uint8(1), []byte("[]"))
	f.Fuzz(func(t *testing.T, format uint8, b []byte) {
		im, err := Read([]Format{CSAF, OSV, SARIF}[format%3], b)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("an error that is not the input's: %v", err)
			}
			return
		}
		for _, d := range im.Drafts {
			again, err := d.Clean()
			if err != nil || d.Title == "" || !utf8.ValidString(d.Text) {
				t.Fatalf("%+v: %v", d, err)
			}
			if !reflect.DeepEqual(again, d) {
				t.Fatalf("cleaning twice changes %+v to %+v", d, again)
			}
			if _, err := json.Marshal(d); err != nil {
				t.Fatal(err)
			}
			if r, _ := d.Report(false); r.Check() != nil && r.CWE == "" {
				t.Fatalf("%+v: %v", r, r.Check())
			}
		}
	})
}

// A text's end may go, because the file is kept beside the report; a title too.
func TestLongTextsAreCutVisibly(t *testing.T) {
	d, err := Draft{Title: strings.Repeat("語", 300), Text: strings.Repeat("語", MaxText)}.Clean()
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Title) > MaxTitle || !strings.HasSuffix(d.Title, "語…") || len(d.Text) > MaxText || !strings.HasSuffix(d.Text, "語…"+textCut) {
		t.Errorf("title of %d bytes ...%q, text of %d bytes ...%q", len(d.Title), d.Title[len(d.Title)-9:], len(d.Text), d.Text[len(d.Text)-60:])
	}
}

// A draft becomes a report that psirt takes, with the label that its sender gave.
func TestADraftBecomesAReport(t *testing.T) {
	im, err := Read(OSV, file(t, "record.osv.json"))
	if err != nil {
		t.Fatal(err)
	}
	r, tlp := im.Drafts[0].Report(false)
	if err := r.Check(); err != nil || tlp != "" {
		t.Fatalf("%v, label %q", err, tlp)
	}
	if r.Product != "Go/acme.example/gate" || r.Version != "1.2.0" || r.CWE != "CWE-862" || r.Reporter != "Ada" || !reflect.DeepEqual(r.CVEs, []string{"CVE-1900-0001"}) || len(r.Vectors) != 1 {
		t.Errorf("%+v", r)
	}
	for _, want := range []string{"ACME-1900-1", "from 0 until fixed in 1.2.1, from 2.0.0 up to 2.0.3"} {
		if !strings.Contains(r.Text, want) {
			t.Errorf("%q is not in %q", want, r.Text)
		}
	}
	if im, err = Read(CSAF, file(t, "advisory.csaf.json")); err != nil {
		t.Fatal(err)
	}
	if r, tlp := im.Drafts[0].Report(true); tlp != "AMBER" || r.Source != "exercise" || !r.Exercise {
		t.Errorf("label %q, %+v", tlp, r)
	}
}
