package detect

import (
	"math/rand/v2"
	"slices"
	"strconv"
)

// Stream makes live events, the same for the same seed for ever. One event in
// sixteen is of kind "ipc", which preflight corpora tend to forget.
type Stream struct {
	rnd *rand.Rand
	n   uint64
	buf []string
}

// NewStream starts a stream.
func NewStream(seed uint64) *Stream {
	return &Stream{rnd: rand.New(rand.NewPCG(seed, 0x68656164)), buf: make([]string, EventInputs)}
}

// The words that events are made of. Inputs by index: 0 executable, 1 argument,
// 2 parent, 3 user, 4 working folder, 5 path or address, 6 protocol or mode,
// 7 name; the rest are numbers.
var (
	executables = []string{"/usr/bin/bash", "/usr/bin/curl", "/usr/bin/ssh", "/usr/sbin/nginx", "/usr/bin/python3", "/usr/lib/postgresql/bin/postgres", "/usr/bin/cron"}
	arguments   = []string{"-c", "--version", "https://mirror.example/index", "-i", "--daemon", "/etc/hosts"}
	users       = []string{"root", "www-data", "postgres", "alice", "backup"}
	folders     = []string{"/", "/home/alice", "/var/www", "/tmp", "/srv/data"}
	paths       = []string{"/etc/passwd", "/etc/shadow", "/var/log/syslog", "/tmp/.x", "/home/alice/notes.txt", "/usr/lib/libc.so.6"}
	addresses   = []string{"192.0.2.10:443", "198.51.100.7:22", "203.0.113.99:4444", "[2001:db8::1]:443"}
	sockets     = []string{"/run/dbus/system_bus_socket", "/run/containerd/containerd.sock", "/run/systemd/notify", "/tmp/.c2/ctl.sock"}
	kinds       = []string{"process", "process", "file", "network"}
)

// Next makes the next event. Its inputs are valid until the call after.
func (s *Stream) Next() Event {
	s.n++
	kind := kinds[s.rnd.IntN(len(kinds))]
	if s.n%16 == 0 {
		kind = "ipc"
	}
	in := s.buf
	in[0], in[1], in[2] = s.of(executables), s.of(arguments), s.of(executables)
	in[3], in[4] = s.of(users), s.of(folders)
	switch kind {
	case "network":
		in[5], in[6], in[7] = s.of(addresses), "tcp", ""
	case "ipc":
		in[5], in[6], in[7] = s.of(sockets), "stream", "sock"
	default:
		in[5], in[6], in[7] = s.of(paths), "read", ""
	}
	for i := 8; i < EventInputs; i++ {
		in[i] = strconv.Itoa(s.rnd.IntN(100)) // Itoa does not allocate below 100
	}
	return Event{Kind: kind, Inputs: in}
}

func (s *Stream) of(words []string) string { return words[s.rnd.IntN(len(words))] }

// Clone makes an event that outlives the next call of Next.
func (e Event) Clone() Event { return Event{Kind: e.Kind, Inputs: slices.Clone(e.Inputs)} }
