package keeper

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a started child with its whole process group. It is waited for on
// the thread that forked it, because Pdeathsig is sent when that thread ends.
type process struct {
	cmd     *exec.Cmd
	started time.Time
	done    chan struct{} // closed when it was waited for
	err     error         // how it ended; after done
	out     *output

	conn   *net.UnixConn // its notify socket, or nil
	heard  chan struct{} // closed when all that came over conn was taken
	wg     sync.WaitGroup
	mu     sync.Mutex // guards said
	said   notice
	killed string // why we killed it, for what follows
}

// spawn starts cmd, whose SysProcAttr must ask for its own group. What it writes
// is kept in part, and goes to cmd.Stderr too if that is set. If notify, it gets a
// NOTIFY_SOCKET; wake is called, without locks, at each word from it.
func spawn(cmd *exec.Cmd, notify bool, wake func()) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{}), heard: make(chan struct{}), out: &output{}}
	if cmd.Stderr == nil {
		cmd.Stdout, cmd.Stderr = p.out, p.out
	} else {
		both := io.MultiWriter(p.out, cmd.Stderr)
		cmd.Stdout, cmd.Stderr = both, both // the same one: it gets one write at a time
	}
	cmd.WaitDelay = time.Second // a grandchild may hold the pipe
	if notify {
		conn, name, err := listenNotify()
		if err != nil {
			return nil, err
		}
		p.conn = conn
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+name)
	}
	up := make(chan error, 1)
	go func() {
		defer close(p.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		p.started = time.Now()
		up <- err
		if err != nil {
			return
		}
		err = cmd.Wait()
		if !errors.Is(err, exec.ErrWaitDelay) {
			p.err = err
		}
		p.hearOut()
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left in its group
	}()
	if err := <-up; err != nil {
		if p.conn != nil {
			p.conn.Close()
		}
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	if p.conn != nil {
		p.wg.Go(func() {
			defer close(p.heard)
			receiveNotify(p.conn, func() int { return cmd.Process.Pid }, func(b []byte) {
				p.mu.Lock()
				p.said.take(b, time.Now())
				p.mu.Unlock()
				wake()
			})
		})
	}
	return p, nil
}

// lastWords is how long a process that ended before it was known to be ready is
// listened to: what it said is in the socket already.
const lastWords = 100 * time.Millisecond

// hearOut reads what an ended process said before its end: READY=1 may still lie
// in the socket, and without it a crash would be taken for one before ready.
func (p *process) hearOut() {
	if p.conn == nil || p.notice().ready {
		return
	}
	if err := p.conn.SetReadDeadline(time.Now().Add(lastWords)); err == nil {
		<-p.heard
	}
}

func (p *process) notice() notice {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said
}

// end makes the process and its group end: politely at first, if grace allows,
// and waits until that is so.
func (p *process) end(grace time.Duration) {
	if grace > 0 {
		syscall.Kill(p.cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(grace):
		}
	}
	p.kill()
	<-p.done
	p.close()
}

func (p *process) kill() {
	select {
	case <-p.done: // its number may be another's by now
	default:
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// close lets go of the notify socket of a process that has ended.
func (p *process) close() {
	if p.conn != nil {
		p.conn.Close()
		p.wg.Wait()
	}
}

// outcome says how the process ended. Status 0 and a stop by an operator's
// SIGTERM or SIGINT are no crash.
func (p *process) outcome() (abnormal bool, text string) {
	state := p.cmd.ProcessState
	if state == nil {
		return true, fmt.Sprint(p.err)
	}
	ws := state.Sys().(syscall.WaitStatus)
	text = state.String()
	if p.killed != "" {
		return true, p.killed
	}
	if ws.Signaled() && (ws.Signal() == syscall.SIGTERM || ws.Signal() == syscall.SIGINT) {
		return false, text
	}
	if say := p.out.telling(); say != "" {
		text += ": " + say
	}
	return ws.Signaled() || ws.ExitStatus() != 0, text
}

// output keeps the beginning and the end of what a process writes.
type output struct {
	mu         sync.Mutex
	head, tail []byte
}

const outputPart = 4 << 10

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(b)
	if room := outputPart - len(o.head); room > 0 {
		o.head = append(o.head, b[:min(room, len(b))]...)
	}
	o.tail = append(o.tail, b...)
	if len(o.tail) > 2*outputPart {
		o.tail = slices.Clone(o.tail[len(o.tail)-outputPart:])
	}
	return n, nil
}

// telling is the line that says most about an end: a panic's, or the last one.
func (o *output) telling() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	last := ""
	for line := range strings.SplitSeq(string(o.head)+"\n"+string(o.tail), "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return line
		}
		if line != "" {
			last = line
		}
	}
	return last
}
