package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// reportService is ReportService.
type reportService struct{ *Server }

func parseReport(s string) (int64, error) {
	id, err := ids.Parse("RP", s)
	if err != nil {
		return 0, invalid(fmt.Errorf("report: %w", err))
	}
	return id, nil
}

// sortBoard puts the clocks that run first, and these by due time.
func sortBoard(clocks []*headgatev1.Clock) {
	slices.SortStableFunc(clocks, func(a, b *headgatev1.Clock) int {
		if ra, rb := a.ClearedUs == 0, b.ClearedUs == 0; ra != rb {
			if ra {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.DueUs, b.DueUs), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Name, b.Name))
	})
}

// reportIn reads what a caller sends. The ways that the server itself takes
// reports in cannot be claimed by a caller.
func reportIn(in *headgatev1.Report) (psirt.ReportReceived, error) {
	if in == nil {
		return psirt.ReportReceived{}, invalid(fmt.Errorf("report: is missing"))
	}
	b := psirt.ReportReceived{
		Source: psirt.Source(cmp.Or(in.Source, string(psirt.FromAPI))), Title: in.Title, Text: in.Text, Product: in.Product, Version: in.Version,
		Component: in.Component, CWE: in.Cwe, CVEs: in.Cves, Vectors: in.Vectors, References: in.References, Reporter: in.Reporter,
		Contact: in.Contact, Exercise: in.Exercise || in.Source == string(psirt.FromExercise),
	}
	if b.Source == psirt.FromForm || b.Source == psirt.FromMail {
		return b, invalid(fmt.Errorf("report.source: %s is the server's own", b.Source))
	}
	for _, a := range in.Attachments {
		b.Attachments = append(b.Attachments, psirt.Attachment{Name: a.Name, Type: a.Type, Digest: a.Digest, Length: a.Length})
	}
	if err := b.Check(); err != nil {
		return b, fmt.Errorf("report.%w", err)
	}
	return b, nil
}

func reportOut(r store.Report) *headgatev1.Report {
	out := &headgatev1.Report{
		Id: store.ReportID(r.ID), Revision: r.Revision, Source: string(r.Source), Title: r.Title, Text: r.Text, Product: r.Product, Version: r.Version,
		Component: r.Component, Cwe: r.CWE, Cves: r.CVEs, Vectors: r.Vectors, References: r.References, Reporter: r.Reporter, Contact: r.Contact,
		Exercise: r.Exercise, ReceivedUs: micros(r.Received.At), AcknowledgedUs: micros(r.Acknowledged.At), Case: r.Case, Role: string(r.Role), Closed: r.Closed,
	}
	for _, a := range r.Attachments {
		out.Attachments = append(out.Attachments, &headgatev1.Attachment{Name: a.Name, Type: a.Type, Digest: a.Digest, Length: a.Length})
	}
	return out
}

// AddReport implements ReportService.
func (s reportService) AddReport(ctx context.Context, req *connect.Request[headgatev1.AddReportRequest]) (*connect.Response[headgatev1.AddReportResponse], error) {
	b, err := reportIn(req.Msg.Report)
	if err != nil {
		return nil, err
	}
	if len(req.Msg.RequestId) > maxRequestID {
		return nil, invalid(fmt.Errorf("request_id: %d bytes; at most %d", len(req.Msg.RequestId), maxRequestID))
	}
	var tlp psirt.TLP
	if req.Msg.Tlp != "" {
		if tlp, err = psirt.ParseTLP(req.Msg.Tlp); err != nil {
			return nil, err
		}
	}
	r, _, err := s.store.AddReport(ctx, from(ctx).viewer(), b, tlp, req.Msg.RequestId, s.cfg.Now(), nil)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.AddReportResponse{Report: reportOut(r)}), nil
}

// GetReport implements ReportService.
func (s reportService) GetReport(ctx context.Context, req *connect.Request[headgatev1.GetReportRequest]) (*connect.Response[headgatev1.GetReportResponse], error) {
	id, err := parseReport(req.Msg.Id)
	if err != nil {
		return nil, err
	}
	r, err := s.store.ReadReport(ctx, from(ctx).viewer(), id, s.cfg.Now())
	if err != nil {
		return nil, about(req.Msg.Id, err)
	}
	out := reportOut(r)
	out.Facts = factsOut(r.Facts)
	return connect.NewResponse(&headgatev1.GetReportResponse{Report: out}), nil
}

// ListReports implements ReportService.
func (s reportService) ListReports(ctx context.Context, req *connect.Request[headgatev1.ListReportsRequest]) (*connect.Response[headgatev1.ListReportsResponse], error) {
	m := req.Msg
	if m.Limit < 0 || m.Limit > maxPage {
		return nil, invalid(fmt.Errorf("limit: %d; want at most %d", m.Limit, maxPage))
	}
	q := store.ReportQuery{Free: m.Free, Limit: int(m.Limit)}
	var err error
	if m.Case != "" {
		if q.Case, err = parseCase(m.Case); err != nil {
			return nil, err
		}
	}
	if m.After != "" {
		if q.After, err = parseReport(m.After); err != nil {
			return nil, err
		}
	}
	reports, err := s.store.ListReports(ctx, from(ctx).viewer(), q, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListReportsResponse{}
	for _, r := range reports {
		out.Reports = append(out.Reports, reportOut(r))
	}
	return connect.NewResponse(out), nil
}

// AddReportFacts implements ReportService.
func (s reportService) AddReportFacts(ctx context.Context, req *connect.Request[headgatev1.AddReportFactsRequest]) (*connect.Response[headgatev1.AddReportFactsResponse], error) {
	id, err := parseReport(req.Msg.Id)
	if err != nil {
		return nil, err
	}
	facts, err := factsIn(req.Msg.Facts)
	if err != nil {
		return nil, err
	}
	r, err := s.store.CommitReport(ctx, from(ctx).viewer(), id, req.Msg.Revision, facts, s.cfg.Now(), nil)
	if err != nil {
		return nil, about(req.Msg.Id, err)
	}
	return connect.NewResponse(&headgatev1.AddReportFactsResponse{Report: reportOut(r)}), nil
}

// What ListSimilar compares and answers at most.
const (
	maxCompared = 10_000
	maxSimilar  = 20
)

// ListSimilar implements ReportService.
func (s reportService) ListSimilar(ctx context.Context, req *connect.Request[headgatev1.ListSimilarRequest]) (*connect.Response[headgatev1.ListSimilarResponse], error) {
	id, err := parseReport(req.Msg.Id)
	if err != nil {
		return nil, err
	}
	v, now := from(ctx).viewer(), s.cfg.Now()
	of, err := s.store.ReadReport(ctx, v, id, now)
	if err != nil {
		return nil, about(req.Msg.Id, err)
	}
	var reports []store.Report
	var bodies []psirt.ReportReceived
	err = s.eachReport(ctx, v, store.ReportQuery{}, now, func(r store.Report) {
		if r.ID != id && r.Exists() && r.Closed == "" && len(reports) < maxCompared {
			reports, bodies = append(reports, r), append(bodies, r.ReportReceived)
		}
	})
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListSimilarResponse{}
	for _, g := range psirt.Suggest(&of.ReportReceived, bodies, maxSimilar) {
		r := reports[g.Index]
		out.Similar = append(out.Similar, &headgatev1.Similar{Report: store.ReportID(r.ID), Case: r.Case, Title: r.Title, Score: g.Score, Reasons: g.Reasons})
	}
	return connect.NewResponse(out), nil
}

// eachReport goes through the reports that a viewer may read.
func (s *Server) eachReport(ctx context.Context, v store.Viewer, q store.ReportQuery, now time.Time, f func(store.Report)) error {
	for q.Limit = maxPage; ; {
		page, err := s.store.ListReports(ctx, v, q, now)
		if err != nil {
			return err
		}
		for _, r := range page {
			f(r)
		}
		if len(page) < maxPage {
			return nil
		}
		q.After = page[len(page)-1].ID
	}
}

// LinkReport implements ReportService.
func (s reportService) LinkReport(ctx context.Context, req *connect.Request[headgatev1.LinkReportRequest]) (*connect.Response[headgatev1.LinkReportResponse], error) {
	id, err := parseCase(req.Msg.Case)
	if err != nil {
		return nil, err
	}
	report, err := parseReport(req.Msg.Report)
	if err != nil {
		return nil, err
	}
	kase, err := s.store.LinkReport(ctx, from(ctx).viewer(), id, report, psirt.LinkRole(req.Msg.Role), s.cfg.Now())
	if err != nil {
		return nil, about(req.Msg.Case, err)
	}
	return connect.NewResponse(&headgatev1.LinkReportResponse{Case: s.caseOut(kase)}), nil
}

// AddTriager implements ReportService.
func (s reportService) AddTriager(ctx context.Context, req *connect.Request[headgatev1.AddTriagerRequest]) (*connect.Response[headgatev1.AddTriagerResponse], error) {
	if err := s.store.AddTriager(ctx, from(ctx).viewer(), req.Msg.Principal, s.cfg.Now()); err != nil {
		return nil, about(req.Msg.Principal, err)
	}
	return connect.NewResponse(&headgatev1.AddTriagerResponse{}), nil
}

// RemoveTriager implements ReportService.
func (s reportService) RemoveTriager(ctx context.Context, req *connect.Request[headgatev1.RemoveTriagerRequest]) (*connect.Response[headgatev1.RemoveTriagerResponse], error) {
	if err := s.store.RemoveTriager(ctx, from(ctx).viewer(), req.Msg.Principal, s.cfg.Now()); err != nil {
		return nil, about(req.Msg.Principal, err)
	}
	return connect.NewResponse(&headgatev1.RemoveTriagerResponse{}), nil
}

// ListTriagers implements ReportService.
func (s reportService) ListTriagers(ctx context.Context, _ *connect.Request[headgatev1.ListTriagersRequest]) (*connect.Response[headgatev1.ListTriagersResponse], error) {
	all, err := s.store.Triagers(ctx, from(ctx).viewer())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.ListTriagersResponse{Principals: all}), nil
}
