package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/span"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/review"
	"github.com/headgate/headgate/store"
)

// reviewService is ReviewService.
type reviewService struct{ *Server }

// GetReview implements ReviewService.
func (s reviewService) GetReview(ctx context.Context, req *connect.Request[headgatev1.GetReviewRequest]) (*connect.Response[headgatev1.GetReviewResponse], error) {
	id, err := parseCase(req.Msg.Case)
	if err != nil {
		return nil, err
	}
	out, err := s.review(ctx, id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.GetReviewResponse{Review: out}), nil
}

// CheckCorrection implements ReviewService.
func (s reviewService) CheckCorrection(ctx context.Context, req *connect.Request[headgatev1.CheckCorrectionRequest]) (*connect.Response[headgatev1.CheckCorrectionResponse], error) {
	id, err := parseCase(req.Msg.Case)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Now()
	c, err := s.store.ReadCase(ctx, from(ctx).viewer(), id, now)
	if err != nil {
		return nil, err
	}
	i := req.Msg.Number - 1
	if i < 0 || i >= int64(len(c.Outcome.Corrections)) {
		return nil, invalid(fmt.Errorf("number: %d; the case has %d corrections", req.Msg.Number, len(c.Outcome.Corrections)))
	}
	if c.Me.Role == psirt.Observer {
		return nil, fmt.Errorf("check correction: an observer writes nothing: %w", psirt.ErrForbidden)
	}
	st, _, err := s.verifyEvidence(ctx, req.Msg.Envelope)
	if err != nil {
		return nil, err
	}
	check := c.Outcome.Corrections[i].Check
	if !slices.Contains(st.Kinds, check) {
		return nil, invalid(fmt.Errorf("the attestation is of %v, the correction asks for %q", st.Kinds, check))
	}
	result := "green"
	if st.Result == "FAILED" {
		result = "red"
	}
	f, err := psirt.Draft(&psirt.CorrectionChecked{Correction: i, Result: result}, time.Time{}, psirt.AmberStrict)
	if err != nil {
		return nil, err
	}
	// Written by the server, in the caller's name: nobody types a result in.
	if _, err := s.store.CommitFacts(ctx, store.Engine(from(ctx).actor()), id, c.Revision, []psirt.Fact{f}, now, nil); err != nil {
		return nil, err
	}
	out, err := s.review(ctx, id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.CheckCorrectionResponse{Review: out}), nil
}

// review draws a case's review as the caller may see it.
func (s reviewService) review(ctx context.Context, id int64) (*headgatev1.Review, error) {
	v, now := from(ctx).viewer(), s.cfg.Now()
	c, err := s.store.ReadCase(ctx, v, id, now)
	if err != nil {
		return nil, err
	}
	in := review.Incident{Facts: c.Facts}
	if in.Exposure, err = s.exposure(ctx, v, id, now); err != nil {
		return nil, err
	}
	if in.Notices, err = s.notices(ctx, v, id, now); err != nil {
		return nil, err
	}
	if in.Rollouts, err = s.rolloutsOf(ctx, c.Work.Rollouts); err != nil {
		return nil, err
	}
	return reviewOut(c, in)
}

// exposure sums up whom the case concerned; a case that names no versions yet
// concerns nobody that is known.
func (s reviewService) exposure(ctx context.Context, v store.Viewer, id int64, now time.Time) (out review.Exposure, err error) {
	a, err := s.store.ReadAffected(ctx, v, id, 0, now)
	if errors.Is(err, store.ErrState) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out = review.Exposure{Resources: a.Tally.Resources, Open: a.Tally.Vulnerable + a.Tally.Unknown, Time: a.Tally.Exposed}
	for _, r := range a.Resources {
		if out.Since.IsZero() || r.Since.Before(out.Since) {
			out.Since = r.Since
		}
	}
	return out, nil
}

// noticesPage is how many notices are read at once.
const noticesPage = 1000

// notices sums up what became of a case's notices.
func (s reviewService) notices(ctx context.Context, v store.Viewer, id int64, now time.Time) (out review.Notices, err error) {
	open := false
	for q := (store.NoticeQuery{Case: id, Limit: noticesPage}); ; {
		page, err := s.store.ListNotices(ctx, v, q, now)
		if err != nil {
			return out, err
		}
		for _, n := range page {
			q.After = n.ID
			out.Sent++
			if out.First.IsZero() || n.Created.Before(out.First) {
				out.First = n.Created
			}
			if !n.Progress.Closed() {
				open = true
				continue
			}
			out.Verified++
			for _, step := range n.Progress.Steps {
				if step.Verified.After(out.Last) {
					out.Last = step.Verified
				}
			}
		}
		if len(page) < noticesPage {
			break
		}
	}
	if open {
		out.Last = time.Time{}
	}
	return out, nil
}

// rolloutsOf sums up the rollouts that a case is bound to.
func (s reviewService) rolloutsOf(ctx context.Context, bound []int64) (out []review.Rollout, err error) {
	for _, id := range bound {
		r, err := s.store.Rollout(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("rollout R-%d: %w", id, err)
		}
		x := review.Rollout{
			ID: id, Product: r.Product, Version: r.Version, State: string(r.State), Started: r.Started,
			Exposed: r.Counts.Exposed, Proven: r.Counts.Proven, Harmed: r.Counts.Harmed, Silent: r.Counts.Silent,
		}
		down, err := s.store.DownTime(ctx, id)
		if err != nil {
			return nil, err
		}
		x.Down = span.Duration(down)
		out = append(out, x)
	}
	return out, nil
}

func reviewOut(c store.Case, in review.Incident) (*headgatev1.Review, error) {
	measures, err := review.Measures(in)
	if err != nil {
		return nil, err
	}
	events, err := review.Timeline(in.Facts)
	if err != nil {
		return nil, err
	}
	out := &headgatev1.Review{Case: store.CaseID(c.ID)}
	for _, m := range measures {
		out.Measures = append(out.Measures, &headgatev1.Measure{Code: m.Code, Name: m.Name, FromUs: micros(m.From), ToUs: micros(m.To), TookUs: m.Took.Std().Microseconds(), Unknown: m.Unknown})
	}
	for _, e := range events {
		out.Events = append(out.Events, &headgatev1.Event{AtUs: micros(e.At), Fact: e.Seq, Kind: string(e.Kind), Actor: e.Actor, Text: e.Text})
	}
	for i, x := range c.Outcome.Corrections {
		out.Corrections = append(out.Corrections, &headgatev1.Correction{Number: int64(i) + 1, Text: x.Text, Check: x.Check, Red: x.Red, Green: x.Green})
	}
	for _, f := range c.Outcome.Feedback {
		out.Feedback = append(out.Feedback, feedbackOut(f))
	}
	out.Markdown, err = review.Markdown(out.Case, in)
	return out, err
}
