package ledger

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Origin is the first line of every checkpoint: the log's name.
const Origin = "headgate.ledger/1"

// MaxCheckpoint is the largest checkpoint in bytes.
const MaxCheckpoint = 16 << 10

// Leaf is the entry's leaf hash in the Merkle tree (RFC 6962 2.1).
func (e Entry) Leaf() tlog.Hash { return tlog.RecordHash(e.Encode()) }

// Checkpoint is a statement of the log's size and root, to be signed.
type Checkpoint struct {
	Size int64
	Root tlog.Hash
}

// Text is the checkpoint's body in the form of C2SP tlog-checkpoint.
func (c Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// ParseCheckpoint reads what Text wrote; the signatures are note's to check.
func ParseCheckpoint(text string) (Checkpoint, error) {
	bad := func(what string) (Checkpoint, error) {
		return Checkpoint{}, fmt.Errorf("checkpoint: %s: %w", what, ErrBroken)
	}
	if len(text) > MaxCheckpoint {
		return bad(fmt.Sprintf("%d bytes, limit %d", len(text), MaxCheckpoint))
	}
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) != 4 || lines[0] != Origin {
		return bad("want the lines " + Origin + ", size, root")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return bad(fmt.Sprintf("line 2: size %q", lines[1]))
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return bad("line 3: the root is not 32 bytes in base64")
	}
	c := Checkpoint{Size: size}
	copy(c.Root[:], root)
	return c, nil
}

// Sign makes the checkpoint's signed note.
func (c Checkpoint) Sign(by ...note.Signer) ([]byte, error) {
	b, err := note.Sign(&note.Note{Text: c.Text()}, by...)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint of %d entries: %w", c.Size, err)
	}
	return b, nil
}

// OpenCheckpoint checks a signed note's signature and reads it.
func OpenCheckpoint(msg []byte, v note.Verifier) (Checkpoint, error) {
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint signature by %s: %w: %w", v.Name(), err, ErrBroken)
	}
	return ParseCheckpoint(n.Text)
}

// Tree builds a Merkle tree entry by entry, in memory: for checking a chain
// from its start. The zero value is the empty tree.
type Tree struct {
	size   int64
	hashes []tlog.Hash
}

// Add appends a leaf.
func (t *Tree) Add(leaf tlog.Hash) error {
	hs, err := tlog.StoredHashesForRecordHash(t.size, leaf, t)
	if err != nil {
		return fmt.Errorf("add leaf %d: %w", t.size, err)
	}
	t.hashes = append(t.hashes, hs...)
	t.size++
	return nil
}

// Root is the tree's root at size n, which is at most the leaves added.
func (t *Tree) Root(n int64) (tlog.Hash, error) {
	if n < 0 || n > t.size {
		return tlog.Hash{}, fmt.Errorf("root of %d leaves: there are %d: %w", n, t.size, ErrBroken)
	}
	h, err := tlog.TreeHash(n, t)
	if err != nil {
		return h, fmt.Errorf("root of %d leaves: %w", n, err)
	}
	return h, nil
}

// ReadHashes implements tlog.HashReader.
func (t *Tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x < 0 || x >= int64(len(t.hashes)) {
			return nil, fmt.Errorf("hash %d of %d: %w", x, len(t.hashes), ErrBroken)
		}
		out[i] = t.hashes[x]
	}
	return out, nil
}

// CheckInclusion checks that an entry is under a checkpoint.
func CheckInclusion(c Checkpoint, e Entry, proof []tlog.Hash) error {
	if err := tlog.CheckRecord(proof, c.Size, c.Root, e.Seq, e.Leaf()); err != nil {
		return fmt.Errorf("entry %d is not proved under the checkpoint of %d: %w: %w", e.Seq, c.Size, err, ErrBroken)
	}
	return nil
}

// CheckConsistency checks that checkpoint c extends the older one.
func CheckConsistency(c, older Checkpoint, proof []tlog.Hash) error {
	if older.Size == c.Size && bytes.Equal(older.Root[:], c.Root[:]) || older.Size == 0 {
		return nil
	}
	if err := tlog.CheckTree(proof, c.Size, c.Root, older.Size, older.Root); err != nil {
		return fmt.Errorf("the checkpoint of %d does not extend that of %d: %w: %w", c.Size, older.Size, err, ErrBroken)
	}
	return nil
}
