package recorded

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/rollout"
)

var day = time.Date(2025, 7, 19, 4, 0, 0, 0, time.UTC)

// history is a rollout of n endpoints, all exposed at once: those for which bad
// says so fall silent after an age.
func history(n int, age time.Duration, bad func(i int, l fleet.Labels) bool) (out []Record) {
	for i := range n {
		l := fleet.Labels{"arch": []string{"amd64", "arm64"}[i%2], "driver": fmt.Sprint("d", i%25)}
		r := Record{Endpoint: fmt.Sprint("e-", i), Exposed: day.Add(time.Duration(i%60) * time.Second), Outcome: Healthy, Labels: l}
		if bad(i, l) {
			r.Outcome, r.OutcomeAt = Silent, r.Exposed.Add(age)
		}
		out = append(out, r)
	}
	return out
}

func preset(t *testing.T, name string) rollout.Policy {
	t.Helper()
	p, err := rollout.Preset(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func whatIf(t *testing.T, records []Record) Answer {
	t.Helper()
	a, err := WhatIf(records, preset(t, "flash"))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestARolloutThatKilledAllWouldHaveBeenStopped in its first cohort.
func TestARolloutThatKilledAllWouldHaveBeenStopped(t *testing.T) {
	a := whatIf(t, history(20_000, 70*time.Second, func(int, fleet.Labels) bool { return true }))
	if a.RecordedHarmed != 20_000 || a.Halted == nil || a.Harmed > 50 || a.Harmed > a.Exposed || a.Finished != nil {
		t.Errorf("%+v", a)
	}
}

func TestAGoodRolloutWouldHaveReachedEveryone(t *testing.T) {
	a := whatIf(t, history(20_000, 0, func(int, fleet.Labels) bool { return false }))
	if a.Halted != nil || a.Finished == nil || a.T99 == nil || *a.T99 > 12 || a.Harmed != 0 {
		t.Errorf("%+v", a)
	}
}

// TestABadConfigurationWouldHaveBeenLeftOut, named by its labels, and the rest
// would have gone on.
func TestABadConfigurationWouldHaveBeenLeftOut(t *testing.T) {
	a := whatIf(t, history(100_000, 70*time.Second, func(_ int, l fleet.Labels) bool { return l["arch"] == "arm64" && l["driver"] == "d7" }))
	if a.Halted != nil || a.Finished == nil || a.RecordedHarmed != 2000 || a.Harmed > 300 || len(a.Segments) == 0 {
		t.Errorf("%+v", a)
	}
	found := false
	for _, s := range a.Segments {
		found = found || s == "arch=arm64 & driver=d7"
	}
	if !found {
		t.Errorf("left out %v", a.Segments)
	}
}

// TestTheSameRecordsGiveTheSameAnswer in whatever order they stand, and harm is
// never more than exposure, and no endpoint fails that the record has healthy.
func TestTheSameRecordsGiveTheSameAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 400).Draw(t, "endpoints")
		every := rapid.IntRange(1, 200).Draw(t, "one in so many fails")
		records := history(n, time.Duration(rapid.IntRange(0, 7200).Draw(t, "age"))*time.Second, func(i int, _ fleet.Labels) bool { return i%every == 0 })
		for i := range records {
			if rapid.IntRange(0, 9).Draw(t, "never exposed") == 0 {
				records[i].Exposed = time.Time{}
			}
		}
		p, err := rollout.Preset(rapid.SampledFrom([]string{"flash", "emergency"}).Draw(t, "policy"))
		if err != nil {
			t.Fatal(err)
		}
		a, err := WhatIf(records, p)
		if err != nil {
			t.Fatal(err)
		}
		shuffled := rapid.Permutation(records).Draw(t, "order")
		if b, err := WhatIf(shuffled, p); err != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("%+v, in another order %+v (%v)", a, b, err)
		}
		if a.Harmed > a.Exposed || a.Exposed > int64(n) || a.Harmed > a.RecordedHarmed {
			t.Fatalf("%+v", a)
		}
	})
}

func TestAPolicyWithoutABudgetIsRefused(t *testing.T) {
	if _, err := WhatIf(history(5, 0, func(int, fleet.Labels) bool { return false }), rollout.DefaultPolicy()); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

const head = "endpoint,exposed_at,outcome,outcome_at,label.os\n"

// TestCSVErrorsNameTheLine and what stands there.
func TestCSVErrorsNameTheLine(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"empty":                   {"", "line 1: EOF"},
		"no records":              {head, "no records"},
		"unknown column":          {"endpoint,color\n", `line 1: column 2 is "color"`},
		"missing column":          {"endpoint,exposed_at,outcome\n", `column "outcome_at" is missing`},
		"column twice":            {"endpoint,endpoint,exposed_at,outcome,outcome_at\n", `column "endpoint" stands twice`},
		"a label that is none":    {"endpoint,exposed_at,outcome,outcome_at,label.OS\n", `line 1: column 5`},
		"too few fields":          {head + "e1,,healthy,,\ne2,,healthy\n", "line 3"},
		"no such outcome":         {head + "e1,,dead,,\n", `line 2: outcome "dead"`},
		"a time that is none":     {head + "e1,yesterday,healthy,,\n", "line 2: exposed_at"},
		"harmed without a time":   {head + "e1,2025-07-19T04:00:00Z,harmed,,\n", "line 2: outcome harmed without outcome_at"},
		"healthy with a time":     {head + "e1,,healthy,2025-07-19T04:00:00Z,\n", "line 2: outcome_at is set"},
		"an endpoint twice":       {head + "e1,,healthy,,\n\ne1,,healthy,,\n", `line 4: endpoint "e1" stands in line 2`},
		"no endpoint":             {head + ",,healthy,,\n", "line 2: endpoint of 0 bytes"},
		"a quote out of place":    {head + "e\"1,,healthy,,\n", "line 2"},
		"a line beyond the limit": {head + strings.Repeat("x", maxLine+1), "longer than"},
		"a field beyond it":       {head + strings.Repeat("x", 256) + ",,healthy,,\n", "line 2: field 1 has 256 bytes"},
		"the year 1":              {head + "e1,0001-01-02T00:00:00Z,healthy,,\n", "line 2: exposed_at"},
	} {
		if _, err := ReadCSV(strings.NewReader(c.in)); !errors.Is(err, ErrInvalid) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

// row is a record as a Parquet file has it.
type row struct {
	Endpoint  string     `parquet:"endpoint"`
	ExposedAt *time.Time `parquet:"exposed_at,optional,timestamp(microsecond)"`
	Outcome   string     `parquet:"outcome"`
	OutcomeAt *time.Time `parquet:"outcome_at,optional,timestamp(millisecond)"`
	OS        *string    `parquet:"label.os,optional"`
}

func write(t interface{ Fatal(...any) }, rows any) []byte {
	var b bytes.Buffer
	var err error
	switch rows := rows.(type) {
	case []row:
		err = parquet.Write(&b, rows)
	case []nested:
		err = parquet.Write(&b, rows)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type nested struct {
	Endpoint string `parquet:"endpoint"`
	In       struct {
		A string `parquet:"a"`
	} `parquet:"in"`
}

// TestParquetSaysWhatCSVSays, timestamps and missing values included.
func TestParquetSaysWhatCSVSays(t *testing.T) {
	at, os := day.Add(1500*time.Millisecond), "linux"
	b := write(t, []row{{"e1", &day, "harmed", &at, &os}, {"e2", nil, "healthy", nil, nil}})
	got, err := ReadParquet(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	want, err := ReadCSV(strings.NewReader(head + "e1,2025-07-19T04:00:00Z,harmed,2025-07-19T04:00:01.5Z,linux\ne2,,healthy,,\n"))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, CSV %+v %v", got, want, err)
	}
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"not one":     {[]byte("endpoint,"), "parquet"},
		"a bad row":   {write(t, []row{{"e1", nil, "healthy", nil, nil}, {"e2", nil, "dead", nil, nil}}), `row 2: outcome "dead"`},
		"twice":       {write(t, []row{{"e1", nil, "healthy", nil, nil}, {"e1", nil, "healthy", nil, nil}}), "row 2: endpoint"},
		"nested":      {write(t, []nested{{Endpoint: "e1"}}), "is nested"},
		"cut in half": {b[:len(b)/2], "parquet"},
	} {
		if _, err := ReadParquet(bytes.NewReader(c.b), int64(len(c.b))); !errors.Is(err, ErrInvalid) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

func FuzzReadCSV(f *testing.F) {
	f.Add([]byte(head + "e1,2025-07-19T04:00:00Z,harmed,2025-07-19T04:00:01.5Z,linux\ne2,,healthy,,\n"))
	f.Add([]byte(head + "\"e\n1\",,silent,2025-07-19T04:00:00+02:00,\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := ReadCSV(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		for _, r := range records {
			if err := r.check(); err != nil {
				t.Errorf("%+v: %v", r, err)
			}
		}
	})
}

func FuzzReadParquet(f *testing.F) {
	f.Add(write(f, []row{{"e1", &day, "silent", &day, nil}}))
	f.Add([]byte("PAR1PAR1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := ReadParquet(bytes.NewReader(b), int64(len(b)))
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("an error of another kind: %v", err)
		}
		if err == nil && len(records) == 0 {
			t.Error("no records and no error")
		}
	})
}

// TestTheSampleIsRead: the one that the manual speaks of.
func TestTheSampleIsRead(t *testing.T) {
	f, err := os.Open("../../examples/recorded/rollout.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := ReadCSV(f)
	if err != nil || len(records) != 600 {
		t.Fatalf("%d records, %v", len(records), err)
	}
}
