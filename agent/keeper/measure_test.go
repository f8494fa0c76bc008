package keeper

import (
	"slices"
	"testing"
	"time"

	"github.com/headgate/headgate/agent/ipc"
)

func by(p ipc.Product, name string) (m ipc.Measure, known bool) {
	i := slices.IndexFunc(p.Measures, func(m ipc.Measure) bool { return m.Name == name })
	if i < 0 {
		return m, false
	}
	return p.Measures[i], true
}

// TestAnEnginesMeasuresAreTold: what it took to start, the crash after it, and what
// the check command says, as growth over spans that are past.
func TestAnEnginesMeasuresAreTold(t *testing.T) {
	b := newBox(t)
	b.change = func(c *Config) { c.spans = []time.Duration{400 * time.Millisecond, 2 * time.Second, time.Hour} }
	b.start()
	b.install("1.0.0", "measured")
	crashed := b.until("a crash counted", func(p ipc.Product) bool {
		m, _ := by(p, "crashes")
		return len(m.Lately) == 3 && m.Lately[0] == 1
	})
	if m, _ := by(crashed, "crashes"); m.Lately[2] != -1 {
		t.Errorf("an hour of crashes is known after a second: %+v", m)
	}
	if m, ok := by(crashed, "start"); !ok || !(m.Value > 0 && m.Value < 5) || m.Lately != nil {
		t.Errorf("start: %+v, %v", m, ok)
	}
	p := b.until("a quiet span", func(p ipc.Product) bool {
		m, _ := by(p, "crashes")
		f, _ := by(p, "false-positives")
		return m.Lately[0] == 0 && m.Lately[1] == 1 && len(f.Lately) == 3 && f.Lately[0] > 0 && f.Lately[1] > f.Lately[0]
	})
	if m, _ := by(p, "false-positives"); m.Lately[1]%3 != 0 || m.Lately[1] > 3*30 || m.Lately[2] != -1 {
		t.Errorf("three at each check, ten checks a second, and %+v", m)
	}
	if m, ok := by(p, "exec-latency"); !ok || m.Value != 0.25 {
		t.Errorf("exec-latency: %+v, %v", m, ok)
	}
	if _, ok := by(p, "no"); ok {
		t.Errorf("what is no number was told: %+v", p.Measures)
	}
	next := b.try("2.0.0", "good", time.Minute)
	q := b.until("the next version", func(p ipc.Product) bool { return p.Digest == next.Digest && p.Healthy })
	if m, _ := by(q, "crashes"); m.Lately[1] != -1 {
		t.Errorf("the new version's crashes begin with the old one's: %+v", m)
	}
	if _, ok := by(q, "false-positives"); ok {
		t.Errorf("the new version says what only the old one said: %+v", q.Measures)
	}
}

// TestACountThatBeganAnewIsNoFall, and what was before the version is not its own.
func TestACountThatBeganAnewIsNoFall(t *testing.T) {
	t0 := time.Now()
	c := newCounter([]time.Duration{time.Minute}, t0)
	c.last = 100
	for i, v := range []float64{100, 104, 2, 3} { // it grew by 4, began anew, and grew by 3
		c.keep(t0.Add(time.Duration(i) * 10 * time.Second))
		c.reads(v)
	}
	if got := c.lately(t0.Add(59 * time.Second)); got[0] != -1 {
		t.Errorf("before the span is past: %v", got)
	}
	if got := c.lately(t0.Add(time.Minute)); got[0] != 7 {
		t.Errorf("grew by %v, want 7", got)
	}
	if got := c.lately(t0.Add(81 * time.Second)); got[0] != 3 {
		t.Errorf("of the last minute %v, want 3", got)
	}
}
