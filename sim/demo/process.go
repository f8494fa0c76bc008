package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/headgate/headgate/internal/atomicfile"
)

// pidsFile lists, in the demo's folder, what --keep left running.
const pidsFile = "processes"

// stopGrace is how long a child may take to end by itself.
const stopGrace = 8 * time.Second

// children are the processes that the demo started and must end.
type children struct {
	starts chan func()

	mu  sync.Mutex // guards all
	all []*child
}

// child is one process, leader of a group of its own: a ctrl-C at the terminal
// reaches the demo alone, which then ends everything in order.
type child struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // after done
}

// newChildren starts the one thread that starts processes: the kernel kills a
// child when the thread that started it ends, and this one ends with the demo.
func newChildren() *children {
	c := &children{starts: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for f := range c.starts {
			f()
		}
	}()
	return c
}

// start runs a process with its log in a file. leave means that it may outlive
// the demo.
func (c *children) start(name string, leave bool, log string, env []string, stdout io.Writer, argv ...string) (*child, error) {
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer f.Close()
	p := &child{name: name, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stderr, p.cmd.Stdout = env, f, f
	if stdout != nil {
		p.cmd.Stdout = stdout
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if !leave {
		p.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	started := make(chan error)
	c.starts <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	c.mu.Lock()
	c.all = append(c.all, p)
	c.mu.Unlock()
	return p, nil
}

// ended tells whether a child has ended, which none should before it is told to.
func (c *children) ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.all {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended by itself: %w", p.name, p.err)
		default:
		}
	}
	return nil
}

// stop ends all children, the youngest first, and waits for each: asked
// politely, then made to.
func (c *children) stop() {
	c.mu.Lock()
	all := c.all
	c.all = nil
	c.mu.Unlock()
	var wg sync.WaitGroup
	for i := len(all) - 1; i > 0; i-- { // the server, the eldest, hears the goodbyes
		wg.Go(all[i].stop)
	}
	wg.Wait()
	if len(all) > 0 {
		all[0].stop()
	}
}

// close ends the thread that starts processes.
func (c *children) close() { close(c.starts) }

func (p *child) stop() {
	group := -p.cmd.Process.Pid
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopGrace):
	}
	syscall.Kill(group, syscall.SIGKILL) // whatever it left behind
	<-p.done
}

// leave writes down the processes that go on without the demo.
func (c *children) leave(dir string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b bytes.Buffer
	for i := len(c.all) - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "%d %s\n", c.all[i].cmd.Process.Pid, c.all[i].name)
	}
	c.all = nil
	return atomicfile.Write(filepath.Join(dir, pidsFile), b.Bytes(), 0o644)
}

// End ends what a demo with Keep left running in dir: the agents first, then the
// server.
func End(dir string) error {
	list := filepath.Join(dir, pidsFile)
	b, err := os.ReadFile(list)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no demo was left running in %s, or it was ended already", dir)
	}
	if err != nil {
		return fmt.Errorf("end the demo in %s: %w", dir, err)
	}
	for line := range strings.Lines(string(b)) {
		number, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		pid, err := strconv.Atoi(number)
		if err != nil || pid < 2 {
			return fmt.Errorf("end the demo: %s: %q is no process", list, line)
		}
		if !ofDemo(pid, dir) {
			continue // ended, and its number may be another's now
		}
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end process %d: %w", pid, err)
		}
	}
	return os.Remove(list)
}

// ofDemo tells whether a process was started by the demo in dir: its arguments
// name the folder.
func ofDemo(pid int, dir string) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.Contains(string(b), dir+"/")
}

// command runs headgate to its end and returns its stdout; its stderr is in the
// error.
func (d *demo) command(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, d.Headgate, args...)
	cmd.Env = d.env
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return out, fmt.Errorf("headgate %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out, nil
}
