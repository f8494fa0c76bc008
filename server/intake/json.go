package intake

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/headgate/headgate/internal/strict"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/psirt/intake"
)

// parseJSON reads a program's report strictly, by the rules of the form.
func parseJSON(b []byte) (psirt.ReportReceived, [][]byte, error) {
	var in jsonReport
	if err := strict.Decode(b, &in); err != nil {
		return psirt.ReportReceived{}, nil, fmt.Errorf("read report: %w", err)
	}
	f := form{fields: map[string]string{
		fieldTitle: in.Title, fieldText: in.Text, fieldProduct: in.Product, fieldVersion: in.Version, fieldComponent: in.Component,
		fieldCWE: in.CWE, fieldReporter: in.Reporter, fieldContact: in.Contact,
	}}
	if len(in.Files) > maxFiles {
		return psirt.ReportReceived{}, nil, refusal{fieldFiles, fmt.Sprintf("%d files; at most %d", len(in.Files), maxFiles)}
	}
	for i, x := range in.Files {
		if len(x.Body) > maxFile {
			return psirt.ReportReceived{}, nil, refusal{fmt.Sprintf("files[%d]", i), fmt.Sprintf("larger than %d MiB", maxFile>>20)}
		}
		f.files = append(f.files, intake.File{Name: intake.FileName(x.Name, i+1), Type: intake.Line(x.Type), Body: x.Body})
	}
	for i, id := range in.CVEs {
		if err := psirt.CheckCVE(id); err != nil {
			return psirt.ReportReceived{}, nil, refusal{fmt.Sprintf("cves[%d]", i), fmt.Sprintf("%.40q: want CVE-, a year, and 4 to 19 digits", id)}
		}
	}
	r, files, err := f.report(psirt.FromAPI)
	if err != nil {
		return r, nil, err
	}
	r.CVEs, r.Vectors, r.References, r.Language = in.CVEs, in.Vectors, in.References, in.Language
	return r, files, r.Check()
}

// answer writes JSON.
func (d *Door) answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The client may be gone; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(v)
}
