package recorded

import (
	"maps"
	"slices"

	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/health"
	"github.com/headgate/headgate/rollout"
)

// leastCell is how many endpoints a segment has that is tested; mostValues is how
// many values a label may have to be paired with others.
const (
	leastCell  = 50
	mostValues = 200
)

// observe fills the snapshot with what a server would know at a tick.
func (w *play) observe(t int64) rollout.Snapshot {
	p := w.s.Policy
	o := *w.s.Observed
	o.Cohorts = nil
	failed, quiet := int64(0), int64(p.Quiet()/tick)
	for k := range w.cohorts {
		c := &w.cohorts[k]
		w.mature(k, t)
		risk := max(0, c.kept-c.harmed-c.silent)
		young := int64(0)
		if t-c.last < quiet {
			young = risk
		}
		o.Cohorts = append(o.Cohorts, rollout.Cohort{
			Granted: c.granted, Size: c.kept, Last: at(c.last), ByAge: slices.Clone(c.byAge),
			Arm: health.Arm{Harmed: c.harmed, Silent: c.silent, AtRisk: risk, AtLeast: risk - young, Young: young},
		})
		failed += c.harmed + c.silent
	}
	w.control.AtRisk, w.control.AtLeast = w.free, w.free
	o.Control = w.control
	o.HaltedShare = float64(w.haltedAll) / float64(len(w.all))
	o.Cells = w.looks()
	exposed := w.exposed()
	proven := int64(0)
	if age := int64(p.Probation.Std() / tick); t > age && int(t-age) <= len(w.grants) {
		proven = max(0, w.grants[t-age-1]-failed)
	}
	w.s.Observed = &o
	w.s.Counts = health.Counts{Exposed: exposed, Proven: min(exposed, proven), Open: exposed - min(exposed, proven)}
	w.s.Control = health.Control{Fit: int64(len(w.all)), Online: int64(len(w.all)), Unexposed: int64(len(w.all)) - exposed, Heard: w.free}
	return w.s
}

// mature keeps what a cohort had come to when its youngest member reached each
// horizon; until then, so far.
func (w *play) mature(k int, t int64) {
	c := &w.cohorts[k]
	closed := int64(k) < w.s.Pace.Rung || w.exposed() >= w.s.Pace.Ceiling
	for j, h := range w.s.Policy.Budget.Horizons {
		if c.matureAt[j] >= 0 {
			continue
		}
		c.byAge[j] = min(c.kept, c.harmed+c.silent)
		if closed && t-c.last >= int64(h.Age.Std()/tick) {
			c.matureAt[j] = t
		}
	}
}

// looks lists the segments in which anything failed.
func (w *play) looks() []health.CellLook {
	if !w.s.Policy.Budget.Segments {
		return nil
	}
	var out []health.CellLook
	for i, c := range w.cells {
		if c.failed == 0 && c.control == 0 || c.halted {
			continue
		}
		out = append(out, health.CellLook{
			ID: uint32(i), Labels: c.labels, Failed: max(0, c.failed), ControlFailed: c.control, AtRisk: max(c.exposed, c.failed),
			ControlAtRisk: max(0, c.size-c.exposed-c.control), Exposed: c.exposed, Share: float64(c.size) / float64(len(w.all)),
		})
	}
	return out
}

// obey carries out a decision, but for grants.
func (w *play) obey(d rollout.Decision, t int64) {
	w.s.State, w.s.Pace, w.s.HeldBy, w.s.Observed.Knowledge = d.State, d.Pace, d.HeldBy, *d.Knowledge
	if d.NewRung {
		w.s.RungSince = at(t)
	}
	for int64(len(w.cohorts)) <= d.Pace.Rung {
		n := len(w.s.Policy.Budget.Horizons)
		w.cohorts = append(w.cohorts, group{last: t, byAge: make([]int64, n), matureAt: slices.Repeat([]int64{-1}, n)})
	}
	for _, h := range d.HaltSegments {
		w.cells[h.ID].halted = true
		w.s.Observed.Halted = append(w.s.Observed.Halted, h)
	}
	if len(d.HaltSegments) > 0 {
		w.exclude()
	}
}

// exclude takes the endpoints of halted segments out: their failures count no
// longer, and who has not failed yet reverts.
func (w *play) exclude() {
	for i := range w.all {
		e := &w.all[i]
		if e.out || !slices.ContainsFunc(e.cells, func(c int32) bool { return w.cells[c].halted }) {
			continue
		}
		e.out = true
		w.haltedAll++
		if e.granted < 0 {
			if e.failed < 0 {
				w.free--
			}
			continue
		}
		c := &w.cohorts[e.cohort]
		c.kept--
		if e.failed >= 0 && e.failed >= e.granted {
			w.withdraw(e, c)
		}
	}
}

func (w *play) withdraw(e *endpoint, c *group) {
	*c.channel(e.silent)--
	for j := range c.byAge {
		if c.matureAt[j] >= 0 && e.failed <= c.matureAt[j] {
			c.byAge[j]--
		}
	}
	for _, x := range e.cells {
		w.cells[x].failed--
	}
}

func (c *group) channel(silent bool) *int64 {
	if silent {
		return &c.silent
	}
	return &c.harmed
}

// grant exposes those whose turn it is, as fast as everybody polls.
func (w *play) grant(t int64) {
	defer func() { w.grants = append(w.grants, w.exposed()) }()
	if !w.s.State.Grants() {
		return
	}
	poll := max(1, int64(w.s.Policy.Poll.Std()/tick))
	n := min(w.s.Pace.Ceiling-w.exposed(), (int64(len(w.all))+poll-1)/poll)
	k := int(w.s.Pace.Rung)
	for ; n > 0 && w.next < len(w.all); w.next++ {
		e := &w.all[w.next]
		if e.out || e.failed >= 0 { // failed as a control: it is not there to ask
			continue
		}
		e.granted, e.cohort = t, k
		c := &w.cohorts[k]
		c.granted, c.kept, c.last = c.granted+1, c.kept+1, t
		w.free--
		for _, x := range e.cells {
			w.cells[x].exposed++
		}
		if e.unknown {
			w.ungranted++
		}
		if e.age >= 0 {
			w.due[t+e.age] = append(w.due[t+e.age], w.next)
			w.pending = max(w.pending, t+e.age)
		}
		n--
	}
}

// strike lets fail what fails in a tick. After a halt everyone is back within a
// poll, and fails no more.
func (w *play) strike(t int64, halted *float64) {
	back := halted != nil && at(t).Sub(start).Minutes() > *halted+w.s.Policy.Poll.Std().Minutes()
	for _, i := range w.due[t] {
		e := &w.all[i]
		if back || e.out {
			continue
		}
		e.failed = t
		w.harmed++
		*w.cohorts[e.cohort].channel(e.silent)++
		for _, x := range e.cells {
			w.cells[x].failed++
		}
	}
	for _, i := range w.dueAsFree[t] {
		e := &w.all[i]
		if e.granted >= 0 || e.out || e.failed >= 0 {
			continue
		}
		e.failed = t
		w.free--
		if e.silent {
			w.control.Silent++
		} else {
			w.control.Harmed++
		}
		for _, x := range e.cells {
			w.cells[x].control++
		}
	}
	delete(w.due, t)
	delete(w.dueAsFree, t)
}

// segments numbers the label values, and their pairs, that leastCell endpoints
// have, in the order of their names; of says which each record has.
func segments(records []Record) (cells []cell, of [][]int32) {
	type pair [2]string // of "key=value"; the second is empty for a single
	count, values := map[pair]int64{}, map[string]map[string]bool{}
	for _, r := range records {
		for k, v := range r.Labels {
			if values[k] == nil {
				values[k] = map[string]bool{}
			}
			values[k][v] = true
		}
	}
	each := func(r Record, do func(pair)) {
		keys := slices.Sorted(maps.Keys(r.Labels))
		for i, a := range keys {
			do(pair{a + "=" + r.Labels[a]})
			if len(values[a]) > mostValues {
				continue
			}
			for _, b := range keys[i+1:] {
				if len(values[b]) <= mostValues {
					do(pair{a + "=" + r.Labels[a], b + "=" + r.Labels[b]})
				}
			}
		}
	}
	example := map[pair]int{}
	for i, r := range records {
		each(r, func(p pair) {
			count[p]++
			example[p] = i
		})
	}
	number := map[pair]int32{}
	order := slices.SortedFunc(maps.Keys(count), func(a, b pair) int { return slices.Compare(a[:], b[:]) })
	for _, p := range order {
		if count[p] >= leastCell {
			number[p] = int32(len(cells))
			cells = append(cells, cell{labels: only(records[example[p]].Labels, p[:]), size: count[p]})
		}
	}
	for _, r := range records {
		var mine []int32
		each(r, func(p pair) {
			if n, ok := number[p]; ok {
				mine = append(mine, n)
			}
		})
		of = append(of, mine)
	}
	return cells, of
}

// only are the labels among named "key=value".
func only(l fleet.Labels, named []string) fleet.Labels {
	out := fleet.Labels{}
	for k, v := range l {
		if slices.Contains(named, k+"="+v) {
			out[k] = v
		}
	}
	return out
}
