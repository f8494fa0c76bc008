package ledger

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

type keyPair struct {
	public string
	signer note.Signer
}

func newKey(t *testing.T) keyPair {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, Origin)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return keyPair{public, s}
}

func TestKeysAreFollowedByTheWordOfTheKeyBefore(t *testing.T) {
	a, b, c, thief := newKey(t), newKey(t), newKey(t), newKey(t)
	hand := func(seq int64, from, to keyPair, size int64, by ...note.Signer) Handover {
		t.Helper()
		d, err := Handover{Before: from.public, Key: to.public}.Draft("operator:ann")
		if err != nil {
			t.Fatal(err)
		}
		h, err := ParseHandover(Entry{Seq: seq, Time: time.Unix(0, 0), Draft: d})
		if err != nil {
			t.Fatal(err)
		}
		if len(by) == 0 {
			return h
		}
		h.Covers = Checkpoint{Size: size}
		if h.Note, err = h.Covers.Sign(by...); err != nil {
			t.Fatal(err)
		}
		return h
	}
	elsewhere := hand(3, a, b, 4, a.signer, b.signer)
	elsewhere.Covers.Root[0]++
	line := []Handover{hand(3, a, b, 4, a.signer, b.signer), hand(9, b, c, 12, b.signer)}
	for name, x := range map[string]struct {
		from  keyPair
		line  []Handover
		want  keyPair
		wrong bool
	}{
		"no handover":                   {from: a, want: a},
		"through all":                   {from: a, line: line, want: c},
		"from one in between":           {from: b, line: line, want: c},
		"the newest":                    {from: c, line: line, want: c},
		"another log's":                 {from: thief, line: line, want: thief}, // whose checkpoint it will not be
		"no checkpoint yet":             {from: a, line: []Handover{hand(3, a, b, 0)}, wrong: true},
		"by the new key's word only":    {from: a, line: []Handover{hand(3, a, thief, 4, thief.signer)}, wrong: true},
		"a checkpoint from before":      {from: a, line: []Handover{hand(3, a, b, 3, a.signer)}, wrong: true},
		"a checkpoint of another log":   {from: a, line: []Handover{elsewhere}, wrong: true},
		"by the word of a retired key":  {from: a, line: []Handover{line[0], hand(9, b, thief, 12, a.signer, thief.signer)}, wrong: true},
		"around the key that is in use": {from: a, line: []Handover{line[0], hand(9, a, thief, 12, a.signer, thief.signer)}, want: b},
	} {
		got, err := FollowKeys(x.from.public, x.line)
		if x.wrong {
			if !errors.Is(err, ErrBroken) {
				t.Errorf("%s: %q, %v; want ErrBroken", name, got, err)
			}
			continue
		}
		if err != nil || got != x.want.public {
			t.Errorf("%s: %q, %v; want %q", name, got, err, x.want.public)
		}
	}
	if _, err := (Handover{Before: a.public, Key: "nonsense"}).Draft("x"); err == nil {
		t.Error("a handover to no key was drafted")
	}
	if _, err := ParseHandover(Entry{Draft: Draft{Body: []byte("[]")}}); !errors.Is(err, ErrBroken) {
		t.Errorf("a body that is no handover: %v", err)
	}
}
