package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/release"
)

// chunkSize is how much of an artifact is in one row.
const chunkSize = 1 << 20

// staleUpload is after how long chunks without an artifact are swept.
const staleUpload = 24 * time.Hour

// PutArtifact stores an artifact under its SHA-256 in lower-case hex, reading r
// to its end. If what it read has another digest (ErrInvalid), is longer than
// limit (ErrInvalid), or reading fails, nothing of it stays. An artifact that is
// stored already is not read, and its length returned.
//
// Each chunk is committed by itself, so that a slow upload locks nothing; the
// artifact exists once its row does, which comes last.
func (s *Store) PutArtifact(ctx context.Context, digest string, r io.Reader, limit int64, now time.Time) (length int64, err error) {
	if err := release.CheckDigest(digest); err != nil {
		return 0, fmt.Errorf("put artifact: %w: %w", err, ErrInvalid)
	}
	if a, err := s.OpenArtifact(ctx, digest); err == nil {
		return a.length, nil
	} else if !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	id := ids.New(now)
	length, err = s.putChunks(ctx, id, digest, r, limit)
	if err == nil {
		err = s.finishArtifact(ctx, id, digest, length, now)
	}
	if err != nil {
		clean := s.dropChunks(context.WithoutCancel(ctx), id)
		return 0, fmt.Errorf("put artifact %s: %w", digest, errors.Join(err, clean))
	}
	return length, nil
}

func (s *Store) putChunks(ctx context.Context, id int64, digest string, r io.Reader, limit int64) (length int64, err error) {
	sum, buf := sha256.New(), make([]byte, chunkSize)
	for seq := int64(0); ; seq++ {
		n, err := io.ReadFull(r, buf)
		ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !ended {
			return 0, fmt.Errorf("read byte %d and on: %w", length, err)
		}
		if length += int64(n); length > limit {
			return 0, fmt.Errorf("longer than %d bytes: %w", limit, ErrInvalid)
		}
		sum.Write(buf[:n])
		if n > 0 {
			if err := s.putChunk(ctx, id, seq, buf[:n]); err != nil {
				return 0, err
			}
		}
		if ended {
			break
		}
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != digest {
		return 0, fmt.Errorf("the %d bytes have digest %s: %w", length, got, ErrInvalid)
	}
	return length, nil
}

func (s *Store) putChunk(ctx context.Context, id, seq int64, body []byte) error {
	return s.inWrite(ctx, "store chunk", func(c conn) error {
		_, err := c.exec(ctx, `INSERT INTO artifact_chunk (artifact, seq, body) VALUES ($1, $2, $3)`, id, seq, body)
		return err
	})
}

// finishArtifact makes the chunks an artifact, unless somebody else uploaded
// the same one meanwhile; and sweeps what uploads that died left behind.
func (s *Store) finishArtifact(ctx context.Context, id int64, digest string, length int64, now time.Time) error {
	return s.inWrite(ctx, "finish artifact", func(c conn) error {
		n, err := c.exec(ctx, `INSERT INTO artifact (digest, id, length, stored) VALUES ($1, $2, $3, $4) ON CONFLICT (digest) DO NOTHING`, digest, id, length, micros(now))
		if err != nil {
			return err
		}
		if n == 0 {
			if _, err := c.exec(ctx, `DELETE FROM artifact_chunk WHERE artifact = $1`, id); err != nil {
				return err
			}
		}
		_, err = c.exec(ctx, `DELETE FROM artifact_chunk WHERE artifact < $1 AND NOT EXISTS (SELECT 1 FROM artifact a WHERE a.id = artifact_chunk.artifact)`,
			ids.New(now.Add(-staleUpload)))
		return err
	})
}

func (s *Store) dropChunks(ctx context.Context, id int64) error {
	return s.inWrite(ctx, "drop chunks", func(c conn) error {
		_, err := c.exec(ctx, `DELETE FROM artifact_chunk WHERE artifact = $1`, id)
		return err
	})
}

// Artifact is a stored artifact, read from the database piece by piece.
type Artifact struct {
	ctx    context.Context
	s      *Store
	id     int64
	length int64
	at     int64
	chunk  []byte
	have   int64 // number of the chunk in memory; -1 is none
}

var _ io.ReadSeeker = (*Artifact)(nil)

// OpenArtifact opens an artifact for reading as long as ctx lives. ErrNotFound.
func (s *Store) OpenArtifact(ctx context.Context, digest string) (*Artifact, error) {
	a := &Artifact{ctx: ctx, s: s, have: -1}
	err := s.inRead(ctx, fmt.Sprintf("open artifact %s", digest), func(c conn) error {
		return found(c.row(ctx, `SELECT id, length FROM artifact WHERE digest = $1`, digest).Scan(&a.id, &a.length))
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Length is the artifact's length in bytes.
func (a *Artifact) Length() int64 { return a.length }

// Read implements io.Reader.
func (a *Artifact) Read(p []byte) (int, error) {
	if a.at >= a.length {
		return 0, io.EOF
	}
	if seq := a.at / chunkSize; seq != a.have {
		err := a.s.inRead(a.ctx, "read artifact", func(c conn) error {
			return found(c.row(a.ctx, `SELECT body FROM artifact_chunk WHERE artifact = $1 AND seq = $2`, a.id, seq).Scan(&a.chunk))
		})
		if err != nil {
			return 0, err
		}
		a.have = seq
	}
	off := a.at - a.have*chunkSize
	if off >= int64(len(a.chunk)) {
		return 0, fmt.Errorf("read artifact: chunk %d has %d bytes only: %w", a.have, len(a.chunk), io.ErrUnexpectedEOF)
	}
	n := copy(p, a.chunk[off:])
	a.at += int64(n)
	return n, nil
}

// Seek implements io.Seeker.
func (a *Artifact) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += a.at
	case io.SeekEnd:
		offset += a.length
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek artifact to %d: %w", offset, ErrInvalid)
	}
	a.at = offset
	return offset, nil
}
