package clamav

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/agent/ipc"
	"github.com/headgate/headgate/agent/keeper"
	"github.com/headgate/headgate/agent/sandbox"
	"github.com/headgate/headgate/release/artifact"
)

const productName = "acme/clamav"

// TestMain lets this binary be what the keeper starts: the sandbox, and a link
// that hands keeper's socket to the test in place of the network.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "vet" {
		os.Exit(sandbox.VetMain(os.Args[2:]))
	}
	if len(os.Args) > 2 && os.Args[1] == "hand-over" {
		if err := handOver(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "hand over:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// handOver carries bytes between keeper and the socket at path until either ends.
func handOver(path string) error {
	f := os.NewFile(ipc.LinkFD, "keeper")
	fromKeeper, err := net.FileConn(f)
	if err != nil {
		return err
	}
	f.Close()
	toTest, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	ended := make(chan struct{}, 2)
	for _, c := range [][2]net.Conn{{fromKeeper, toTest}, {toTest, fromKeeper}} {
		go func() { io.Copy(c[0], c[1]); ended <- struct{}{} }()
	}
	<-ended
	fromKeeper.Close()
	toTest.Close()
	<-ended
	return nil
}

// endpoint is a real keeper, with the test as its link.
type endpoint struct {
	t    *testing.T
	dir  string
	link *ipc.Client
	seq  int64
}

func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	short, err := os.MkdirTemp("", "hg") // a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	path := filepath.Join(short, "link")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	e := &endpoint{t: t, dir: t.TempDir()}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- keeper.Run(ctx, keeper.Config{
			Dir: e.dir, Executable: self, Products: []string{productName},
			Link: []string{self, "hand-over", path}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		})
	}()
	l.(*net.UnixListener).SetDeadline(time.Now().Add(30 * time.Second))
	c, err := l.Accept()
	l.Close()
	if err != nil {
		cancel()
		t.Fatalf("keeper's link does not come: %v, %v", err, <-ended)
	}
	e.link = ipc.NewClient(ipc.NewConn(c))
	t.Cleanup(func() {
		cancel()
		e.link.Close()
		if err := <-ended; err != nil {
			t.Errorf("keeper: %v", err)
		}
	})
	return e
}

// stage packs a product folder, unpacks it as link would, and has keeper stage
// it. It returns the artifact's digest and keeper's answer.
func (e *endpoint) stage(folder, version string, rollout int64) (string, ipc.Answer) {
	e.t.Helper()
	var tar bytes.Buffer
	if err := artifact.Pack(folder, &tar); err != nil {
		e.t.Fatal(err)
	}
	sum := sha256.Sum256(tar.Bytes())
	spool := e.t.TempDir()
	files, err := artifact.Unpack(&tar, spool)
	if err != nil {
		e.t.Fatal(err)
	}
	s := ipc.Stage{Product: productName, Version: version, Digest: hex.EncodeToString(sum[:]), Rollout: rollout, Dir: spool}
	for _, f := range files {
		s.Files = append(s.Files, ipc.File{Path: f.Path, SHA256: f.SHA256, Size: f.Size, Mode: uint32(f.Mode)})
	}
	a, err := e.link.Stage(e.t.Context(), s)
	if err != nil {
		e.t.Fatal(err)
	}
	return s.Digest, a
}

// activate grants the staged release and acknowledges beacons until its attempt
// has ended, and what then runs is healthy.
func (e *endpoint) activate(digest string, rollout int64) ipc.Product {
	e.t.Helper()
	a, err := e.link.Activate(e.t.Context(), ipc.Activate{
		Product: productName, Digest: digest, Rollout: rollout,
		ExpiresUS: (ipc.Boottime() + 30*time.Second).Microseconds(), ProbationUS: time.Second.Microseconds(),
	})
	if err != nil || a.Err() != nil {
		e.t.Fatalf("activate: %v, %v", err, a.Err())
	}
	ctx, cancel := context.WithTimeout(e.t.Context(), time.Minute)
	defer cancel()
	beacon := time.NewTicker(200 * time.Millisecond)
	defer beacon.Stop()
	for {
		st, err := e.link.Status(ctx)
		if err != nil || len(st.Products) != 1 {
			e.t.Fatalf("status: %v, %+v", err, st)
		}
		p := st.Products[0]
		if p.Attempt != nil && p.Healthy && (p.Attempt.State == ipc.AttemptProven || p.Attempt.State == ipc.AttemptHarmed) {
			return p
		}
		e.seq++
		if _, err := e.link.Acked(ctx, ipc.Acked{Seq: e.seq, Running: []ipc.Running{{Product: p.Product, Digest: p.Digest}}}); err != nil {
			e.t.Fatal(err)
		}
		select {
		case <-ctx.Done():
			e.t.Fatalf("no end of the attempt: %+v", p.Attempt)
		case <-beacon.C:
		}
	}
}

// found scans a file with what is active on the endpoint.
func (e *endpoint) found(content string) bool {
	e.t.Helper()
	pointers, err := filepath.Glob(filepath.Join(e.dir, "products", productName, "*", "signatures"))
	if err != nil || len(pointers) != 1 {
		e.t.Fatalf("active signatures: %q, %v", pointers, err)
	}
	file := filepath.Join(e.t.TempDir(), "scanned")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		e.t.Fatal(err)
	}
	out, err := exec.Command("clamscan", "--database="+pointers[0], file).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "FOUND") {
		e.t.Fatalf("clamscan: %v: %s", err, out)
	}
	return err != nil
}

// inHurry makes the product's checks come often enough for a test.
func inHurry(t *testing.T, folder string) {
	t.Helper()
	path := filepath.Join(folder, "headgate.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	quick := strings.Replace(string(b), `"30s"`, `"200ms"`, 1)
	if quick == string(b) {
		t.Fatalf("%s has no interval of 30s", path)
	}
	if err := os.WriteFile(path, []byte(quick), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The whole life of signatures on an endpoint, in the real agent's hands.
func TestTheAgentRefusesAndRevertsBadSignatures(t *testing.T) {
	needClamscan(t)
	const marker = "it says headgate-example-marker-1 in here"
	e := newEndpoint(t)

	good := product(t)
	inHurry(t, good)
	digest, a := e.stage(good, "1.0.0", 1)
	if err := a.Err(); err != nil {
		t.Fatalf("good signatures are refused: %v", err)
	}
	if p := e.activate(digest, 1); p.Attempt.State != ipc.AttemptProven || p.Digest != digest {
		t.Fatalf("good signatures: %+v", p.Attempt)
	}
	if !e.found(marker) || e.found("nothing") {
		t.Fatal("the active signatures do not find what they should, or find what they should not")
	}

	for i, bad := range badSignatures {
		folder := product(t)
		bad.do(t, folder)
		_, a := e.stage(folder, fmt.Sprintf("1.1.%d", i), 2)
		if a.Reason != "preflight-failed" || !strings.Contains(a.Detail, bad.why) {
			t.Errorf("%s: %v, %q; want preflight-failed with %q", bad.name, a.Reason, a.Detail, bad.why)
		}
	}

	flags := product(t)
	inHurry(t, flags)
	flagCleanFile(t, flags)
	wrong, a := e.stage(flags, "1.2.0", 3)
	if err := a.Err(); err != nil {
		t.Fatalf("preflight cannot know this machine's files, and refused: %v", err)
	}
	p := e.activate(wrong, 3)
	if p.Attempt.State != ipc.AttemptHarmed || p.Attempt.Reason != "check-failed" || p.Digest != digest || !strings.Contains(p.Attempt.Detail, "a clean file is flagged") {
		t.Errorf("a false positive: runs %s %s, %+v; want a revert to 1.0.0 that says why", p.Version, p.Digest, p.Attempt)
	}
	if !e.found(marker) {
		t.Error("after the revert the good signatures are not active")
	}
	if _, a := e.stage(flags, "1.2.0", 4); a.Reason != "quarantined" {
		t.Errorf("the reverted signatures are staged again: %+v", a)
	}
}
