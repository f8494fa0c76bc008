package intake

import (
	"fmt"
	"strings"

	"github.com/headgate/headgate/psirt"
)

// shownProducts is how many products a report's text lists; the file has all.
const shownProducts = 50

// Report is a draft as psirt keeps it, and the label that its sender marked it
// with, or none. What has no field of its own there stands at the end of the text.
func (d Draft) Report(exercise bool) (psirt.ReportReceived, psirt.TLP) {
	r := psirt.ReportReceived{
		Source: psirt.FromFile, Title: d.Title, Text: d.text(), Exercise: exercise,
		CVEs: fitting(d.cves()), References: fitting(d.Links),
	}
	if exercise {
		r.Source = psirt.FromExercise
	}
	for _, w := range fitting(d.Weaknesses) {
		if r.CWE == "" {
			r.CWE = w
		}
	}
	for _, s := range d.Scores {
		r.Vectors = append(r.Vectors, s.Vector)
	}
	r.Vectors = fitting(r.Vectors)
	if len(d.Credits) > 0 && len(d.Credits[0].Name) <= psirt.MaxLine {
		r.Reporter = d.Credits[0].Name
	}
	if len(d.Products) == 1 && len(d.Products[0].Name) <= psirt.MaxLine {
		r.Product = d.Products[0].Name
		if v := d.Products[0].Versions; len(v) == 1 && len(v[0]) <= psirt.MaxLine {
			r.Version = v[0]
		}
	}
	label := strings.ToUpper(d.TLP)
	if label == "WHITE" { // TLP 1.0's word, which CSAF 2.0 uses
		label = string(psirt.Clear)
	}
	tlp, err := psirt.ParseTLP(label)
	if err != nil {
		return r, ""
	}
	return r, tlp
}

func (d Draft) cves() (out []string) {
	for _, a := range d.Aliases {
		if psirt.CheckCVE(a) == nil {
			out = append(out, a)
		}
	}
	return out
}

// fitting are the lines that a report has room for.
func fitting(in []string) (out []string) {
	for _, s := range distinct(in) {
		if len(s) <= psirt.MaxLine && len(out) < psirt.MaxList {
			out = append(out, s)
		}
	}
	return out
}

func (d Draft) text() string {
	var b strings.Builder
	b.WriteString(d.Text)
	if d.Ref != "" {
		fmt.Fprintf(&b, "\n\nThe sender's reference: %s\n", d.Ref)
	}
	if len(d.Products) > 0 {
		b.WriteString("\n\n## Products\n\n")
	}
	for i, p := range d.Products {
		if i == shownProducts || b.Len() > MaxText {
			fmt.Fprintf(&b, "* and %d more, in the file\n", len(d.Products)-i)
			break
		}
		fmt.Fprintf(&b, "* %s: %s%s\n", cut(firstOf(p.Name, p.PURL), 200), p.Status, p.versions())
	}
	return cut(strings.TrimSpace(b.String()), psirt.MaxText)
}

func (p Product) versions() string {
	var parts []string
	for _, r := range p.Ranges {
		s := "from " + r.Introduced
		switch {
		case r.Fixed != "":
			s += " until fixed in " + r.Fixed
		case r.LastAffected != "":
			s += " up to " + r.LastAffected
		case r.Limit != "":
			s += " until " + r.Limit
		}
		parts = append(parts, s)
	}
	if len(p.Ranges) == 0 {
		parts = append(parts, p.Versions...)
	}
	if len(parts) == 0 {
		return ""
	}
	return ", " + cut(strings.Join(parts, ", "), 400)
}
