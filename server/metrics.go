package server

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// metrics is what /metrics shows. Labels come from small fixed sets only. Reports,
// notices, letters and calls are not counted: most are of sealed cases, and a total
// would say when one came or went out.
type metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	batch     prometheus.Histogram
	commit    prometheus.Histogram
	failed    prometheus.Counter
	grants    *prometheus.CounterVec
	outcomes  *prometheus.CounterVec
	decisions *prometheus.CounterVec
	rollouts  *prometheus.GaugeVec
	skewed    prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "headgate_requests_total", Help: "API requests by procedure and code."}, []string{"procedure", "code"}),
		seconds:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "headgate_request_seconds", Help: "Time to answer API requests.", Buckets: prometheus.ExponentialBuckets(0.0005, 3, 10)}, []string{"procedure"}),
		batch:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "headgate_batch_size", Help: "Grants and beacons per transaction.", Buckets: prometheus.ExponentialBuckets(1, 2, 10)}),
		commit:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: "headgate_batch_commit_seconds", Help: "Time to commit a batch.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}),
		failed:   prometheus.NewCounter(prometheus.CounterOpts{Name: "headgate_batch_failures_total", Help: "Batches that did not commit."}),
		grants:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "headgate_grants_total", Help: "Answers to grant requests by verdict."}, []string{"verdict"}),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "headgate_outcomes_total", Help: "Exposures settled by state."}, []string{"state"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "headgate_decisions_total", Help: "Recorded decisions by action."},
			[]string{"action"}),
		rollouts: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "headgate_rollout_endpoints", Help: "Exposures of live rollouts by state, and their window."}, []string{"rollout", "state"}),
		skewed:   prometheus.NewCounter(prometheus.CounterOpts{Name: "headgate_clock_skew_total", Help: "Beacons whose clock was off by more than a minute."}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.batch, m.commit, m.failed, m.grants, m.outcomes, m.decisions, m.rollouts, m.skewed,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// aboutCases are the services whose calls are counted together: who reads the
// metrics must not count cases by the calls that open them.
var aboutCases = []string{"AffectedService", "CaseService", "IntakeService", "LadderService", "NoticeService", "ReportService", "ReviewService"}

// counted is what a procedure is counted as.
func counted(procedure string) string {
	service, _, _ := strings.Cut(strings.TrimPrefix(procedure, "/headgate.v1."), "/")
	if slices.Contains(aboutCases, service) {
		return "cases"
	}
	return procedure
}

func (m *metrics) observeBatch(size int, took time.Duration, err error) {
	m.batch.Observe(float64(size))
	m.commit.Observe(took.Seconds())
	if err != nil {
		m.failed.Inc()
	}
}

// observeDecision shows a look at a rollout; only news counts as a decision.
func (m *metrics) observeDecision(r store.Rollout, d rollout.Decision, news bool) {
	if news {
		m.decisions.WithLabelValues(string(d.Action)).Inc()
	}
	id := strconv.FormatInt(r.ID, 10)
	for state, n := range map[string]int64{"open": r.Counts.Open, "proven": r.Counts.Proven, "harmed": r.Counts.Harmed, "silent": r.Counts.Silent, "window": r.Pace.Window} {
		m.rollouts.WithLabelValues(id, state).Set(float64(n))
	}
}

// forget drops the gauges of a rollout that is superseded.
func (m *metrics) forget(id int64) {
	m.rollouts.DeletePartialMatch(prometheus.Labels{"rollout": strconv.FormatInt(id, 10)})
}

// watch shows what other parts count by themselves.
func (m *metrics) watch(s *Server) {
	counter := func(name, help string, f func() int64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(f()) }))
	}
	counter("headgate_update_checks_total", "Requests for timestamp.json.", s.files.hits.Load)
	counter("headgate_update_checks_unchanged_total", "Requests for timestamp.json that were answered with 304.", s.files.unchanged.Load)
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "headgate_requests_waiting", Help: "Grants and beacons that wait for their transaction."}, func() float64 { return float64(s.requests.Waiting.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "headgate_watches", Help: "Open watch streams."}, func() float64 { return float64(s.watching.Load()) }),
		collectors.NewDBStatsCollector(s.store.DB(), s.store.Dialect()),
	)
}
