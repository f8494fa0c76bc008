package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// RewardReport implements IntakeService.
func (s intakeService) RewardReport(ctx context.Context, req *connect.Request[headgatev1.RewardReportRequest]) (*connect.Response[headgatev1.RewardReportResponse], error) {
	id, err := parseReport(req.Msg.Report)
	if err != nil {
		return nil, err
	}
	table, revision, err := s.rewardsBy(ctx, req.Msg)
	if err != nil {
		return nil, err
	}
	v, now := from(ctx).viewer(), s.cfg.Now()
	r, err := s.store.ReadReport(ctx, v, id, now)
	if err != nil {
		return nil, err
	}
	in := psirt.RewardFor{Score: -1, Duplicate: r.Role == psirt.Duplicate, Exercise: r.Exercise, Proof: req.Msg.Proof, Accepted: r.Case != ""}
	if r.Case == "" && r.Closed == "" {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("it belongs to no case and is not closed: nothing is decided yet"))
	}
	if r.Case != "" {
		if in.Score, err = s.highestScore(ctx, v, r.Case, now); err != nil {
			return nil, err
		}
	}
	b, err := table.Decide(in)
	if err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	}
	b.Revision = revision
	out := &headgatev1.RewardReportResponse{Table: b.Table, Revision: revision, Row: b.Row, Amount: b.Amount, Currency: b.Currency, Why: b.Why, Score: in.Score}
	if req.Msg.Ask {
		return connect.NewResponse(out), nil
	}
	if slices.ContainsFunc(r.Rewards, func(g psirt.ReportRewarded) bool { return g.Table == b.Table && g.Row == b.Row }) {
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

// rewardsBy is the table that a reward is asked by, and its revision if it is an
// applied one.
func (s intakeService) rewardsBy(ctx context.Context, m *headgatev1.RewardReportRequest) (psirt.RewardTable, int64, error) {
	if m.TableJson != "" {
		if m.Table != "" {
			return psirt.RewardTable{}, 0, invalid(fmt.Errorf("table and table_json: %q and a document; want one of them", m.Table))
		}
		t, err := psirt.ParseRewardTable([]byte(m.TableJson))
		if err != nil {
			return t, 0, fmt.Errorf("table_json: %w", err)
		}
		return t, 0, nil
	}
	ref, err := psirt.ParseRewardRef(m.Table)
	if err != nil {
		return psirt.RewardTable{}, 0, err
	}
	a, err := s.store.Rewards(ctx, ref)
	if errors.Is(err, store.ErrNotFound) && m.Table == "" {
		return psirt.DefaultRewards(), 0, nil
	}
	return a.RewardTable, a.Revision, err
}

func rewardsOut(a store.AppliedRewards) *headgatev1.RewardTable {
	return &headgatev1.RewardTable{Id: a.ID, Revision: a.Revision, Json: a.Text, Name: a.Name(), MadeUs: micros(a.Made), Actor: a.Actor, InForce: a.InForce}
}

// ApplyRewardTable implements IntakeService.
func (s intakeService) ApplyRewardTable(ctx context.Context, req *connect.Request[headgatev1.ApplyRewardTableRequest]) (*connect.Response[headgatev1.ApplyRewardTableResponse], error) {
	a, changed, err := s.store.ApplyRewards(ctx, from(ctx).viewer(), []byte(req.Msg.Json), s.cfg.Now())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.ApplyRewardTableResponse{Table: rewardsOut(a), Changed: changed}), nil
}

// GetRewardTable implements IntakeService.
func (s intakeService) GetRewardTable(ctx context.Context, req *connect.Request[headgatev1.GetRewardTableRequest]) (*connect.Response[headgatev1.GetRewardTableResponse], error) {
	ref, err := psirt.ParseRewardRef(req.Msg.Table)
	if err != nil {
		return nil, err
	}
	a, err := s.store.Rewards(ctx, ref)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.GetRewardTableResponse{Table: rewardsOut(a)}), nil
}

// ListRewardTables implements IntakeService.
func (s intakeService) ListRewardTables(ctx context.Context, _ *connect.Request[headgatev1.ListRewardTablesRequest]) (*connect.Response[headgatev1.ListRewardTablesResponse], error) {
	all, err := s.store.ListRewards(ctx)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListRewardTablesResponse{}
	for _, a := range all {
		out.Tables = append(out.Tables, rewardsOut(a))
	}
	return connect.NewResponse(out), nil
}
