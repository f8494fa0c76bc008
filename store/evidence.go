package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/headgate/headgate/rollout"
)

// Attestor is somebody whose signed test results count as evidence.
type Attestor struct {
	Name    string
	KeyID   string
	Public  string // the TUF key object in JSON
	Added   time.Time
	Removed time.Time // zero while trusted
}

// Attestation is one kind of evidence that an envelope brings for a release.
type Attestation struct {
	Product, Version string
	Kind             string
	Result           string // "PASSED", "WARNED" or "FAILED"
	Attestor         string
	Envelope         string // SHA-256 of the envelope, lower-case hex
	At               time.Time
}

// AddAttestor trusts a key from now on; repeating it changes nothing. ErrExists
// if the name has another key, or the key another name.
func (s *Store) AddAttestor(ctx context.Context, a Attestor, actor string, now time.Time) (out Attestor, err error) {
	err = s.inWrite(ctx, fmt.Sprintf("add attestor %q", a.Name), func(c conn) error {
		known, err := c.attestors(ctx, `SELECT name, key_id, public_key, added, removed FROM attestor WHERE name = $1 OR key_id = $2`, a.Name, a.KeyID)
		if err != nil {
			return err
		}
		for _, k := range known {
			if k.Name != a.Name || k.KeyID != a.KeyID {
				return fmt.Errorf("attestor %s has key %s: %w", k.Name, k.KeyID, ErrExists)
			}
			if !k.Removed.IsZero() {
				return fmt.Errorf("attestor %s was removed; a removed key is not trusted again: %w", k.Name, ErrExists)
			}
			out = k
		}
		if out.Name != "" {
			return nil
		}
		out = Attestor{Name: a.Name, KeyID: a.KeyID, Public: a.Public, Added: now.UTC().Truncate(time.Microsecond)}
		_, err = c.exec(ctx, `INSERT INTO attestor (name, key_id, public_key, added, removed) VALUES ($1, $2, $3, $4, 0)`, a.Name, a.KeyID, a.Public, micros(now))
		if err != nil {
			return err
		}
		return c.note(ctx, now, "attestor.added", a.Name, actor, map[string]any{"attestor": a.Name, "key_id": a.KeyID})
	})
	return out, err
}

// RemoveAttestor ends the trust in an attestor: what it signed counts no more.
// ErrNotFound.
func (s *Store) RemoveAttestor(ctx context.Context, name, actor string, now time.Time) error {
	return s.inWrite(ctx, fmt.Sprintf("remove attestor %q", name), func(c conn) error {
		var removed int64
		if err := c.row(ctx, `SELECT removed FROM attestor WHERE name = $1`, name).Scan(&removed); err != nil || removed != 0 {
			return found(err)
		}
		if _, err := c.exec(ctx, `UPDATE attestor SET removed = $2 WHERE name = $1`, name, micros(now)); err != nil {
			return err
		}
		return c.note(ctx, now, "attestor.removed", name, actor, map[string]any{"attestor": name})
	})
}

// ListAttestors lists all attestors by name, removed ones included.
func (s *Store) ListAttestors(ctx context.Context) (out []Attestor, err error) {
	err = s.inRead(ctx, "list attestors", func(c conn) error {
		out, err = c.attestors(ctx, `SELECT name, key_id, public_key, added, removed FROM attestor ORDER BY name`)
		return err
	})
	return out, err
}

func (c conn) attestors(ctx context.Context, text string, args ...any) (out []Attestor, err error) {
	rows, err := c.rows(ctx, text, args...)
	err = each(rows, err, func() error {
		var a Attestor
		var added, removed int64
		if err := rows.Scan(&a.Name, &a.KeyID, &a.Public, &added, &removed); err != nil {
			return err
		}
		a.Added, a.Removed = fromMicros(added), fromMicros(removed)
		out = append(out, a)
		return nil
	})
	return out, err
}

// Evidence is a verified envelope to be kept.
type Evidence struct {
	Product, Version string
	Digest           string // of the artifact that it speaks of
	Kinds            []string
	Result           string
	KeyIDs           []string // that signed it
	Envelope         []byte
}

// AddEvidence keeps a verified envelope; repeating it changes nothing. ErrNotFound
// if there is no such release, or no trusted attestor among the keys; ErrInvalid
// if it speaks of another artifact than the release's.
func (s *Store) AddEvidence(ctx context.Context, e Evidence, actor string, now time.Time) (out []Attestation, err error) {
	sum := sha256.Sum256(e.Envelope)
	envelope := hex.EncodeToString(sum[:])
	err = s.inWrite(ctx, fmt.Sprintf("add evidence for %s %s", e.Product, e.Version), func(c conn) error {
		var digest string
		if err := c.row(ctx, `SELECT digest FROM release WHERE product = $1 AND version = $2`, e.Product, e.Version).Scan(&digest); err != nil {
			return fmt.Errorf("release %s %s: %w", e.Product, e.Version, found(err))
		}
		if digest != e.Digest {
			return fmt.Errorf("it speaks of artifact %s, the release's is %s: %w", e.Digest, digest, ErrInvalid)
		}
		news, err := c.insertEvidence(ctx, e, envelope, now)
		if err != nil {
			return err
		}
		if out, err = c.attestations(ctx, e.Product, e.Version); err != nil || news == 0 {
			return err
		}
		if _, err := c.exec(ctx, `INSERT INTO attestation_envelope (digest, body) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING`, envelope, e.Envelope); err != nil {
			return err
		}
		return c.note(ctx, now, "evidence.added", e.Product+" "+e.Version, actor, map[string]any{
			"product": e.Product, "version": e.Version, "kinds": e.Kinds, "result": e.Result, "envelope_sha256": envelope, "key_ids": e.KeyIDs,
		})
	})
	return out, err
}

// insertEvidence writes one row for each attestor and kind.
func (c conn) insertEvidence(ctx context.Context, e Evidence, envelope string, now time.Time) (news int64, err error) {
	signed := 0
	for _, key := range e.KeyIDs {
		by, err := c.attestors(ctx, `SELECT name, key_id, public_key, added, removed FROM attestor WHERE key_id = $1 AND removed = 0`, key)
		if err != nil {
			return 0, err
		}
		for _, a := range by {
			signed++
			for _, kind := range e.Kinds {
				n, err := c.exec(ctx, `INSERT INTO attestation (product, version, kind, envelope, attestor, result, at) VALUES ($1, $2, $3, $4, $5, $6, $7)
					ON CONFLICT (product, version, kind, envelope, attestor) DO NOTHING`, e.Product, e.Version, kind, envelope, a.Name, e.Result, micros(now))
				if err != nil {
					return 0, err
				}
				news += n
			}
		}
	}
	if signed == 0 {
		return 0, fmt.Errorf("a trusted attestor among %v: %w", e.KeyIDs, ErrNotFound)
	}
	return news, nil
}

// ListEvidence lists the evidence for a release that counts, oldest first.
func (s *Store) ListEvidence(ctx context.Context, product, version string) (out []Attestation, err error) {
	err = s.inRead(ctx, "list evidence", func(c conn) error {
		out, err = c.attestations(ctx, product, version)
		return err
	})
	return out, err
}

// EvidenceEnvelope is a kept envelope by its digest. ErrNotFound.
func (s *Store) EvidenceEnvelope(ctx context.Context, digest string) (body []byte, err error) {
	err = s.inRead(ctx, "read evidence", func(c conn) error {
		return found(c.row(ctx, `SELECT body FROM attestation_envelope WHERE digest = $1`, digest).Scan(&body))
	})
	return body, err
}

// attestations lists those of attestors that are trusted now.
func (c conn) attestations(ctx context.Context, product, version string) (out []Attestation, err error) {
	rows, err := c.rows(ctx, `SELECT a.product, a.version, a.kind, a.result, a.attestor, a.envelope, a.at FROM attestation a
		JOIN attestor t ON t.name = a.attestor WHERE a.product = $1 AND a.version = $2 AND t.removed = 0 ORDER BY a.at, a.kind, a.attestor, a.envelope`, product, version)
	err = each(rows, err, func() error {
		var a Attestation
		var at int64
		if err := rows.Scan(&a.Product, &a.Version, &a.Kind, &a.Result, &a.Attestor, &a.Envelope, &at); err != nil {
			return err
		}
		a.At = fromMicros(at)
		out = append(out, a)
		return nil
	})
	return out, err
}

// checkEvidence refuses to start what lacks the evidence that its policy asks
// for, in the transaction of the start.
func (c conn) checkEvidence(ctx context.Context, st Start) error {
	if len(st.Policy.Evidence) == 0 {
		return nil
	}
	all, err := c.attestations(ctx, st.Product, st.Version)
	if err != nil {
		return fmt.Errorf("read evidence: %w", err)
	}
	var have []rollout.Attested
	for _, a := range all {
		have = append(have, rollout.Attested{Kind: a.Kind, Attestor: a.Attestor, Passed: a.Result != "FAILED", At: a.At})
	}
	if lacking := st.Policy.Lacking(have); len(lacking) > 0 {
		return fmt.Errorf("the policy asks for evidence that is lacking: %s: %w", strings.Join(lacking, "; "), ErrState)
	}
	return nil
}
