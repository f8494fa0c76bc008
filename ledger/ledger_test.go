package ledger

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 6789, time.UTC)

func chain(t interface{ Fatal(...any) }, n int) ([]Entry, Head) {
	var out []Entry
	var head Head
	for i := range n {
		d, err := New("test.fact", fmt.Sprintf("R-%d", i), "engine", map[string]int{"n": i})
		if err != nil {
			t.Fatal(err)
		}
		var e Entry
		if e, head, err = Append(head, d, t0.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out, head
}

func follow(entries []Entry) (head Head, err error) {
	for _, e := range entries {
		if head, err = Follow(head, e); err != nil {
			return head, err
		}
	}
	return head, nil
}

func TestAnyChangeToAnyEntryBreaksTheChainOrItsHead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "n")
		entries, head := chain(t, n)
		if got, err := follow(entries); err != nil || got != head {
			t.Fatalf("an untouched chain: %v %v, want %v", got, err, head)
		}
		e := &entries[rapid.IntRange(0, n-1).Draw(t, "i")]
		switch rapid.SampledFrom([]string{"seq", "time", "kind", "subject", "actor", "body", "prev", "shift"}).Draw(t, "field") {
		case "seq":
			e.Seq++
		case "time":
			e.Time = e.Time.Add(time.Microsecond)
		case "kind":
			e.Kind += "x"
		case "subject":
			e.Subject = ""
		case "actor":
			e.Actor = "operator:mallory"
		case "body":
			e.Body = []byte(`{"n":99}`)
		case "prev":
			e.Prev[3] ^= 1
		case "shift": // the same bytes, parted elsewhere
			e.Kind, e.Subject = e.Kind+e.Subject[:1], e.Subject[1:]
		}
		if got, err := follow(entries); err == nil && got == head {
			t.Fatal("a changed chain passed")
		}
	})
}

func TestAppendRefusesWhatCannotBeRead(t *testing.T) {
	for name, d := range map[string]Draft{
		"no kind":  {Actor: "engine", Body: []byte(`{}`)},
		"no actor": {Kind: "k", Body: []byte(`{}`)},
		"not JSON": {Kind: "k", Actor: "engine", Body: []byte(`{`)},
		"too long": {Kind: "k", Actor: "engine", Body: []byte(`"` + strings.Repeat("x", MaxBody) + `"`)},
	} {
		if _, head, err := Append(Head{Size: 3}, d, t0); err == nil || head.Size != 3 {
			t.Errorf("%s: accepted, head %v", name, head)
		}
	}
}

func TestProofsHoldForEveryEntryAndEverySize(t *testing.T) {
	const n = 17
	entries, _ := chain(t, n)
	var tree Tree
	for _, e := range entries {
		if err := tree.Add(e.Leaf()); err != nil {
			t.Fatal(err)
		}
	}
	at := func(size int64) Checkpoint {
		root, err := tree.Root(size)
		if err != nil {
			t.Fatal(err)
		}
		return Checkpoint{size, root}
	}
	for size := int64(1); size <= n; size++ {
		for i := range size {
			proof, err := tlog.ProveRecord(size, i, &tree)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckInclusion(at(size), entries[i], proof); err != nil {
				t.Error(err)
			}
			if err := CheckInclusion(at(size), entries[(i+1)%n], proof); err == nil && (i+1)%n != i {
				t.Errorf("entry %d proved in place of %d", (i+1)%n, i)
			}
			tp, err := tlog.ProveTree(size, i+1, &tree)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckConsistency(at(size), at(i+1), tp); err != nil {
				t.Error(err)
			}
			forged := at(i + 1)
			forged.Root[0] ^= 1
			if err := CheckConsistency(at(size), forged, tp); err == nil {
				t.Errorf("a forged tree of %d extends to %d", i+1, size)
			}
		}
	}
	if _, err := tree.Root(n + 1); !errors.Is(err, ErrBroken) {
		t.Errorf("root beyond the end: %v", err)
	}
}

func TestCheckpointSignature(t *testing.T) {
	sk, vk, err := note.GenerateKey(rand.Reader, "headgate.example")
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(sk)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vk)
	if err != nil {
		t.Fatal(err)
	}
	want := Checkpoint{Size: 42, Root: tlog.Hash{1, 2, 3}}
	msg, err := want.Sign(s)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenCheckpoint(msg, v); err != nil || got != want {
		t.Errorf("got %v %v, want %v", got, err, want)
	}
	msg[len(Origin)+1] ^= 1
	if _, err := OpenCheckpoint(msg, v); !errors.Is(err, ErrBroken) {
		t.Errorf("a changed checkpoint: %v", err)
	}
}

func FuzzParseCheckpoint(f *testing.F) {
	f.Add(Checkpoint{Size: 3}.Text())
	f.Add(Origin + "\n-1\nAAAA\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCheckpoint(text)
		if err == nil && !strings.HasPrefix(text, c.Text()[:len(Origin)+1]) {
			t.Errorf("%q read as %v", text, c)
		}
	})
}
