package intake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ossf/osv-schema/bindings/go/osvschema"
	"google.golang.org/protobuf/encoding/protojson"
)

// ReadOSV reads an OSV record, or an array of records. Fields of newer schemas
// are passed over; errors name the line or the field.
func ReadOSV(b []byte) (Import, error) {
	records, err := osvRecords(b)
	if err != nil {
		return Import{}, err
	}
	var im Import
	for i, r := range records {
		d, withdrawn, err := readOSV(b[r.from:r.to])
		if err != nil {
			// Once more, with what stands before it blanked: its lines are then the file's.
			_, _, err = readOSV(append(blank(b[:r.from]), b[r.from:r.to]...))
		}
		if err != nil && r.of {
			err = fmt.Errorf("record %d: %w", i, err)
		}
		if err != nil {
			return Import{}, err
		}
		if withdrawn {
			if im.Passed == nil {
				im.Passed = map[string]int{}
			}
			im.Passed["withdrawn by its database"]++
			continue
		}
		im.Drafts = append(im.Drafts, d)
	}
	return im, nil
}

// record is where a record stands in a file, and whether it is one of an array.
type record struct {
	from, to int64
	of       bool
}

func osvRecords(b []byte) ([]record, error) {
	if !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("[")) {
		return []record{{to: int64(len(b))}}, nil
	}
	// Its syntax first, for a decoder's offsets are coarser.
	if err := json.Unmarshal(b, new(json.RawMessage)); err != nil {
		return nil, jsonError(b, err)
	}
	var out []record
	d := json.NewDecoder(bytes.NewReader(b))
	if _, err := d.Token(); err != nil { // the bracket
		return nil, jsonError(b, err)
	}
	for d.More() {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, jsonError(b, err)
		}
		end := d.InputOffset()
		out = append(out, record{end - int64(len(raw)), end, true})
	}
	return out, nil
}

// blank is b with spaces in the place of all but the ends of lines.
func blank(b []byte) []byte {
	out := bytes.Repeat([]byte(" "), len(b))
	for i, c := range b {
		if c == '\n' {
			out[i] = c
		}
	}
	return out
}

func readOSV(b []byte) (d Draft, withdrawn bool, err error) {
	var v osvschema.Vulnerability
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: 100}).Unmarshal(b, &v); err != nil {
		// protojson varies the space after its prefix on purpose.
		what := strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0")
		return d, false, fmt.Errorf("%s: %w", what, ErrInvalid)
	}
	if v.Id == "" {
		return d, false, fmt.Errorf("id: missing: %w", ErrInvalid)
	}
	d = Draft{
		Ref: v.Id, Title: cut(Line(v.Summary), MaxTitle), Text: v.Details,
		Aliases: distinct(append([]string{v.Id}, v.Aliases...)), Scores: osvScores(v.Severity),
	}
	if d.Title == "" {
		d.Title = Line(v.Id)
	}
	for _, r := range v.References {
		d.Links = append(d.Links, r.GetUrl())
	}
	d.Links = distinct(d.Links)
	for _, c := range v.Credits {
		d.Credits = append(d.Credits, Credit{Name: c.GetName(), Contact: c.GetContact()})
	}
	if ids, ok := v.DatabaseSpecific.AsMap()["cwe_ids"].([]any); ok {
		for _, id := range ids {
			if s, ok := id.(string); ok {
				d.Weaknesses = append(d.Weaknesses, s)
			}
		}
	}
	for i, a := range v.Affected {
		p, err := osvProduct(a)
		if err != nil {
			return d, false, fmt.Errorf("affected[%d]%w", i, err)
		}
		d.Products = append(d.Products, p)
		d.Scores = append(d.Scores, osvScores(a.GetSeverity())...)
	}
	return d, v.Withdrawn != nil, nil
}

func osvScores(in []*osvschema.Severity) (out []Score) {
	for _, s := range in {
		out = append(out, Score{Scheme: s.GetType().String(), Vector: s.GetScore()})
	}
	return out
}

// osvProduct reads one affected entry; its errors begin with a dot or bracket,
// to be put behind the entry's own place.
func osvProduct(a *osvschema.Affected) (Product, error) {
	p := Product{Name: a.GetPackage().GetName(), PURL: a.GetPackage().GetPurl(), Status: "affected", Versions: a.GetVersions()}
	if e := a.GetPackage().GetEcosystem(); e != "" {
		p.Name = e + "/" + p.Name
	}
	if len(p.Versions) > maxList*10 {
		return p, fmt.Errorf(".versions: %d entries, limit %d: %w", len(p.Versions), maxList*10, ErrInvalid)
	}
	for i, r := range a.GetRanges() {
		runs, err := osvRuns(r)
		if err != nil {
			return p, fmt.Errorf(".ranges[%d]%w", i, err)
		}
		if p.Ranges = append(p.Ranges, runs...); len(p.Ranges) > maxList {
			return p, fmt.Errorf(".ranges: more than %d: %w", maxList, ErrInvalid)
		}
		if p.Name == "" {
			p.Name = r.GetRepo()
		}
	}
	return p, nil
}

// osvRuns turns events, which come in any order of kinds, into runs: each
// introduced begins one, and what follows it ends it. The versions themselves
// are not compared here: their order is the ecosystem's.
func osvRuns(r *osvschema.Range) (out []Range, err error) {
	open := -1
	for i, e := range r.GetEvents() {
		set := 0
		for _, v := range []string{e.GetIntroduced(), e.GetFixed(), e.GetLastAffected(), e.GetLimit()} {
			if v != "" {
				set++
			}
		}
		if set != 1 { // OSV schema, affected[].ranges[].events
			return nil, fmt.Errorf(".events[%d]: %d of introduced, fixed, last_affected and limit are set; want one: %w", i, set, ErrInvalid)
		}
		if e.GetIntroduced() != "" {
			out = append(out, Range{Scheme: r.GetType().String(), Repo: r.GetRepo(), Introduced: e.GetIntroduced()})
			open = len(out) - 1
			continue
		}
		if open < 0 {
			return nil, fmt.Errorf(".events[%d]: ends a run that no event introduced: %w", i, ErrInvalid)
		}
		run := &out[open]
		run.Fixed, run.LastAffected, run.Limit = firstOf(run.Fixed, e.GetFixed()), firstOf(run.LastAffected, e.GetLastAffected()), firstOf(run.Limit, e.GetLimit())
	}
	if len(out) == 0 {
		return nil, fmt.Errorf(".events: none introduces the vulnerability: %w", ErrInvalid)
	}
	return out, nil
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
