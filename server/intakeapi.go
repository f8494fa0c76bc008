package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
	psirtintake "github.com/headgate/headgate/psirt/intake"
	"github.com/headgate/headgate/store"
)

// intakeService is IntakeService.
type intakeService struct{ *Server }

// ImportReports implements IntakeService.
func (s intakeService) ImportReports(ctx context.Context, req *connect.Request[headgatev1.ImportReportsRequest]) (*connect.Response[headgatev1.ImportReportsResponse], error) {
	m := req.Msg
	im, err := psirtintake.Read(psirtintake.Format(m.Format), m.Content)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(m.Content)
	digest := hex.EncodeToString(sum[:])
	file := psirt.Attachment{Name: psirtintake.FileName(m.Name, 1), Type: "application/json", Digest: digest, Length: int64(len(m.Content))}
	out := &headgatev1.ImportReportsResponse{Passed: map[string]int64{}}
	for why, n := range im.Passed {
		out.Passed[why] = int64(n)
	}
	for i, d := range im.Drafts {
		r, tlp := d.Report(m.Exercise)
		r.Attachments = []psirt.Attachment{file}
		kept, fresh, err := s.store.Submit(ctx, store.Submission{
			Received: r, Files: [][]byte{m.Content}, TLP: tlp, By: from(ctx).viewer(), Request: fmt.Sprintf("%s/%d", digest, i),
		}, s.cfg.Now())
		if err != nil {
			return nil, fmt.Errorf("report %d of %d (those before it are kept; a repeat goes on): %w", i+1, len(im.Drafts), err)
		}
		out.Reports = append(out.Reports, &headgatev1.ImportedReport{Id: store.ReportID(kept.ID), Title: d.Title, Ref: d.Ref, Fresh: fresh})
	}
	return connect.NewResponse(out), nil
}

// GetReportFile implements IntakeService.
func (s intakeService) GetReportFile(ctx context.Context, req *connect.Request[headgatev1.GetReportFileRequest]) (*connect.Response[headgatev1.GetReportFileResponse], error) {
	id, err := parseReport(req.Msg.Report)
	if err != nil {
		return nil, err
	}
	a, body, err := s.store.ReportFile(ctx, from(ctx).viewer(), id, req.Msg.Digest, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.GetReportFileResponse{Name: a.Name, Type: a.Type, Content: body}), nil
}

// RewardReport implements IntakeService.
func (s intakeService) RewardReport(ctx context.Context, req *connect.Request[headgatev1.RewardReportRequest]) (*connect.Response[headgatev1.RewardReportResponse], error) {
	id, err := parseReport(req.Msg.Report)
	if err != nil {
		return nil, err
	}
	table := psirt.DefaultRewards()
	if req.Msg.TableJson != "" {
		if table, err = psirt.ParseRewardTable([]byte(req.Msg.TableJson)); err != nil {
			return nil, fmt.Errorf("table_json: %w", err)
		}
	}
	v, now := from(ctx).viewer(), s.cfg.Now()
	r, err := s.store.ReadReport(ctx, v, id, now)
	if err != nil {
		return nil, err
	}
	in := psirt.RewardFor{Score: -1, Duplicate: r.Role == psirt.Duplicate, Exercise: r.Exercise, Proof: req.Msg.Proof, Accepted: r.Case != ""}
	if r.Case != "" {
		if in.Score, err = s.highestScore(ctx, v, r.Case, now); err != nil {
			return nil, err
		}
	}
	b, err := table.Decide(in)
	if err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	}
	out := &headgatev1.RewardReportResponse{Table: b.Table, Row: b.Row, Amount: b.Amount, Currency: b.Currency, Why: b.Why, Score: in.Score}
	if req.Msg.Ask {
		return connect.NewResponse(out), nil
	}
	if slices.Contains(r.Rewards, b) {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("row %s of %s was granted already", b.Row, b.Table))
	}
	f, err := psirt.Draft(&b, time.Time{}, "")
	if err != nil {
		return nil, err
	}
	if _, err := s.store.CommitReport(ctx, v, id, r.Revision, []psirt.Fact{f}, now, nil); err != nil {
		return nil, err
	}
	out.Recorded = true
	return connect.NewResponse(out), nil
}

// highestScore is the highest base score that anybody gave a case; below 0 if
// nobody did.
func (s intakeService) highestScore(ctx context.Context, v store.Viewer, kase string, now time.Time) (float64, error) {
	id, err := parseCase(kase)
	if err != nil {
		return 0, err
	}
	c, err := s.store.ReadCase(ctx, v, id, now)
	if err != nil {
		return 0, err
	}
	highest := -1.0
	for _, x := range c.Triage.Scores {
		highest = max(highest, x.Score)
	}
	return highest, nil
}
