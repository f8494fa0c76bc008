package cli

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/ledger"
)

// proof is an entry with its proof under a signed checkpoint, checked.
type proof struct {
	Seq        int64    `json:"seq"`
	Kind       string   `json:"kind"`
	Subject    string   `json:"subject"`
	Actor      string   `json:"actor"`
	Leaf       string   `json:"leaf"`
	Origin     string   `json:"origin"`
	Size       int64    `json:"size"`
	Root       string   `json:"root"`
	Hashes     []string `json:"hashes"`
	Checkpoint string   `json:"checkpoint"`
}

// proveInclusion fetches an entry, a checkpoint and the proof that binds them,
// and checks all three.
func proveInclusion(ctx context.Context, c *client, seq int64, key string) (*proof, error) {
	if key == "" {
		keys, err := call(ctx, c.repository.GetOnlineKeys, &headgatev1.GetOnlineKeysRequest{})
		if err != nil {
			return nil, err
		}
		key = keys.LedgerKey
	}
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return nil, fmt.Errorf("ledger key %q: %w", key, err)
	}
	signed, err := call(ctx, c.ledger.GetCheckpoint, &headgatev1.GetCheckpointRequest{})
	if err != nil {
		return nil, err
	}
	checkpoint, err := ledger.OpenCheckpoint([]byte(signed.Checkpoint), verifier)
	if err != nil {
		return nil, err
	}
	if seq >= checkpoint.Size {
		return nil, fmt.Errorf("entry %d is not under the newest checkpoint, which has %d entries; try again when there is a newer one", seq, checkpoint.Size)
	}
	entry, err := fetchEntry(ctx, c, seq)
	if err != nil {
		return nil, err
	}
	res, err := call(ctx, c.ledger.ProveInclusion, &headgatev1.ProveInclusionRequest{Seq: seq, Size: checkpoint.Size})
	if err != nil {
		return nil, err
	}
	p := &proof{Seq: seq, Kind: entry.Kind, Subject: entry.Subject, Actor: entry.Actor, Leaf: entry.Leaf().String(),
		Origin: ledger.Origin, Size: checkpoint.Size, Root: checkpoint.Root.String(), Hashes: []string{}, Checkpoint: signed.Checkpoint}
	var hashes []tlog.Hash
	for i, b := range res.Hashes {
		if len(b) != tlog.HashSize {
			return nil, fmt.Errorf("proof hash %d has %d bytes, not %d", i, len(b), tlog.HashSize)
		}
		hashes = append(hashes, tlog.Hash(b))
		p.Hashes = append(p.Hashes, base64.StdEncoding.EncodeToString(b))
	}
	return p, ledger.CheckInclusion(checkpoint, entry, hashes)
}

// fetchEntry reads one entry in the form that is hashed.
func fetchEntry(ctx context.Context, c *client, seq int64) (ledger.Entry, error) {
	res, err := call(ctx, c.ledger.ListEntries, &headgatev1.ListEntriesRequest{From: seq, Limit: 1})
	if err != nil {
		return ledger.Entry{}, err
	}
	if len(res.Entries) != 1 || res.Entries[0].Seq != seq {
		return ledger.Entry{}, fmt.Errorf("the ledger has no entry %d; it has %d", seq, res.Size)
	}
	e := res.Entries[0]
	prev, err := ledger.ParseHash(e.Prev)
	if err != nil {
		return ledger.Entry{}, fmt.Errorf("entry %d, prev: %w", seq, err)
	}
	return ledger.Entry{
		Seq: e.Seq, Time: time.UnixMicro(e.TimeUs).UTC(), Prev: prev,
		Draft: ledger.Draft{Kind: e.Kind, Subject: e.Subject, Actor: e.Actor, Body: []byte(e.Body)},
	}, nil
}
