package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/psirt"
)

// Case is a case as one viewer may see it: made of the facts that the viewer may
// read. Revision is that of the whole case, for CommitFacts.
type Case struct {
	ID       int64
	Revision int64 // number of all its facts
	psirt.Case
	Facts []psirt.Fact // that the viewer may read, in order
	Me    psirt.Member // what the viewer is in it
}

// AnyRevision lets CommitFacts add to a case whatever else was added meanwhile.
const AnyRevision = -1

// Opening is what a case begins with.
type Opening struct {
	Title   string
	TLP     psirt.TLP // of its first facts; AMBER+STRICT if empty
	Reports []int64   // the first is the original, the others are duplicates
	Members []psirt.Member
	// Restricted leaves out the triagers and the reports' own members, who are
	// otherwise taken over.
	Restricted bool
}

// OpenCase opens a case. Its viewer leads it; a viewer that is no operator, or is
// the engine, names a lead among the members. The reports belong to it from then
// on and are read by its members. ErrNotFound if the viewer may not read one of
// them.
func (s *Store) OpenCase(ctx context.Context, v Viewer, o Opening, now time.Time, inTx InTx) (out Case, err error) {
	err = s.inWrite(ctx, "open case", func(c conn) error {
		id := ids.Random()
		facts, err := c.opening(ctx, v, id, o, now)
		if err != nil {
			return err
		}
		var p pending
		kase, err := psirt.Fold(facts)
		if err != nil {
			return err
		}
		if _, err := c.exec(ctx, `INSERT INTO psirt_case (id, revision, rung, closed, opened, changed) VALUES ($1, 0, $2, FALSE, $3, $3)`,
			id, string(kase.Rung), micros(now)); err != nil {
			return err
		}
		for i, report := range o.Reports {
			if err := c.joinReport(ctx, &p, v, id, report, kase.Reports[i].Role, o.Restricted, now); err != nil {
				return err
			}
		}
		if err := c.keepCase(ctx, &p, id, kase, facts); err != nil {
			return err
		}
		if err := p.write(ctx, c, now); err != nil {
			return err
		}
		out = Case{ID: id, Revision: kase.Revision, Case: kase, Facts: facts, Me: kase.Members[0]}
		return c.run(inTx)
	})
	return out, err
}

// opening makes a case's first facts.
func (c conn) opening(ctx context.Context, v Viewer, id int64, o Opening, now time.Time) ([]psirt.Fact, error) {
	members, err := c.firstMembers(ctx, v, o)
	if err != nil {
		return nil, err
	}
	bodies := []psirt.Body{&psirt.CaseOpened{Title: o.Title}}
	for _, m := range members {
		added := psirt.MemberAdded(m)
		bodies = append(bodies, &added)
	}
	for i, report := range o.Reports {
		if slices.Contains(o.Reports[:i], report) {
			return nil, fmt.Errorf("report %s is named twice: %w", ReportID(report), ErrInvalid)
		}
		role := psirt.Duplicate
		if i == 0 {
			role = psirt.Original
		}
		link, err := c.link(ctx, v, id, report, role)
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, link)
	}
	var facts []psirt.Fact
	for _, b := range bodies {
		f, err := psirt.Draft(b, time.Time{}, o.TLP)
		if err != nil {
			return nil, err
		}
		facts = append(facts, f)
	}
	return place(facts, 0, v.Actor, now)
}

// firstMembers are the viewer, those named, and those taken over.
func (c conn) firstMembers(ctx context.Context, v Viewer, o Opening) ([]psirt.Member, error) {
	var out []psirt.Member
	add := func(m psirt.Member) {
		if !slices.ContainsFunc(out, func(have psirt.Member) bool { return have.Principal == m.Principal }) {
			out = append(out, m)
		}
	}
	if !v.engine && v.Scope == ScopeOperator {
		add(psirt.Member{Principal: v.Principal(), Role: psirt.Lead, UpTo: psirt.Red})
	}
	for _, m := range o.Members {
		add(m)
	}
	if !o.Restricted {
		triagers, err := c.triagers(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range triagers {
			add(psirt.Member{Principal: p, Role: psirt.Worker, UpTo: psirt.Red})
		}
		for _, report := range o.Reports {
			own, err := c.members(ctx, report)
			if err != nil {
				return nil, err
			}
			for _, m := range own {
				if m.Role != psirt.Observer {
					add(m)
				}
			}
		}
	}
	if !slices.ContainsFunc(out, func(m psirt.Member) bool { return m.Role == psirt.Lead }) {
		return nil, fmt.Errorf("a case needs a lead: %w", ErrInvalid)
	}
	return out, nil
}

func (c conn) members(ctx context.Context, subject int64) (out []psirt.Member, err error) {
	rows, err := c.rows(ctx, `SELECT principal, role, tlp FROM case_member WHERE subject = $1 ORDER BY principal`, subject)
	err = each(rows, err, func() error {
		var m psirt.Member
		var rank int
		if err := rows.Scan(&m.Principal, &m.Role, &rank); err != nil {
			return err
		}
		m.UpTo = psirt.RankTLP(rank)
		out = append(out, m)
		return nil
	})
	return out, err
}

// CommitFacts adds facts to a case: the only way that a case changes. It loads the
// case, applies the facts in order and refuses what is illegal (psirt.ErrIllegal)
// or not the viewer's to write (psirt.ErrForbidden); ErrConflict if the case is
// not at revision any more. Facts are drafts, as psirt.Draft makes them. All or
// nothing is written, with its commitments in the ledger and what inTx does.
func (s *Store) CommitFacts(ctx context.Context, v Viewer, id, revision int64, drafts []psirt.Fact, now time.Time, inTx InTx) (out Case, err error) {
	err = s.inWrite(ctx, "change case", func(c conn) error {
		if out, err = c.commitFacts(ctx, v, id, revision, drafts, now); err != nil {
			return err
		}
		return c.run(inTx)
	})
	return out, err
}

// commitFacts is CommitFacts in a transaction.
func (c conn) commitFacts(ctx context.Context, v Viewer, id, revision int64, drafts []psirt.Fact, now time.Time) (Case, error) {
	m, err := c.mayCase(ctx, v, id)
	if err != nil {
		return Case{}, err
	}
	if revision != AnyRevision && revision != m.revision {
		return Case{}, fmt.Errorf("case is at revision %d, not %d: %w", m.revision, revision, ErrConflict)
	}
	if slices.ContainsFunc(drafts, func(f psirt.Fact) bool { return f.Kind == "report.linked" }) {
		return Case{}, fmt.Errorf("fact report.linked: stands in case and report, and is written by linking: %w", psirt.ErrForbidden)
	}
	kase, all, err := c.extend(ctx, v, m, id, drafts, now)
	if err != nil {
		return Case{}, m.hush(all, err)
	}
	var p pending
	if err := c.keepCase(ctx, &p, id, kase, all[m.revision:]); err != nil {
		return Case{}, err
	}
	if err := p.write(ctx, c, now); err != nil {
		return Case{}, err
	}
	return m.view(id, kase, all)
}

// hush takes the reason out of a refusal that may speak of facts which the viewer
// may not read.
func (m clearance) hush(all []psirt.Fact, err error) error {
	hidden := func(f psirt.Fact) bool { return f.Seq < m.revision && !f.MayRead(m.Principal, m.UpTo) }
	if errors.Is(err, psirt.ErrIllegal) && !m.engine && slices.ContainsFunc(all, hidden) {
		return psirt.ErrIllegal
	}
	return err
}

// extend folds a case with more facts at its end.
func (c conn) extend(ctx context.Context, v Viewer, m clearance, id int64, drafts []psirt.Fact, now time.Time) (psirt.Case, []psirt.Fact, error) {
	all, err := c.facts(ctx, id, psirt.Red.Rank())
	if err != nil {
		return psirt.Case{}, nil, err
	}
	more, err := place(drafts, m.revision, v.Actor, now)
	if err != nil {
		return psirt.Case{}, all, err
	}
	for _, f := range more {
		if m.engine {
			break
		}
		body, err := f.Decode()
		if err == nil {
			err = m.May(body)
		}
		if err == nil {
			err = checkFact(body)
		}
		if err != nil {
			return psirt.Case{}, nil, err
		}
	}
	all = append(all, more...)
	kase, err := psirt.Fold(all)
	return kase, all, err
}

// keepCase adds a case's new facts and brings its rows up to date.
func (c conn) keepCase(ctx context.Context, p *pending, id int64, kase psirt.Case, more []psirt.Fact) error {
	if err := p.facts(ctx, c, id, more); err != nil {
		return err
	}
	n, err := c.exec(ctx, `UPDATE psirt_case SET revision = $1, rung = $2, closed = $3, changed = $4 WHERE id = $5 AND revision = $6`,
		kase.Revision, string(kase.Rung), !kase.Closed.IsZero(), micros(kase.Changed), id, kase.Revision-int64(len(more)))
	if err == nil && n != 1 {
		err = ErrConflict
	}
	if err != nil {
		return err
	}
	if err := c.keepEmbargo(ctx, id, kase); err != nil {
		return err
	}
	if !slices.ContainsFunc(more, func(f psirt.Fact) bool { return f.Kind == "member.added" || f.Kind == "member.removed" }) {
		return nil
	}
	if _, err := c.exec(ctx, `DELETE FROM case_member WHERE subject = $1`, id); err != nil {
		return err
	}
	for _, m := range kase.Members {
		if err := c.addMember(ctx, id, m); err != nil {
			return err
		}
	}
	return nil
}

func (c conn) addMember(ctx context.Context, subject int64, m psirt.Member) error {
	_, err := c.exec(ctx, `INSERT INTO case_member (principal, subject, role, tlp) VALUES ($1, $2, $3, $4)`, m.Principal, subject, string(m.Role), m.UpTo.Rank())
	return err
}

// view makes of all facts what this viewer may see.
func (m clearance) view(id int64, kase psirt.Case, all []psirt.Fact) (Case, error) {
	out := Case{ID: id, Revision: kase.Revision, Case: kase, Facts: all, Me: m.Member}
	if m.engine {
		return out, nil
	}
	var mine []psirt.Fact
	for _, f := range all {
		if f.MayRead(m.Principal, m.UpTo) {
			mine = append(mine, f)
		}
	}
	var err error
	out.Facts = mine
	out.Case, err = psirt.View(mine)
	return out, err
}

// ReadCase reads a case. If it is sealed the read is recorded. ErrNotFound.
func (s *Store) ReadCase(ctx context.Context, v Viewer, id int64, now time.Time) (out Case, err error) {
	var m clearance
	err = s.inRead(ctx, "read case", func(c conn) error {
		if m, err = c.clear(ctx, v, id, ""); err != nil {
			return err
		}
		facts, err := c.facts(ctx, id, m.rank())
		if err != nil {
			return err
		}
		facts = m.maySee(facts)
		kase, err := psirt.View(facts)
		if err != nil {
			return err
		}
		out = Case{ID: id, Revision: m.revision, Case: kase, Facts: facts, Me: m.Member}
		return nil
	})
	if err == nil && m.sealed() {
		err = s.recordRead(ctx, now, id, reading{"case.read", v.Actor, []string{CaseID(id)}})
	}
	if err != nil {
		return Case{}, err
	}
	return out, nil
}

// recordRead records that somebody read sealed material: after it was read, so that the
// reading keeps nobody waiting, and before it is handed out.
func (s *Store) recordRead(ctx context.Context, now time.Time, subject int64, r reading) error {
	return s.inWrite(ctx, "record a read", func(c conn) error { return c.seal(ctx, now, subject, r) })
}

// reading is the content of a commitment to a read of sealed material.
type reading struct {
	Kind  string   `json:"kind"`
	By    string   `json:"by"`
	Sight []string `json:"ids"`
}

// CaseQuery selects cases.
type CaseQuery struct {
	Closed bool  // closed ones too
	After  int64 // only ids above this: the last of the page before
	Limit  int   // at most 1000; 100 if 0
}

// The cases that a viewer may read, and their facts that the viewer's label
// allows. $1 is the viewer.
const (
	textCases       = `SELECT c.id, c.revision, c.rung, m.role, m.tlp FROM case_member m JOIN psirt_case c ON c.id = m.subject WHERE m.principal = $1 AND c.id > $2 AND (c.closed = FALSE OR c.closed = $3) ORDER BY c.id LIMIT $4`
	textEngineCases = `SELECT c.id, c.revision, c.rung, 'lead', 4 FROM psirt_case c WHERE $1 <> '' AND c.id > $2 AND (c.closed = FALSE OR c.closed = $3) ORDER BY c.id LIMIT $4`
	textCaseFacts   = `SELECT f.subject, f.seq, f.id, f.kind, f.at, f.recorded, f.actor, f.tlp, f.readers, f.body, f.salt, f.entry FROM case_member m JOIN psirt_fact f ON f.subject = m.subject AND f.tlp <= m.tlp WHERE m.principal = $1 AND m.subject > $2 AND m.subject <= $3 ORDER BY f.subject, f.seq`
	textEngineFacts = `SELECT f.subject, f.seq, f.id, f.kind, f.at, f.recorded, f.actor, f.tlp, f.readers, f.body, f.salt, f.entry FROM psirt_case c JOIN psirt_fact f ON f.subject = c.id WHERE $1 <> '' AND c.id > $2 AND c.id <= $3 ORDER BY f.subject, f.seq`
)

// ListCases lists the cases that a viewer may read, by id; their facts are left
// out. What of it is sealed is recorded as read.
func (s *Store) ListCases(ctx context.Context, v Viewer, q CaseQuery, now time.Time) (out []Case, err error) {
	var sealed []string
	err = s.inRead(ctx, "list cases", func(c conn) error {
		texts := []string{textCases, textCaseFacts}
		if v.engine {
			texts = []string{textEngineCases, textEngineFacts}
		}
		var found []Case
		if found, sealed, err = c.listed(ctx, texts[0], v, q); err != nil || len(found) == 0 {
			return err
		}
		facts, err := c.keptFacts(ctx, texts[1], v.Principal(), q.After, found[len(found)-1].ID)
		if err != nil {
			return err
		}
		for at := range found {
			kase := &found[at]
			m := clearance{Member: kase.Me, engine: v.engine}
			var mine []psirt.Fact
			for ; len(facts) > 0 && facts[0].subject <= kase.ID; facts = facts[1:] {
				if facts[0].subject == kase.ID {
					mine = append(mine, facts[0].Fact)
				}
			}
			if kase.Case, err = psirt.View(m.maySee(mine)); err != nil {
				return err
			}
		}
		out = found
		return nil
	})
	if err == nil && len(sealed) > 0 {
		err = s.recordRead(ctx, now, 0, reading{"cases.listed", v.Actor, sealed})
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// listed reads the rows of a page of cases, and says which are sealed.
func (c conn) listed(ctx context.Context, text string, v Viewer, q CaseQuery) (out []Case, sealed []string, err error) {
	rows, err := c.rows(ctx, text, v.Principal(), q.After, q.Closed, pageSize(q.Limit))
	err = each(rows, err, func() error {
		var kase Case
		var rung psirt.Rung
		var rank int
		if err := rows.Scan(&kase.ID, &kase.Revision, &rung, &kase.Me.Role, &rank); err != nil {
			return err
		}
		kase.Me.Principal, kase.Me.UpTo = v.Principal(), psirt.RankTLP(rank)
		if rung == psirt.Sealed && !v.engine {
			sealed = append(sealed, CaseID(kase.ID))
		}
		out = append(out, kase)
		return nil
	})
	return out, sealed, err
}
