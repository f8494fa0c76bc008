package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/psirt"
)

// Report is a report as one viewer may see it.
type Report struct {
	ID       int64
	Revision int64 // number of all its facts
	psirt.Report
	Facts []psirt.Fact // that the viewer may read, in order
}

// AddReport keeps a report. request is the sender's idempotency key, unique to the
// sender: a repeat returns the report that the first one made, and fresh tells
// which it was. An operator, vendor or tenant who sends one may read it; the
// engine sends for somebody who has no token.
func (s *Store) AddReport(ctx context.Context, v Viewer, b psirt.ReportReceived, tlp psirt.TLP, request string, now time.Time, inTx InTx) (out Report, fresh bool, err error) {
	err = s.inWrite(ctx, "add report", func(c conn) error {
		key := ""
		if request != "" {
			key = v.Actor + "/" + request
		}
		id, isNew, err := c.reportRow(ctx, key, now)
		if err != nil {
			return err
		}
		if fresh = isNew; !fresh {
			m, err := c.mayReport(ctx, v, id)
			if err != nil {
				return err
			}
			out, err = c.report(ctx, m, id)
			return err
		}
		if err := c.addSender(ctx, v, id); err != nil {
			return err
		}
		drafts, err := c.submitted(ctx, Submission{Received: b, TLP: tlp}, now)
		if err != nil {
			return err
		}
		var p pending
		if out, err = c.extendReport(ctx, &p, v, id, Report{}, drafts, now); err != nil {
			return err
		}
		if err := p.write(ctx, c, now); err != nil {
			return err
		}
		return c.run(inTx)
	})
	return out, fresh, err
}

// addSender lets whoever sent a report read it; the engine sends for others.
func (c conn) addSender(ctx context.Context, v Viewer, id int64) error {
	if v.engine {
		return nil
	}
	role := psirt.Observer
	if v.Scope == ScopeOperator {
		role = psirt.Worker
	}
	return c.addMember(ctx, id, psirt.Member{Principal: v.Principal(), Role: role, UpTo: psirt.Red})
}

// reportRow makes the row of a new report, or finds the one that the same request
// made; without a request it is always new.
func (c conn) reportRow(ctx context.Context, request string, now time.Time) (id int64, fresh bool, err error) {
	id = ids.Random()
	if request == "" {
		request = ReportID(id)
	}
	n, err := c.exec(ctx, `INSERT INTO psirt_report (id, revision, case_id, received, changed, request) VALUES ($1, 0, 0, $2, $2, $3) ON CONFLICT (request) DO NOTHING`, id, micros(now), request)
	if err != nil || n == 1 {
		return id, err == nil, err
	}
	err = c.row(ctx, `SELECT id FROM psirt_report WHERE request = $1`, request).Scan(&id)
	return id, false, err
}

// report reads all of a report that the viewer may see.
func (c conn) report(ctx context.Context, m clearance, id int64) (Report, error) {
	facts, err := c.facts(ctx, id, m.rank())
	if err != nil {
		return Report{}, err
	}
	facts = m.maySee(facts)
	r, err := psirt.ViewReport(facts)
	return Report{ID: id, Revision: m.revision, Report: r, Facts: facts}, err
}

// extendReport adds facts to a report.
func (c conn) extendReport(ctx context.Context, p *pending, v Viewer, id int64, r Report, drafts []psirt.Fact, now time.Time) (Report, error) {
	more, err := place(drafts, r.Revision, v.Actor, now)
	if err != nil {
		return Report{}, err
	}
	for _, f := range more {
		if r.Report, err = r.Apply(f); err != nil {
			return Report{}, err
		}
	}
	if err := p.facts(ctx, c, id, more); err != nil {
		return Report{}, err
	}
	n, err := c.exec(ctx, `UPDATE psirt_report SET revision = $1, changed = $2 WHERE id = $3 AND revision = $4`, r.Report.Revision, micros(now), id, r.Revision)
	if err == nil && n != 1 {
		err = ErrConflict
	}
	if err == nil {
		err = c.writeTo(ctx, r.Contact, id, more, now)
	}
	r.ID, r.Revision, r.Facts = id, r.Report.Revision, append(r.Facts, more...)
	return r, err
}

// CommitReport adds facts to a report, as CommitFacts does to a case. An observer
// (a sender outside) may only add messages.
func (s *Store) CommitReport(ctx context.Context, v Viewer, id, revision int64, drafts []psirt.Fact, now time.Time, inTx InTx) (out Report, err error) {
	err = s.inWrite(ctx, "change report", func(c conn) error {
		m, err := c.mayReport(ctx, v, id)
		if err != nil {
			return err
		}
		if revision != AnyRevision && revision != m.revision {
			return fmt.Errorf("report is at revision %d, not %d: %w", m.revision, revision, ErrConflict)
		}
		for _, d := range drafts {
			if err := m.mayAdd(d.Kind); err != nil {
				return err
			}
		}
		whole, err := c.report(ctx, clearance{engine: true, revision: m.revision}, id)
		if err != nil {
			return err
		}
		var p pending
		if _, err := c.extendReport(ctx, &p, v, id, whole, drafts, now); err != nil {
			return err
		}
		if err := c.passOn(ctx, &p, v, m.caseID, id, drafts, now); err != nil {
			return err
		}
		if err := p.write(ctx, c, now); err != nil {
			return err
		}
		m.revision += int64(len(drafts))
		if out, err = c.report(ctx, m, id); err != nil {
			return err
		}
		return c.run(inTx)
	})
	return out, err
}

// passOn writes into a report's case what the case's clocks must know of it: that
// the reporter was answered.
func (c conn) passOn(ctx context.Context, p *pending, v Viewer, id, report int64, drafts []psirt.Fact, now time.Time) error {
	var more []psirt.Fact
	for _, f := range drafts {
		body, err := f.Decode()
		if err != nil {
			return err
		}
		if b, ok := body.(*psirt.ReportAcknowledged); ok && id != 0 {
			heard, err := psirt.Draft(&psirt.ReportAcknowledged{Report: ReportID(report), How: b.How}, f.At, f.TLP, f.Only...)
			if err != nil {
				return err
			}
			more = append(more, heard)
		}
	}
	if len(more) == 0 {
		return nil
	}
	m, err := c.mayCase(ctx, Engine(v.Actor), id)
	if err != nil {
		return err
	}
	kase, all, err := c.extend(ctx, v, m, id, more, now)
	if err != nil {
		return err
	}
	return c.keepCase(ctx, p, id, kase, all[m.revision:])
}

// mayAdd refuses a report's fact that is not the viewer's to write. Links are
// LinkReport's.
func (m clearance) mayAdd(kind psirt.Kind) error {
	switch {
	case m.engine:
		return nil
	case kind == "report.linked" || kind == "report.received":
		return fmt.Errorf("fact %s: is not written by hand: %w", kind, psirt.ErrForbidden)
	case m.Role == psirt.Observer && kind != "report.message":
		return fmt.Errorf("fact %s: %s may only add messages: %w", kind, m.Principal, psirt.ErrForbidden)
	}
	return nil
}

// ReadReport reads a report. Unless its case is open, the read is recorded.
func (s *Store) ReadReport(ctx context.Context, v Viewer, id int64, now time.Time) (out Report, err error) {
	err = s.inWrite(ctx, "read report", func(c conn) error {
		m, err := c.mayReport(ctx, v, id)
		if err != nil {
			return err
		}
		if out, err = c.report(ctx, m, id); err != nil || !m.sealed() {
			return err
		}
		return c.seal(ctx, now, id, reading{"report.read", v.Actor, []string{ReportID(id)}})
	})
	return out, err
}

// ReportQuery selects reports.
type ReportQuery struct {
	Case  int64 // only those of this case
	Free  bool  // only those of no case
	After int64 // only ids above this: the last of the page before
	Limit int   // at most 1000; 100 if 0
}

// The reports that a viewer ($1) may read, in the three ways of mayReport. It
// starts from the viewer's own memberships: how many reports there are that are
// none of the viewer's must not be felt.
const (
	withReports = `visible (id) AS (SELECT m.subject FROM case_member m WHERE m.principal = $1
		UNION SELECT r.id FROM case_member m JOIN psirt_report r ON r.case_id = m.subject WHERE m.principal = $1
		UNION SELECT r.id FROM triager t JOIN psirt_report r ON r.case_id = 0 WHERE t.principal = $1)`
	withAllReports = `visible (id) AS (SELECT r.id FROM psirt_report r WHERE $1 <> '')`

	listReports = ` SELECT r.id, r.revision, r.case_id, COALESCE(own.tlp, -1), COALESCE(of_case.tlp, -1), COALESCE(c.rung, ''), COALESCE(t.added, -1)
		FROM visible v JOIN psirt_report r ON r.id = v.id
		LEFT JOIN case_member own ON own.principal = $1 AND own.subject = r.id
		LEFT JOIN case_member of_case ON of_case.principal = $1 AND of_case.subject = r.case_id
		LEFT JOIN psirt_case c ON c.id = of_case.subject
		LEFT JOIN triager t ON t.principal = $1 AND r.case_id = 0
		WHERE r.id > $2 AND (r.case_id = $3 OR $3 < 0) ORDER BY r.id LIMIT $4`
	listReportFacts = ` SELECT f.subject, f.seq, f.id, f.kind, f.at, f.recorded, f.actor, f.tlp, f.readers, f.body, f.salt, f.entry
		FROM visible v JOIN psirt_report r ON r.id = v.id JOIN psirt_fact f ON f.subject = r.id
		WHERE r.id > $2 AND r.id <= $3 AND (r.case_id = $4 OR $4 < 0) ORDER BY f.subject, f.seq`

	textReports        = `WITH ` + withReports + listReports
	textReportFacts    = `WITH ` + withReports + listReportFacts
	textAllReports     = `WITH ` + withAllReports + listReports
	textAllReportFacts = `WITH ` + withAllReports + listReportFacts
)

// ListReports lists the reports that a viewer may read, by id; what of it is
// sealed is recorded as read.
func (s *Store) ListReports(ctx context.Context, v Viewer, q ReportQuery, now time.Time) (out []Report, err error) {
	of := q.Case
	if of == 0 && !q.Free {
		of = -1
	}
	texts := [2]string{textReports, textReportFacts}
	if v.engine {
		texts = [2]string{textAllReports, textAllReportFacts}
	}
	var sealed []string
	err = s.inRead(ctx, "list reports", func(c conn) error {
		found, err := c.reportRows(ctx, texts[0], v, q.After, of, pageSize(q.Limit))
		if err != nil || len(found) == 0 {
			return err
		}
		facts, err := c.keptFacts(ctx, texts[1], v.Principal(), q.After, found[len(found)-1].id, of)
		if err != nil {
			return err
		}
		for _, f := range found {
			var mine []psirt.Fact
			for ; len(facts) > 0 && facts[0].subject == f.id; facts = facts[1:] {
				mine = append(mine, facts[0].Fact)
			}
			mine = f.may.maySee(mine)
			r, err := psirt.ViewReport(mine)
			if err != nil {
				return err
			}
			if f.may.sealed() {
				sealed = append(sealed, ReportID(f.id))
			}
			out = append(out, Report{ID: f.id, Revision: f.may.revision, Report: r, Facts: mine})
		}
		return nil
	})
	if err == nil && len(sealed) > 0 {
		err = s.recordRead(ctx, now, 0, reading{"reports.listed", v.Actor, sealed})
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// reportRow is a report and what the viewer may do with it.
type reportRow struct {
	id  int64
	may clearance
}

// reportRows reads a page of what a viewer may read.
func (c conn) reportRows(ctx context.Context, text string, v Viewer, after, of int64, limit int) (out []reportRow, err error) {
	rows, err := c.rows(ctx, text, v.Principal(), after, of, limit)
	err = each(rows, err, func() error {
		r := reportRow{may: clearance{engine: v.engine, rung: psirt.Sealed}}
		var own, ofCase int
		var triager int64
		var rung string
		if err := rows.Scan(&r.id, &r.may.revision, &r.may.caseID, &own, &ofCase, &rung, &triager); err != nil {
			return err
		}
		if r.may.inCase = ofCase >= 0; r.may.inCase {
			r.may.rung = psirt.Rung(rung)
		}
		rank := max(own, ofCase)
		if triager >= 0 {
			rank = psirt.Red.Rank()
		}
		r.may.Principal, r.may.UpTo = v.Principal(), psirt.RankTLP(rank)
		out = append(out, r)
		return nil
	})
	return out, err
}

// LinkReport ties a report to a case that the viewer works on.
func (s *Store) LinkReport(ctx context.Context, v Viewer, id, report int64, role psirt.LinkRole, now time.Time) (out Case, err error) {
	err = s.inWrite(ctx, "link report", func(c conn) error {
		m, err := c.mayCase(ctx, v, id)
		if err != nil {
			return err
		}
		link, err := c.link(ctx, v, id, report, role)
		if err != nil {
			return err
		}
		draft, err := psirt.Draft(link, time.Time{}, psirt.AmberStrict)
		if err != nil {
			return err
		}
		kase, all, err := c.extend(ctx, v, m, id, []psirt.Fact{draft}, now)
		if err != nil {
			return err
		}
		var p pending
		if err := c.joinReport(ctx, &p, v, id, report, role, false, now); err != nil {
			return err
		}
		if err := c.keepCase(ctx, &p, id, kase, all[m.revision:]); err != nil {
			return err
		}
		if err := p.write(ctx, c, now); err != nil {
			return err
		}
		out, err = m.view(id, kase, all)
		return err
	})
	return out, err
}

// link makes the fact that ties a report to a case, of what the viewer may read.
func (c conn) link(ctx context.Context, v Viewer, id, report int64, role psirt.LinkRole) (*psirt.ReportLinked, error) {
	m, err := c.mayReport(ctx, v, report)
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("report %s: %w", ReportID(report), err) // the caller named it
	}
	if err != nil {
		return nil, err
	}
	r, err := c.report(ctx, m, report)
	if err != nil {
		return nil, err
	}
	return &psirt.ReportLinked{Report: ReportID(report), Case: CaseID(id), Role: role, Received: r.Received.At, Heard: r.Acknowledged.At}, nil
}

// joinReport puts a report into a case: from then on the case's members read it,
// and, if restricted, nobody else.
func (c conn) joinReport(ctx context.Context, p *pending, v Viewer, id, report int64, role psirt.LinkRole, restricted bool, now time.Time) error {
	link, err := c.link(ctx, v, id, report, role)
	if err != nil {
		return err
	}
	draft, err := psirt.Draft(link, time.Time{}, psirt.AmberStrict)
	if err != nil {
		return err
	}
	m, err := c.mayReport(ctx, v, report)
	if err != nil {
		return err
	}
	whole, err := c.report(ctx, clearance{engine: true, revision: m.revision}, report)
	if err != nil {
		return err
	}
	if _, err := c.extendReport(ctx, p, v, report, whole, []psirt.Fact{draft}, now); err != nil {
		return err
	}
	if _, err := c.exec(ctx, `UPDATE psirt_report SET case_id = $1 WHERE id = $2`, id, report); err != nil {
		return err
	}
	if restricted {
		_, err = c.exec(ctx, `DELETE FROM case_member WHERE subject = $1`, report)
	}
	return err
}
