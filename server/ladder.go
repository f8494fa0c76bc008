package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"github.com/headgate/headgate/advisory"
	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// ladderService is LadderService.
type ladderService struct{ *Server }

// GetLadder implements LadderService.
func (s ladderService) GetLadder(ctx context.Context, req *connect.Request[headgatev1.GetLadderRequest]) (*connect.Response[headgatev1.GetLadderResponse], error) {
	id, err := parseCase(req.Msg.Case)
	if err != nil {
		return nil, err
	}
	kase, err := s.store.ReadCase(ctx, from(ctx).viewer(), id, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	out, err := s.ladderOut(ctx, kase)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.GetLadderResponse{Ladder: out}), nil
}

// SetLadder implements LadderService.
func (s ladderService) SetLadder(ctx context.Context, req *connect.Request[headgatev1.SetLadderRequest]) (*connect.Response[headgatev1.SetLadderResponse], error) {
	l, err := psirt.ParseLadder([]byte(req.Msg.LadderJson))
	if err != nil {
		return nil, fmt.Errorf("ladder_json: %w", err)
	}
	out, err := s.record(ctx, req.Msg.Case, &psirt.LadderSet{Ladder: l})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.SetLadderResponse{Ladder: out}), nil
}

// OverrideRung implements LadderService.
func (s ladderService) OverrideRung(ctx context.Context, req *connect.Request[headgatev1.OverrideRungRequest]) (*connect.Response[headgatev1.OverrideRungResponse], error) {
	out, err := s.record(ctx, req.Msg.Case, &psirt.LadderOverride{Rung: psirt.Rung(req.Msg.Rung), Why: req.Msg.Why})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.OverrideRungResponse{Ladder: out}), nil
}

// measure tells how far a case is fixed. One that names no affected versions
// yet is unknown, not fixed.
func (s *Server) measure(ctx context.Context, id int64, now time.Time) (advisory.Protection, error) {
	p, err := s.store.Protection(ctx, store.Engine("engine"), id, now)
	if errors.Is(err, store.ErrState) {
		return advisory.Protection{}, nil
	}
	return p, err
}

// record adds one fact of the caller's to a case, and shows the ladder after it.
func (s ladderService) record(ctx context.Context, kase string, b psirt.Body) (*headgatev1.Ladder, error) {
	id, err := parseCase(kase)
	if err != nil {
		return nil, err
	}
	f, err := psirt.Draft(b, time.Time{}, psirt.AmberStrict)
	if err != nil {
		return nil, err
	}
	c, err := s.store.CommitFacts(ctx, from(ctx).viewer(), id, store.AnyRevision, []psirt.Fact{f}, s.cfg.Now(), nil)
	if err != nil {
		return nil, err
	}
	return s.ladderOut(ctx, c)
}

// ladderOut decides for show: by the same function as the loop, which alone
// records what it decides.
func (s ladderService) ladderOut(ctx context.Context, c store.Case) (*headgatev1.Ladder, error) {
	now := s.cfg.Now().UTC().Truncate(time.Microsecond)
	p, err := s.discloser.Protection(ctx, c, now)
	if err != nil {
		return nil, err
	}
	snapshot := advisory.Of(store.CaseID(c.ID), c.Case, p, now)
	d, err := advisory.DecideRung(snapshot, now)
	if err != nil {
		return nil, err
	}
	ladder, err := json.Marshal(snapshot.Ladder)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.Ladder{
		Case: store.CaseID(c.ID), Rung: string(c.Rung), Id: snapshot.Ladder.ID, LadderJson: string(ladder),
		Lower: d.Lower, Resources: p.Resources, Verified: p.Verified, Stale: p.Stale, MeasuredUs: p.At, NextUs: d.Next, Emergency: d.Emergency,
	}
	for _, g := range d.Gates {
		out.Gates = append(out.Gates, &headgatev1.Gate{
			Rung: string(g.Rung), Open: g.Open, Need: g.Need, FloorUs: g.Floor, CeilingUs: g.Ceiling, Code: g.Why.Code, Detail: g.Why.Detail,
		})
	}
	for _, o := range c.Outcome.Overrides {
		if o.Rung.At() > c.Rung.At() {
			out.Asked = append(out.Asked, fmt.Sprintf("%s by %s: %s", o.Rung, o.By, o.Why))
		}
	}
	return out, nil
}
