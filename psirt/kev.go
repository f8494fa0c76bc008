package psirt

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Limits of the feeds that are imported as files.
const (
	MaxKEV         = 32 << 20 // bytes of a KEV catalogue
	MaxKEVEntries  = 50_000
	MaxEPSS        = 128 << 20 // bytes of an EPSS file, decompressed
	MaxEPSSEntries = 1_000_000
)

// CheckCVE refuses what is not a CVE id (CVE record format 5.1, cveId).
func CheckCVE(id string) error {
	if !cveName.MatchString(id) {
		return fmt.Errorf("CVE id %.40q: want CVE-, a year, and 4 to 19 digits: %w", id, ErrInvalid)
	}
	return nil
}

// Exploited is an entry of CISA's catalogue of Known Exploited Vulnerabilities.
type Exploited struct {
	CVE        string
	Added      time.Time // UTC day
	Due        time.Time // UTC day; zero if none
	Ransomware bool      // known to be used in ransomware campaigns
	Action     string
}

// KEV is the catalogue of one day.
type KEV struct {
	Version string
	Entries map[string]Exploited // by CVE id
}

// kevFile is CISA's JSON form (known_exploited_vulnerabilities_schema.json). It
// grows without notice, so unknown keys are let through here.
type kevFile struct {
	CatalogVersion  string `json:"catalogVersion"`
	Count           *int   `json:"count"`
	Vulnerabilities []struct {
		CVEID      string `json:"cveID"`
		DateAdded  string `json:"dateAdded"`
		DueDate    string `json:"dueDate"`
		Ransomware string `json:"knownRansomwareCampaignUse"`
		Action     string `json:"requiredAction"`
	} `json:"vulnerabilities"`
}

// ParseKEV reads a catalogue. A file whose count is not that of its entries was
// cut short, and is refused whole.
func ParseKEV(b []byte) (KEV, error) {
	bad := func(format string, a ...any) (KEV, error) {
		return KEV{}, fmt.Errorf("KEV catalogue: "+format+": %w", append(a, ErrInvalid)...)
	}
	if len(b) > MaxKEV {
		return bad("%d bytes, limit %d", len(b), MaxKEV)
	}
	var f kevFile
	if err := json.Unmarshal(b, &f); err != nil {
		return bad("%v", err)
	}
	if f.CatalogVersion == "" || f.Count == nil {
		return bad("catalogVersion or count is missing: this is another kind of file")
	}
	if len(f.Vulnerabilities) != *f.Count || *f.Count > MaxKEVEntries {
		return bad("%d entries, its count says %d, limit %d", len(f.Vulnerabilities), *f.Count, MaxKEVEntries)
	}
	k := KEV{Version: f.CatalogVersion, Entries: make(map[string]Exploited, len(f.Vulnerabilities))}
	for i, v := range f.Vulnerabilities {
		if err := CheckCVE(v.CVEID); err != nil {
			return bad("entry %d: %v", i+1, err)
		}
		added, err := time.Parse(time.DateOnly, v.DateAdded)
		if err != nil {
			return bad("entry %d (%s): dateAdded %.20q: want YYYY-MM-DD", i+1, v.CVEID, v.DateAdded)
		}
		e := Exploited{CVE: v.CVEID, Added: added, Ransomware: v.Ransomware == "Known", Action: v.Action}
		if v.DueDate != "" {
			if e.Due, err = time.Parse(time.DateOnly, v.DueDate); err != nil {
				return bad("entry %d (%s): dueDate %.20q: want YYYY-MM-DD", i+1, v.CVEID, v.DueDate)
			}
		}
		k.Entries[v.CVEID] = e
	}
	return k, nil
}

// Likelihood is an EPSS score: the probability of exploitation within 30 days.
type Likelihood struct {
	EPSS       float64 `json:"epss"`       // 0 to 1
	Percentile float64 `json:"percentile"` // 0 to 1
}

// EPSS is FIRST's scores of one day.
type EPSS struct {
	Model  string
	Date   string
	Scores map[string]Likelihood // by CVE id
}

// ParseEPSS reads FIRST's daily file, decompressed: a comment line with model and
// date, a header, then one line for each CVE.
func ParseEPSS(r io.Reader) (EPSS, error) {
	limited := &io.LimitedReader{R: r, N: MaxEPSS + 1}
	c := csv.NewReader(limited)
	c.FieldsPerRecord, c.ReuseRecord = -1, true
	e := EPSS{Scores: map[string]Likelihood{}}
	for n := 1; ; n++ {
		row, err := c.Read()
		if limited.N <= 0 || len(e.Scores) > MaxEPSSEntries {
			return EPSS{}, fmt.Errorf("EPSS file: more than %d bytes or %d entries: %w", MaxEPSS, MaxEPSSEntries, ErrInvalid)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil { // it names the line
			return EPSS{}, fmt.Errorf("EPSS file: %w: %w", err, ErrInvalid)
		}
		if err := e.take(n, row); err != nil {
			line, _ := c.FieldPos(0)
			return EPSS{}, fmt.Errorf("EPSS file: line %d: %w: %w", line, err, ErrInvalid)
		}
	}
	if len(e.Scores) == 0 {
		return EPSS{}, fmt.Errorf("EPSS file: no entries: %w", ErrInvalid)
	}
	return e, nil
}

// take takes in record n of the file.
func (e *EPSS) take(n int, row []string) error {
	switch {
	case n == 1 && strings.HasPrefix(row[0], "#"):
		for _, f := range row {
			if v, ok := strings.CutPrefix(strings.TrimPrefix(f, "#"), "model_version:"); ok {
				e.Model = v
			} else if v, ok := strings.CutPrefix(f, "score_date:"); ok {
				e.Date = v
			}
		}
		return nil
	case n <= 2 && row[0] == "cve":
		return nil
	case len(row) != 3:
		return fmt.Errorf("%d fields; want cve,epss,percentile", len(row))
	}
	if err := CheckCVE(row[0]); err != nil {
		return err
	}
	var l Likelihood
	for i, v := range []*float64{&l.EPSS, &l.Percentile} {
		f, err := strconv.ParseFloat(row[i+1], 64)
		if err != nil || !(f >= 0 && f <= 1) {
			return fmt.Errorf("%s: %.20q; want a number from 0 to 1", row[0], row[i+1])
		}
		*v = f
	}
	e.Scores[strings.Clone(row[0])] = l
	return nil
}
