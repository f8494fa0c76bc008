package psirt

import (
	"errors"
	"strings"
	"testing"
	"time"
)

const kevCatalogue = `{"title": "CISA Catalog of Known Exploited Vulnerabilities", "catalogVersion": "1900.01.02", "dateReleased": "1900-01-02T00:00:00Z", "count": 2,
"vulnerabilities": [
 {"cveID": "CVE-1900-0001", "vendorProject": "Acme", "product": "Rules", "vulnerabilityName": "x", "dateAdded": "1900-01-01", "shortDescription": "x", "requiredAction": "Update.", "dueDate": "1900-01-22", "knownRansomwareCampaignUse": "Known", "notes": "", "cwes": ["CWE-125"]},
 {"cveID": "CVE-1900-0002", "vendorProject": "Acme", "product": "Rules", "vulnerabilityName": "x", "dateAdded": "1900-01-02", "shortDescription": "x", "requiredAction": "Update.", "dueDate": "", "knownRansomwareCampaignUse": "Unknown"}]}`

func TestKEVCatalogueIsRead(t *testing.T) {
	k, err := ParseKEV([]byte(kevCatalogue))
	if err != nil {
		t.Fatal(err)
	}
	one := k.Entries["CVE-1900-0001"]
	if k.Version != "1900.01.02" || len(k.Entries) != 2 || !one.Ransomware || !one.Due.Equal(time.Date(1900, 1, 22, 0, 0, 0, 0, time.UTC)) || !k.Entries["CVE-1900-0002"].Due.IsZero() {
		t.Errorf("got %+v", k)
	}
}

func TestBadKEVCataloguesAreRefusedWhole(t *testing.T) {
	for want, with := range map[string][2]string{
		"its count says 3":        {`"count": 2`, `"count": 3`},
		"another kind of file":    {`"count": 2`, `"number": 2`},
		`entry 2: CVE id "CVE-19`: {"CVE-1900-0002", "CVE-1900-2"},
		"entry 1 (CVE-1900-0001)": {`"dateAdded": "1900-01-01"`, `"dateAdded": "yesterday"`},
		"dueDate":                 {"1900-01-22", "22 Jan"},
		"unexpected end of JSON":  {"]}", ""},
	} {
		_, err := ParseKEV([]byte(strings.Replace(kevCatalogue, with[0], with[1], 1)))
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

const epssFile = "#model_version:v2025.03.14,score_date:1900-01-02T12:55:00Z\ncve,epss,percentile\nCVE-1900-0001,0.94320,0.99950\nCVE-1900-0002,0.00043,0.12\n"

func TestEPSSFileIsRead(t *testing.T) {
	e, err := ParseEPSS(strings.NewReader(epssFile))
	if err != nil {
		t.Fatal(err)
	}
	if e.Model != "v2025.03.14" || e.Date != "1900-01-02T12:55:00Z" || len(e.Scores) != 2 || e.Scores["CVE-1900-0001"] != (Likelihood{0.9432, 0.9995}) {
		t.Errorf("got %+v", e)
	}
}

func TestBadEPSSFilesNameTheLine(t *testing.T) {
	for want, with := range map[string][2]string{
		"line 3: CVE-1900-0001":     {"0.94320", "94.3"},
		"line 4: CVE id":            {"CVE-1900-0002", "GHSA-1900"},
		"line 4: 2 fields":          {",0.12", ""},
		"no entries":                {"CVE-1900-0001,0.94320,0.99950\nCVE-1900-0002,0.00043,0.12\n", ""},
		`line 3: CVE-1900-0001: "N`: {"0.94320", "NaN"},
	} {
		_, err := ParseEPSS(strings.NewReader(strings.Replace(epssFile, with[0], with[1], 1)))
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

func FuzzParseKEV(f *testing.F) {
	f.Add([]byte(kevCatalogue))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKEV(b)
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("unmarked error: %v", err)
		}
		for id := range k.Entries {
			if CheckCVE(id) != nil {
				t.Errorf("entry %q", id)
			}
		}
	})
}

func FuzzParseEPSS(f *testing.F) {
	f.Add(epssFile)
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseEPSS(strings.NewReader(s))
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("unmarked error: %v", err)
		}
		for id, l := range e.Scores {
			if CheckCVE(id) != nil || !(l.EPSS >= 0 && l.EPSS <= 1 && l.Percentile >= 0 && l.Percentile <= 1) {
				t.Errorf("%q: %+v", id, l)
			}
		}
	})
}
