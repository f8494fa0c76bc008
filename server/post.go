package server

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/control"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/server/intake"
	"github.com/headgate/headgate/store"
)

// lettersEvery is how often it is looked for letters and calls that are due.
const lettersEvery = 2 * time.Second

// wirePost makes what sends letters and calls, each by the ways that the
// configuration has: reporters are written to through the open door only; calls go
// out without it, by outgoing_mail or else by mail, and by webhook always.
func (s *Server) wirePost(door *intake.Door) error {
	s.postmen = nil
	direct := func(context.Context) error { return nil }
	calls := func(by control.Transport) func(context.Context, store.Letter) notify.Answer {
		return func(ctx context.Context, l store.Letter) notify.Answer {
			p, err := s.callParcel(l)
			if err != nil {
				return notify.Answer{Outcome: notify.Refused, Detail: err.Error()}
			}
			return by.Send(ctx, p, direct)
		}
	}
	s.addPostman(control.HookRound, calls(s.courier.Transports[notify.Webhook]))
	mail := s.courier.Transports[notify.Email]
	if s.cfg.OutgoingMail != nil {
		sender, err := s.cfg.OutgoingMail.sender(s.cfg.Now())
		if err != nil {
			return err
		}
		mail = sender
	}
	if s.mailsCalls = mail != nil; s.mailsCalls {
		s.addPostman(control.CallRound, calls(mail))
	}
	if door == nil || s.cfg.OutgoingMail == nil {
		return nil
	}
	s.addPostman(control.ReporterRound, func(ctx context.Context, l store.Letter) notify.Answer {
		p, err := door.Parcel(ctx, s.store, l)
		if err != nil {
			return notify.Answer{Outcome: notify.Deferred, Detail: "compose: " + err.Error()}
		}
		return mail.Send(ctx, p, direct)
	})
	return nil
}

func (s *Server) addPostman(r control.Round, send func(context.Context, store.Letter) notify.Answer) {
	s.postmen = append(s.postmen, &control.Postman{Letters: s.store, Round: r, Every: lettersEvery, Now: s.cfg.Now, Log: s.cfg.Log, Send: send})
}

// callDomain is where the ids of calls by mail are from.
func (c Config) callDomain() string {
	from := ""
	switch {
	case c.OutgoingMail != nil:
		from = c.OutgoingMail.From
	case c.Mail != nil:
		from = c.Mail.From
	}
	_, domain, _ := strings.Cut(from, "@")
	or(&domain, "headgate.invalid") // RFC 6761: certainly nobody's
	return domain
}

// callParcel composes a call. It says who is needed and about which number: what
// that is and why, only Headgate says to whoever may know.
func (s *Server) callParcel(l store.Letter) (notify.Parcel, error) {
	id := ids.Format("L", l.ID)
	p := notify.Parcel{MessageID: id, Created: l.Made, Address: l.Address, Secret: l.Secret}
	subject := store.CaseID(l.Subject)
	if l.Report {
		subject = store.ReportID(l.Subject)
	}
	answer := "headgate oncall answer " + subject
	if l.Kind == store.LetterHook {
		if len(l.Secret) == 0 {
			return p, fmt.Errorf("the roster names this webhook no more")
		}
		var err error
		p.Payload, err = json.Marshal(map[string]any{"type": "call.raised", "timestamp": l.Made.Format(time.RFC3339Nano), "data": map[string]string{
			"subject": subject, "to": l.Whom, "answer": answer,
		}})
		return p, err
	}
	p.MessageID += "@" + s.cfg.callDomain()
	p.Message = notify.Message{Subject: "You are called: " + subject, Opaque: "You are called", Body: fmt.Sprintf(
		"You are on duty, and %s needs you. Who it is about and why, only Headgate says.\n\nAnswer the call, or it climbs to the next:\n\n  %s\n", subject, answer)}
	return p, nil
}
