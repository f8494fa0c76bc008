package psirt

import (
	"fmt"
	"strings"

	gocvss20 "github.com/pandatix/go-cvss/20"
	gocvss30 "github.com/pandatix/go-cvss/30"
	gocvss31 "github.com/pandatix/go-cvss/31"
	gocvss40 "github.com/pandatix/go-cvss/40"
)

// MaxVector is the longest CVSS vector in bytes; the longest legal one is
// shorter.
const MaxVector = 300

// Score is one scorer's CVSS assessment. Scorers are kept apart: two that differ
// are two facts, not an average.
type Score struct {
	Version string `json:"version"` // "4.0"
	Vector  string `json:"vector"`  // in its canonical form
	// Base is the score of the base metrics alone; Score takes threat, temporal and
	// environmental metrics in, where the vector has them.
	Base   float64 `json:"base"`
	Score  float64 `json:"score"`
	Rating string  `json:"rating"` // "none", "low", "medium", "high", "critical"; by FIRST's scale, for version 2 by NVD's
	Scorer string  `json:"scorer"` // who says so
}

// ScoreVector reads a CVSS vector of version 2.0, 3.0, 3.1 or 4.0 (FIRST's
// specifications) and computes its scores.
func ScoreVector(vector, scorer string) (Score, error) {
	bad := func(err error) (Score, error) {
		return Score{}, fmt.Errorf("CVSS vector %.60q: %w: %w", vector, err, ErrInvalid)
	}
	if len(vector) > MaxVector {
		return bad(fmt.Errorf("%d bytes, limit %d", len(vector), MaxVector))
	}
	var s Score
	var err error
	switch {
	case strings.HasPrefix(vector, "CVSS:4.0/"):
		s, err = score40(vector)
	case strings.HasPrefix(vector, "CVSS:3.1/"):
		s, err = score31(vector)
	case strings.HasPrefix(vector, "CVSS:3.0/"):
		s, err = score30(vector)
	case strings.HasPrefix(vector, "CVSS:"):
		return bad(fmt.Errorf("unknown version; want CVSS:4.0/, CVSS:3.1/, CVSS:3.0/, or a version 2 vector without prefix"))
	default:
		s, err = score20(vector)
	}
	if err != nil {
		return bad(err)
	}
	s.Scorer = scorer
	return s, nil
}

func score40(vector string) (Score, error) {
	v, err := gocvss40.ParseVector(vector)
	if err != nil {
		return Score{}, err
	}
	// Version 4.0 has one formula: the base score is that of the base metrics'
	// vector (section 1.3 of the specification's nomenclature, CVSS-B).
	base, err := gocvss40.ParseVector(baseOnly(vector, 11))
	if err != nil {
		return Score{}, err
	}
	rating, err := gocvss40.Rating(v.Score())
	return Score{Version: "4.0", Vector: v.Vector(), Base: base.Score(), Score: v.Score(), Rating: strings.ToLower(rating)}, err
}

// baseOnly keeps the prefix and the first n metrics, which are the base metrics:
// they are mandatory and come first.
func baseOnly(vector string, n int) string {
	parts := strings.Split(vector, "/")
	return strings.Join(parts[:min(len(parts), n+1)], "/")
}

func score31(vector string) (Score, error) {
	v, err := gocvss31.ParseVector(vector)
	if err != nil {
		return Score{}, err
	}
	s := Score{Version: "3.1", Vector: v.Vector(), Base: v.BaseScore(), Score: v.EnvironmentalScore()}
	rating, err := gocvss31.Rating(s.Score)
	s.Rating = strings.ToLower(rating)
	return s, err
}

func score30(vector string) (Score, error) {
	v, err := gocvss30.ParseVector(vector)
	if err != nil {
		return Score{}, err
	}
	s := Score{Version: "3.0", Vector: v.Vector(), Base: v.BaseScore(), Score: v.EnvironmentalScore()}
	rating, err := gocvss30.Rating(s.Score)
	s.Rating = strings.ToLower(rating)
	return s, err
}

func score20(vector string) (Score, error) {
	v, err := gocvss20.ParseVector(vector)
	if err != nil {
		return Score{}, err
	}
	s := Score{Version: "2.0", Vector: v.Vector(), Base: v.BaseScore(), Score: v.BaseScore()}
	if hasEnvironment(vector) {
		s.Score = v.EnvironmentalScore()
	} else if strings.Contains(vector, "/E:") {
		s.Score = v.TemporalScore()
	}
	// NVD's bands; version 2 itself defines none.
	switch {
	case s.Score < 4:
		s.Rating = "low"
	case s.Score < 7:
		s.Rating = "medium"
	default:
		s.Rating = "high"
	}
	return s, nil
}

// hasEnvironment tells whether a version 2 vector has the environmental group:
// without it the environmental formula would count target distribution as zero.
func hasEnvironment(vector string) bool { return strings.Contains(vector, "/CDP:") }
