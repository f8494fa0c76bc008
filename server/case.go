package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// caseService is CaseService.
type caseService struct{ *Server }

// viewer is the caller, to the store's lists of members.
func (c caller) viewer() store.Viewer {
	return store.Viewer{Actor: c.actor(), Scope: c.Scope, Of: c.Of}
}

func parseCase(s string) (int64, error) {
	id, err := ids.Parse("C", s)
	if err != nil {
		return 0, invalid(fmt.Errorf("case: %w", err))
	}
	return id, nil
}

// about names what the caller named, if the error is for the caller. What is not
// goes into the log, where the ids of cases have no place.
func about(id string, err error) error {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return fmt.Errorf("%s: %w", id, err)
		}
	}
	return err
}

// maxFactsAtOnce is how many facts one call may add.
const maxFactsAtOnce = 1000

// factsIn makes drafts of a caller's facts.
func factsIn(in []*headgatev1.NewFact) ([]psirt.Fact, error) {
	if len(in) == 0 || len(in) > maxFactsAtOnce {
		return nil, invalid(fmt.Errorf("facts: %d; want 1 to %d", len(in), maxFactsAtOnce))
	}
	out := make([]psirt.Fact, len(in))
	for i, n := range in {
		f := psirt.Fact{Kind: psirt.Kind(n.Kind), TLP: psirt.AmberStrict, Only: n.Only, Body: json.RawMessage(n.Body)}
		if n.AtUs != 0 {
			f.At = time.UnixMicro(n.AtUs).UTC()
		}
		var err error
		if n.Tlp != "" {
			f.TLP, err = psirt.ParseTLP(n.Tlp)
		}
		if err == nil {
			_, err = f.Decode()
		}
		if err != nil {
			return nil, fmt.Errorf("facts[%d]: %w", i, err)
		}
		out[i] = f
	}
	return out, nil
}

func factsOut(facts []psirt.Fact) []*headgatev1.Fact {
	out := make([]*headgatev1.Fact, len(facts))
	for i, f := range facts {
		out[i] = &headgatev1.Fact{
			Seq: f.Seq, Kind: string(f.Kind), AtUs: f.At.UnixMicro(), RecordedUs: f.Recorded.UnixMicro(), Actor: f.Actor,
			Tlp: string(f.TLP), Only: f.Only, Body: string(f.Body),
		}
	}
	return out
}

// OpenCase implements CaseService.
func (s caseService) OpenCase(ctx context.Context, req *connect.Request[headgatev1.OpenCaseRequest]) (*connect.Response[headgatev1.OpenCaseResponse], error) {
	m := req.Msg
	o := store.Opening{Title: m.Title, Restricted: m.Restricted}
	for _, r := range m.Reports {
		id, err := parseReport(r)
		if err != nil {
			return nil, err
		}
		o.Reports = append(o.Reports, id)
	}
	for _, x := range m.Members {
		upTo, err := psirt.ParseTLP(x.UpTo)
		if err != nil {
			return nil, err
		}
		o.Members = append(o.Members, psirt.Member{Principal: x.Principal, Role: psirt.Role(x.Role), UpTo: upTo})
	}
	if m.Tlp != "" {
		var err error
		if o.TLP, err = psirt.ParseTLP(m.Tlp); err != nil {
			return nil, err
		}
	}
	kase, err := s.store.OpenCase(ctx, from(ctx).viewer(), o, s.cfg.Now(), nil)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.OpenCaseResponse{Case: s.caseOut(kase)}), nil
}

// GetCase implements CaseService.
func (s caseService) GetCase(ctx context.Context, req *connect.Request[headgatev1.GetCaseRequest]) (*connect.Response[headgatev1.GetCaseResponse], error) {
	id, err := parseCase(req.Msg.Id)
	if err != nil {
		return nil, err
	}
	kase, err := s.store.ReadCase(ctx, from(ctx).viewer(), id, s.cfg.Now())
	if err != nil {
		return nil, about(req.Msg.Id, err)
	}
	out := s.caseOut(kase)
	out.Facts = factsOut(kase.Facts)
	derived, err := json.Marshal(kase.Case)
	if err != nil {
		return nil, err
	}
	out.DerivedJson = string(derived)
	return connect.NewResponse(&headgatev1.GetCaseResponse{Case: out}), nil
}

// ListCases implements CaseService.
func (s caseService) ListCases(ctx context.Context, req *connect.Request[headgatev1.ListCasesRequest]) (*connect.Response[headgatev1.ListCasesResponse], error) {
	q, err := caseQuery(req.Msg.After, req.Msg.Limit)
	if err != nil {
		return nil, err
	}
	q.Closed = req.Msg.Closed
	cases, err := s.store.ListCases(ctx, from(ctx).viewer(), q, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListCasesResponse{}
	for _, kase := range cases {
		out.Cases = append(out.Cases, s.caseOut(kase))
	}
	return connect.NewResponse(out), nil
}

func caseQuery(after string, limit int32) (q store.CaseQuery, err error) {
	if limit < 0 || limit > maxPage {
		return q, invalid(fmt.Errorf("limit: %d; want at most %d", limit, maxPage))
	}
	q.Limit = int(limit)
	if after != "" {
		q.After, err = parseCase(after)
	}
	return q, err
}

// AddFacts implements CaseService.
func (s caseService) AddFacts(ctx context.Context, req *connect.Request[headgatev1.AddFactsRequest]) (*connect.Response[headgatev1.AddFactsResponse], error) {
	id, err := parseCase(req.Msg.Id)
	if err != nil {
		return nil, err
	}
	facts, err := factsIn(req.Msg.Facts)
	if err != nil {
		return nil, err
	}
	kase, err := s.store.CommitFacts(ctx, from(ctx).viewer(), id, req.Msg.Revision, facts, s.cfg.Now(), nil)
	if err != nil {
		return nil, about(req.Msg.Id, err)
	}
	return connect.NewResponse(&headgatev1.AddFactsResponse{Case: s.caseOut(kase)}), nil
}

// VerifyCase implements CaseService.
func (s caseService) VerifyCase(ctx context.Context, req *connect.Request[headgatev1.VerifyCaseRequest]) (*connect.Response[headgatev1.VerifyCaseResponse], error) {
	id, err := parseCase(req.Msg.Id)
	if err != nil {
		return nil, err
	}
	got, err := s.store.VerifyCase(ctx, from(ctx).viewer(), id, s.cfg.Now())
	if err != nil {
		return nil, about(req.Msg.Id, err)
	}
	return connect.NewResponse(&headgatev1.VerifyCaseResponse{Facts: int64(got.Facts), Readings: int64(got.Readings), Broken: got.Broken}), nil
}

// caseOut is a case as its viewer may see it, with all that is derived now.
func (s *Server) caseOut(k store.Case) *headgatev1.Case {
	now := s.cfg.Now()
	phase, reason, seq := k.Phase()
	out := &headgatev1.Case{
		Id: store.CaseID(k.ID), Revision: k.Revision, Title: k.Title, Phase: string(phase), PhaseReason: reason, PhaseFact: seq,
		State: k.State.String(), Rung: string(k.Rung), Owner: k.Owner, Severity: string(k.Triage.Severity()),
		OpenedUs: micros(k.Opened), ChangedUs: micros(k.Changed), ClosedUs: micros(k.Closed), Due: k.State.Unstable(),
		Me: memberOut(k.Me), Clocks: s.clocksOut(k, now),
	}
	for _, m := range k.Members {
		out.Members = append(out.Members, memberOut(m))
	}
	for _, r := range k.Reports {
		out.Reports = append(out.Reports, &headgatev1.LinkedReport{Report: r.Report, Role: string(r.Role)})
	}
	for _, x := range k.Triage.Scores {
		out.Scores = append(out.Scores, &headgatev1.Score{Scheme: x.Scheme, Vector: x.Vector, Score: x.Score, Scorer: x.Scorer})
	}
	e := k.Embargo()
	for i := range k.Parties {
		p := partyOut(&k.Parties[i])
		if e != nil {
			p.Embargo = string(e.Answer(p.Name))
		}
		out.Parties = append(out.Parties, p)
	}
	if e != nil {
		out.Embargo = &headgatev1.Embargo{
			State: string(e.State(now)), UntilUs: micros(e.Until), NextUs: micros(e.Next), Terms: e.Terms,
			EndedUs: micros(e.Ended), EndedWhy: e.Why, ProposedBy: e.By,
		}
	}
	return out
}

func memberOut(m psirt.Member) *headgatev1.Member {
	return &headgatev1.Member{Principal: m.Principal, Role: string(m.Role), UpTo: string(m.UpTo)}
}

func partyOut(p *psirt.Party) *headgatev1.Party {
	out := &headgatev1.Party{Name: p.Name, As: p.As, Status: string(p.Status(""))}
	for _, a := range p.Statuses {
		out.Statuses = append(out.Statuses, &headgatev1.PartyStatus{Product: a.Product, Status: string(a.Status), Why: a.Why, AtUs: micros(a.At), By: a.By})
	}
	return out
}

// clocksOut are a case's clocks with its ids in the acts.
func (s *Server) clocksOut(k store.Case, now time.Time) (out []*headgatev1.Clock) {
	report := "REPORT"
	if len(k.Reports) > 0 {
		report = k.Reports[0].Report
	}
	return clocksText(store.CaseID(k.ID), k.Title, strings.NewReplacer("{case}", store.CaseID(k.ID), "{report}", report), k.Clocks(&s.clocks, now), now)
}

func clocksText(id, title string, words *strings.Replacer, clocks []psirt.Clock, now time.Time) (out []*headgatev1.Clock) {
	for _, c := range clocks {
		out = append(out, &headgatev1.Clock{
			Subject: id, Title: title, Name: c.Name, Rule: c.Rule, Force: string(c.Force), StartedUs: micros(c.Started), DueUs: micros(c.Due),
			ClearedUs: micros(c.Cleared), Broken: c.Broken(now), Clears: words.Replace(c.Clears),
		})
	}
	return out
}

// freeClocks are the clocks of the reports that a viewer may read and that belong
// to no case.
func (s *Server) freeClocks(ctx context.Context, v store.Viewer, now time.Time) (out []*headgatev1.Clock, err error) {
	err = s.eachReport(ctx, v, store.ReportQuery{Free: true}, now, func(r store.Report) {
		id := store.ReportID(r.ID)
		clocks := r.Clocks(&s.clocks, now)
		for i := range clocks {
			if k := &clocks[i]; strings.Contains(k.Clears, "{case}") {
				k.Clears = "open a case (headgate case open TITLE --report {report}), then " + k.Clears
			}
		}
		out = append(out, clocksText(id, r.Title, strings.NewReplacer("{case}", "CASE", "{report}", id), clocks, now)...)
	})
	return out, err
}

// GetBoard implements CaseService.
func (s caseService) GetBoard(ctx context.Context, req *connect.Request[headgatev1.GetBoardRequest]) (*connect.Response[headgatev1.GetBoardResponse], error) {
	now, v := s.cfg.Now(), from(ctx).viewer()
	out := &headgatev1.GetBoardResponse{}
	take := func(clocks []*headgatev1.Clock) {
		for _, c := range clocks {
			if req.Msg.All || c.ClearedUs == 0 {
				out.Clocks = append(out.Clocks, c)
			}
		}
	}
	if req.Msg.Case != "" {
		id, err := parseCase(req.Msg.Case)
		if err != nil {
			return nil, err
		}
		kase, err := s.store.ReadCase(ctx, v, id, now)
		if err != nil {
			return nil, about(req.Msg.Case, err)
		}
		take(s.clocksOut(kase, now))
	} else {
		free, err := s.freeClocks(ctx, v, now)
		if err == nil {
			take(free)
			err = s.eachCase(ctx, v, now, func(k store.Case) { take(s.clocksOut(k, now)) })
		}
		if err != nil {
			return nil, err
		}
	}
	sortBoard(out.Clocks)
	return connect.NewResponse(out), nil
}

// eachCase goes through the open cases of a viewer.
func (s *Server) eachCase(ctx context.Context, v store.Viewer, now time.Time, f func(store.Case)) error {
	q := store.CaseQuery{Limit: maxPage}
	for {
		page, err := s.store.ListCases(ctx, v, q, now)
		if err != nil {
			return err
		}
		for _, k := range page {
			f(k)
		}
		if len(page) < maxPage {
			return nil
		}
		q.After = page[len(page)-1].ID
	}
}
