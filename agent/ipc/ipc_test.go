package ipc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"
)

var digest = strings.Repeat("ab", 32)

type echo struct{ got chan Message }

func (e echo) Handle(ctx context.Context, m Message) Answer {
	e.got <- m
	if m.Stage != nil {
		<-ctx.Done() // a preflight that takes for ever
	}
	return Answer{OK: m.Revert == nil, Reason: "no", Status: &Status{}}
}

func TestASlowStageBlocksNoOtherRequest(t *testing.T) {
	conn, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	e := echo{make(chan Message, 8)}
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { served <- Serve(ctx, conn, e) }()
	theirs, err := fromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(theirs)
	defer c.Close()
	staged := make(chan error, 1)
	go func() {
		_, err := c.Stage(ctx, Stage{Product: "v/p", Version: "1.0.0", Digest: digest, Dir: "/x", Files: []File{{Path: "a", SHA256: digest, Mode: 0o644}}})
		staged <- err
	}()
	<-e.got
	if _, err := c.Status(ctx); err != nil {
		t.Fatal(err)
	}
	a, err := c.Revert(ctx, Revert{Product: "v/p", Digest: digest})
	if r := (*Refusal)(nil); err != nil || !errors.As(a.Err(), &r) || r.Reason != "no" {
		t.Fatalf("revert: %v, %v", a, err)
	}
	if err := conn.Send(Message{Status: &Status{}}); err != nil {
		t.Fatal(err)
	}
	<-c.Updates()
	if err := conn.Send(Message{Shutdown: &Shutdown{}}); err != nil {
		t.Fatal(err)
	}
	<-c.Shutdown()
	cancel()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	<-c.Gone()
	if err := <-staged; err == nil {
		t.Fatal("a stage without an answer succeeded")
	}
}

func TestBadFramesAreRefused(t *testing.T) {
	frame := func(s string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
	}
	for name, b := range map[string][]byte{
		"oversized":     {0xff, 0xff, 0xff, 0xff},
		"truncated":     frame(`{"id":1,"hello":{}}`)[:9],
		"unknown key":   frame(`{"id":1,"hello":{},"x":1}`),
		"two bodies":    frame(`{"id":1,"hello":{},"reachable":{}}`),
		"no body":       frame(`{"id":1}`),
		"no id":         frame(`{"id":0,"hello":{}}`),
		"trailing data": frame(`{"id":1,"hello":{}} {}`),
		"path escapes":  frame(`{"id":1,"stage":{"product":"v/p","version":"1.0.0","digest":"` + digest + `","rollout":1,"dir":"/x","files":[{"path":"../a","sha256":"` + digest + `","size":1,"mode":420}]}}`),
	} {
		if m, err := Read(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: accepted %+v", name, m)
		}
	}
}

func TestBoottimeGoesForward(t *testing.T) {
	a := Boottime()
	if b := Boottime(); b < a || a < time.Second {
		t.Fatal(a, b)
	}
}

func FuzzRead(f *testing.F) {
	b, err := Encode(Message{ID: 1, Stage: &Stage{Product: "v/p", Version: "1.0.0", Digest: digest, Dir: "/x", Files: []File{{Path: "a/b", SHA256: digest, Size: 3, Mode: 0o755}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		if _, err := Encode(m); err != nil {
			t.Fatalf("read but not written: %v", err)
		}
	})
}

func TestKilledPeerThatHadNotReadAllIsNoError(t *testing.T) {
	ours, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	st := Status{Products: []Product{}}
	if err := ours.Send(Message{Status: &st}); err != nil {
		t.Fatal(err)
	}
	file.Close() // with a message unread
	if err := Serve(t.Context(), ours, nil); err != nil {
		t.Errorf("serve: %v", err)
	}
}
