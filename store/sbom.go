package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"time"

	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/release"
	"github.com/headgate/headgate/release/sbom"
)

// SBOM is a bill of materials of a release or of what an endpoint has besides.
type SBOM struct {
	Product  string // "vendor/product" and Version, or:
	Version  string
	Endpoint int64
	Digest   string // SHA-256 of the document, lower-case hex
	Format   string
	Parts    int64 // components with a PURL or CPE
	Nameless int64 // components with neither, which nothing can match
	Added    time.Time
	AddedBy  string
}

// target names what an SBOM is of, as the ledger does.
func (b SBOM) target() string {
	if b.Endpoint != 0 {
		return ids.Format("E", b.Endpoint)
	}
	return release.Target(b.Product, b.Version)
}

const (
	textSBOMs  = `SELECT product, version, endpoint, digest, format, parts, nameless, added, added_by FROM sbom WHERE product = $1 AND ($2 = '' OR version = $2) AND endpoint = $3 ORDER BY product, version`
	textUnlist = `DELETE FROM sbom_component WHERE sbom = (SELECT id FROM sbom WHERE product = $1 AND version = $2 AND endpoint = $3)`
)

// listComponents writes the components of a document.
var listComponents = &list{head: `INSERT INTO sbom_component (sbom, seq, name, version, name_key) VALUES `, row: `($1, ?, ?, ?, ?)`, fixed: 1}

// AttachSBOM attaches a document to a release or an endpoint, in the place of the
// one before. tenant, if not empty, must own the endpoint. ErrNotFound if there is
// no such release or endpoint. Attaching the same document again changes nothing.
func (s *Store) AttachSBOM(ctx context.Context, b SBOM, tenant string, body []byte, doc sbom.Document, actor string, now time.Time) (out SBOM, err error) {
	sum := sha256.Sum256(body)
	b.Digest, b.Format, b.Parts, b.Nameless = hex.EncodeToString(sum[:]), string(doc.Format), int64(len(doc.Components)), int64(doc.Nameless)
	b.Added, b.AddedBy = now.UTC().Truncate(time.Microsecond), actor
	err = s.inWrite(ctx, "attach bill of materials to "+b.target(), func(c conn) error {
		if err := c.sbomTarget(ctx, b, tenant); err != nil {
			return err
		}
		have, err := c.sboms(ctx, textSBOMs, b.Product, b.Version, b.Endpoint)
		if err != nil {
			return err
		}
		if len(have) == 1 && have[0].Digest == b.Digest {
			out = have[0]
			return nil
		}
		if err := c.writeSBOM(ctx, b, body, doc); err != nil {
			return err
		}
		out = b
		return c.note(ctx, now, "sbom.attached", b.target(), actor, map[string]any{"digest": b.Digest, "format": b.Format, "components": b.Parts, "nameless": b.Nameless})
	})
	return out, err
}

// sbomTarget finds what a bill of materials is to be attached to.
func (c conn) sbomTarget(ctx context.Context, b SBOM, tenant string) error {
	var one int64
	if b.Endpoint != 0 {
		return found(c.row(ctx, `SELECT 1 FROM endpoint e JOIN tenant t ON t.id = e.tenant WHERE e.id = $1 AND ($2 = '' OR t.name = $2)`, b.Endpoint, tenant).Scan(&one))
	}
	return found(c.row(ctx, `SELECT 1 FROM release WHERE product = $1 AND version = $2`, b.Product, b.Version).Scan(&one))
}

func (c conn) writeSBOM(ctx context.Context, b SBOM, body []byte, doc sbom.Document) error {
	if _, err := c.exec(ctx, textUnlist, b.Product, b.Version, b.Endpoint); err != nil {
		return err
	}
	if _, err := c.exec(ctx, `DELETE FROM sbom WHERE product = $1 AND version = $2 AND endpoint = $3`, b.Product, b.Version, b.Endpoint); err != nil {
		return err
	}
	id := ids.Random()
	if _, err := c.exec(ctx, `INSERT INTO sbom (product, version, endpoint, id, digest, format, parts, nameless, added, added_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		b.Product, b.Version, b.Endpoint, id, b.Digest, b.Format, b.Parts, b.Nameless, micros(b.Added), b.AddedBy); err != nil {
		return err
	}
	if _, err := c.exec(ctx, `INSERT INTO sbom_document (digest, body) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING`, b.Digest, body); err != nil {
		return err
	}
	rows := make([]any, 0, 4*len(doc.Components))
	for i, k := range doc.Components {
		rows = append(rows, int64(i), k.Name, k.Version, k.Key)
	}
	_, err := c.execList(ctx, listComponents, []any{id}, rows)
	return err
}

func (c conn) sboms(ctx context.Context, text string, args ...any) (out []SBOM, err error) {
	rows, err := c.rows(ctx, text, args...)
	err = each(rows, err, func() error {
		b, err := scanSBOM(rows)
		out = append(out, b)
		return err
	})
	return out, err
}

func scanSBOM(rows *sql.Rows) (b SBOM, err error) {
	var added int64
	err = rows.Scan(&b.Product, &b.Version, &b.Endpoint, &b.Digest, &b.Format, &b.Parts, &b.Nameless, &added, &b.AddedBy)
	b.Added = fromMicros(added)
	return b, err
}

// ListSBOMs lists the bills of materials of a product's releases, by version as
// text; of one release if version is not empty; or that of an endpoint.
func (s *Store) ListSBOMs(ctx context.Context, product, version string, endpoint int64) (out []SBOM, err error) {
	err = s.inRead(ctx, "list bills of materials", func(c conn) error {
		out, err = c.sboms(ctx, textSBOMs, product, version, endpoint)
		return err
	})
	return out, err
}

// SBOMDocument gives an attached document back as it was. ErrNotFound.
func (s *Store) SBOMDocument(ctx context.Context, digest string) (body []byte, err error) {
	err = s.inRead(ctx, "read bill of materials "+digest, func(c conn) error {
		return found(c.row(ctx, `SELECT body FROM sbom_document WHERE digest = $1`, digest).Scan(&body))
	})
	return body, err
}
