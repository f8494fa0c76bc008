// Package eximtest runs a real mail server, Debian's Exim, for tests: it listens
// on loopback, relays to nobody, and keeps what it takes in a Maildir for each
// recipient.
//
// What it does with a recipient, the local part says: no.* is refused (550),
// later.* is put off (451) while the server is down (see Down), datano.* and
// datalater.* are so after the whole message, slow.* gets its answer only after
// the test's patience, and everybody else is taken.
package eximtest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"
)

// Server is a running mail server.
type Server struct {
	Port int
	dir  string
	uid  int
	gid  int
	cmd  *exec.Cmd
	log  *bytes.Buffer
}

// Options choose how the server behaves.
type Options struct {
	// DropDoubles has the server take a Message-ID once a week, as docs/notice.md
	// tells operators to.
	DropDoubles bool
	// Relay, if not 0, is the port on this machine to which mail for RelayDomain
	// goes on.
	Relay       int
	RelayDomain string
}

// configuration is all of Exim's.
var configuration = template.Must(template.New("").Parse(`primary_hostname = mx.example
spool_directory = {{.Dir}}/spool
log_file_path = {{.Dir}}/log/%slog
pid_file_path = {{.Dir}}/exim.pid
local_interfaces = <; 127.0.0.1
daemon_smtp_ports = {{.Port}}
qualify_domain = example
deliver_drop_privilege = true
accept_8bitmime = true
smtputf8_advertise_hosts =
tls_advertise_hosts =
host_lookup =
rfc1413_hosts =
acl_smtp_rcpt = rcpt
acl_smtp_data = data
message_size_limit = 5M
smtp_accept_max = 200
smtp_accept_queue_per_connection = 0
queue_run_in_order = true
begin acl
rcpt:
  deny    local_parts = ^no\\.
          message = there is nobody of that name
  defer   local_parts = ^later\\.
          condition = ${if exists{{"{"}}{{.Dir}}/down}}
          message = come back later
  warn    local_parts = ^datano\\.
          set acl_m_what = no
  warn    local_parts = ^datalater\\.
          condition = ${if exists{{"{"}}{{.Dir}}/down}}
          set acl_m_what = later
  warn    local_parts = ^slow\\.
          condition = ${if exists{{"{"}}{{.Dir}}/down}}
          set acl_m_what = slow
  accept
data:
  deny    condition = ${if eq{$acl_m_what}{no}}
          message = this is not wanted here
  defer   condition = ${if eq{$acl_m_what}{later}}
          message = no room just now
  accept  condition = ${if eq{$acl_m_what}{slow}}
          delay = 8s
  accept
{{- if .DropDoubles}}
# Lets the first message of each Message-ID through, and that one again on each
# later run of the queue. What was seen is noted only once a message is in the
# spool, so that none is dropped for one that was lost; own before any, so that a
# crash between the two lets a double through and no message out.
first_of_its_id:
  accept  seen = 14d / key=own_$acl_arg1.$message_exim_id / readonly
  deny    seen = 14d / key=any_$acl_arg1 / readonly
  warn    seen = 14d / key=own_$acl_arg1.$message_exim_id
  warn    seen = 14d / key=any_$acl_arg1
  accept
{{- end}}
begin routers
{{- if .DropDoubles}}
doubles:
  driver = redirect
  condition = ${if !acl {{"{{"}}first_of_its_id}{${sha256:$h_message-id:}}}}
  data = :blackhole:
{{- end}}
{{- if .Relay}}
relay:
  driver = manualroute
  domains = {{.RelayDomain}}
  route_list = * 127.0.0.1
  self = send
  transport = relay
{{- end}}
all:
  driver = accept
  transport = maildir
begin transports
relay:
  driver = smtp
  port = {{if .Relay}}{{.Relay}}{{else}}25{{end}}
  allow_localhost
  tls_verify_certificates =
  hosts_avoid_tls = *
maildir:
  driver = appendfile
  maildir_format
  directory = {{.Dir}}/mail/${sha256:$local_part@$domain}
  create_directory
  delivery_date_add
  envelope_to_add
  return_path_add
begin retry
* * F,1h,1m
`))

// Start starts a server and stops it when the test ends. Where Exim is not
// installed, or the test does not run as root, the test is skipped; with
// HEADGATE_REQUIRE_EXIM set it fails.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	program, err := exec.LookPath("exim4")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/exim4")
	}
	who, errUser := user.Lookup("Debian-exim")
	if err != nil || errUser != nil || os.Getuid() != 0 {
		if os.Getenv("HEADGATE_REQUIRE_EXIM") != "" {
			t.Fatal("Exim cannot be run here")
		}
		t.Skip("no Exim on this machine (Debian: exim4-daemon-light), or not root: mail is not tested against a real server")
	}
	s := &Server{dir: t.TempDir(), log: &bytes.Buffer{}}
	s.uid, _ = strconv.Atoi(who.Uid)
	s.gid, _ = strconv.Atoi(who.Gid)
	s.prepare(t, o)
	s.run(t, program)
	return s
}

func (s *Server) prepare(t testing.TB, o Options) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	for _, name := range []string{"", "spool", "log", "mail"} {
		path := filepath.Join(s.dir, name)
		if err := errors.Join(os.MkdirAll(path, 0o755), os.Chown(path, s.uid, s.gid)); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := configuration.Execute(&b, struct {
		Dir  string
		Port int
		Options
	}{s.dir, s.Port, o}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "exim.conf"), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	// The test's own folder is the caller's alone; Exim's user must pass through.
	for dir := filepath.Dir(s.dir); dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *Server) run(t testing.TB, program string) {
	t.Helper()
	s.cmd = exec.Command(program, "-C", filepath.Join(s.dir, "exim.conf"), "-bdf", "-q1m")
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan string, 1)
	go func() { done <- fmt.Sprint(s.cmd.Wait()) }()
	t.Cleanup(func() {
		s.cmd.Process.Signal(os.Interrupt)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			s.cmd.Process.Kill() //nolint:errcheck // it may have ended
			<-done
		}
		if t.Failed() {
			t.Logf("exim: %s\n%s", s.log, s.Log())
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", s.Addr())
		if err == nil {
			c.Close()
			return
		}
		select {
		case end := <-done:
			done <- end
			t.Fatalf("exim ended: %s\n%s\n%s", end, s.log, s.Log())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("exim does not listen: %v\n%s", err, s.log)
		}
	}
}

// Addr is where it listens.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// Down has later.*, datalater.* and slow.* be treated as their names say; Up ends
// that.
func (s *Server) Down(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "down"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Up ends what Down began.
func (s *Server) Up() { os.Remove(filepath.Join(s.dir, "down")) }

// Log is Exim's main log.
func (s *Server) Log() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "log", "mainlog"))
	p, _ := os.ReadFile(filepath.Join(s.dir, "log", "paniclog"))
	return string(b) + string(p)
}

// Mail reads what a recipient was delivered, in no order.
func (s *Server) Mail(t testing.TB, address string) (out []*Message) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "mail", mailbox(address), "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := mail.ReadMessage(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("mail to %s: %v\n%s", address, err, b)
		}
		out = append(out, &Message{Message: m, Raw: b})
	}
	return out
}

// Await waits until a recipient has n messages, and returns them.
func (s *Server) Await(t testing.TB, address string, n int) []*Message {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if got := s.Mail(t, address); len(got) >= n {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has %d messages, want %d\n%s", address, len(s.Mail(t, address)), n, s.Log())
		}
	}
}

// Queued is how many messages Exim has taken and not delivered yet.
func (s *Server) Queued(t testing.TB) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "spool", "input", "*-H"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// Message is a delivered message.
type Message struct {
	*mail.Message
	Raw []byte
}

// Count is how many messages each Message-ID was delivered as, over all
// recipients.
func (s *Server) Count(t testing.TB) map[string]int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "mail", "*", "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if id, ok := strings.CutPrefix(line, "Message-ID: "); ok {
				out[strings.TrimSpace(id)]++
				break
			}
		}
	}
	return out
}

// mailbox is the folder of a recipient: a hash, since Exim makes no path of what
// a stranger sent.
func mailbox(address string) string {
	return fmt.Sprintf("%X", sha256.Sum256([]byte(address)))
}
