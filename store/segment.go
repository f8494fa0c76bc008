package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
)

// textFailed adds to the failures of endpoints with the same labels. The rollout
// is locked, so that nobody else takes the same seq.
const textFailed = `INSERT INTO failed_labels (rollout, digest, seq, labels, treated, control)
	VALUES ($1, $2, (SELECT COALESCE(MAX(seq), 0) + 1 FROM failed_labels WHERE rollout = $1), $3, $4, $5)
	ON CONFLICT (rollout, digest) DO UPDATE SET treated = failed_labels.treated + excluded.treated, control = failed_labels.control + excluded.control`

// countFailed counts first failures by the labels of those who failed.
func (r *batchRun) countFailed(ctx context.Context, g *gate, news []int64) error {
	if !g.watched.policy.Budget.Segments {
		return nil
	}
	treated, control := map[string]int64{}, map[string]int64{}
	for _, endpoint := range news {
		id := r.endpoints[endpoint]
		if id == nil {
			continue // countFirst says so
		}
		treated[id.labels.Value()] += 0
		if g.watched.failures[endpoint].rung == rungControl {
			control[id.labels.Value()]++
		} else {
			treated[id.labels.Value()]++
		}
	}
	for _, labels := range slices.Sorted(maps.Keys(treated)) {
		sum := sha256.Sum256([]byte(labels))
		if _, err := r.c.exec(ctx, textFailed, g.gate.Rollout, hex.EncodeToString(sum[:]), labels, treated[labels], control[labels]); err != nil {
			return fmt.Errorf("count failures by labels: %w", err)
		}
	}
	return nil
}

// failures reads first failures by labels, in the order in which they first
// failed.
func (c conn) failures(ctx context.Context, id int64) (out []rollout.Failures, err error) {
	rows, err := c.rows(ctx, `SELECT labels, treated, control FROM failed_labels WHERE rollout = $1 ORDER BY seq`, id)
	err = each(rows, err, func() error {
		var labels string
		var f rollout.Failures
		if err := rows.Scan(&labels, &f.Treated, &f.Control); err != nil {
			return err
		}
		f.Labels, err = c.s.labelsOf(labels)
		out = append(out, f)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read failures by labels: %w", err)
	}
	return out, nil
}

// Composition counts the endpoints of a rollout's product by their labels; heard
// is who was heard from at or after since and is not exposed. Whom tenants' limits
// keep from the release now is left out, as Presence does. It reads a row for
// each endpoint of the product, so that callers cache it.
func (s *Store) Composition(ctx context.Context, id int64, since, now time.Time) (out []rollout.Group, err error) {
	err = s.inRead(ctx, fmt.Sprintf("read composition of R-%d", id), func(c conn) error {
		out = nil
		r, err := c.rollout(ctx, id)
		if err != nil {
			return err
		}
		rows, err := c.rows(ctx, `SELECT e.labels, COUNT(*), COUNT(x.endpoint),
				COALESCE(SUM(CASE WHEN x.endpoint IS NULL AND i.last_seen >= $2 AND NOT i.goodbye THEN 1 ELSE 0 END), 0)
			FROM installation i JOIN endpoint e ON e.id = i.endpoint LEFT JOIN exposure x ON x.rollout = $3 AND x.endpoint = i.endpoint
			WHERE i.product = $1 GROUP BY e.labels`, r.Product, micros(since), id)
		at := map[string]int{}
		err = each(rows, err, func() error {
			var labels string
			var g rollout.Group
			if err := rows.Scan(&labels, &g.Fit, &g.Exposed, &g.Heard); err != nil {
				return err
			}
			g.Labels, err = c.s.labelsOf(labels)
			at[labels] = len(out)
			out = append(out, g)
			return err
		})
		if err != nil {
			return err
		}
		err = c.groupsWithoutDeferred(ctx, r, since, now, func(labels string, all, heard int64) {
			if i, ok := at[labels]; ok {
				out[i].Fit, out[i].Heard = out[i].Fit-all, out[i].Heard-heard
			}
		})
		if err != nil {
			return err
		}
		fit := int64(0)
		for _, g := range out {
			fit += g.Fit
		}
		if r.Counts.Exposed*rollout.EarlyPart > fit {
			// No segment's evidence is young, and what it counts too much is little.
			return nil
		}
		return c.groupsEarly(ctx, r, func(labels string) *rollout.Group {
			if i, ok := at[labels]; ok {
				return &out[i]
			}
			return nil
		})
	})
	return out, err
}

// Who failed as a control before anybody granted could be seen to: what was reported
// before the first grant ($2), and silence before it could be that endpoint's ($3);
// the same for the first grant after the first cohort ($4, $5).
const (
	textFirst = `SELECT e.labels, COALESCE(SUM(CASE WHEN x.rung = 0 THEN 1 ELSE 0 END), 0), MIN(x.granted),
			COALESCE(MIN(CASE WHEN x.rung <> 0 THEN x.granted END), CAST($2 AS BIGINT))
		FROM exposure x JOIN endpoint e ON e.id = x.endpoint WHERE x.rollout = $1 GROUP BY e.labels`
	textEarly = `SELECT e.labels, SUM(CASE WHEN f.at < CASE WHEN f.channel = 'silent' THEN CAST($3 AS BIGINT) ELSE CAST($2 AS BIGINT) END THEN 1 ELSE 0 END),
			SUM(CASE WHEN f.at < CASE WHEN f.channel = 'silent' THEN CAST($5 AS BIGINT) ELSE CAST($4 AS BIGINT) END THEN 1 ELSE 0 END)
		FROM first_failure f JOIN endpoint e ON e.id = f.endpoint WHERE f.rollout = $1 AND NOT f.exposed GROUP BY e.labels`
)

// groupsEarly fills in what of each group came first.
func (c conn) groupsEarly(ctx context.Context, r Rollout, group func(labels string) *rollout.Group) error {
	const never = math.MaxInt64 / 2
	first := [2]int64{never, never}
	rows, err := c.rows(ctx, textFirst, r.ID, int64(never))
	err = each(rows, err, func() error {
		var labels string
		var n, any, later int64
		if err := rows.Scan(&labels, &n, &any, &later); err != nil {
			return err
		}
		if g := group(labels); g != nil {
			g.First = n
		}
		first[0], first[1] = min(first[0], any), min(first[1], later)
		return nil
	})
	if err != nil {
		return fmt.Errorf("find the first exposures: %w", err)
	}
	quiet := r.Policy.Quiet().Microseconds()
	rows, err = c.rows(ctx, textEarly, r.ID, first[0], first[0]+quiet, first[1], first[1]+quiet)
	err = each(rows, err, func() error {
		var labels string
		var early [2]int64
		if err := rows.Scan(&labels, &early[0], &early[1]); err != nil {
			return err
		}
		if g := group(labels); g != nil {
			g.Early = early
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("count early failures: %w", err)
	}
	return nil
}

// tally is what part of a cohort lies in a segment.
type tally struct {
	size, unsettled, harmed, silent int64
	compared                        [1 + rollout.MaxMeasures]verdicts
	byAge                           []int64
}

const textFailedByLabels = `SELECT f.rung, e.labels, f.channel, CASE WHEN x.state = 'silent' THEN 1 ELSE 0 END, f.at
	FROM first_failure f JOIN endpoint e ON e.id = f.endpoint LEFT JOIN exposure x ON x.rollout = f.rollout AND x.endpoint = f.endpoint AND x.rung = f.rung
	WHERE f.rollout = $1`

// tallies counts, by cohort, the endpoints whose labels are in, and of those
// that failed, by which age of their cohort's youngest.
func (c conn) tallies(ctx context.Context, r Rollout, kept map[int64]*cohort, in func(fleet.Labels) bool) (map[int64]*tally, error) {
	out := map[int64]*tally{}
	at := func(rung int64) *tally {
		if out[rung] == nil {
			out[rung] = &tally{byAge: make([]int64, len(r.Policy.Budget.Horizons))}
		}
		return out[rung]
	}
	read := func(text string, f func(rung, n, m int64, channel string)) error {
		rows, err := c.rows(ctx, text, r.ID)
		return each(rows, err, func() error {
			var rung, n, m int64
			var labels, channel string
			if err := rows.Scan(&rung, &labels, &channel, &n, &m); err != nil {
				return err
			}
			l, err := c.s.labelsOf(labels)
			if err == nil && in(l) {
				f(rung, n, m, channel)
			}
			return err
		})
	}
	err := read(`SELECT x.rung, e.labels, '', COUNT(*), COALESCE(SUM(CASE WHEN x.state = 'open' THEN 1 ELSE 0 END), 0)
		FROM exposure x JOIN endpoint e ON e.id = x.endpoint WHERE x.rollout = $1 GROUP BY x.rung, e.labels`, func(rung, n, open int64, _ string) {
		t := at(rung)
		t.size, t.unsettled = t.size+n, t.unsettled+open
	})
	if err != nil {
		return nil, fmt.Errorf("count exposures by labels: %w", err)
	}
	err = read(`SELECT x.rung, e.labels, '', COUNT(*), x.measured
		FROM exposure x JOIN endpoint e ON e.id = x.endpoint WHERE x.rollout = $1 AND x.measured > 0 GROUP BY x.rung, e.labels, x.measured`, func(rung, n, measured int64, _ string) { at(rung).compare(measured, n) })
	if err != nil {
		return nil, fmt.Errorf("count measurements by labels: %w", err)
	}
	err = read(textFailedByLabels, func(rung, unproven, when int64, channel string) {
		t := at(rung)
		if channel == string(health.Harmed) {
			t.harmed++
		} else {
			t.silent++
		}
		for j, h := range r.Policy.Budget.Horizons {
			// Who is silent was never proven, and counted whenever it was known. Whether
			// another later one counted, for more could join then, is not known: it stays
			// counted.
			if k := kept[rung]; k != nil && (unproven == 1 || fromMicros(when).Sub(k.last) <= h.Age.Std()) {
				t.byAge[j]++
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("count failures by labels: %w", err)
	}
	return out, nil
}

// countOut takes the endpoints of segments out of the cohorts of a locked rollout
// (sign -1), or in again (1).
func (c conn) countOut(ctx context.Context, r Rollout, sign int64, in func(fleet.Labels) bool) error {
	w := &watched{policy: r.Policy}
	var err error
	if w.cohorts, err = c.cohorts(ctx, r.ID); err != nil {
		return err
	}
	parts, err := c.tallies(ctx, r, w.cohorts, in)
	if err != nil {
		return err
	}
	for rung, t := range parts {
		n := w.cohort(rung)
		if rung != rungControl {
			n.size = max(0, n.size+sign*t.size)
		}
		n.unsettled = max(0, n.unsettled+sign*t.unsettled)
		n.harmed, n.silent = max(0, n.harmed+sign*t.harmed), max(0, n.silent+sign*t.silent)
		n.countOut(t, sign)
		for j := range n.byAge {
			n.byAge[j] = max(0, n.byAge[j]+sign*t.byAge[j])
		}
	}
	return c.saveCohorts(ctx, r.ID, w)
}

// haltSegments counts who is in newly halted segments out of the cohorts.
func (c conn) haltSegments(ctx context.Context, r Rollout, add []rollout.HaltedSegment) error {
	if len(add) == 0 {
		return nil
	}
	if r.Policy.Budget == nil {
		return fmt.Errorf("halt segments: the policy has no budget: %w", ErrState)
	}
	before, now := labelsOf(r.Halted), labelsOf(add)
	return c.countOut(ctx, r, -1, func(l fleet.Labels) bool { return l.MatchAny(now) && !l.MatchAny(before) })
}

// liftSegments counts who is in no halted segment any more into the cohorts
// again; r.Halted is as it was before.
func (c conn) liftSegments(ctx context.Context, r Rollout, lift []rollout.HaltedSegment) error {
	if len(lift) == 0 {
		return nil
	}
	before, left := labelsOf(r.Halted), labelsOf(rollout.Without(r.Halted, lift))
	return c.countOut(ctx, r, 1, func(l fleet.Labels) bool { return l.MatchAny(before) && !l.MatchAny(left) })
}

func labelsOf(all []rollout.HaltedSegment) (out []fleet.Labels) {
	for _, h := range all {
		out = append(out, h.Labels)
	}
	return out
}

// encodeHalted is halted segments as stored.
func encodeHalted(all []rollout.HaltedSegment) (string, error) {
	if all == nil {
		all = []rollout.HaltedSegment{}
	}
	b, err := json.Marshal(all)
	return string(b), err
}

// examineCohorts recounts the cohorts of a rollout with a budget from its
// exposures and first failures.
func (c conn) examineCohorts(ctx context.Context, id int64) (wrong []string, err error) {
	r, err := c.rollout(ctx, id)
	if err != nil {
		return nil, err
	}
	kept, err := c.cohorts(ctx, id)
	if err != nil {
		return nil, err
	}
	halted := labelsOf(r.Halted)
	all, err1 := c.tallies(ctx, r, kept, func(fleet.Labels) bool { return true })
	rest, err2 := c.tallies(ctx, r, kept, func(l fleet.Labels) bool { return !l.MatchAny(halted) })
	if err1 != nil || err2 != nil {
		return nil, fmt.Errorf("recount cohorts: %w, %w", err1, err2)
	}
	for rung := range kept {
		if all[rung] == nil {
			all[rung] = &tally{}
		}
	}
	for _, rung := range slices.Sorted(maps.Keys(all)) {
		k, f, granted := kept[rung], rest[rung], all[rung].size
		if k == nil {
			k = &cohort{}
		}
		if f == nil {
			f = &tally{}
		}
		if k.granted != granted || k.unsettled != f.unsettled || k.harmed != f.harmed || k.silent != f.silent || k.size != f.size {
			wrong = append(wrong, fmt.Sprintf("cohort %d: kept %d granted, %d in size, %d open, %d harmed, %d silent; its rows are %d, %d, %d, %d, %d",
				rung, k.granted, k.size, k.unsettled, k.harmed, k.silent, granted, f.size, f.unsettled, f.harmed, f.silent))
		}
		if rung != rungControl {
			wrong = append(wrong, k.examine(rung, f, len(r.Policy.Budget.Measures))...)
		}
	}
	if !r.Policy.Budget.Segments {
		return wrong, nil
	}
	return c.examineFailed(ctx, id, wrong)
}

// examineFailed compares failures by labels with those by endpoint.
func (c conn) examineFailed(ctx context.Context, id int64, wrong []string) ([]string, error) {
	var kept, found [2]int64
	err := c.row(ctx, `SELECT COALESCE(SUM(treated), 0), COALESCE(SUM(control), 0) FROM failed_labels WHERE rollout = $1`, id).Scan(&kept[0], &kept[1])
	if err == nil {
		err = c.row(ctx, `SELECT COALESCE(SUM(CASE WHEN exposed THEN 1 ELSE 0 END), 0), COALESCE(SUM(CASE WHEN exposed THEN 0 ELSE 1 END), 0)
			FROM first_failure WHERE rollout = $1`, id).Scan(&found[0], &found[1])
	}
	if err != nil {
		return wrong, fmt.Errorf("recount failures by labels: %w", err)
	}
	if kept != found {
		wrong = append(wrong, fmt.Sprintf("failures by labels: kept %v treated and controls, first failures are %v", kept, found))
	}
	return wrong, nil
}
