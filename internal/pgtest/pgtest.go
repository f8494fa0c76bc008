// Package pgtest starts a throw-away PostgreSQL for tests, on a unix socket in
// a temporary folder, with fsync on as in production.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// RequireEnv names the environment variable that makes a missing PostgreSQL a
// failure instead of a skip.
const RequireEnv = "HEADGATE_REQUIRE_POSTGRES"

// errNone means that no PostgreSQL is installed.
var errNone = errors.New("no initdb and postgres on PATH or in /usr/lib/postgresql/*/bin")

// Server is a running PostgreSQL.
type Server struct {
	dir    string
	bin    string
	cred   *syscall.Credential // nil: run as ourselves
	cmd    *exec.Cmd
	output bytes.Buffer
	seq    int
}

// Start starts a server that ends with the test. Without PostgreSQL on the
// machine it skips the test, or fails it if HEADGATE_REQUIRE_POSTGRES is set.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s, err := Run()
	if errors.Is(err, errNone) && os.Getenv(RequireEnv) == "" {
		tb.Skipf("PostgreSQL is not installed, so this was not tested: %v", err)
	}
	if err != nil {
		tb.Fatalf("start PostgreSQL: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Stop(); err != nil {
			tb.Errorf("stop PostgreSQL: %v", err)
		}
	})
	return s
}

// Run starts a server; the caller stops it.
func Run() (*Server, error) {
	bin, err := find()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "headgate-pg-") // short: a socket's path has at most 107 bytes
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, bin: bin}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// find looks for the newest installed PostgreSQL. Debian keeps its programs off
// the PATH.
func find() (string, error) {
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
	if p, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(p))
	}
	for _, d := range dirs {
		_, noInit := os.Stat(filepath.Join(d, "initdb"))
		_, noServer := os.Stat(filepath.Join(d, "postgres"))
		if noInit == nil && noServer == nil {
			return d, nil
		}
	}
	return "", errNone
}

func version(bin string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	if err != nil {
		return 0
	}
	return n
}

// start initialises and starts the server. PostgreSQL refuses to run as root,
// so that root runs it as another user.
func (s *Server) start() error {
	if os.Geteuid() == 0 {
		if err := s.becomeOther(); err != nil {
			return err
		}
	}
	if out, err := s.command("initdb", "-D", s.data(), "-U", "headgate", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync").CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return s.serve()
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) serve() error {
	s.cmd = s.command("postgres", "-D", s.data(), "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=60", "-c", "fsync=on", "-c", "shared_buffers=128MB")
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	return s.wait()
}

// becomeOther chooses the user that owns and runs the server.
func (s *Server) becomeOther() error {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return os.Chown(s.dir, uid, gid)
	}
	return errors.New("PostgreSQL refuses to run as root, and there is no user postgres or nobody")
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// wait waits until the server answers.
func (s *Server) wait() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.dsn("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, s.output.String())
		case <-tick.C:
		}
	}
}

func (s *Server) dsn(database string) string {
	return "postgres://headgate@/" + database + "?host=" + url.QueryEscape(s.dir)
}

// NewDatabase makes an empty database and returns its data source name.
func (s *Server) NewDatabase(tb testing.TB) string {
	tb.Helper()
	dsn, err := s.Create(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return dsn
}

// Create makes an empty database and returns its data source name.
func (s *Server) Create(ctx context.Context) (string, error) {
	conn, err := pgx.Connect(ctx, s.dsn("postgres"))
	if err != nil {
		return "", fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(ctx)
	s.seq++
	name := fmt.Sprintf("t%d", s.seq)
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", fmt.Errorf("create database: %w", err)
	}
	return s.dsn(name), nil
}

// Log is what the server wrote so far. Call it after Stop, or when it is idle.
func (s *Server) Log() string { return s.output.String() }

// PID is the server's main process; its children are the backends.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Crash ends the server at once, as a power cut does. Resume starts it again, at
// the same place.
func (s *Server) Crash(tb testing.TB) {
	tb.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		tb.Fatal(err)
	}
	_ = s.cmd.Wait() // its status says how it was asked to stop, no more
	s.cmd = nil
}

// Resume starts a server that crashed, and waits until it answers.
func (s *Server) Resume(tb testing.TB) {
	tb.Helper()
	if err := s.serve(); err != nil {
		tb.Fatal(err)
	}
}

// Stop ends the server and removes its folder. Nothing is written back first: on a
// busy disk that took longer than any test should wait for what is thrown away.
func (s *Server) Stop() error {
	var err error
	if s.cmd != nil && s.cmd.Process != nil {
		err = s.cmd.Process.Signal(syscall.SIGQUIT) // immediate shutdown
		done := make(chan error, 1)
		go func() { done <- s.cmd.Wait() }()
		select {
		case <-done: //nolint:errcheck // its status says how it was asked to stop, no more
		case <-time.After(20 * time.Second):
			err = errors.Join(err, s.cmd.Process.Kill(), <-done)
		}
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}
