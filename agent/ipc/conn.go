package ipc

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Conn carries messages over a stream: four bytes of length, big endian, then
// one JSON object with known keys only. Send and Receive may be called at the
// same time; Send from several goroutines.
type Conn struct {
	rw io.ReadWriteCloser
	mu sync.Mutex // guards writes
}

// NewConn makes a Conn of a stream.
func NewConn(rw io.ReadWriteCloser) *Conn { return &Conn{rw: rw} }

// Pair makes keeper's end and the file that link inherits as LinkFD.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair for link: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "keeper")
	ours, err := fromFile(os.NewFile(uintptr(fds[0]), "link"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// Inherit makes the Conn of a socket that the parent left open at fd.
func Inherit(fd uintptr) (*Conn, error) {
	unix.CloseOnExec(int(fd))
	return fromFile(os.NewFile(fd, "keeper"))
}

func fromFile(f *os.File) (*Conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("use descriptor %s as a socket: %w", f.Name(), err)
	}
	return NewConn(c), nil
}

// Close ends both directions; a blocked Receive returns.
func (c *Conn) Close() error { return c.rw.Close() }

// Send writes one message.
func (c *Conn) Send(m Message) error {
	b, err := Encode(m)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.rw.Write(b); err != nil {
		return fmt.Errorf("send message %d: %w", m.ID, err)
	}
	return nil
}

// Receive reads one message; io.EOF when the peer is gone.
func (c *Conn) Receive() (Message, error) { return Read(c.rw) }

// Encode gives a message's frame.
func Encode(m Message) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode message %d: %w", m.ID, err)
	}
	if len(body) > MaxMessage {
		return nil, fmt.Errorf("encode message %d: %d bytes, limit %d: %w", m.ID, len(body), MaxMessage, ErrInvalid)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...), nil
}

// Read reads one frame, strictly.
func Read(r io.Reader) (Message, error) {
	var m Message
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return m, io.EOF
		}
		return m, fmt.Errorf("read frame: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxMessage {
		return m, fmt.Errorf("read frame of %d bytes, limit %d: %w", n, MaxMessage, ErrInvalid)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return m, fmt.Errorf("read frame of %d bytes: %w", n, err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("decode message: %w: %w", err, ErrInvalid)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return m, fmt.Errorf("decode message: data after the JSON value: %w", ErrInvalid)
	}
	return m, m.check()
}

// Boottime is the time since the machine booted, suspend included
// (CLOCK_BOOTTIME): monotonic, and the same for every process.
func Boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("ipc: no CLOCK_BOOTTIME: " + err.Error()) // Linux has it since 2.6.39
	}
	return time.Duration(ts.Nano())
}
