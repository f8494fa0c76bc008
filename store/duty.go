package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
)

// DutyRoster is who is on duty when, as one revision says.
type DutyRoster struct {
	Revision int64
	Made     time.Time
	Actor    string
	Text     string // as it was given
	psirt.Roster
}

// Roster is the roster in force; ErrNotFound while there is none.
func (s *Store) Roster(ctx context.Context) (out DutyRoster, err error) {
	err = s.inRead(ctx, "read roster", func(c conn) error {
		out, err = c.roster(ctx)
		return err
	})
	return out, err
}

func (c conn) roster(ctx context.Context) (out DutyRoster, err error) {
	var made int64
	var body string
	err = c.row(ctx, `SELECT revision, made, actor, body FROM duty_roster ORDER BY revision DESC LIMIT 1`).Scan(&out.Revision, &made, &out.Actor, &body)
	if err != nil {
		return out, found(err)
	}
	out.Made, out.Text = fromMicros(made), body
	out.Roster, err = psirt.ParseRoster([]byte(body))
	return out, err
}

// HookSecret is what requests to a webhook are signed with.
type HookSecret struct {
	URL    string
	Secret []byte
}

// SetRoster puts a roster in force. Whoever may triage may; the text stays as it
// was given. Each webhook that it names has a secret: a new one is made for an
// address that is new, and for all if afresh. These, and no others, are returned.
func (s *Store) SetRoster(ctx context.Context, v Viewer, body []byte, afresh bool, now time.Time) (out DutyRoster, secrets []HookSecret, err error) {
	roster, err := psirt.ParseRoster(body)
	if err != nil {
		return out, nil, err
	}
	err = s.inWrite(ctx, "set roster", func(c conn) error {
		if err := c.mayTriage(ctx, v, true); err != nil {
			return err
		}
		before, err := c.roster(ctx)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if _, err := c.exec(ctx, `INSERT INTO duty_roster (revision, made, actor, body) VALUES ($1, $2, $3, $4)`, before.Revision+1, micros(now), v.Actor, string(body)); err != nil {
			return err
		}
		if out, err = c.roster(ctx); err != nil {
			return err
		}
		if secrets, err = c.hookSecrets(ctx, roster.Webhooks(), afresh, now); err != nil {
			return err
		}
		return c.note(ctx, now, "roster.set", "", v.Actor, map[string]any{"revision": out.Revision, "roster": out.ID})
	})
	return out, secrets, err
}

// hookSecrets has each of these webhooks, and no other, have a secret; it returns
// the new ones.
func (c conn) hookSecrets(ctx context.Context, urls []string, afresh bool, now time.Time) (made []HookSecret, err error) {
	var kept []string
	rows, err := c.rows(ctx, `SELECT url FROM call_hook ORDER BY url`)
	err = each(rows, err, func() error {
		var url string
		err := rows.Scan(&url)
		kept = append(kept, url)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, url := range kept {
		if afresh || !slices.Contains(urls, url) {
			if _, err := c.exec(ctx, `DELETE FROM call_hook WHERE url = $1`, url); err != nil {
				return nil, err
			}
		}
	}
	for _, url := range urls {
		if !afresh && slices.Contains(kept, url) {
			continue
		}
		h := HookSecret{URL: url, Secret: make([]byte, notify.SecretBytes)}
		rand.Read(h.Secret) // never fails: it aborts the program instead
		if _, err := c.exec(ctx, `INSERT INTO call_hook (url, secret, made) VALUES ($1, $2, $3)`, url, h.Secret, micros(now)); err != nil {
			return nil, err
		}
		made = append(made, h)
	}
	return made, nil
}

// callFor is the fact that calls whoever is on duty now; nil while there is no
// roster.
func (c conn) callFor(ctx context.Context, why string, now time.Time) (*psirt.PageRaised, error) {
	r, err := c.roster(ctx)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &psirt.PageRaised{To: r.OnDuty(0, now), Why: why}, nil
}

// noteCalls keeps the list of calls that nobody has answered, and has whoever is
// called hear of it at each address that the roster gives. What was not sent of a
// call that is answered is sent no more.
func (c conn) noteCalls(ctx context.Context, subject int64, facts []psirt.Fact) error {
	for _, f := range facts {
		b, err := f.Decode()
		if err != nil {
			return err
		}
		var to string
		switch b := b.(type) {
		case *psirt.PageRaised:
			to = b.To
		case *psirt.PageEscalated:
			to = b.To
		case *psirt.PageAcknowledged:
			if _, err := c.exec(ctx, `DELETE FROM open_call WHERE subject = $1`, subject); err != nil {
				return err
			}
			if _, err := c.exec(ctx, `UPDATE letter SET due = 0, trouble = 'the call was answered' WHERE subject = $1 AND kind IN ('call', 'hook') AND due > 0`, subject); err != nil {
				return err
			}
			continue
		default:
			continue
		}
		if _, err := c.exec(ctx, `INSERT INTO open_call (subject) VALUES ($1) ON CONFLICT (subject) DO NOTHING`, subject); err != nil {
			return err
		}
		if err := c.call(ctx, subject, f, to); err != nil {
			return err
		}
	}
	return nil
}

func (c conn) call(ctx context.Context, subject int64, f psirt.Fact, to string) error {
	r, err := c.roster(ctx)
	if errors.Is(err, ErrNotFound) {
		return nil // called by hand, without a roster: the board shows it
	}
	if err != nil {
		return err
	}
	l := Letter{Subject: subject, Seq: f.Seq, Whom: to, Made: f.Recorded}
	for kind, addresses := range map[LetterKind][]string{LetterCall: r.Reach[to], LetterHook: r.Hooks[to]} {
		for _, l.Address = range addresses {
			l.Kind = kind
			if err := c.letter(ctx, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// OpenCall is a call that nobody has answered yet.
type OpenCall struct {
	Subject  int64
	Report   bool // of a report; else of a case
	Revision int64
	psirt.Page
}

// ListCalls lists the calls that nobody has answered, among what the viewer may
// read.
func (s *Store) ListCalls(ctx context.Context, v Viewer) (out []OpenCall, err error) {
	all, err := s.OpenCalls(ctx)
	if err != nil {
		return nil, err
	}
	err = s.inWrite(ctx, "list calls", func(c conn) error { // it locks what it reads
		out = nil
		for _, call := range all {
			may := c.mayCase
			if call.Report {
				may = c.mayReport
			}
			_, err := may(ctx, v, call.Subject)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			out = append(out, call)
		}
		return nil
	})
	return out, err
}

// OpenCalls reads the calls that nobody has answered, for the loop that has them
// climb.
func (s *Store) OpenCalls(ctx context.Context) (out []OpenCall, err error) {
	err = s.inRead(ctx, "list open calls", func(c conn) error {
		out = nil
		var subjects []int64
		rows, err := c.rows(ctx, `SELECT subject FROM open_call ORDER BY subject`)
		err = each(rows, err, func() error {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return err
			}
			subjects = append(subjects, id)
			return nil
		})
		if err != nil {
			return err
		}
		for _, id := range subjects {
			call, err := c.openCall(ctx, id)
			if err != nil {
				return err
			}
			out = append(out, call)
		}
		return nil
	})
	return out, err
}

func (c conn) openCall(ctx context.Context, id int64) (call OpenCall, err error) {
	facts, err := c.facts(ctx, id, psirt.Red.Rank())
	if err != nil {
		return call, err
	}
	call = OpenCall{Subject: id, Revision: int64(len(facts))}
	var page *psirt.Page
	if call.Report = len(facts) > 0 && facts[0].Kind == "report.received"; call.Report {
		r, err := psirt.FoldReport(facts)
		if err != nil {
			return call, err
		}
		page = r.Page
	} else {
		k, err := psirt.Fold(facts)
		if err != nil {
			return call, err
		}
		page = k.Page
	}
	if page == nil {
		return call, fmt.Errorf("open call of %d: its facts have none: %w", id, ErrState)
	}
	call.Page = *page
	return call, nil
}

// Climb has a call climb, unless something changed since it was read: ErrConflict.
func (s *Store) Climb(ctx context.Context, call OpenCall, to string, now time.Time) error {
	return s.inWrite(ctx, "climb", func(c conn) error {
		v, b := Engine("engine"), &psirt.PageEscalated{To: to}
		draft, err := psirt.Draft(b, time.Time{}, "")
		if err != nil {
			return err
		}
		if call.Report {
			m, err := c.mayReport(ctx, v, call.Subject)
			if err != nil {
				return err
			}
			if m.revision != call.Revision {
				return ErrConflict
			}
			return c.addFact(ctx, m, v, call.Subject, b, now)
		}
		m, err := c.mayCase(ctx, v, call.Subject)
		if err != nil {
			return err
		}
		if m.revision != call.Revision {
			return ErrConflict
		}
		kase, all, err := c.extend(ctx, v, m, call.Subject, []psirt.Fact{draft}, now)
		if err != nil {
			return err
		}
		var p pending
		if err := c.keepCase(ctx, &p, call.Subject, kase, all[m.revision:]); err != nil {
			return err
		}
		return p.write(ctx, c, now)
	})
}
