package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

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
