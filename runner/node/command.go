package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Defaults and bounds of a command.
const (
	DefaultCommandTimeout = 10 * time.Second
	// DefaultMaxOutput is how much a command may write, in bytes.
	DefaultMaxOutput = 1 << 20
	// MaxProcesses is how many processes a command may have at once. It is
	// looked at every few milliseconds, so that a fork bomb gets some way
	// beyond.
	MaxProcesses = 128

	// drain is how long output is waited for when the last process is gone,
	// which closed its end of the pipes already.
	drain = time.Second
)

// Path is the PATH of every command. It finds ip, ipvsadm and arptables also
// for a caller who is not root.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Command is something to run in a node. Either Args or Shell is given.
type Command struct {
	// Args is a program, looked up in PATH, and its arguments.
	Args []string
	// Shell is a line for /bin/sh -c.
	Shell string
	// Env is put after PATH, HOME=/root, TERM=dumb, LC_ALL=C.UTF-8 and
	// LVSLAB_NODE (the node's name). The caller's environment is not passed on.
	Env []string
	// Dir is the working directory; empty means "/".
	Dir string
	// Timeout ends the command; 0 means DefaultCommandTimeout.
	Timeout time.Duration
	// MaxOutput bounds Stdout and Stderr together, in bytes; 0 means
	// DefaultMaxOutput.
	MaxOutput int
	// Combined puts both outputs into Stdout, in the order of the writes.
	Combined bool
	// Watch, when it is not nil, gets what the command writes as it comes, which
	// is then neither kept nor bounded.
	Watch func(chunk []byte)
	// Started, when it is not nil, is told the number of the first process,
	// which cannot have been given to another one before it returns.
	Started func(pid int)
}

// Output is what came of a command.
type Output struct {
	Stdout, Stderr []byte
	// ExitCode is the exit status, -1 when there is none.
	ExitCode int
	// Signal names what ended the command ("SIGSEGV"), empty for an exit.
	Signal string
	// TimedOut and Truncated say that the command was killed: it took longer
	// than Timeout, wrote more than MaxOutput. It has no exit code then.
	TimedOut, Truncated bool
	Elapsed             time.Duration
	// Err says why the command could not be run to its end. An exit status, a
	// signal, TimedOut and Truncated are no such error.
	Err error
}

// spec goes to the process that starts a command or program, report comes back.
type spec struct {
	Args  []string
	Env   []string
	Dir   string
	Limit int  // of processes
	TTY   bool // its input is the terminal that becomes its own
}

type report struct {
	Exit   int
	Signal int
	Err    string
}

// Descriptors of the first process.
const (
	specFd   = 3
	reportFd = 4
)

// Run runs a command in the node that f belongs to: in its network namespace,
// with its files, as the only processes in sight. It returns when all processes
// of the command are gone: those that it left in the background are killed when
// it ends itself, and all of them are at the timeout, by SIGKILL. Its input is
// empty; it has no terminal. It may do with the node's network what root may, and
// has not the rights to mount, to load modules, or to set the machine's clock.
//
// No limit of setrlimit(2) binds root, so a fork bomb could take the machine's
// whole table of processes: a command with more than MaxProcesses is killed, and
// Err says so.
func Run(ctx context.Context, f *Files, c Command) Output {
	start := time.Now()
	out, err := run(ctx, f, c)
	out.Elapsed = time.Since(start)
	if err != nil {
		out.ExitCode = -1
		out.Err = fmt.Errorf("node %s: run %s: %w", f.name, c.title(), err)
	}
	return out
}

func (c Command) title() string {
	const longest = 60
	s := c.Shell
	if s == "" {
		s = fmt.Sprint(c.Args)
	}
	if len(s) > longest {
		s = s[:longest] + "…"
	}
	return fmt.Sprintf("%q", s)
}

func run(ctx context.Context, f *Files, c Command) (out Output, err error) {
	s := spec{Args: c.Args, Dir: c.Dir, Limit: MaxProcesses}
	switch {
	case (len(c.Args) > 0) == (c.Shell != ""):
		return out, errors.New("wanted either arguments or a shell line")
	case c.Shell != "":
		s.Args = []string{"/bin/sh", "-c", c.Shell}
	}
	if s.Dir == "" {
		s.Dir = "/"
	}
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = DefaultCommandTimeout
	}
	v, done, err := f.use()
	if err != nil {
		return out, err
	}
	defer done()
	if err := ctx.Err(); err != nil {
		return out, err
	}
	s.Env = append(append(environ(f.name, v), "TERM=dumb"), c.Env...)

	p, err := startCommand(v, s, c)
	if err != nil {
		return out, err
	}
	defer p.closePipes()
	if c.Started != nil {
		c.Started(p.process.Pid)
	}
	kill := sync.OnceFunc(func() { _ = p.process.Kill() }) // the kernel kills all of its namespace
	defer context.AfterFunc(ctx, kill)()
	defer context.AfterFunc(f.ctx, kill)()
	var late atomic.Bool
	timer := time.AfterFunc(timeout, func() { late.Store(true); kill() })
	defer timer.Stop()

	left := &budget{kill: kill, watch: c.Watch}
	left.bytes.Store(int64(DefaultMaxOutput))
	if c.MaxOutput > 0 {
		left.bytes.Store(int64(c.MaxOutput))
	}
	var readers sync.WaitGroup
	var result []byte
	readers.Go(func() { out.Stdout = left.read(p.stdout) })
	if p.stderr != nil {
		readers.Go(func() { out.Stderr = left.read(p.stderr) })
	}
	readers.Go(func() { result, _ = io.ReadAll(io.LimitReader(p.report, 64<<10)) })

	state, waitErr := p.process.Wait()
	p.setDeadline(time.Now().Add(drain))
	readers.Wait()

	var r report
	switch told := json.Unmarshal(result, &r) == nil; {
	case left.over.Load():
		out.Truncated, out.ExitCode = true, -1
	case told && r.Err != "":
		return out, errors.New(r.Err)
	case told:
		out.ExitCode = r.Exit
		if r.Signal != 0 {
			out.ExitCode, out.Signal = -1, unix.SignalName(unix.Signal(r.Signal))
		}
	case ctx.Err() != nil:
		return out, context.Cause(ctx)
	case f.ctx.Err() != nil:
		return out, errFilesClosed
	case late.Load():
		out.TimedOut, out.ExitCode = true, -1
	case waitErr != nil:
		return out, waitErr
	default:
		return out, fmt.Errorf("its first process ended by itself (%s): does the program call node.Main?", state)
	}
	return out, nil
}

// running is a started command with our ends of its pipes.
type running struct {
	process                *os.Process
	stdout, stderr, report *os.File
}

func startCommand(v *view, s spec, c Command) (*running, error) {
	p := &running{}
	var theirs []*os.File
	closeTheirs := func() {
		for _, f := range theirs {
			f.Close()
		}
	}
	defer closeTheirs()
	pipe := func(ours **os.File) (*os.File, error) {
		r, w, err := os.Pipe()
		if err == nil {
			*ours = r
			theirs = append(theirs, w)
		}
		return w, err
	}
	fail := func(err error) (*running, error) {
		p.closePipes()
		return nil, err
	}

	null, err := os.Open(os.DevNull)
	if err != nil {
		return fail(err)
	}
	theirs = append(theirs, null)
	specFile, err := memfile("lvslab-command", s)
	if err != nil {
		return fail(err)
	}
	theirs = append(theirs, specFile)
	stdout, err := pipe(&p.stdout)
	if err != nil {
		return fail(err)
	}
	stderr := stdout
	if !c.Combined {
		if stderr, err = pipe(&p.stderr); err != nil {
			return fail(err)
		}
	}
	report, err := pipe(&p.report)
	if err != nil {
		return fail(err)
	}
	p.process, err = v.start([]string{"lvslab", commandArgument}, &os.ProcAttr{
		Files: []*os.File{null, stdout, stderr, specFile, report}, Env: noEnv,
	})
	if err != nil {
		return fail(fmt.Errorf("start its first process: %w", err))
	}
	return p, nil
}

func (p *running) closePipes() {
	for _, f := range []*os.File{p.stdout, p.stderr, p.report} {
		if f != nil {
			f.Close()
		}
	}
}

func (p *running) setDeadline(t time.Time) {
	for _, f := range []*os.File{p.stdout, p.stderr, p.report} {
		if f != nil {
			_ = f.SetReadDeadline(t)
		}
	}
}

// budget is the output that is left to a command, of all its pipes.
type budget struct {
	bytes atomic.Int64
	over  atomic.Bool
	kill  func()
	watch func([]byte)
}

// read takes what comes until its end, or until the budget is spent.
func (b *budget) read(r io.Reader) []byte {
	var kept bytes.Buffer
	chunk := make([]byte, 16<<10)
	for {
		n, err := r.Read(chunk)
		switch {
		case n > 0 && b.watch != nil:
			b.watch(chunk[:n])
		case n > 0:
			left := b.bytes.Add(int64(-n))
			if left < 0 {
				kept.Write(chunk[:max(int64(n)+left, 0)])
				b.over.Store(true)
				b.kill()
				return kept.Bytes()
			}
			kept.Write(chunk[:n])
		}
		if err != nil {
			return kept.Bytes()
		}
	}
}
