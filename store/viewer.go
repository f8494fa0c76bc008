package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/psirt"
)

// Viewer is on whose behalf reports and cases are read and written. What a viewer
// may not read is ErrNotFound: the same error, text and work as for an id that
// does not exist.
type Viewer struct {
	Actor string // as the ledger and facts name it: "operator:alice"
	Scope Scope  // of the caller's token
	Of    string // the vendor or tenant of a scoped token

	engine bool
}

// Engine is the server itself, as the loops are that decide and measure: it reads
// every case, and its reads are nobody's. Never make one for a caller.
func Engine(actor string) Viewer { return Viewer{Actor: actor, engine: true} }

// Principal is what the viewer is on lists of members: an operator is a person, a
// vendor or tenant is one whoever holds its token.
func (v Viewer) Principal() string {
	if v.Scope == ScopeOperator {
		return v.Actor
	}
	return string(v.Scope) + ":" + v.Of
}

// clearance is what a viewer may do with a case or report.
type clearance struct {
	psirt.Member
	revision int64
	caseID   int64 // of a report: the case it belongs to, or 0
	inCase   bool  // of a report: the viewer is a member of that case
	rung     psirt.Rung
	engine   bool
}

// sealed tells whether a read of it must be recorded.
func (m clearance) sealed() bool { return !m.engine && m.rung == psirt.Sealed }

// maySee drops the facts that are kept from the viewer by their access list; the
// labels were compared where the facts were read.
func (m clearance) maySee(facts []psirt.Fact) []psirt.Fact {
	if m.engine {
		return facts
	}
	return slices.DeleteFunc(facts, func(f psirt.Fact) bool {
		// Whoever sent a report and is in no case need not know that there is one.
		hidden := m.caseID != 0 && !m.inCase && f.Kind == "report.linked"
		return hidden || !f.MayRead(m.Principal, m.UpTo)
	})
}

func (m clearance) rank() int {
	if m.engine {
		return psirt.Red.Rank()
	}
	return m.UpTo.Rank()
}

const (
	textMayCase    = `SELECT c.revision, c.rung, m.role, m.tlp FROM case_member m JOIN psirt_case c ON c.id = m.subject WHERE m.principal = $1 AND m.subject = $2`
	textEngineCase = `SELECT revision, rung FROM psirt_case WHERE id = $1`
)

// mayCase finds what v may do with a case, and locks the case until the commit.
func (c conn) mayCase(ctx context.Context, v Viewer, id int64) (clearance, error) {
	return c.clear(ctx, v, id, c.s.dialect.lock)
}

// clear finds what v may do with a case, behind a lock or, to look only, behind none.
func (c conn) clear(ctx context.Context, v Viewer, id int64, lock string) (m clearance, err error) {
	m.engine = v.engine
	var rank int
	if v.engine {
		err = c.row(ctx, textEngineCase+lock, id).Scan(&m.revision, &m.rung)
	} else {
		m.Principal = v.Principal()
		err = c.row(ctx, textMayCase+lock, m.Principal, id).Scan(&m.revision, &m.rung, &m.Role, &rank)
		m.UpTo = psirt.RankTLP(rank)
	}
	return m, found(err)
}

// The three ways to a report: as its own member (its sender), as a member of its
// case, and as a triager while it belongs to none. All are asked, whatever the
// first says.
const (
	textReport       = `SELECT revision, case_id FROM psirt_report WHERE id = $1`
	textReportMember = `SELECT m.role, m.tlp FROM case_member m WHERE m.principal = $1 AND m.subject = $2`
	textReportCase   = `SELECT c.rung, m.role, m.tlp FROM psirt_report r JOIN case_member m ON m.subject = r.case_id JOIN psirt_case c ON c.id = r.case_id WHERE r.id = $2 AND m.principal = $1`
	textTriage       = `SELECT r.case_id FROM psirt_report r JOIN triager t ON t.principal = $1 WHERE r.id = $2 AND r.case_id = 0`
)

// mayReport finds what v may do with a report, and locks the report.
func (c conn) mayReport(ctx context.Context, v Viewer, id int64) (m clearance, err error) {
	m.engine, m.rung = v.engine, psirt.Sealed
	err = c.row(ctx, textReport+c.s.dialect.lock, id).Scan(&m.revision, &m.caseID)
	exists := err == nil
	if err != nil && !errors.Is(err, sql.ErrNoRows) || v.engine {
		return m, found(err)
	}
	m.Principal = v.Principal()
	may := false
	take := func(err error, role psirt.Role, rank int) error {
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil && (!may || rank > m.UpTo.Rank()) {
			may, m.Role, m.UpTo = true, role, psirt.RankTLP(rank)
		}
		return err
	}
	var role psirt.Role
	var rank int
	var none int64
	err = c.row(ctx, textReportMember, m.Principal, id).Scan(&role, &rank)
	if err := take(err, role, rank); err != nil {
		return m, err
	}
	rung := psirt.Sealed
	err = c.row(ctx, textReportCase, m.Principal, id).Scan(&rung, &role, &rank)
	if m.inCase = err == nil; m.inCase {
		m.rung = rung
	}
	if err := take(err, role, rank); err != nil {
		return m, err
	}
	err = c.row(ctx, textTriage, m.Principal, id).Scan(&none)
	if err := take(err, psirt.Lead, psirt.Red.Rank()); err != nil {
		return m, err
	}
	if !may || !exists {
		return clearance{}, ErrNotFound
	}
	return m, nil
}

// AddTriager lets an operator read reports that belong to no case yet. The first
// one may be named by any operator, later ones by triagers only. Repeating it
// changes nothing.
func (s *Store) AddTriager(ctx context.Context, v Viewer, principal string, now time.Time) error {
	if err := psirt.CheckPrincipal(principal); err != nil {
		return err
	}
	return s.inWrite(ctx, "add triager", func(c conn) error {
		if err := c.mayTriage(ctx, v, true); err != nil {
			return err
		}
		n, err := c.exec(ctx, `INSERT INTO triager (principal, added) VALUES ($1, $2) ON CONFLICT (principal) DO NOTHING`, principal, micros(now))
		if err != nil || n == 0 {
			return err
		}
		return c.note(ctx, now, "triager.added", principal, v.Actor, map[string]any{"triager": principal})
	})
}

// RemoveTriager ends that. The last one stays: there must be somebody who reads.
func (s *Store) RemoveTriager(ctx context.Context, v Viewer, principal string, now time.Time) error {
	return s.inWrite(ctx, "remove triager", func(c conn) error {
		if err := c.mayTriage(ctx, v, false); err != nil {
			return err
		}
		all, err := c.triagers(ctx)
		if err != nil {
			return err
		}
		switch {
		case !slices.Contains(all, principal):
			return ErrNotFound
		case len(all) == 1:
			return fmt.Errorf("it is the only one: %w", ErrState)
		}
		if _, err := c.exec(ctx, `DELETE FROM triager WHERE principal = $1`, principal); err != nil {
			return err
		}
		return c.note(ctx, now, "triager.removed", principal, v.Actor, map[string]any{"triager": principal})
	})
}

// Triagers lists them, for a triager.
func (s *Store) Triagers(ctx context.Context, v Viewer) (out []string, err error) {
	err = s.inRead(ctx, "list triagers", func(c conn) error {
		if err := c.mayTriage(ctx, v, true); err != nil {
			return err
		}
		out, err = c.triagers(ctx)
		return err
	})
	return out, err
}

func (c conn) triagers(ctx context.Context) (out []string, err error) {
	rows, err := c.rows(ctx, `SELECT principal FROM triager ORDER BY principal`)
	err = each(rows, err, func() error {
		var p string
		if err := rows.Scan(&p); err != nil {
			return err
		}
		out = append(out, p)
		return nil
	})
	return out, err
}

// mayTriage refuses whoever is no triager; orFirst lets any operator in while
// there is none.
func (c conn) mayTriage(ctx context.Context, v Viewer, orFirst bool) error {
	all, err := c.triagers(ctx)
	switch {
	case err != nil:
		return err
	case v.engine || slices.Contains(all, v.Principal()):
		return nil
	case orFirst && len(all) == 0 && v.Scope == ScopeOperator:
		return nil
	}
	return fmt.Errorf("%s is no triager: %w", v.Principal(), psirt.ErrForbidden)
}

// CaseID and ReportID write ids as people know them.
func CaseID(id int64) string { return ids.Format("C", id) }

// ReportID writes a report's id.
func ReportID(id int64) string { return ids.Format("RP", id) }
