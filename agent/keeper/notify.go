package keeper

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// notice is what an engine said by sd_notify(3) so far.
type notice struct {
	ready    bool
	watchdog time.Time // of the last WATCHDOG=1, or of READY=1
	events   int64     // X_HEADGATE_EVENTS, since the engine's start
	lost     int64     // X_HEADGATE_LOST
	counted  bool
}

// take adds one datagram of newline-separated assignments; what is unknown or
// malformed is ignored, as sd_notify has it.
func (n *notice) take(b []byte, now time.Time) {
	for line := range strings.SplitSeq(string(b), "\n") {
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "READY":
			if value == "1" && !n.ready {
				n.ready, n.watchdog = true, now
			}
		case "WATCHDOG":
			if value == "1" {
				n.watchdog = now
			}
		case "X_HEADGATE_EVENTS", "X_HEADGATE_LOST":
			v, err := strconv.ParseInt(value, 10, 64)
			if err != nil || v < 0 {
				continue
			}
			n.counted = true
			if key == "X_HEADGATE_LOST" {
				n.lost = v
				continue
			}
			n.events = v
		}
	}
}

// listenNotify opens an abstract socket for one engine: no file is left behind
// and no path is too long. The kernel tells who sends.
func listenNotify() (*net.UnixConn, string, error) {
	name := "@headgate-" + rand.Text()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, "", fmt.Errorf("open notify socket: %w", err)
	}
	raw, err := c.SyscallConn()
	if err == nil {
		var set error
		err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
		if err == nil {
			err = set
		}
	}
	if err != nil {
		c.Close()
		return nil, "", fmt.Errorf("open notify socket: %w", err)
	}
	return c, name, nil
}

// receiveNotify reads until c is closed and gives each datagram that a process
// of the group sent.
func receiveNotify(c *net.UnixConn, group func() int, take func([]byte)) {
	buf, oob := make([]byte, 4096), make([]byte, 128)
	for {
		n, on, _, _, err := c.ReadMsgUnix(buf, oob)
		if err != nil {
			return
		}
		if pid, ok := sender(oob[:on]); ok {
			// The engine itself may have ended since; nobody else had its number then.
			if g, err := syscall.Getpgid(pid); pid == group() || err == nil && g == group() {
				take(buf[:n])
			}
		}
	}
}

func sender(oob []byte) (pid int, ok bool) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, false
	}
	for i := range msgs {
		if cred, err := unix.ParseUnixCredentials(&msgs[i]); err == nil {
			return int(cred.Pid), true
		}
	}
	return 0, false
}

// tellManager speaks sd_notify to the service manager that started the keeper,
// if one did.
func tellManager(state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	c, err := net.Dial("unixgram", name)
	if err != nil {
		return // the manager decides by itself what silence means
	}
	defer c.Close()
	_, _ = c.Write([]byte(state))
}

// managerWatchdog is how often the manager wants to hear from us, or 0.
func managerWatchdog() time.Duration {
	us, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || us <= 0 {
		return 0
	}
	return time.Duration(us) * time.Microsecond / 2
}
