package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unique"

	"github.com/headgate/headgate/health"
)

// What the hot path writes.
const (
	textNew   = `INSERT INTO rollout_count (rollout, segment, exposed, proven, harmed, silent, still_open) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	textTally = `UPDATE rollout SET preflight_failed = preflight_failed + $2, reverted = reverted + $3, segments = $4 WHERE id = $1`
	textAgain = `UPDATE exposure SET state = $3, reverted = FALSE, granted = $4 WHERE rollout = $1 AND endpoint = $2`
	textMove  = `UPDATE exposure SET state = $3, settled = COALESCE(NULLIF(CAST($4 AS BIGINT), 0), settled), reverted = $5, reason = $6, detail = $7, down = $8 WHERE rollout = $1 AND endpoint = $2`
)

var (
	listGrant = &list{
		of:   "BIGINT TEXT BIGINT",
		head: `INSERT INTO exposure (rollout, endpoint, state, granted, deadline, settled, reverted, domain, down, reason, detail, rung) VALUES `,
		row:  `($1, ?, 'open', $2, $3, 0, FALSE, ?, 0, '', '', ?)`, fixed: 3,
	}
	// listProve is for what nearly all outcomes are: proven, with nothing to tell.
	// The rows exist and are locked, so that it always updates: found by their
	// key, whatever a planner may think of UPDATE.
	listProve = &list{
		of:   "BIGINT",
		head: `INSERT INTO exposure (rollout, endpoint, state, granted, deadline, settled, reverted, domain, down, reason, detail) VALUES `,
		row:  `($1, ?, 'proven', 0, 0, $2, FALSE, '', 0, '', '')`,
		tail: ` ON CONFLICT (rollout, endpoint) DO UPDATE SET state = excluded.state, settled = excluded.settled, down = 0, reason = '', detail = ''`, fixed: 2,
	}
	// listCount adds to the counts of segments that have a row already.
	listCount = &list{
		of:   "TEXT BIGINT BIGINT BIGINT BIGINT BIGINT",
		head: `WITH d (segment, exposed, proven, harmed, silent, still_open) AS (VALUES `,
		row:  `(CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT))`,
		tail: `) UPDATE rollout_count SET exposed = rollout_count.exposed + d.exposed, proven = rollout_count.proven + d.proven,` +
			` harmed = rollout_count.harmed + d.harmed, silent = rollout_count.silent + d.silent, still_open = rollout_count.still_open + d.still_open` +
			` FROM d WHERE rollout_count.rollout = $1 AND rollout_count.segment = d.segment RETURNING rollout_count.segment`,
		fixed: 1,
	}
	// listVitals, too, only ever updates, by the key: of UPDATE ... FROM, SQLite
	// makes a scan of all endpoints. A row that is not there fails on its tenant.
	listVitals = &list{
		of:   "BIGINT BIGINT TEXT TEXT",
		head: `INSERT INTO endpoint (id, rss, sandbox, trouble, tenant, secret, labels, domain, name, agent_version, enrolled) VALUES `,
		row:  `(?, ?, ?, ?, -1, $1, '', '', '', '', 0)`,
		tail: ` ON CONFLICT (id) DO UPDATE SET rss = excluded.rss, sandbox = excluded.sandbox, trouble = excluded.trouble`, fixed: 1,
	}
	listRefuse = &list{
		of:   "BIGINT TEXT TEXT",
		head: `INSERT INTO preflight_failure (rollout, at, endpoint, reason, detail) VALUES `,
		row:  `($1, $2, ?, ?, ?)`, tail: ` ON CONFLICT (rollout, endpoint) DO NOTHING`, fixed: 2,
	}
)

// save writes what the batch changed, and its ledger entry.
func (r *batchRun) save(ctx context.Context) error {
	if err := r.saveInstallations(ctx); err != nil {
		return fmt.Errorf("save installations: %w", err)
	}
	noted := map[int64]map[string]int64{}
	for _, id := range slices.Sorted(maps.Keys(r.gates)) {
		if err := r.saveGate(ctx, r.gates[id]); err != nil {
			return fmt.Errorf("save exposures of rollout R-%d: %w", id, err)
		}
		noted[id] = r.gates[id].noted
	}
	if len(r.members) == 0 {
		return nil
	}
	d, err := batchDraft("exposures.committed", r.members, noted)
	if err != nil {
		return err
	}
	_, err = r.c.appendLedger(ctx, r.now, d)
	return err
}

func (r *batchRun) saveGate(ctx context.Context, g *gate) error {
	if err := r.saveExposures(ctx, g); err != nil {
		return err
	}
	if err := r.saveWatched(ctx, g); err != nil {
		return err
	}
	if err := r.saveMeasured(ctx, g); err != nil {
		return err
	}
	refused, err := r.saveRefusals(ctx, g)
	if err != nil {
		return err
	}
	if refused > 0 {
		g.noted["preflight-failed"] += refused
	}
	segments, err := r.c.saveCounts(ctx, g)
	if err != nil {
		return err
	}
	if refused == 0 && g.reverted == 0 && segments == g.segments {
		return nil
	}
	_, err = r.c.exec(ctx, textTally, g.gate.Rollout, refused, g.reverted, segments)
	return err
}

func (r *batchRun) saveExposures(ctx context.Context, g *gate) error {
	id, now := g.gate.Rollout, micros(r.now)
	var granted, proven []any
	for _, endpoint := range slices.Sorted(maps.Keys(g.exposures)) {
		x := g.exposures[endpoint]
		switch {
		case x.again:
			if _, err := r.c.exec(ctx, textAgain, id, endpoint, string(x.state), now); err != nil {
				return err
			}
		case x.isNew:
			granted = append(granted, endpoint, r.endpoints[endpoint].domainKey(), x.rung)
		case x.changed && x.state == health.Proven && !x.reverted && x.reason == "" && x.detail == "" && x.down == 0:
			proven = append(proven, endpoint)
		case x.changed:
			_, err := r.c.exec(ctx, textMove, id, endpoint, string(x.state), micros(x.settled), x.reverted, x.reason, x.detail, x.down.Microseconds())
			if err != nil {
				return err
			}
		}
	}
	p := g.static.policy
	deadline := micros(p.Deadline(r.now))
	if g.watched != nil {
		deadline = far
	}
	if _, err := r.c.execList(ctx, listGrant, []any{id, now, deadline}, granted); err != nil {
		return err
	}
	_, err := r.c.execList(ctx, listProve, []any{id, now}, proven)
	return err
}

// saveRefusals returns how many endpoints refused in preflight for the first
// time.
func (r *batchRun) saveRefusals(ctx context.Context, g *gate) (int64, error) {
	var rows []any
	for _, endpoint := range slices.Sorted(maps.Keys(g.refused)) {
		a := g.refused[endpoint]
		rows = append(rows, endpoint, a.Reason, a.Detail)
	}
	return r.c.execList(ctx, listRefuse, []any{g.gate.Rollout, micros(r.now)}, rows)
}

// saveCounts adds the deltas to the counts of the total and of each segment,
// and returns how many segments the rollout has now.
func (c conn) saveCounts(ctx context.Context, g *gate) (int64, error) {
	sum := map[string]*health.Counts{"": {}}
	for labels, d := range g.deltas {
		segments, err := c.s.segmentsOf(labels)
		if err != nil {
			return 0, err
		}
		add(sum[""], d)
		for _, seg := range segments {
			if sum[seg] == nil {
				sum[seg] = &health.Counts{}
			}
			add(sum[seg], d)
		}
	}
	return c.addCounts(ctx, g, sum)
}

// addCounts returns how many segments the rollout has then.
func (c conn) addCounts(ctx context.Context, g *gate, sum map[string]*health.Counts) (int64, error) {
	var rows []any
	for _, seg := range slices.Sorted(maps.Keys(sum)) {
		d := sum[seg]
		if *d == (health.Counts{}) {
			delete(sum, seg)
			continue
		}
		rows = append(rows, seg, d.Exposed, d.Proven, d.Harmed, d.Silent, d.Open)
	}
	err := c.queryList(ctx, listCount, []any{g.gate.Rollout}, rows, func(rows *sql.Rows) error {
		var seg string
		err := rows.Scan(&seg)
		delete(sum, seg)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count segments: %w", err)
	}
	have := g.segments
	for _, seg := range slices.Sorted(maps.Keys(sum)) { // those met for the first time
		// A segment that had no room when it was first met never gets any: its
		// later outcomes would not add up.
		if have >= maxSegments {
			break
		}
		d := sum[seg]
		if _, err := c.exec(ctx, textNew, g.gate.Rollout, seg, d.Exposed, d.Proven, d.Harmed, d.Silent, d.Open); err != nil {
			return 0, fmt.Errorf("count segment %q for the first time: %w", seg, err)
		}
		have++
	}
	return have, nil
}

func add(to, d *health.Counts) {
	to.Exposed += d.Exposed
	to.Proven += d.Proven
	to.Harmed += d.Harmed
	to.Silent += d.Silent
	to.Open += d.Open
}

// saveVitals rewrites the vitals of endpoints whose memory changed by more than
// an eighth, or whose sandbox or trouble changed: these rows are seldom written.
func (r *batchRun) saveVitals(ctx context.Context, latest []int64) error {
	var rows []any
	for _, endpoint := range latest {
		b, id := r.batch.Beacons[r.latest[endpoint]], r.endpoints[endpoint]
		said := vitals{rss: b.RSS, sandbox: unique.Make(strings.Join(b.Sandbox, " ")), trouble: b.Trouble}
		if said.near(id.vitals) {
			continue
		}
		after := *id
		after.vitals = said
		r.changed = append(r.changed, &after)
		rows = append(rows, endpoint, said.rss, said.sandbox.Value(), said.trouble)
	}
	_, err := r.c.execList(ctx, listVitals, []any{[]byte{}}, rows)
	return err
}
