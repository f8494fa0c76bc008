package server

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/store"
)

// noticeService is NoticeService.
type noticeService struct{ *Server }

const (
	// fewest is the least count of tenants that an outsider may be told.
	fewest = 5
	// maxLeak is the longest text that is traced, bytes.
	maxLeak = 64 << 10
	// maxMatches is how many matches one call may name.
	maxMatches = 100_000
)

func parseNotice(s string) (int64, error) {
	id, err := ids.Parse("N", s)
	if err != nil {
		return 0, invalid(fmt.Errorf("notice: %w", err))
	}
	return id, nil
}

// PrepareNotices implements NoticeService.
func (s noticeService) PrepareNotices(ctx context.Context, req *connect.Request[headgatev1.PrepareNoticesRequest]) (*connect.Response[headgatev1.PrepareNoticesResponse], error) {
	id, err := parseCase(req.Msg.Case)
	if err != nil {
		return nil, err
	}
	content, err := notify.ParseContent([]byte(req.Msg.Content))
	if err != nil {
		return nil, err
	}
	if err := s.store.PrepareNotices(ctx, from(ctx).viewer(), id, content, s.cfg.Now()); err != nil {
		return nil, err
	}
	out := &headgatev1.PrepareNoticesResponse{}
	sample := notify.Recipient{Tenant: "example-corp", Resources: []notify.Resource{{ID: ids.Format("E", 0), Name: "example", Product: content.Product, Version: "1.0.0", Reason: "…"}}}
	for _, l := range []notify.Language{notify.English, notify.Japanese} {
		m := notify.Render(notify.Letter{Notice: store.NoticeID(0), Rung: notify.Tenants, Content: content, To: sample, Language: l})
		out.Previews = append(out.Previews, &headgatev1.NoticePreview{Language: string(l), Subject: m.Subject, Body: m.Body})
	}
	return connect.NewResponse(out), nil
}

// TellAudience implements NoticeService.
func (s noticeService) TellAudience(ctx context.Context, req *connect.Request[headgatev1.TellAudienceRequest]) (*connect.Response[headgatev1.TellAudienceResponse], error) {
	m, v := req.Msg, from(ctx).viewer()
	id, err := parseCase(m.Case)
	if err != nil {
		return nil, err
	}
	d := store.WaveDraft{Case: id, Rung: notify.Rung(m.Rung), Letterhead: s.letterhead}
	if d.Rung != notify.Tenants && d.Rung != notify.Public && d.Rung != notify.Details {
		return nil, invalid(fmt.Errorf("rung: %q; tenants hear at %s, %s and %s", m.Rung, notify.Tenants, notify.Public, notify.Details))
	}
	if m.Content == "" {
		if d.Content, err = s.store.PreparedNotices(ctx, v, id); errors.Is(err, store.ErrNotFound) {
			err = fmt.Errorf("content: none is given, and none was prepared: %w", err)
		}
	} else {
		d.Content, err = notify.ParseContent([]byte(m.Content))
	}
	if err != nil {
		return nil, err
	}
	if d.Audience, err = s.audience(ctx, v, id, m.Matches); err != nil {
		return nil, err
	}
	out := &headgatev1.TellAudienceResponse{}
	for {
		w, err := s.store.QueueWave(ctx, v, d, s.cfg.Now())
		if err != nil {
			return nil, err
		}
		if w.Notices > 0 {
			out.Notices += int64(w.Notices)
			out.Waves = append(out.Waves, w.Number)
			s.courier.Wake()
		}
		if !w.More {
			return connect.NewResponse(out), nil
		}
	}
}

// audience is who is named, or else whom the case concerns.
func (s noticeService) audience(ctx context.Context, v store.Viewer, id int64, in []*headgatev1.AudienceMatch) (notify.Audience, error) {
	if len(in) == 0 {
		return s.store.Audience(ctx, v, id, s.cfg.Now())
	}
	if len(in) > maxMatches {
		return notify.Audience{}, invalid(fmt.Errorf("matches: %d, limit %d", len(in), maxMatches))
	}
	matches := make([]notify.Match, len(in))
	for i, x := range in {
		matches[i] = notify.Match{Tenant: x.Tenant, Resources: resourcesIn(x.Resources)}
	}
	return notify.NewAudience(matches)
}

func resourcesIn(in []*headgatev1.NoticeResource) (out []notify.Resource) {
	for _, r := range in {
		out = append(out, notify.Resource{ID: r.Id, Name: r.Name, Product: r.Product, Version: r.Version, Reason: r.Reason})
	}
	return out
}

// CountNotices implements NoticeService.
func (s noticeService) CountNotices(ctx context.Context, req *connect.Request[headgatev1.CountNoticesRequest]) (*connect.Response[headgatev1.CountNoticesResponse], error) {
	id, err := parseCase(req.Msg.Case)
	if err != nil {
		return nil, err
	}
	cells, total, err := s.store.NoticeCounts(ctx, from(ctx).viewer(), id, fewest)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.CountNoticesResponse{Total: total}
	for _, c := range cells {
		n := &headgatev1.NoticeCount{State: c.Name, N: int64(c.N), Hidden: c.Suppressed}
		if c.Suppressed {
			n.N = 0
		}
		out.Counts = append(out.Counts, n)
	}
	return connect.NewResponse(out), nil
}

// ListNotices implements NoticeService.
func (s noticeService) ListNotices(ctx context.Context, req *connect.Request[headgatev1.ListNoticesRequest]) (*connect.Response[headgatev1.ListNoticesResponse], error) {
	m, c := req.Msg, from(ctx)
	q := store.NoticeQuery{Open: m.Open, Limit: int(m.Limit)}
	if m.Limit < 0 || m.Limit > maxPage {
		return nil, invalid(fmt.Errorf("limit: %d; want 0 to %d", m.Limit, maxPage))
	}
	var err error
	if m.Case != "" {
		if q.Case, err = parseCase(m.Case); err != nil {
			return nil, err
		}
	}
	if m.After != "" {
		if q.After, err = parseNotice(m.After); err != nil {
			return nil, err
		}
	}
	list, err := s.store.ListNotices(ctx, c.viewer(), q, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListNoticesResponse{}
	for _, n := range list {
		out.Notices = append(out.Notices, noticeOut(n, c))
	}
	return connect.NewResponse(out), nil
}

// GetNotice implements NoticeService.
func (s noticeService) GetNotice(ctx context.Context, req *connect.Request[headgatev1.GetNoticeRequest]) (*connect.Response[headgatev1.GetNoticeResponse], error) {
	id, err := parseNotice(req.Msg.Id)
	if err != nil {
		return nil, err
	}
	c := from(ctx)
	n, text, err := s.store.ReadNotice(ctx, c.viewer(), id, string(notify.API), s.cfg.Now())
	if err != nil {
		return nil, err
	}
	log, err := s.store.NoticeLog(ctx, c.viewer(), id)
	if err != nil {
		return nil, err
	}
	reads, err := s.store.NoticeReads(ctx, c.viewer(), id)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.GetNoticeResponse{Notice: noticeOut(n, c), Body: text.Body, NextUs: micros(n.Look)}
	out.Notice.Subject = text.Subject
	for _, r := range n.Reasons {
		out.Reasons = append(out.Reasons, &headgatev1.NoticeReason{Code: r.Code, Detail: r.Detail})
	}
	for _, a := range log {
		out.Attempts = append(out.Attempts, attemptOut(a))
	}
	for _, r := range reads {
		out.Reads = append(out.Reads, &headgatev1.NoticeRead{AtUs: micros(r.At), Actor: r.Actor, Via: r.Via})
	}
	return connect.NewResponse(out), nil
}

func attemptOut(a store.Attempt) *headgatev1.NoticeAttempt {
	return &headgatev1.NoticeAttempt{
		Purpose: string(a.Purpose), Number: int32(a.N), Channel: string(a.Channel), MessageId: a.MessageID, State: string(a.State), Doubtful: int32(a.Doubtful), DueUs: micros(a.Due),
		Attempt: int32(a.Attempt), Address: a.Address, BeganUs: micros(a.Began), ReleasedUs: micros(a.Released), EndedUs: micros(a.Ended), Outcome: a.Outcome, Code: int32(a.Code), Detail: a.Detail,
	}
}

// noticeOut is a notice as its caller sees it: a tenant is not told which case it
// is of, since a case's id is not for outsiders.
func noticeOut(n store.Notice, c caller) *headgatev1.Notice {
	p := n.Progress
	title, _ := n.Content.Title.In(n.Language)
	out := &headgatev1.Notice{
		Id: store.NoticeID(n.ID), Case: store.CaseID(n.Case), Tenant: n.Tenant, Rung: string(n.Rung), Tlp: notify.TLP(n.Rung), Edition: n.Edition,
		State: string(p.State()), Closed: p.Closed() || n.Ended, Language: string(n.Language), Subject: title,
		CreatedUs: micros(n.Created), DeliveredUs: micros(p.Delivered), OpenedUs: micros(p.Opened), AcknowledgedUs: micros(p.Acknowledged), AcknowledgedBy: n.AcknowledgedBy, Reopenings: n.Reopenings,
	}
	if c.Scope == store.ScopeTenant {
		out.Case = ""
	}
	for _, r := range p.Resources {
		out.Resources = append(out.Resources, &headgatev1.NoticeResource{Id: r.ID, Name: r.Name, Product: r.Product, Version: r.Version, Reason: r.Reason})
	}
	for i, step := range n.Content.Steps {
		out.Steps = append(out.Steps, stepOut(i, step, p, n.Language))
	}
	return out
}

func stepOut(i int, step notify.Step, p notify.Progress, l notify.Language) *headgatev1.NoticeStep {
	text, _ := step.Text.In(l)
	known := p.Steps[i]
	out := &headgatev1.NoticeStep{N: int32(i + 1), Text: text, State: string(known.State(p.Resources)), AttestedUs: micros(known.Attested), AttestedBy: known.AttestedBy}
	if step.Check == nil {
		return out
	}
	out.Check = notify.NewPrinter(l).Check(*step.Check)
	out.Passed, out.Failed, out.Unknown = known.Tally(p.Resources)
	return out
}

// AcknowledgeNotice implements NoticeService.
func (s noticeService) AcknowledgeNotice(ctx context.Context, req *connect.Request[headgatev1.AcknowledgeNoticeRequest]) (*connect.Response[headgatev1.AcknowledgeNoticeResponse], error) {
	id, err := parseNotice(req.Msg.Id)
	if err != nil {
		return nil, err
	}
	n, err := s.store.AcknowledgeNotice(ctx, from(ctx).viewer(), id, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.AcknowledgeNoticeResponse{Notice: noticeOut(n, from(ctx))}), nil
}

// AttestStep implements NoticeService.
func (s noticeService) AttestStep(ctx context.Context, req *connect.Request[headgatev1.AttestStepRequest]) (*connect.Response[headgatev1.AttestStepResponse], error) {
	id, err := parseNotice(req.Msg.Id)
	if err != nil {
		return nil, err
	}
	n, err := s.store.AttestStep(ctx, from(ctx).viewer(), id, int(req.Msg.Step), s.cfg.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.AttestStepResponse{Notice: noticeOut(n, from(ctx))}), nil
}

// TraceText implements NoticeService.
func (s noticeService) TraceText(ctx context.Context, req *connect.Request[headgatev1.TraceTextRequest]) (*connect.Response[headgatev1.TraceTextResponse], error) {
	id, err := parseCase(req.Msg.Case)
	if err != nil {
		return nil, err
	}
	if len(req.Msg.Text) > maxLeak {
		return nil, invalid(fmt.Errorf("text: %d bytes, limit %d", len(req.Msg.Text), maxLeak))
	}
	marks, err := s.store.NoticeMarks(ctx, from(ctx).viewer(), id, s.letterhead.MarkKey)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.TraceTextResponse{}
	for _, x := range notify.Trace(req.Msg.Text, marks) {
		out.Suspects = append(out.Suspects, &headgatev1.NoticeSuspect{Tenant: x.Tenant, ByCode: x.ByCode, Agree: int32(x.Agree), Differ: int32(x.Differ)})
	}
	return connect.NewResponse(out), nil
}
