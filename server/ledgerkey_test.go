package server

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/mod/sumdb/note"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/ledger"
	"github.com/headgate/headgate/store"
)

// signedBy tells whether the newest checkpoint is signed by a key.
func (w *world) signedBy(key string) bool {
	w.Helper()
	v, err := note.NewVerifier(key)
	check(w, err)
	cp, err := w.store.LatestCheckpoint(w.Context())
	if errors.Is(err, store.ErrNotFound) {
		return false
	}
	check(w, err)
	_, err = ledger.OpenCheckpoint(cp.Note, v)
	return err == nil
}

// followed is the key in force to which another leads.
func (w *world) followed(key string) string {
	w.Helper()
	report, err := w.store.VerifyLedger(w.Context())
	check(w, err)
	out, err := ledger.FollowKeys(key, report.Handovers)
	check(w, err)
	return out
}

func (w *world) ledgerKey() string {
	w.Helper()
	keys, err := w.repo.GetOnlineKeys(w.Context(), connect.NewRequest(&headgatev1.GetOnlineKeysRequest{}))
	check(w, err)
	return keys.Msg.LedgerKey
}

// Whoever has the first key gets to the newest, and the old ones sign no more.
func TestLedgerKeyIsHandedOver(t *testing.T) {
	w := newWorld(t)
	first := w.ledgerKey()
	keys := []string{first}
	for range 2 {
		r, err := w.ledger.RotateKey(t.Context(), connect.NewRequest(&headgatev1.RotateKeyRequest{}))
		check(t, err)
		if r.Msg.Before != keys[len(keys)-1] || r.Msg.Key == r.Msg.Before {
			t.Fatalf("handed over from %s to %s; the key before was %s", r.Msg.Before, r.Msg.Key, keys[len(keys)-1])
		}
		if !w.signedBy(r.Msg.Before) || !w.signedBy(r.Msg.Key) {
			t.Error("the checkpoint of the handover does not carry both signatures")
		}
		keys = append(keys, r.Msg.Key)
	}
	newest := keys[len(keys)-1]
	_, err := w.account.AddTenant(t.Context(), connect.NewRequest(&headgatev1.AddTenantRequest{Name: "after"}))
	check(t, err)
	until(t, "the new key signs alone", func() bool { return w.signedBy(newest) && !w.signedBy(keys[1]) })
	for _, k := range keys {
		if got := w.followed(k); got != newest {
			t.Errorf("from %s one gets to %s, not to %s", k, got, newest)
		}
	}
	if got := w.ledgerKey(); got != newest {
		t.Errorf("the server names %s", got)
	}
	retired, err := filepath.Glob(filepath.Join(w.cfg.Data, "keys", retiredKeys, "ledger-*.key"))
	check(t, err)
	if len(retired) != 2 {
		t.Errorf("retired keys: %v", retired)
	}
}

// A server that dies between the entry and the checkpoint goes on where it was; one
// without the key that the ledger names signs nothing.
func TestLedgerKeyHandoverGoesOnAfterACrash(t *testing.T) {
	w := newWorld(t)
	before := w.ledgerKey()
	k := w.keys.ledger
	k.mu.Lock()
	check(t, makeLedgerKey(k.next()))
	_, next, err := k.read()
	check(t, err)
	check(t, w.store.HandLedgerOver(t.Context(), ledger.Handover{Before: before, Key: next.public}, "operator:admin", w.cfg.Now()))
	hidden := k.next() + ".hidden"
	check(t, os.Rename(k.next(), hidden))
	k.mu.Unlock()
	if err := w.checkpoint(t.Context()); err == nil || !strings.Contains(err.Error(), next.public) {
		t.Errorf("without the key it says %v", err)
	}
	check(t, os.Rename(hidden, k.next()))
	until(t, "both have signed", func() bool { return w.signedBy(before) && w.signedBy(next.public) })
	until(t, "the new key is in its place", func() bool {
		b, err := os.ReadFile(k.present())
		return err == nil && bytes.Equal(bytes.TrimSpace(b), []byte(next.private))
	})
	if got := w.followed(before); got != next.public {
		t.Errorf("the old key leads to %s", got)
	}
	// Nobody hands over what is not theirs any more.
	err = w.store.HandLedgerOver(t.Context(), ledger.Handover{Before: before, Key: before}, "operator:admin", w.cfg.Now())
	if err == nil || errors.Is(err, ledger.ErrBroken) {
		t.Errorf("a retired key handed over: %v", err)
	}
}
