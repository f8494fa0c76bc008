package intake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gocsaf/csaf/v3/csaf"
)

// maxComplaints is how many of a schema's complaints an error repeats.
const maxComplaints = 5

// ReadCSAF reads a CSAF 2.0 document: a draft for each vulnerability. It must
// keep to the schema; errors name the JSON pointer.
func ReadCSAF(b []byte) (Import, error) {
	var doc any
	if err := json.Unmarshal(b, &doc); err != nil {
		return Import{}, jsonError(b, err)
	}
	complaints, err := csaf.ValidateCSAF(doc)
	if err != nil {
		return Import{}, fmt.Errorf("check against the schema: %w", err)
	}
	if len(complaints) > 0 {
		more := ""
		if n := len(complaints) - maxComplaints; n > 0 {
			more = fmt.Sprintf(" (and %d more)", n)
			complaints = complaints[:maxComplaints]
		}
		for i, c := range complaints {
			if strings.HasPrefix(c, ": ") { // the empty JSON pointer
				complaints[i] = "the whole" + c
			}
		}
		return Import{}, fmt.Errorf("%s%s: %w", strings.Join(complaints, "; "), more, ErrInvalid)
	}
	var a csaf.Advisory
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&a); err != nil {
		return Import{}, jsonError(b, err)
	}
	if err := a.Validate(); err != nil {
		return Import{}, fmt.Errorf("%w: %w", err, ErrInvalid)
	}
	credits, err := csafCredits(b)
	if err != nil {
		return Import{}, err
	}
	return fromCSAF(&a, credits)
}

// fromCSAF makes the drafts; credits has an entry for each vulnerability.
func fromCSAF(a *csaf.Advisory, credits [][]Credit) (Import, error) {
	products, err := csafProducts(a.ProductTree)
	if err != nil {
		return Import{}, err
	}
	id := csafString(a.Document.Tracking.ID)
	var im Import
	for i, v := range a.Vulnerabilities {
		if v == nil {
			return Import{}, fmt.Errorf("/vulnerabilities/%d: null: %w", i, ErrInvalid)
		}
		d := Draft{
			Ref: fmt.Sprintf("%s#%d", id, i), Title: csafString(v.Title), Text: csafText(a, v),
			Aliases: csafAliases(a, v), Links: csafLinks(a, v),
		}
		if len(a.Vulnerabilities) == 1 {
			d.Ref = id
		}
		if d.Title == "" {
			d.Title = csafString(a.Document.Title)
		}
		d.Title = cut(Line(d.Title), MaxTitle)
		if t := a.Document.Distribution; t != nil && t.TLP != nil {
			d.TLP = csafString(t.TLP.DocumentTLPLabel)
		}
		if v.CWE != nil {
			d.Weaknesses = []string{csafString(v.CWE.ID)}
		}
		for _, s := range v.Scores {
			d.Scores = append(d.Scores, csafScores(s)...)
		}
		if d.Products, err = csafStatuses(products, v.ProductStatus, i); err != nil {
			return Import{}, err
		}
		d.Credits = credits[i]
		im.Drafts = append(im.Drafts, d)
	}
	if len(im.Drafts) == 0 {
		return Import{}, fmt.Errorf("/vulnerabilities: none: the document reports nothing: %w", ErrInvalid)
	}
	return im, nil
}

// csafString is a field that the model holds by pointer; empty if absent.
func csafString[S ~string](p *S) string {
	if p == nil {
		return ""
	}
	return string(*p)
}

func csafText(a *csaf.Advisory, v *csaf.Vulnerability) string {
	var parts []string
	for _, n := range slices.Concat(v.Notes, a.Document.Notes) {
		if n == nil {
			continue
		}
		text := csafString(n.Text)
		if t := csafString(n.Title); t != "" {
			text = "## " + Line(t) + "\n\n" + text
		}
		parts = append(parts, text)
	}
	for _, r := range v.Remediations {
		if r != nil {
			parts = append(parts, "## Remediation ("+csafString(r.Category)+")\n\n"+csafString(r.Details))
		}
	}
	return strings.Join(parts, "\n\n")
}

func csafAliases(a *csaf.Advisory, v *csaf.Vulnerability) []string {
	out := []string{csafString(v.CVE)}
	for _, id := range v.IDs {
		if id != nil {
			out = append(out, csafString(id.Text))
		}
	}
	for _, t := range a.Document.Tracking.Aliases {
		out = append(out, csafString(t))
	}
	return distinct(out)
}

func csafLinks(a *csaf.Advisory, v *csaf.Vulnerability) []string {
	var out []string
	for _, r := range slices.Concat(v.References, a.Document.References) {
		if r != nil {
			out = append(out, csafString(r.URL))
		}
	}
	return distinct(out)
}

func csafScores(s *csaf.Score) (out []Score) {
	if s == nil {
		return nil
	}
	if s.CVSS2 != nil {
		out = append(out, Score{Scheme: "CVSS_V2", Vector: csafString(s.CVSS2.VectorString)})
	}
	if s.CVSS3 != nil {
		out = append(out, Score{Scheme: "CVSS_V3", Vector: csafString(s.CVSS3.VectorString)})
	}
	return out
}

// csafCredits reads the acknowledgments of each vulnerability by itself: the
// model spells the field as the specification does not, and so never sees it.
func csafCredits(b []byte) (out [][]Credit, err error) {
	var doc struct {
		Vulnerabilities []struct {
			Acknowledgments []struct {
				Names        []string `json:"names"`
				Organization string   `json:"organization"`
				URLs         []string `json:"urls"`
			} `json:"acknowledgments"`
		} `json:"vulnerabilities"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, jsonError(b, err)
	}
	for _, v := range doc.Vulnerabilities {
		var credits []Credit
		for _, a := range v.Acknowledgments {
			for _, n := range a.Names {
				credits = append(credits, Credit{Name: n, Contact: a.URLs})
			}
			if len(a.Names) == 0 && a.Organization != "" {
				credits = append(credits, Credit{Name: a.Organization, Contact: a.URLs})
			}
		}
		out = append(out, credits)
	}
	return out, nil
}

// csafProducts are the products of a tree by id.
func csafProducts(t *csaf.ProductTree) (map[csaf.ProductID]Product, error) {
	out := map[csaf.ProductID]Product{}
	if t == nil {
		return out, nil
	}
	add := func(f *csaf.FullProductName, versions ...string) error {
		if f == nil || f.ProductID == nil {
			return nil
		}
		if _, twice := out[*f.ProductID]; twice { // CSAF 6.1.2
			return fmt.Errorf("/product_tree: product id %q is defined twice: %w", *f.ProductID, ErrInvalid)
		}
		p := Product{Name: csafString(f.Name), Versions: versions}
		if h := f.ProductIdentificationHelper; h != nil {
			p.PURL, p.CPE = csafString(h.PURL), csafString(h.CPE)
		}
		if out[*f.ProductID] = p; len(out) > maxProduct {
			return fmt.Errorf("/product_tree: more than %d products: %w", maxProduct, ErrInvalid)
		}
		return nil
	}
	var errs []error
	if t.FullProductNames != nil {
		for _, f := range *t.FullProductNames {
			errs = append(errs, add(f))
		}
	}
	if t.RelationShips != nil {
		for _, r := range *t.RelationShips {
			errs = append(errs, add(r.FullProductName))
		}
	}
	errs = append(errs, csafBranches(t.Branches, "/product_tree/branches", 1, add))
	return out, errors.Join(errs...)
}

// csafBranches walks a product tree. A version of its leaf branch goes with the
// product; a range stays in its name, since CSAF 2.0 gives it no syntax.
func csafBranches(bs csaf.Branches, at string, depth int, add func(*csaf.FullProductName, ...string) error) error {
	if depth > maxBranch {
		return fmt.Errorf("%s: deeper than %d: %w", at, maxBranch, ErrInvalid)
	}
	for i, b := range bs {
		if b == nil {
			return fmt.Errorf("%s/%d: null: %w", at, i, ErrInvalid)
		}
		var versions []string
		if b.Category != nil && *b.Category == csaf.CSAFBranchCategoryProductVersion {
			versions = []string{csafString(b.Name)}
		}
		if err := add(b.Product, versions...); err != nil {
			return err
		}
		if err := csafBranches(b.Branches, fmt.Sprintf("%s/%d/branches", at, i), depth+1, add); err != nil {
			return err
		}
	}
	return nil
}

func csafStatuses(products map[csaf.ProductID]Product, s *csaf.ProductStatus, vuln int) (out []Product, err error) {
	if s == nil {
		return nil, nil
	}
	for _, group := range []struct {
		name, status string
		ids          *csaf.Products
	}{
		{"known_affected", "affected", s.KnownAffected}, {"first_affected", "affected", s.FirstAffected}, {"last_affected", "affected", s.LastAffected},
		{"known_not_affected", "not_affected", s.KnownNotAffected},
		{"fixed", "fixed", s.Fixed}, {"first_fixed", "fixed", s.FirstFixed},
		{"under_investigation", "under_investigation", s.UnderInvestigation},
	} {
		if group.ids == nil {
			continue
		}
		for i, id := range *group.ids {
			p, ok := products[*id]
			if !ok { // CSAF 6.1.1
				return nil, fmt.Errorf("/vulnerabilities/%d/product_status/%s/%d: product id %q is not in the product tree: %w", vuln, group.name, i, *id, ErrInvalid)
			}
			p.Status = group.status
			out = append(out, p)
		}
	}
	return out, nil
}

// distinct keeps the first of each, without the empty.
func distinct(in []string) (out []string) {
	for _, s := range in {
		if s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
