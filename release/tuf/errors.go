package tuf

import (
	"errors"
	"fmt"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Why metadata or a file is refused. Each error of this package about content
// wraps one of them, and names the role and version in its text.
var (
	// ErrExpired: a role's expiry has passed. It stops installing, never running.
	ErrExpired = errors.New("metadata expired")
	// ErrFrozen: the timestamp has expired, so somebody keeps news from us. It is
	// also an ErrExpired.
	ErrFrozen = fmt.Errorf("repository frozen: %w", ErrExpired)
	// ErrRollback: older than what was seen before, or not exactly the next version.
	ErrRollback = errors.New("metadata rolled back")
	// ErrUnderSigned: fewer valid signatures than the role's threshold.
	ErrUnderSigned = errors.New("metadata under-signed")
	// ErrMixed: not the file that snapshot or timestamp names.
	ErrMixed = errors.New("metadata mixed")
	// ErrForeign: a role speaks about a path or role that is not its own.
	ErrForeign = errors.New("not this role's to sign")
	// ErrTooLarge: more bytes than the limit or than the metadata says.
	ErrTooLarge = errors.New("too large")
	// ErrMalformed: not the JSON, shape or values that the role needs.
	ErrMalformed = errors.New("metadata malformed")
	// ErrDigest: an artifact's length or SHA-256 is not the signed one.
	ErrDigest = errors.New("artifact differs from what was signed")
	// ErrNotFound: the repository has no such file, release or role.
	ErrNotFound = errors.New("not found in repository")
	// ErrNotModified: the file still has the ETag that was sent.
	ErrNotModified = errors.New("not modified")
	// ErrKey: a key file or key object that cannot be used, or a key in a place
	// where it must not be.
	ErrKey = errors.New("unusable key")
)

// RetryError is the server's wish to be left alone for a while (503, 429).
type RetryError struct {
	Status int           // HTTP status
	After  time.Duration // from Retry-After; 0 if it was not given
	Path   string
}

// Error says what was asked and when to ask again.
func (e *RetryError) Error() string {
	return fmt.Sprintf("fetch %s: status %d, retry after %s", e.Path, e.Status, e.After)
}

// refuse classifies go-tuf's error about one role. bad is what a wrong version
// number means at this step: ErrRollback or ErrMixed.
func refuse(role string, version int64, bad, err error) error {
	var (
		expired  *metadata.ErrExpiredMetadata
		unsigned *metadata.ErrUnsignedMetadata
		number   *metadata.ErrBadVersionNumber
		hash     *metadata.ErrLengthOrHashMismatch
		repo     *metadata.ErrRepository
	)
	kind := ErrMalformed
	switch {
	case errors.As(err, &expired) && role == metadata.TIMESTAMP:
		kind = ErrFrozen
	case errors.As(err, &expired):
		kind = ErrExpired
	case errors.As(err, &unsigned):
		kind = ErrUnderSigned
	case errors.As(err, &number):
		kind = bad
	case errors.As(err, &hash):
		kind = ErrMixed
	case errors.As(err, &repo):
		kind = bad
	}
	return fmt.Errorf("%s version %d: %w: %w", role, version, kind, err)
}
