package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/headgate/headgate/psirt"
)

// CaseCheck says what VerifyCase compared with the ledger.
type CaseCheck struct {
	Facts    int      // whose commitments stand in the ledger
	Readings int      // recorded reads of the case, and what else was sealed about it
	Broken   []string // what does not hold, in words
}

// VerifyCase compares each fact and each recorded read of a case that the viewer
// may see with its commitment in the ledger: nothing was changed, added or left
// out since. It is a read of the case itself.
func (s *Store) VerifyCase(ctx context.Context, v Viewer, id int64, now time.Time) (out CaseCheck, err error) {
	err = s.inWrite(ctx, "verify case", func(c conn) error {
		m, err := c.mayCase(ctx, v, id)
		if err != nil {
			return err
		}
		out = CaseCheck{}
		kept, err := c.keptFacts(ctx, `SELECT `+factColumns+` FROM psirt_fact WHERE subject = $1 AND tlp <= $2 ORDER BY seq`, id, m.rank())
		if err != nil {
			return err
		}
		for _, k := range kept {
			if !m.engine && !k.MayRead(m.Principal, m.UpTo) {
				continue
			}
			out.Facts++
			if err := c.checkCommitment(ctx, k.entry, kindFact, k.salt, k.Canonical()); err != nil {
				out.Broken = append(out.Broken, fmt.Sprintf("fact %d: %v", k.Seq, err))
			}
		}
		if err := c.checkOpenings(ctx, id, &out); err != nil {
			return err
		}
		if !m.sealed() {
			return nil
		}
		return c.seal(ctx, now, id, reading{"case.verified", v.Actor, []string{CaseID(id)}})
	})
	return out, err
}

// checkOpenings compares what was sealed about a subject.
func (c conn) checkOpenings(ctx context.Context, subject int64, out *CaseCheck) error {
	all, err := c.openings(ctx, `SELECT entry, salt, content FROM opening WHERE subject = $1 ORDER BY entry`, subject)
	if err != nil {
		return err
	}
	for _, o := range all {
		out.Readings++
		if err := c.checkCommitment(ctx, o.entry, kindSealed, o.salt, o.content); err != nil {
			out.Broken = append(out.Broken, fmt.Sprintf("recorded read: %v", err))
		}
	}
	return nil
}

// opened is a content and its salt.
type opened struct {
	entry   int64
	salt    psirt.Salt
	content []byte
}

func (c conn) openings(ctx context.Context, text string, args ...any) (out []opened, err error) {
	rows, err := c.rows(ctx, text, args...)
	err = each(rows, err, func() error {
		var o opened
		var salt []byte
		var content string
		if err := rows.Scan(&o.entry, &salt, &content); err != nil {
			return err
		}
		copy(o.salt[:], salt)
		o.content = []byte(content)
		out = append(out, o)
		return nil
	})
	return out, err
}

// checkCommitment compares content with what a ledger entry commits to.
func (c conn) checkCommitment(ctx context.Context, entry int64, kind string, salt psirt.Salt, content []byte) error {
	var got string
	var body []byte
	err := c.row(ctx, `SELECT kind, body FROM ledger_entry WHERE seq = $1`, entry).Scan(&got, &body)
	if err != nil {
		return fmt.Errorf("ledger entry %d: %w", entry, found(err))
	}
	var want commitment
	if err := json.Unmarshal(body, &want); err != nil {
		return fmt.Errorf("ledger entry %d: %w", entry, err)
	}
	if got != kind || want.Commitment != psirt.Commit(salt, content) {
		return fmt.Errorf("is not what ledger entry %d commits to", entry)
	}
	return nil
}

// examineCases checks what ties reports, cases, their facts and the ledger
// together: each commitment, each revision, each case and report folded again.
func (c conn) examineCases(ctx context.Context) (out []Problem, err error) {
	facts, err := c.keptFacts(ctx, `SELECT `+factColumns+` FROM psirt_fact ORDER BY subject, seq`)
	if err != nil {
		return nil, err
	}
	of := map[int64][]psirt.Fact{}
	for _, k := range facts {
		of[k.subject] = append(of[k.subject], k.Fact)
		if err := c.checkCommitment(ctx, k.entry, kindFact, k.salt, k.Canonical()); err != nil {
			out = append(out, Problem{"commitment", "ledger", fmt.Sprintf("a fact %v", err)})
		}
	}
	all, err := c.openings(ctx, `SELECT entry, salt, content FROM opening ORDER BY entry`)
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		if err := c.checkCommitment(ctx, o.entry, kindSealed, o.salt, o.content); err != nil {
			out = append(out, Problem{"commitment", "ledger", fmt.Sprintf("a sealed content %v", err)})
		}
	}
	var kept, committed int64
	if err := c.row(ctx, `SELECT COUNT(*) FROM ledger_entry WHERE kind = 'case.fact' OR kind = 'sealed'`).Scan(&committed); err != nil {
		return nil, err
	}
	if kept = int64(len(facts) + len(all)); kept != committed {
		out = append(out, Problem{"commitment", "ledger", fmt.Sprintf("the ledger has %d commitments, there are %d contents", committed, kept)})
	}
	more, err := c.examineFolds(ctx, of)
	return append(out, more...), err
}

// examineFolds folds each case and report, and compares its row.
func (c conn) examineFolds(ctx context.Context, of map[int64][]psirt.Fact) (out []Problem, err error) {
	n := 0
	compare := func(text string, revision func(facts []psirt.Fact) (int64, error)) error {
		rows, err := c.rows(ctx, text)
		return each(rows, err, func() error {
			var id, kept int64
			if err := rows.Scan(&id, &kept); err != nil {
				return err
			}
			n++
			switch got, err := revision(of[id]); {
			case err != nil: // its words would name what it is about
				out = append(out, Problem{"case", "row", fmt.Sprintf("%d facts cannot be folded", len(of[id]))})
			case got != kept:
				out = append(out, Problem{"case", "row", fmt.Sprintf("revision %d is kept, there are %d facts", kept, got)})
			}
			return nil
		})
	}
	err = compare(`SELECT id, revision FROM psirt_case ORDER BY id`, func(facts []psirt.Fact) (int64, error) {
		kase, err := psirt.Fold(facts)
		return kase.Revision, err
	})
	if err == nil {
		err = compare(`SELECT id, revision FROM psirt_report ORDER BY id`, func(facts []psirt.Fact) (int64, error) {
			r, err := psirt.FoldReport(facts)
			return r.Revision, err
		})
	}
	if err == nil && n != len(of) {
		out = append(out, Problem{"case", "row", fmt.Sprintf("%d subjects have facts, there are %d cases and reports", len(of), n)})
	}
	return out, err
}

// EachFact calls f for each fact of a kind in all cases and reports, by subject and
// place: for whoever holds the database itself. subject names it: "C-...".
func (s *Store) EachFact(ctx context.Context, kind psirt.Kind, f func(subject string, fact psirt.Fact) error) error {
	return s.inRead(ctx, "read facts", func(c conn) error {
		rows, err := c.rows(ctx, `SELECT `+factColumns+` FROM psirt_fact WHERE kind = $1 ORDER BY subject, seq`, string(kind))
		return each(rows, err, func() error {
			k, err := scanFact(rows)
			if err != nil {
				return err
			}
			return f(CaseID(k.subject), k.Fact)
		})
	})
}
