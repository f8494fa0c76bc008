package server

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	lru "github.com/hashicorp/golang-lru/v2"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/fleet"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/tuf"
	"github.com/headgate/headgate/rollout"
	"github.com/headgate/headgate/store"
)

// Limits of what an agent may say, beside those of package fleet.
const (
	maxReason  = 64  // bytes of a reason code
	maxDetail  = 500 // bytes of a detail
	maxSandbox = 16
	maxAgent   = 64 // bytes of a version or feature name
	maxSkew    = time.Minute
)

// agentService is AgentService.
type agentService struct{ *Server }

// Enrol implements AgentService.
func (s agentService) Enrol(ctx context.Context, req *connect.Request[headgatev1.EnrolRequest]) (*connect.Response[headgatev1.EnrolResponse], error) {
	m := req.Msg
	token, err := hashToken(prefixEnrol, m.EnrolmentToken)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnauthenticated, fmt.Errorf("enrolment_token: %w", err))
	}
	secret, err := hashSecret(m.Secret)
	if err != nil {
		return nil, invalid(fmt.Errorf("secret: %w", err))
	}
	if err := checkEnrolment(m); err != nil {
		return nil, invalid(err)
	}
	root, err := s.store.RepositoryFile(ctx, tuf.MetaFile(tuf.Root, 1))
	if errors.Is(err, store.ErrNotFound) {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("enrol: no root.json is published yet, so there is nothing an endpoint could trust"))
	}
	if err != nil {
		return nil, err
	}
	got, err := s.enrolments.Do(ctx, store.Enrolment{
		Token: token, Secret: secret, Name: m.Name, Labels: m.Labels, Domain: m.FailureDomain, Products: m.Products, AgentVersion: m.AgentVersion,
	})
	if errors.Is(got.Err, store.ErrUnauthenticated) {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("enrolment_token: unknown, expired or used up"))
	}
	if err != nil {
		return nil, err
	}
	raw, err := base64.RawURLEncoding.DecodeString(m.Secret)
	if err != nil {
		return nil, invalid(fmt.Errorf("secret: %w", err))
	}
	id := ids.Format("E", got.ID)
	return connect.NewResponse(&headgatev1.EnrolResponse{EndpointId: id, Tenant: got.Tenant, Token: endpointToken(id, raw), Root: root.Body}), nil
}

func checkEnrolment(m *headgatev1.EnrolRequest) error {
	if len(m.Name) > fleet.MaxName || len(m.FailureDomain) > fleet.MaxName || len(m.AgentVersion) > maxAgent {
		return fmt.Errorf("name, failure_domain, agent_version: %d, %d, %d bytes; limits %d, %d, %d", len(m.Name), len(m.FailureDomain), len(m.AgentVersion), fleet.MaxName, fleet.MaxName, maxAgent)
	}
	if err := fleet.Labels(m.Labels).Check(); err != nil {
		return err
	}
	if len(m.Products) > fleet.MaxProducts {
		return fmt.Errorf("products: %d of them, limit %d", len(m.Products), fleet.MaxProducts)
	}
	for i, p := range m.Products {
		if _, _, err := release.SplitProduct(p); err != nil {
			return fmt.Errorf("products[%d]: %w", i, err)
		}
		if slices.Contains(m.Products[:i], p) {
			return fmt.Errorf("products[%d]: %s is named twice", i, p)
		}
	}
	return nil
}

var verdicts = map[rollout.Verdict]headgatev1.GrantVerdict{
	rollout.Granted: headgatev1.GrantVerdict_GRANT_VERDICT_GRANTED,
	rollout.Wait:    headgatev1.GrantVerdict_GRANT_VERDICT_WAIT,
	rollout.Refused: headgatev1.GrantVerdict_GRANT_VERDICT_REFUSED,
}

// Grant implements AgentService.
func (s agentService) Grant(ctx context.Context, req *connect.Request[headgatev1.GrantRequest]) (*connect.Response[headgatev1.GrantResponse], error) {
	res, err := s.grant(ctx, from(ctx), req.Msg)
	return response(res, err)
}

// response wraps a message.
func response[M any](m *M, err error) (*connect.Response[M], error) {
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(m), nil
}

func (s agentService) grant(ctx context.Context, c caller, m *headgatev1.GrantRequest) (*headgatev1.GrantResponse, error) {
	if err := release.CheckDigest(m.Digest); err != nil {
		return nil, err
	}
	if m.Rollout < 1 {
		return nil, invalid(fmt.Errorf("rollout: %d is no rollout's number", m.Rollout))
	}
	a, err := s.requests.Grant(ctx, store.GrantAsk{Endpoint: c.endpoint, Secret: c.secret, Rollout: m.Rollout, Digest: m.Digest})
	if err != nil {
		return nil, err
	}
	s.metrics.grants.WithLabelValues(string(a.Verdict)).Inc()
	return &headgatev1.GrantResponse{
		Verdict: verdicts[a.Verdict], Reason: a.Code, Detail: a.Detail, TtlUs: a.TTL.Microseconds(), RetryAfterUs: a.Retry.Microseconds(),
	}, nil
}

// Beacon implements AgentService.
func (s agentService) Beacon(ctx context.Context, req *connect.Request[headgatev1.BeaconRequest]) (*connect.Response[headgatev1.BeaconResponse], error) {
	res, err := s.beacon(ctx, from(ctx), req.Msg)
	return response(res, err)
}

func (s agentService) beacon(ctx context.Context, c caller, m *headgatev1.BeaconRequest) (*headgatev1.BeaconResponse, error) {
	report, err := readBeacon(m)
	if err != nil {
		return nil, invalid(err)
	}
	report.Endpoint, report.Secret = c.endpoint, c.secret
	if off := s.noteSkew(ctx, c.endpoint, m.ClockUs); off != "" {
		report.Trouble = strings.TrimSuffix(off+"; "+report.Trouble, "; ")
	}
	if err := s.requests.Beacon(ctx, report); err != nil {
		return nil, err
	}
	if len(m.CheckResults) > 0 {
		if err := s.takeChecks(ctx, c.endpoint, m.CheckResults); err != nil {
			return nil, err
		}
	}
	return &headgatev1.BeaconResponse{AckedSeq: report.Seq, Checks: s.checks.of(c.endpoint)}, nil
}

var attempts = map[headgatev1.AttemptState]store.AttemptState{
	headgatev1.AttemptState_ATTEMPT_STATE_STAGED:           store.AttemptStaged,
	headgatev1.AttemptState_ATTEMPT_STATE_PREFLIGHT_FAILED: store.AttemptPreflightFailed,
	headgatev1.AttemptState_ATTEMPT_STATE_PROBATION:        store.AttemptProbation,
	headgatev1.AttemptState_ATTEMPT_STATE_PROVEN:           store.AttemptProven,
	headgatev1.AttemptState_ATTEMPT_STATE_HARMED:           store.AttemptHarmed,
	headgatev1.AttemptState_ATTEMPT_STATE_REVERTED:         store.AttemptReverted,
}

// readBeacon checks a beacon field by field.
func readBeacon(m *headgatev1.BeaconRequest) (r store.BeaconReport, err error) {
	if m.Seq < 0 || len(m.Products) > fleet.MaxProducts {
		return r, fmt.Errorf("seq %d, %d products: want no negative number and at most %d products", m.Seq, len(m.Products), fleet.MaxProducts)
	}
	v := m.GetVitals()
	if min(v.GetRssBytes(), v.GetCpuPpm()) < 0 || len(v.GetSandbox()) > maxSandbox {
		return r, fmt.Errorf("vitals: rss_bytes %d, cpu_ppm %d, %d sandbox features: want no negative number and at most %d features", v.GetRssBytes(), v.GetCpuPpm(), len(v.GetSandbox()), maxSandbox)
	}
	for i, f := range v.GetSandbox() {
		if len(f) > maxAgent {
			return r, fmt.Errorf("vitals.sandbox[%d]: %d bytes, limit %d", i, len(f), maxAgent)
		}
	}
	if len(m.Trouble) > maxDetail {
		return r, fmt.Errorf("trouble: %d bytes, limit %d", len(m.Trouble), maxDetail)
	}
	r = store.BeaconReport{Seq: m.Seq, Trouble: m.Trouble, RSS: v.GetRssBytes(), CPU: v.GetCpuPpm(), Sandbox: v.GetSandbox(), Goodbye: m.Goodbye}
	for i, p := range m.Products {
		if slices.ContainsFunc(r.Installations, func(x store.Installation) bool { return x.Product == p.GetProduct() }) {
			return r, fmt.Errorf("products[%d]: %s is reported twice", i, p.GetProduct())
		}
		if err := checkProduct(p); err != nil {
			return r, fmt.Errorf("products[%d]: %w", i, err)
		}
		r.Installations = append(r.Installations, store.Installation{Product: p.Product, Version: p.Version, Digest: p.Digest, Healthy: p.Healthy, Crashes: p.Crashes})
		measures, err := readMeasures(p.Measures)
		if err != nil {
			return r, fmt.Errorf("products[%d].measures%w", i, err)
		}
		r.Measures = append(r.Measures, measures)
		if p.Attempt == nil {
			continue
		}
		a, err := readAttempt(p.Attempt)
		if err != nil {
			return r, fmt.Errorf("products[%d].attempt: %w", i, err)
		}
		r.Attempts = append(r.Attempts, a)
	}
	return r, nil
}

func checkProduct(p *headgatev1.ProductState) error {
	if _, _, err := release.SplitProduct(p.GetProduct()); err != nil {
		return err
	}
	if p.Version != "" {
		if err := release.CheckVersion(p.Version); err != nil {
			return err
		}
	}
	if p.Digest != "" {
		if err := release.CheckDigest(p.Digest); err != nil {
			return err
		}
	}
	if p.Crashes < 0 {
		return fmt.Errorf("crashes: %d is negative", p.Crashes)
	}
	return nil
}

func readAttempt(a *headgatev1.Attempt) (r store.AttemptReport, err error) {
	state, ok := attempts[a.State]
	if !ok {
		return r, fmt.Errorf("state: %s is unknown", a.State)
	}
	if a.Rollout < 1 || a.DownUs < 0 || a.AgeUs < 0 {
		return r, fmt.Errorf("rollout %d, age_us %d, down_us %d: want a rollout's number and no negative times", a.Rollout, a.AgeUs, a.DownUs)
	}
	if err := release.CheckDigest(a.Digest); err != nil {
		return r, err
	}
	if len(a.Reason) > maxReason || len(a.Detail) > maxDetail {
		return r, fmt.Errorf("reason and detail: %d and %d bytes; limits %d and %d", len(a.Reason), len(a.Detail), maxReason, maxDetail)
	}
	return store.AttemptReport{
		Rollout: a.Rollout, Digest: a.Digest, State: state, Reason: a.Reason, Detail: a.Detail, Down: time.Duration(min(a.DownUs, int64(365*24*time.Hour/time.Microsecond))) * time.Microsecond,
	}, nil
}

// skews remembers whose clock was reported as wrong, so that the log hears of
// each once.
type skews struct {
	seen *lru.Cache[int64, struct{}]
}

func newSkews() *skews {
	c, err := lru.New[int64, struct{}](4096)
	if err != nil {
		panic("server: the list of wrong clocks has no room: " + err.Error())
	}
	return &skews{seen: c}
}

// noteSkew reports a clock that is off by more than a minute, and says so in
// words that stay the same from beacon to beacon. Nothing is decided by it.
func (s agentService) noteSkew(ctx context.Context, id, clockUs int64) string {
	if clockUs == 0 {
		return ""
	}
	skew := time.UnixMicro(clockUs).Sub(s.cfg.Now())
	if skew.Abs() <= maxSkew {
		return ""
	}
	s.metrics.skewed.Inc()
	if known, _ := s.skews.seen.ContainsOrAdd(id, struct{}{}); !known {
		s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "endpoint's clock is off", slog.String("endpoint", ids.Format("E", id)), slog.Duration("skew", skew))
	}
	way := "ahead of"
	if skew < 0 {
		way = "behind"
	}
	return fmt.Sprintf("clock: %s %s the server's", roughly(skew.Abs()), way)
}

// roughly rounds a span to its leading unit.
func roughly(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int64(d/(24*time.Hour)))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int64(d/time.Hour))
	}
	return fmt.Sprintf("%d minutes", int64(d/time.Minute))
}
