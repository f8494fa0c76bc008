package server

import (
	"context"
	"strings"
	"time"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/notify/webhook"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

func (s intakeService) rosterOut(r store.DutyRoster) *headgatev1.Roster {
	out := &headgatev1.Roster{Revision: r.Revision, MadeUs: micros(r.Made), Actor: r.Actor, RosterJson: r.Text}
	for level := range r.Levels {
		out.OnDuty = append(out.OnDuty, r.OnDuty(int64(level), s.cfg.Now()))
	}
	out.Unreached = r.Deaf(s.mailsCalls)
	return out
}

// GetRoster implements IntakeService.
func (s intakeService) GetRoster(ctx context.Context, _ *connect.Request[headgatev1.GetRosterRequest]) (*connect.Response[headgatev1.GetRosterResponse], error) {
	r, err := s.store.Roster(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&headgatev1.GetRosterResponse{Roster: s.rosterOut(r)}), nil
}

// SetRoster implements IntakeService.
func (s intakeService) SetRoster(ctx context.Context, req *connect.Request[headgatev1.SetRosterRequest]) (*connect.Response[headgatev1.SetRosterResponse], error) {
	r, secrets, err := s.store.SetRoster(ctx, from(ctx).viewer(), []byte(req.Msg.RosterJson), req.Msg.NewSecrets, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	out := &headgatev1.SetRosterResponse{Roster: s.rosterOut(r)}
	for _, h := range secrets {
		out.Secrets = append(out.Secrets, &headgatev1.HookSecret{Url: h.URL, Secret: webhook.SecretText(h.Secret)})
	}
	return connect.NewResponse(out), nil
}

// ListCalls implements IntakeService.
func (s intakeService) ListCalls(ctx context.Context, _ *connect.Request[headgatev1.ListCallsRequest]) (*connect.Response[headgatev1.ListCallsResponse], error) {
	calls, err := s.store.ListCalls(ctx, from(ctx).viewer())
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListCallsResponse{}
	for _, c := range calls {
		subject := store.CaseID(c.Subject)
		if c.Report {
			subject = store.ReportID(c.Subject)
		}
		out.Calls = append(out.Calls, &headgatev1.Call{Subject: subject, Why: c.Why, To: c.To, Level: c.Level, RaisedUs: micros(c.Raised), CalledUs: micros(c.Called)})
	}
	return connect.NewResponse(out), nil
}

// AnswerCall implements IntakeService.
func (s intakeService) AnswerCall(ctx context.Context, req *connect.Request[headgatev1.AnswerCallRequest]) (*connect.Response[headgatev1.AnswerCallResponse], error) {
	v := from(ctx).viewer()
	f, err := psirt.Draft(&psirt.PageAcknowledged{By: v.Principal()}, time.Time{}, "")
	if err != nil {
		return nil, err
	}
	facts := []psirt.Fact{f}
	id, isReport, err := parseSubject(req.Msg.Subject)
	if err != nil {
		return nil, err
	}
	if isReport {
		_, err = s.store.CommitReport(ctx, v, id, store.AnyRevision, facts, s.cfg.Now(), nil)
	} else {
		_, err = s.store.CommitFacts(ctx, v, id, store.AnyRevision, facts, s.cfg.Now(), nil)
	}
	return connect.NewResponse(&headgatev1.AnswerCallResponse{}), err
}

// ListCallAttempts implements IntakeService.
func (s intakeService) ListCallAttempts(ctx context.Context, req *connect.Request[headgatev1.ListCallAttemptsRequest]) (*connect.Response[headgatev1.ListCallAttemptsResponse], error) {
	id, isReport, err := parseSubject(req.Msg.Subject)
	if err != nil {
		return nil, err
	}
	attempts, err := s.store.CallLog(ctx, from(ctx).viewer(), id, isReport, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	out := &headgatev1.ListCallAttemptsResponse{}
	for _, a := range attempts {
		channel := notify.Email
		if a.Kind == store.LetterHook {
			channel = notify.Webhook
		}
		out.Attempts = append(out.Attempts, &headgatev1.CallAttempt{
			To: a.Whom, Channel: string(channel), Address: a.Address, Attempt: a.N, AtUs: micros(a.At),
			Outcome: string(a.Outcome), Code: a.Code, Detail: a.Detail, NextUs: micros(a.Next),
		})
	}
	return connect.NewResponse(out), nil
}

// parseSubject reads the id of a report or case.
func parseSubject(s string) (id int64, isReport bool, err error) {
	if isReport = strings.HasPrefix(s, "RP-"); isReport {
		id, err = parseReport(s)
		return id, true, err
	}
	id, err = parseCase(s)
	return id, false, err
}
