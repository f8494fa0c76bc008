package psirt

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"
)

// SimilarAt is the score from which on two reports are suggested as duplicates.
const SimilarAt = 0.4

// maxWords is how many words of a text are compared.
const maxWords = 4000

// Similarity compares two reports: from 0 to 1, and what that is made of. It is a
// suggestion for a person. What one of them does not say counts neither way.
func Similarity(a, b *ReportReceived) (score float64, reasons []string) {
	for _, id := range a.CVEs {
		if slices.Contains(b.CVEs, id) {
			return 1, []string{"both name " + id}
		}
	}
	words := cosine(bag(a), bag(b))
	total, sum := 0.6, 0.6*words
	reasons = append(reasons, fmt.Sprintf("words: %.0f %%", 100*words))
	for _, f := range []struct {
		what, a, b string
		weight     float64
	}{
		{"product", a.Product, b.Product, 0.15}, {"component", a.Component, b.Component, 0.2}, {"weakness", a.CWE, b.CWE, 0.1},
	} {
		switch {
		case f.a == "" || f.b == "":
			continue
		case strings.EqualFold(f.a, f.b):
			sum += f.weight
			reasons = append(reasons, "same "+f.what+" "+f.a)
		default:
			reasons = append(reasons, "another "+f.what)
		}
		total += f.weight
	}
	return sum / total, reasons
}

// Suggestion is a report that may be of the same vulnerability.
type Suggestion struct {
	Index   int // among those compared
	Score   float64
	Reasons []string
}

// Suggest compares a report with others and gives those from SimilarAt on, the
// most similar first, at most limit.
func Suggest(of *ReportReceived, among []ReportReceived, limit int) (out []Suggestion) {
	for i := range among {
		if score, reasons := Similarity(of, &among[i]); score >= SimilarAt {
			out = append(out, Suggestion{i, score, reasons})
		}
	}
	slices.SortStableFunc(out, func(a, b Suggestion) int { return cmp.Compare(b.Score, a.Score) })
	return out[:min(len(out), limit)]
}

// bag counts a report's words; those of the title count twice.
func bag(r *ReportReceived) map[string]float64 {
	out := map[string]float64{}
	n := 0
	count := func(text string, weight float64) {
		for w := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' }) {
			if n++; n > maxWords {
				return
			}
			if len(w) > 2 && !common[w] {
				out[w] += weight
			}
		}
	}
	count(r.Title, 2)
	count(r.Text, 1)
	return out
}

// common words say nothing of a vulnerability.
var common = map[string]bool{
	"the": true, "and": true, "for": true, "with": true, "that": true, "this": true, "from": true, "are": true, "was": true, "has": true,
	"have": true, "can": true, "not": true, "when": true, "which": true, "you": true, "your": true, "its": true, "but": true, "all": true,
}

func cosine(a, b map[string]float64) float64 {
	var dot, na, nb float64
	for w, x := range a {
		dot += x * b[w]
		na += x * x
	}
	for _, y := range b {
		nb += y * y
	}
	if na == 0 || nb == 0 {
		return 0
	}
	return dot / math.Sqrt(na*nb)
}
