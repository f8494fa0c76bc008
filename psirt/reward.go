package psirt

import (
	"crypto/sha256"
	_ "embed" // the built-in table
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/strict"
)

// Limits of a table of rewards.
const (
	MaxRewardTable = 64 << 10 // bytes
	maxRewardRows  = 200
	maxReward      = 100_000_000 // whole units
)

// RewardTable says what a report is worth. It is data, versioned by its id and
// known by its digest; the first row that matches rules.
type RewardTable struct {
	ID        string      `json:"id"`
	Source    string      `json:"source"`    // who decided it, and where
	Effective string      `json:"effective"` // date
	Currency  string      `json:"currency"`  // ISO 4217; empty for points
	Rows      []RewardRow `json:"rows"`

	digest string
}

// RewardRow is one row. What is not given matches everything.
type RewardRow struct {
	ID     string   `json:"id"`
	When   RewardIf `json:"when"`
	Amount int64    `json:"amount"` // whole units
	Why    string   `json:"why"`
}

// RewardIf is what a row asks.
type RewardIf struct {
	Score     *float64 `json:"score,omitempty"`     // at least so severe
	Duplicate *bool    `json:"duplicate,omitempty"` // another report was first
	Exercise  *bool    `json:"exercise,omitempty"`  // a red team's
	Proof     *bool    `json:"proof,omitempty"`     // it came with what shows it
	Accepted  *bool    `json:"accepted,omitempty"`  // it belongs to a case
}

// RewardFor is what is known of a report.
type RewardFor struct {
	Score     float64 // CVSS base score, 0 to 10; below 0 if nobody scored it
	Duplicate bool
	Exercise  bool
	Proof     bool
	Accepted  bool
}

//go:embed reward.json
var builtinRewards []byte

// DefaultRewards is the table that comes with Headgate: an example in points.
func DefaultRewards() RewardTable {
	t, err := ParseRewardTable(builtinRewards)
	if err != nil {
		panic("psirt: the built-in table of rewards: " + err.Error())
	}
	return t
}

// ParseRewardTable reads a table in JSON, strictly. Its last row must match
// everything, so that each report has an answer.
func ParseRewardTable(b []byte) (RewardTable, error) {
	var t RewardTable
	if len(b) > MaxRewardTable {
		return t, invalid("rewards: %d bytes; at most %d", len(b), MaxRewardTable)
	}
	if err := strict.Decode(b, &t); err != nil {
		return t, invalid("rewards: %v", err)
	}
	sum := sha256.Sum256(b)
	t.digest = hex.EncodeToString(sum[:])
	return t, t.check()
}

func (t RewardTable) check() error {
	err := first(match("rewards: id", t.ID, rewardName, "a word of lower-case letters, digits, dots and dashes"), line("rewards: source", t.Source))
	if err != nil {
		return err
	}
	if _, err := time.Parse(time.DateOnly, t.Effective); err != nil {
		return invalid("rewards: effective: %.40q; want a date such as 2026-01-01", t.Effective)
	}
	if t.Currency != "" && !currencyName.MatchString(t.Currency) {
		return invalid("rewards: currency: %.40q; want three capitals such as EUR, or nothing for points", t.Currency)
	}
	if len(t.Rows) == 0 || len(t.Rows) > maxRewardRows {
		return invalid("rewards: rows: %d; want 1 to %d", len(t.Rows), maxRewardRows)
	}
	seen := map[string]bool{}
	for i, r := range t.Rows {
		if err := first(match("id", r.ID, wordName, "a word"), line("why", r.Why)); err != nil {
			return fmt.Errorf("rewards: rows[%d]: %w", i, err)
		}
		if r.Amount < 0 || r.Amount > maxReward {
			return invalid("rewards: rows[%d]: amount: %d; want 0 to %d", i, r.Amount, maxReward)
		}
		if s := r.When.Score; s != nil && !(*s >= 0 && *s <= 10) {
			return invalid("rewards: rows[%d]: score: %v; want 0 to 10", i, *s)
		}
		if seen[r.ID] {
			return invalid("rewards: rows[%d]: id %s is there twice", i, r.ID)
		}
		seen[r.ID] = true
	}
	if last := t.Rows[len(t.Rows)-1]; last.When != (RewardIf{}) {
		return invalid("rewards: rows[%d]: the last row must match everything", len(t.Rows)-1)
	}
	return nil
}

var (
	rewardName   = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?$`)
	currencyName = regexp.MustCompile(`^[A-Z]{3}$`)
)

// Name is the table's id with its digest: a fact that names it can be checked.
func (t RewardTable) Name() string { return t.ID + "@sha256:" + t.digest }

// RewardRef names an applied table of rewards; revision 0 is its newest, and the
// zero value whichever is in force.
type RewardRef struct {
	ID       string
	Revision int64
}

// ParseRewardRef reads "id" or "id@revision"; empty is the one in force.
func ParseRewardRef(s string) (r RewardRef, err error) {
	if s == "" {
		return r, nil
	}
	id, revision, given := strings.Cut(s, "@")
	if !rewardName.MatchString(id) {
		return r, invalid("table of rewards %.80q: want ID or ID@REVISION", s)
	}
	r.ID = id
	if given {
		if r.Revision, err = strconv.ParseInt(revision, 10, 64); err != nil || r.Revision < 1 {
			return r, invalid("table of rewards %.80q: revision: want a number from 1", s)
		}
	}
	return r, nil
}

// ErrUnscored: the table asks for a score, and nobody gave one.
var ErrUnscored = errors.New("nobody has scored it")

// Decide finds the row for a report. Unknown severity is not a low one: where a
// row asks for it, the answer is ErrUnscored.
func (t RewardTable) Decide(in RewardFor) (ReportRewarded, error) {
	for _, r := range t.Rows {
		ok, err := r.When.match(in)
		if err != nil {
			return ReportRewarded{}, fmt.Errorf("rewards %s, row %s: %w", t.ID, r.ID, err)
		}
		if ok {
			return ReportRewarded{Table: t.Name(), Row: r.ID, Amount: r.Amount, Currency: t.Currency, Why: r.Why}, nil
		}
	}
	panic("psirt: no row matches in a table of rewards that was checked")
}

func (w RewardIf) match(in RewardFor) (bool, error) {
	for _, c := range []struct {
		want *bool
		is   bool
	}{{w.Duplicate, in.Duplicate}, {w.Exercise, in.Exercise}, {w.Proof, in.Proof}, {w.Accepted, in.Accepted}} {
		if c.want != nil && *c.want != c.is {
			return false, nil
		}
	}
	if w.Score == nil {
		return true, nil
	}
	if in.Score < 0 || math.IsNaN(in.Score) {
		return false, ErrUnscored
	}
	return in.Score >= *w.Score, nil
}
