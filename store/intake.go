package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/psirt"
)

// Submission is a report from outside, with all that is kept beside it.
type Submission struct {
	Received psirt.ReportReceived
	// Files are the bodies of Received.Attachments, in their order.
	Files [][]byte
	// Request is the idempotency key, unique over all ways in: the same again
	// returns the report that the first one made.
	Request string
	// Page, if set, says by the hash of which secret the reporter reads the report.
	Page func(report string) Hash
	// Acknowledged, if set, says how the reporter is answered with the tracking id
	// in the same breath: "page", "mail".
	Acknowledged string
	// Letter, if set, is the mail address that the tracking id is sent to.
	Letter string
	// TLP is the label; empty is AMBER+STRICT.
	TLP psirt.TLP
	// By is who sends it with a token, and may read it; the zero value is nobody.
	By Viewer
}

// reporter is who writes through a report's page, as facts name it.
const reporter = "reporter"

// Submit keeps a report from outside in one transaction: its facts, its files, its
// page, its letter, and the call of whoever is on duty. fresh is false for one
// that was kept before.
func (s *Store) Submit(ctx context.Context, sub Submission, now time.Time) (out Report, fresh bool, err error) {
	if err := sub.check(); err != nil {
		return out, false, fmt.Errorf("submit report: %w", err)
	}
	err = s.inWrite(ctx, "submit report", func(c conn) error {
		v, prefix := Engine("intake"), "intake/"
		if sub.By.Actor != "" {
			v, prefix = sub.By, sub.By.Actor+"/file/"
		}
		id, isNew, err := c.reportRow(ctx, prefix+sub.Request, now)
		if err != nil {
			return err
		}
		if fresh = isNew; fresh {
			out, err = c.keepSubmission(ctx, v, id, sub, now)
			return err
		}
		m, err := c.mayReport(ctx, v, id)
		if err != nil {
			return err
		}
		out, err = c.report(ctx, m, id)
		return err
	})
	return out, fresh, err
}

func (c conn) keepSubmission(ctx context.Context, v Viewer, id int64, sub Submission, now time.Time) (out Report, err error) {
	drafts, err := c.submitted(ctx, sub, now)
	if err != nil {
		return out, err
	}
	if err := c.addSender(ctx, v, id); err != nil {
		return out, err
	}
	var p pending
	if out, err = c.extendReport(ctx, &p, v, id, Report{}, drafts, now); err != nil {
		return out, err
	}
	for i, a := range sub.Received.Attachments {
		if err := c.keepFile(ctx, id, a.Digest, sub.Files[i], now); err != nil {
			return out, err
		}
	}
	if sub.Page != nil {
		hash := sub.Page(ReportID(id))
		if _, err := c.exec(ctx, `INSERT INTO report_page (hash, report) VALUES ($1, $2)`, hash[:], id); err != nil {
			return out, err
		}
	}
	if sub.Letter != "" {
		if err := c.letter(ctx, Letter{Subject: id, Kind: LetterReceived, Address: sub.Letter, Made: now}); err != nil {
			return out, err
		}
	}
	return out, p.write(ctx, c, now)
}

// submitted are the first facts of a report; the last of them calls whoever is on duty.
func (c conn) submitted(ctx context.Context, sub Submission, now time.Time) (out []psirt.Fact, err error) {
	bodies := []psirt.Body{&sub.Received}
	if sub.Acknowledged != "" {
		bodies = append(bodies, &psirt.ReportAcknowledged{How: sub.Acknowledged})
	}
	call, err := c.callFor(ctx, "a report came in by "+string(sub.Received.Source), now)
	if err != nil {
		return nil, err
	}
	if call != nil {
		bodies = append(bodies, call)
	}
	for _, b := range bodies {
		f, err := psirt.Draft(b, time.Time{}, sub.TLP)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// check refuses files that are not what the report says they are.
func (sub Submission) check() error {
	if sub.Request == "" {
		return fmt.Errorf("request: is missing: %w", ErrInvalid)
	}
	if len(sub.Files) != len(sub.Received.Attachments) {
		return fmt.Errorf("%d files for %d attachments: %w", len(sub.Files), len(sub.Received.Attachments), ErrInvalid)
	}
	for i, a := range sub.Received.Attachments {
		sum := sha256.Sum256(sub.Files[i])
		if hex.EncodeToString(sum[:]) != a.Digest || int64(len(sub.Files[i])) != a.Length {
			return fmt.Errorf("attachments[%d]: it has another digest or length: %w", i, ErrInvalid)
		}
	}
	return nil
}

func (c conn) keepFile(ctx context.Context, report int64, digest string, body []byte, now time.Time) error {
	if body == nil {
		body = []byte{}
	}
	if _, err := c.exec(ctx, `INSERT INTO report_file (digest, length, added, body) VALUES ($1, $2, $3, $4) ON CONFLICT (digest) DO NOTHING`,
		digest, len(body), micros(now), body); err != nil {
		return fmt.Errorf("keep file %s: %w", digest, err)
	}
	_, err := c.exec(ctx, `INSERT INTO report_file_of (report, digest) VALUES ($1, $2) ON CONFLICT (report, digest) DO NOTHING`, report, digest)
	return err
}

// ReportPage is what a reporter's page is made of. Case is nil while the report
// belongs to none; of it a page shows nothing but what psirt says it may.
type ReportPage struct {
	Report
	Case *psirt.Case
}

// ReportPage reads a report by the hash of its page's secret; the read is
// recorded. ErrNotFound.
func (s *Store) ReportPage(ctx context.Context, secret Hash, now time.Time) (out ReportPage, err error) {
	err = s.inWrite(ctx, "read report's page", func(c conn) error {
		m, id, err := c.page(ctx, secret)
		if err != nil {
			return err
		}
		if out.Report, err = c.report(ctx, m, id); err != nil {
			return err
		}
		if m.caseID != 0 {
			if out.Case, err = c.caseOf(ctx, m.caseID); err != nil {
				return err
			}
		}
		if out.Case != nil && out.Case.Rung != psirt.Sealed {
			return nil
		}
		return c.seal(ctx, now, id, reading{"report.read", reporter, []string{ReportID(id)}})
	})
	return out, err
}

// caseOf folds a case of all its facts, for what is derived of them.
func (c conn) caseOf(ctx context.Context, id int64) (*psirt.Case, error) {
	facts, err := c.facts(ctx, id, psirt.Red.Rank())
	if err != nil {
		return nil, err
	}
	k, err := psirt.Fold(facts)
	return &k, err
}

func (c conn) page(ctx context.Context, secret Hash) (m clearance, id int64, err error) {
	if err := c.row(ctx, `SELECT report FROM report_page WHERE hash = $1`, secret[:]).Scan(&id); err != nil {
		return m, 0, found(err)
	}
	m, err = c.mayReport(ctx, Engine(reporter), id)
	return m, id, err
}

// AddToPage adds what a reporter says through her page: a message, or the line by
// which she wants to be named. Anything else is ErrForbidden.
func (s *Store) AddToPage(ctx context.Context, secret Hash, b psirt.Body, now time.Time) error {
	if k := b.Kind(); !slices.Contains([]psirt.Kind{"report.message", "report.credited"}, k) {
		return fmt.Errorf("fact %s: is not a reporter's to write: %w", k, psirt.ErrForbidden)
	}
	return s.inWrite(ctx, "add to report's page", func(c conn) error {
		m, id, err := c.page(ctx, secret)
		if err != nil {
			return err
		}
		return c.addFact(ctx, m, Engine(reporter), id, b, now)
	})
}

// addFact adds one fact to a report.
func (c conn) addFact(ctx context.Context, m clearance, v Viewer, id int64, b psirt.Body, now time.Time) error {
	whole, err := c.report(ctx, m, id)
	if err != nil {
		return err
	}
	draft, err := psirt.Draft(b, time.Time{}, "")
	if err != nil {
		return err
	}
	var p pending
	if _, err := c.extendReport(ctx, &p, v, id, whole, []psirt.Fact{draft}, now); err != nil {
		return err
	}
	return p.write(ctx, c, now)
}

// ReportFile reads an attachment of a report that the viewer may read; the read is
// recorded. ErrNotFound.
func (s *Store) ReportFile(ctx context.Context, v Viewer, report int64, digest string, now time.Time) (a psirt.Attachment, body []byte, err error) {
	err = s.inWrite(ctx, "read file of report "+ReportID(report), func(c conn) error {
		m, err := c.mayReport(ctx, v, report)
		if err != nil {
			return err
		}
		r, err := c.report(ctx, m, report)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(r.Attachments, func(a psirt.Attachment) bool { return a.Digest == digest })
		if i < 0 {
			return ErrNotFound
		}
		a = r.Attachments[i]
		err = c.row(ctx, `SELECT f.body FROM report_file f JOIN report_file_of o ON o.digest = f.digest WHERE o.report = $1 AND f.digest = $2`, report, digest).Scan(&body)
		if err := found(err); err != nil || !m.sealed() {
			return err
		}
		return c.seal(ctx, now, report, reading{"report.file.read", v.Actor, []string{ReportID(report), digest}})
	})
	return a, body, err
}
