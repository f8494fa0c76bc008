package psirt

import (
	"errors"
	"strings"
	"testing"
)

// Vectors with their scores as FIRST publishes them in the example documents of
// each version.
func TestScoresAreThoseOfThePublishedExamples(t *testing.T) {
	for _, c := range []struct {
		vector, version string
		base, score     float64
		rating          string
	}{
		{"CVSS:4.0/AV:L/AC:L/AT:P/PR:L/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", "4.0", 7.3, 7.3, "high"},
		{"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:N/VA:N/SC:N/SI:N/SA:N", "4.0", 8.7, 8.7, "high"},
		{"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:H/SI:H/SA:H", "4.0", 10, 10, "critical"},
		{"CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", "3.1", 6.1, 6.1, "medium"},
		{"CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", "3.0", 6.1, 6.1, "medium"},
		{"AV:N/AC:L/Au:N/C:N/I:N/A:C", "2.0", 7.8, 7.8, "high"},
		{"AV:N/AC:L/Au:N/C:N/I:N/A:C/E:F/RL:OF/RC:C", "2.0", 7.8, 6.4, "medium"},
		{"AV:N/AC:L/Au:N/C:N/I:N/A:C/E:F/RL:OF/RC:C/CDP:H/TD:H/CR:M/IR:M/AR:H", "2.0", 7.8, 9.2, "high"},
		{"AV:N/AC:L/Au:N/C:N/I:N/A:C/E:F/RL:OF/RC:C/CDP:N/TD:N/CR:M/IR:M/AR:H", "2.0", 7.8, 0, "low"},
	} {
		got, err := ScoreVector(c.vector, "alice")
		want := Score{Version: c.version, Vector: c.vector, Base: c.base, Score: c.score, Rating: c.rating, Scorer: "alice"}
		if err != nil || got != want {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", c.vector, got, err, want)
		}
	}
}

// Threat metrics lower a version 4.0 score and leave its base as it was.
func TestThreatMetricsLeaveTheBaseScore(t *testing.T) {
	got, err := ScoreVector("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:N/VA:N/SC:N/SI:N/SA:N/E:U", "")
	if err != nil || got.Base != 8.7 || got.Score >= got.Base {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestBadVectorsAreRefused(t *testing.T) {
	for _, v := range []string{
		"", "CVSS:4.0/", "CVSS:9.9/AV:N", "CVSS:3.1/AV:N/AC:L", "nonsense", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:N/VA:N/SC:N/SI:N/SA:Q",
		"AV:N/AC:L/Au:N/C:N/I:N", strings.Repeat("A", MaxVector+1), "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N/AV:N",
	} {
		if s, err := ScoreVector(v, ""); !errors.Is(err, ErrInvalid) {
			t.Errorf("%.40q: %+v, %v", v, s, err)
		}
	}
}

func FuzzScoreVector(f *testing.F) {
	f.Add("CVSS:4.0/AV:L/AC:L/AT:P/PR:L/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N")
	f.Add("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N")
	f.Add("AV:N/AC:L/Au:N/C:N/I:N/A:C/E:F/RL:OF/RC:C/CDP:N/TD:N/CR:M/IR:M/AR:H")
	f.Fuzz(func(t *testing.T, vector string) {
		s, err := ScoreVector(vector, "x")
		if err != nil {
			return
		}
		if !(s.Score >= 0 && s.Score <= 10 && s.Base >= 0 && s.Base <= 10) || s.Rating == "" {
			t.Errorf("%q: %+v", vector, s)
		}
		again, err := ScoreVector(s.Vector, "x")
		if err != nil || again != s {
			t.Errorf("%q: canonical %q gives %+v, %v; want %+v", vector, s.Vector, again, err, s)
		}
	})
}
