package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/lvslab/lvslab/runner/live"
)

// exitNoProgram is the status when lvslab itself could not run the program, as
// ssh(1) has it: a program's own status is most often another.
const exitNoProgram = 255

func (a *app) execCmd() *cobra.Command {
	var tty bool
	c := &cobra.Command{
		Use:   "exec [-t] LAB NODE [--] COMMAND [ARGUMENT]...",
		Short: "Run a command in a node of a lab that is up",
		Long: `Exec runs a program in a node, with its network, its files and its processes, as
ssh runs one on another machine: what it reads, writes and says of errors is
passed on, and so are signals. The machine's own programs are there. What the
program changes in files is the node's alone.

Exit status: the program's own; 128 and the signal's number if a signal ended it;
127 if there is no such program; 255 if lvslab could not run it.`,
		Example: `  lvslab exec dr/arptables director -- ipvsadm -Ln
  lvslab exec dr/arptables client -- curl -s http://172.25.12.100/
  lvslab exec -t dr/arptables web1 -- tcpdump -ni eth0
  echo hello | lvslab exec dr/arptables web1 -- tee /tmp/greeting`,
		Args: cobra.MinimumNArgs(3),
		RunE: func(c *cobra.Command, args []string) error {
			command := args[2:]
			if command[0] == "--" {
				command = command[1:]
			}
			if len(command) == 0 {
				return usageError{errors.New("no command to run (lvslab shell LAB NODE gives a shell)")}
			}
			return a.exec(c, args[0], live.Exec{Node: args[1], Args: command, TTY: tty})
		},
		ValidArgsFunction: completeLiving,
	}
	// What follows the command is the command's.
	c.Flags().SetInterspersed(false)
	c.Flags().BoolVarP(&tty, "tty", "t", false, "give it a terminal")
	return c
}

func (a *app) shellCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "shell LAB NODE",
		Short: "Open a shell in a node of a lab that is up",
		Long: `Shell opens a shell in a node, whose name is in its prompt. Ctrl-C, job control,
the window's size and programs that take the whole screen work as they do on any
terminal. Leaving it leaves the lab up. Where nothing answers any more, Enter ~ .
leaves the shell, as it does with ssh.

Exit status: that of the shell, which is the one of its last command.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				return a.whichNode(c.Context(), args[0])
			}
			return a.exec(c, args[0], live.Exec{Node: args[1], TTY: term.IsTerminal(int(os.Stdin.Fd()))})
		},
		ValidArgsFunction: completeLiving,
	}
}

// whichNode tells of a node that is missing on the command line.
func (a *app) whichNode(ctx context.Context, lab string) error {
	conn, err := a.connect(ctx, lab)
	if err != nil {
		return err
	}
	defer conn.Close()
	s, err := conn.Lab.Status(ctx)
	if err != nil {
		return err
	}
	return usageError{fmt.Errorf("in which node? %s has %s: lvslab shell %s %s", lab, strings.Join(s.Nodes, ", "), shellWord(lab), s.Nodes[0])}
}

// exec runs a program with this process's own streams.
func (a *app) exec(c *cobra.Command, lab string, e live.Exec) error {
	a.exit = exitNoProgram
	// From here on a signal is the program's.
	a.relay.Store(true)
	defer a.relay.Store(false)
	ctx, cancel := context.WithCancelCause(c.Context())
	defer cancel(nil)
	conn, err := a.connect(ctx, lab)
	if err != nil {
		return noProgram{err}
	}
	defer conn.Close()

	s := live.Streams{Stdin: c.InOrStdin(), Stdout: a.out, Stderr: a.err, Signals: relayed(ctx, cancel, e.TTY)}
	if e.TTY {
		restore, err := a.terminal(ctx, &e, &s, cancel)
		if err != nil {
			return noProgram{err}
		}
		defer restore()
	}
	exit, err := conn.Lab.Exec(ctx, e, s)
	if err != nil {
		if errors.Is(err, errLeft) {
			return nil
		}
		return noProgram{err}
	}
	a.exit = exit.Code
	return nil
}

// noProgram is an error of lvslab's own, where a program's status was wanted.
type noProgram struct{ error }

func (e noProgram) Unwrap() error { return e.error }

var (
	// errLeft is the cause of a shell that its person has left by ~.
	errLeft = errors.New("left")
	// errHungUp is the cause of one whose terminal was closed.
	errHungUp = errors.New("the terminal was closed")
)

// relayed are the signals that this process gets, by SSH's names, for the program
// to get. A terminal that closes ends a program on it.
func relayed(ctx context.Context, cancel context.CancelCauseFunc, tty bool) <-chan string {
	names := map[os.Signal]string{
		unix.SIGINT: "INT", unix.SIGTERM: "TERM", unix.SIGHUP: "HUP", unix.SIGQUIT: "QUIT", unix.SIGUSR1: "USR1", unix.SIGUSR2: "USR2",
	}
	got := make(chan os.Signal, 16)
	for s := range names {
		signal.Notify(got, s)
	}
	out := make(chan string)
	go func() {
		defer signal.Stop(got)
		for {
			select {
			case s := <-got:
				if s == unix.SIGHUP && tty {
					cancel(errHungUp)
					return
				}
				select {
				case out <- names[s]:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// terminal passes this process's terminal, if it has one, on to the program.
func (a *app) terminal(ctx context.Context, e *live.Exec, s *live.Streams, cancel context.CancelCauseFunc) (restore func(), err error) {
	e.Term = os.Getenv("TERM")
	in := int(os.Stdin.Fd())
	if s.Stdin != io.Reader(os.Stdin) || !term.IsTerminal(in) {
		return func() {}, nil
	}
	size := func() live.Size {
		cols, rows, err := term.GetSize(in)
		if err != nil {
			return live.Size{}
		}
		return live.Size{Rows: uint16(rows), Cols: uint16(cols)}
	}
	e.Size = size()
	was, err := term.MakeRaw(in)
	if err != nil {
		return nil, fmt.Errorf("the terminal: %w", err)
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	sizes := make(chan live.Size)
	go func() {
		for {
			select {
			case <-resized:
				select {
				case sizes <- size():
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	s.Resize = sizes
	s.Stdin = &escapes{r: os.Stdin, start: true, left: func() { cancel(errLeft) }}
	return func() {
		signal.Stop(resized)
		_ = term.Restore(in, was) // there is no more to do about it
	}, nil
}

// escapes finds "~." at the start of a line, as ssh(1) does, and calls left.
type escapes struct {
	r     io.Reader
	start bool // of a line
	tilde bool // a ~ was held back there
	left  func()
}

func (s *escapes) Read(p []byte) (int, error) {
	if len(p) < 2 {
		return 0, io.ErrShortBuffer
	}
	// One byte of room for a ~ that was held back.
	buf := make([]byte, len(p)-1)
	n, err := s.r.Read(buf)
	out := p[:0]
	for _, b := range buf[:n] {
		switch {
		case s.tilde && b == '.':
			s.left()
			return 0, io.EOF
		case s.tilde && b == '~': // ~~ is one
			out = append(out, b)
			s.tilde, s.start = false, false
			continue
		case s.tilde:
			out = append(out, '~')
			s.tilde = false
		case s.start && b == '~':
			s.tilde, s.start = true, false
			continue
		}
		out = append(out, b)
		s.start = b == '\r' || b == '\n'
	}
	if err != nil && s.tilde {
		out = append(out, '~')
		s.tilde = false
	}
	return len(out), err
}
