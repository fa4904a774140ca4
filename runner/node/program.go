package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// DefaultProgramProcesses is how many processes a program may have at once: more
// than a person's shell needs, and a make -j besides.
const DefaultProgramProcesses = 512

// Program is something to run in a node, with whatever it reads and writes at
// hand.
type Program struct {
	// Args is a program, looked up in PATH, and its arguments.
	Args []string
	// Env is put after PATH, HOME=/root, USER and LOGNAME=root, SHELL, LANG and
	// LC_ALL=C.UTF-8, TERM and LVSLAB_NODE (the node's name). The caller's
	// environment is not passed on.
	Env []string
	// Dir is the working directory; empty means HOME, or / where HOME is not
	// there.
	Dir string
	// TTY gives the program a terminal of the node's own, as its session's.
	TTY bool
	// Term is TERM; empty means "dumb".
	Term string
	// Rows and Cols are the size of the terminal, in characters; 0 means 24
	// and 80.
	Rows, Cols uint16
	// Limit is how many processes it may have at once, itself and those of its
	// session and those that descend from it; 0 means DefaultProgramProcesses.
	// Those of a program with more are killed, and the last line of what it
	// writes says so.
	Limit int
}

// Ended is how a program ended.
type Ended struct {
	// Code is the exit status; for a signal it is 128 and its number, as a
	// shell has it.
	Code int
	// Signal names what ended it, without SIG ("TERM"), empty for an exit.
	Signal string
}

// Process is a program that was started.
//
// It sees, and may signal, all processes of the other programs of its node, as
// on a machine. What it leaves in the background when it ends lives on, as on a
// machine, until the node's Files are closed or this process ends: a daemon
// started from a shell stays when the shell is left. On a terminal the kernel
// sends SIGHUP to the foreground process group then.
type Process struct {
	// Stdin is the program's input. Closing it ends the input. On a terminal
	// that would hang up, so there closing types the end-of-file character
	// (Ctrl-D), and only where the terminal reads by lines, as cat does:
	// programs that take single keys would take it for a key.
	Stdin io.WriteCloser
	// Stdout is the program's output, and Stderr its errors, nil on a terminal.
	// Each must be read by one goroutine at a time, and to its end: nothing is
	// read ahead, so a program whose output nobody reads waits. The end is when
	// all that could write have closed it, or, once the program itself has
	// ended, when those it left behind have been waited for a moment (0.2 s).
	// What these write later is thrown away.
	Stdout, Stderr io.Reader

	in       *nodeInit
	id       uint64
	terminal *os.File // the master, nil for none
	stdin    *os.File // the pipe, nil on a terminal
	outputs  []*output

	once  sync.Once
	done  chan struct{}
	ended Ended
	err   error
}

// Start starts a program in the node that f belongs to: in its network namespace,
// with its files and the rights that commands have (see Run), among the node's
// other programs. A program that is not there is a *NotFoundError, one that the
// kernel does not run a *NotExecutableError.
func Start(f *Files, p Program) (*Process, error) {
	proc, err := startProgram(f, p)
	if err != nil {
		return nil, fmt.Errorf("node %s: start %q: %w", f.name, p.Args, err)
	}
	return proc, nil
}

func startProgram(f *Files, p Program) (*Process, error) {
	if len(p.Args) == 0 {
		return nil, errors.New("wanted a program and its arguments")
	}
	v, done, err := f.use()
	if err != nil {
		return nil, err
	}
	defer done()
	in, err := f.init()
	if err != nil {
		return nil, err
	}
	proc := &Process{in: in, done: make(chan struct{})}
	theirs, err := proc.connect(p)
	defer func() {
		for _, fd := range theirs {
			_ = unix.Close(fd)
		}
	}()
	if err == nil {
		err = in.start(proc, p.spec(f.name, v), theirs)
	}
	if err != nil {
		proc.Close()
		return nil, err
	}
	return proc, nil
}

// spec is what the node's init is told.
func (p Program) spec(node string, v *view) spec {
	s := spec{Args: p.Args, Dir: p.Dir, Limit: p.Limit, TTY: p.TTY}
	if s.Limit <= 0 {
		s.Limit = DefaultProgramProcesses
	}
	term := p.Term
	if term == "" {
		term = "dumb"
	}
	s.Env = append(environ(node, v), "LANG=C.UTF-8", "USER=root", "LOGNAME=root", "SHELL="+shell(v), "TERM="+term)
	s.Env = append(s.Env, p.Env...)
	return s
}

// connect makes the program's input and outputs and returns its ends of them,
// which are the caller's to close.
func (p *Process) connect(o Program) (theirs []int, err error) {
	if o.TTY {
		master, slave, err := openTerminal(p.in.root, o.Rows, o.Cols)
		if err != nil {
			return nil, err
		}
		p.terminal = master
		p.Stdin = &keyboard{master}
		p.Stdout = p.output(master)
		p.outputs[0].noted = true
		return []int{slave}, nil
	}
	in, out, err := pipe()
	if err != nil {
		return nil, err
	}
	theirs = append(theirs, in)
	p.stdin = ours(out)
	p.Stdin = p.stdin
	for _, to := range []*io.Reader{&p.Stdout, &p.Stderr} {
		in, out, err := pipe()
		if err != nil {
			return theirs, err
		}
		theirs = append(theirs, out)
		*to = p.output(ours(in))
	}
	p.outputs[1].noted = true
	return theirs, nil
}

func (p *Process) output(file *os.File) *output {
	o := &output{file: file, ended: p.done, terminal: file == p.terminal}
	p.outputs = append(p.outputs, o)
	return o
}

// end is told how the program ended. note is put after all that it wrote.
func (p *Process) end(e Ended, note string, err error) {
	p.once.Do(func() {
		p.ended, p.err = e, err
		p.outputs[len(p.outputs)-1].note = note
		close(p.done)
		// Who still writes would wait for ever.
		if p.stdin != nil {
			p.stdin.Close()
		} else if p.terminal != nil {
			_ = p.terminal.SetWriteDeadline(past)
		}
		for _, o := range p.outputs {
			o.hurry()
		}
	})
}

// Wait returns when the program itself has ended, whatever it left behind; its
// outputs come to their end by themselves then, if somebody reads them. The error
// is that the program was lost: the node's files were closed, or the process
// that looks after its programs was killed.
func (p *Process) Wait() (Ended, error) {
	<-p.done
	return p.ended, p.err
}

// Signal sends a signal to the program's process group, on a terminal to the
// process group in the foreground there, as sshd(8) does. It is
// os.ErrProcessDone once the program has ended.
func (p *Process) Signal(s unix.Signal) error {
	if s <= 0 || s > 64 {
		return fmt.Errorf("signal %d: %w", s, unix.EINVAL)
	}
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
	}
	return p.in.order(order{ID: p.id, Do: doSignal, Signal: int(s)}, p.terminal)
}

// Resize changes the size of the terminal; the kernel sends SIGWINCH to the
// process group in the foreground.
func (p *Process) Resize(rows, cols uint16) error {
	if p.terminal == nil {
		return errors.New("the program has no terminal")
	}
	return setSize(p.terminal, rows, cols)
}

// Kill kills the program, all of its session and all that descend from it, by
// SIGKILL. What has become a daemon, in a session of its own and with no parent
// but init, stays. It does nothing once the program has ended.
func (p *Process) Kill() {
	select {
	case <-p.done:
	default:
		_ = p.in.order(order{ID: p.id, Do: doKill}, nil)
	}
}

// Close lets go of the input and the outputs, as when the connection to a
// machine breaks: a program on a terminal gets SIGHUP, another one finds its
// input at its end, and SIGPIPE where it writes. Nothing of what it wrote can be
// read any more. Once the outputs were read to their end there is nothing to let
// go of, but it does no harm.
func (p *Process) Close() {
	if p.stdin != nil {
		p.stdin.Close()
	}
	for _, o := range p.outputs {
		o.close()
	}
}
