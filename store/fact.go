package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/psirt"
)

// The kinds of the ledger's entries about reports and cases. Such an entry has no
// subject, the server as its actor, and a commitment as its body: whoever reads
// the ledger learns that something was recorded, and when, and no more.
const (
	kindFact   = "case.fact"
	kindSealed = "sealed"
)

// commitment is the body of such an entry.
type commitment struct {
	Commitment string `json:"commitment"` // hex SHA-256 of salt and content
}

func committed(kind string, salt psirt.Salt, content []byte) (ledger.Draft, error) {
	return ledger.New(kind, "", "server", commitment{psirt.Commit(salt, content)})
}

// newSalt makes a salt; nobody can guess a content through its commitment.
func newSalt() (s psirt.Salt) {
	rand.Read(s[:]) // never fails: it aborts the program instead
	return s
}

// place gives drafts of facts their place behind revision, their times and their
// actor, and writes their bodies in the one form that they are committed to in.
func place(facts []psirt.Fact, revision int64, actor string, now time.Time) ([]psirt.Fact, error) {
	now = now.UTC().Truncate(time.Microsecond)
	out := make([]psirt.Fact, len(facts))
	for i, f := range facts {
		body, err := f.Decode()
		if err != nil {
			return nil, err
		}
		if f.Body, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("fact %s: %w", f.Kind, err)
		}
		f.ID, f.Seq, f.Actor, f.Recorded = ids.Random(), revision+int64(i), actor, now
		if f.At = f.At.UTC().Truncate(time.Microsecond); f.At.IsZero() {
			f.At = now
		}
		out[i] = f
	}
	return out, nil
}

const (
	textInsertFact = `INSERT INTO psirt_fact (subject, seq, id, kind, at, recorded, actor, tlp, readers, body, salt, entry) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`
	factColumns    = `subject, seq, id, kind, at, recorded, actor, tlp, readers, body, salt, entry`
)

// pending collects what one transaction adds to the ledger about reports and
// cases: the entries come last, and their numbers belong into the rows.
type pending struct {
	drafts []ledger.Draft
	rows   []func(entry int64) error
}

// facts adds placed facts of a case or report.
func (p *pending) facts(ctx context.Context, c conn, subject int64, facts []psirt.Fact) error {
	if err := c.noteCalls(ctx, subject, facts); err != nil {
		return err
	}
	for _, f := range facts {
		salt := newSalt()
		d, err := committed(kindFact, salt, f.Canonical())
		if err != nil {
			return err
		}
		readers := []byte("[]")
		if len(f.Only) > 0 {
			if readers, err = json.Marshal(f.Only); err != nil {
				return err
			}
		}
		p.drafts = append(p.drafts, d)
		p.rows = append(p.rows, func(entry int64) error {
			_, err := c.exec(ctx, textInsertFact, subject, f.Seq, f.ID, string(f.Kind), micros(f.At), micros(f.Recorded), f.Actor,
				f.TLP.Rank(), string(readers), string(f.Body), salt[:], entry)
			return err
		})
	}
	return nil
}

// sealed adds a commitment to content about a case or report (or 0).
func (p *pending) sealed(ctx context.Context, c conn, subject int64, content any) error {
	b, err := json.Marshal(content)
	if err != nil {
		return err
	}
	salt := newSalt()
	d, err := committed(kindSealed, salt, b)
	if err != nil {
		return err
	}
	p.drafts = append(p.drafts, d)
	p.rows = append(p.rows, func(entry int64) error {
		_, err := c.exec(ctx, `INSERT INTO opening (entry, subject, salt, content) VALUES ($1, $2, $3, $4)`, entry, subject, salt[:], string(b))
		return err
	})
	return nil
}

// write appends the entries and then the rows that they are about.
func (p *pending) write(ctx context.Context, c conn, now time.Time) error {
	if len(p.drafts) == 0 {
		return nil
	}
	head, err := c.appendLedger(ctx, now, p.drafts...)
	if err != nil {
		return err
	}
	for i, row := range p.rows {
		if err := row(head.Size - int64(len(p.rows)-i)); err != nil {
			return err
		}
	}
	return nil
}

// seal commits to content in the ledger, in the transaction: for what is not a
// fact, such as a notice or that somebody read a sealed case.
func (c conn) seal(ctx context.Context, now time.Time, subject int64, content any) error {
	var p pending
	if err := p.sealed(ctx, c, subject, content); err != nil {
		return err
	}
	return p.write(ctx, c, now)
}

// keptFact is a fact as it is stored.
type keptFact struct {
	psirt.Fact
	subject int64
	salt    psirt.Salt
	entry   int64
}

// facts reads the facts of a case or report up to a label's rank, in order.
func (c conn) facts(ctx context.Context, subject int64, rank int) ([]psirt.Fact, error) {
	kept, err := c.keptFacts(ctx, `SELECT `+factColumns+` FROM psirt_fact WHERE subject = $1 AND tlp <= $2 ORDER BY seq`, subject, rank)
	out := make([]psirt.Fact, len(kept))
	for i, k := range kept {
		out[i] = k.Fact
	}
	return out, err
}

func (c conn) keptFacts(ctx context.Context, text string, args ...any) (out []keptFact, err error) {
	rows, err := c.rows(ctx, text, args...)
	err = each(rows, err, func() error {
		k, err := scanFact(rows)
		out = append(out, k)
		return err
	})
	return out, err
}

func scanFact(rows *sql.Rows) (k keptFact, err error) {
	var at, recorded int64
	var rank int
	var readers, body string
	var salt []byte
	if err := rows.Scan(&k.subject, &k.Seq, &k.ID, &k.Kind, &at, &recorded, &k.Actor, &rank, &readers, &body, &salt, &k.entry); err != nil {
		return k, err
	}
	k.At, k.Recorded, k.TLP, k.Body = fromMicros(at), fromMicros(recorded), psirt.RankTLP(rank), json.RawMessage(body)
	copy(k.salt[:], salt)
	if readers != "[]" {
		if err := json.Unmarshal([]byte(readers), &k.Only); err != nil {
			return k, fmt.Errorf("access list of a fact: %w", err)
		}
	}
	return k, nil
}
