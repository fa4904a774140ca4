package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/report"
	"github.com/lvslab/lvslab/topology/source"
)

// Exit statuses beside those of package report.
const (
	exitUsage       = 2
	exitBroken      = 3
	exitInterrupted = 130
)

// patience is how long a verb may take to end after the first Ctrl-C. A guest
// is gone in milliseconds; what takes longer hangs in a read that nothing can
// interrupt, such as that of a terminal named as a lab file.
const patience = 10 * time.Second

// echo is how soon after the first a second signal is the same one.
const echo = 300 * time.Millisecond

// app is what the verbs share.
type app struct {
	out *outlet
	err io.Writer
	// exit is the status that a verb decides on when it returns no error.
	exit int
	// relay says that signals are not this program's, but those of one that it
	// runs in a node.
	relay atomic.Bool
}

var (
	// errInterrupted is the cause of a context that a signal ended.
	errInterrupted = errors.New("interrupted")
	// errNobodyReads is the cause of a context that ended because standard
	// output takes no more.
	errNobodyReads = errors.New("nothing more can be written")
)

// usageError is a mistake of the command line or of a lab file.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Main is the program: it returns the exit status.
func Main(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	// A closed pipe is told by the write that fails, not by a signal. It is
	// caught and not ignored, since children inherit what is ignored.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := &app{out: &outlet{w: out, full: func() { cancel(errNobodyReads) }}, err: errw}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	go func() {
		first := <-signals
		for a.relay.Load() {
			first = <-signals
		}
		begin := time.Now()
		cancel(errInterrupted)
		// A second Ctrl-C does not wait for anything: whatever is left dies
		// with this process. One that comes with the first is its echo:
		// timeout(1) signals its child and then the group that it is in.
		for late := time.After(patience); ; {
			select {
			case next := <-signals:
				if next == first && time.Since(begin) < echo {
					continue
				}
			case <-late:
			}
			fmt.Fprintln(errw, "lvslab: interrupted before all was cleaned up")
			os.Exit(exitInterrupted)
		}
	}()
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(a.out)
	root.SetErr(errw)
	return a.status(root.ExecuteContext(ctx))
}

// status prints what went wrong and turns it into the exit status.
func (a *app) status(err error) int {
	if werr := a.out.err; werr != nil {
		// A reader who has seen enough (head) needs no complaint.
		if !errors.Is(werr, syscall.EPIPE) {
			a.complain("lvslab: writing to standard output: %v", werr)
		}
		if a.exit == exitNoProgram {
			return exitNoProgram // of a program in a node, whose status nobody knows then
		}
		return exitBroken
	}
	var list source.List
	var one *source.Error
	var usage usageError
	var none *runner.NoBackendError
	var asked *live.AskError
	var lost noProgram
	switch {
	case err == nil:
		return a.exit
	case errors.Is(err, errInterrupted):
		a.complain("lvslab: interrupted")
		return exitInterrupted
	case errors.As(err, &list):
		for _, e := range list {
			if e.Pos.File == "" {
				a.complain("lvslab: %v", e)
			} else {
				a.complain("%v", e)
			}
		}
		a.annotate(list...)
		return exitUsage
	case errors.As(err, &one):
		a.complain("%v", one)
		a.annotate(one)
		return exitUsage
	case errors.As(err, &usage):
		a.complain("lvslab: %v", err)
		return exitUsage
	case errors.As(err, &lost):
		a.complain("lvslab: %v", err)
		return exitNoProgram
	case errors.As(err, &asked) && asked.Usage:
		for line := range strings.Lines(asked.Message) {
			if !placed(line) {
				line = "lvslab: " + line
			}
			a.complain("%s", strings.TrimSuffix(line, "\n"))
		}
		return exitUsage
	case errors.As(err, &none):
		a.complain("lvslab: %v", err)
		if r := none.Reasons; len(r) == 0 || len(r[len(r)-1].Answer.Fix) == 0 {
			a.complain("what this machine has and lacks is told by: lvslab doctor")
		}
		return exitBroken
	}
	a.complain("lvslab: %v", err)
	if h := hint(err); h != "" {
		a.complain("%s", h)
	}
	return exitBroken
}

// placed reports whether a line says where in a file it belongs: FILE:LINE.
func placed(line string) bool {
	_, rest, ok := strings.Cut(line, ":")
	return ok && rest != "" && '0' <= rest[0] && rest[0] <= '9'
}

// complain writes to standard error. What it says may hold names of files and
// words of lab files.
func (a *app) complain(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...) + "\n") {
		line = visible(strings.TrimSuffix(line, "\n"))
		if inWorkflow() {
			line = report.Safe(line, true)
		}
		fmt.Fprintln(a.err, line)
	}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "lvslab",
		Short: "Linux Virtual Server labs, proven on a real kernel",
		Long: `lvslab turns a short lab file into network namespaces (client, director, real
servers), applies an IPVS configuration, and proves on a real kernel what it
does. Where the running kernel cannot do it, lvslab boots one that can.`,
		Example: `  lvslab doctor                 what this machine can run, and what it lacks
  lvslab list                   the labs that come with lvslab
  lvslab run dr/arptables       run one of them
  lvslab up dr/arptables        or bring it up, to walk around in it
  lvslab shell dr/arptables client
  lvslab check my.yaml          look for mistakes in a lab of your own`,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see %s --help)", err, c.CommandPath())}
	})
	addGroup(root, "Labs", a.listCmd(), a.runCmd(), a.checkCmd(), a.planCmd(), a.reportCmd(), a.schemaCmd())
	addGroup(root, "Configurations", a.importCmd(), a.diffCmd(), a.testCmd())
	addGroup(root, "Labs that stay up", a.upCmd(), a.downCmd(), a.psCmd(), a.shellCmd(), a.execCmd(), a.applyCmd(),
		a.faultCmd(), a.healCmd(), a.inspectCmd(), a.graphCmd(), a.captureCmd(), a.logsCmd())
	addGroup(root, "This machine", a.doctorCmd(), a.kernelCmd(), a.versionCmd())
	root.SetHelpCommand(a.helpCmd(root))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.Args = knownVerb
	for _, c := range root.Commands() {
		switch c.Name() {
		case "completion":
			c.Args = cobra.MinimumNArgs(1)
			c.RunE = func(c *cobra.Command, args []string) error { return unknownVerb(c, args[0]) }
		case "run", "plan", "check", "list":
			if c.ValidArgsFunction == nil {
				c.ValidArgsFunction = completeLabs
			}
		}
	}
	wrapArgs(root)
	return root
}

// addGroup adds verbs that the help names together, below a title.
func addGroup(root *cobra.Command, title string, verbs ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title + ":"})
	for _, c := range verbs {
		c.GroupID = title
	}
	root.AddCommand(verbs...)
}

// helpCmd is cobra's, but that a word it does not know is a mistake.
func (a *app) helpCmd(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [VERB]",
		Short: "Print the help of a verb",
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err == nil && len(rest) > 0 {
				err = unknownVerb(c, rest[0])
			}
			if err != nil {
				return err
			}
			c.InitDefaultHelpFlag()
			return c.Help()
		},
	}
}

// knownVerb is asked when no verb takes the arguments.
func knownVerb(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if len(labs.Find(args[0])) > 0 {
		what := "a lab"
		if slices.Contains(labs.Chapters(), args[0]) {
			what = "a chapter of labs"
		}
		return fmt.Errorf("%q is %s, not a verb; did you mean: lvslab run %s", args[0], what, args[0])
	}
	if _, err := os.Stat(args[0]); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%q is a file, not a verb; did you mean: lvslab run %s", args[0], args[0])
	}
	return unknownVerb(c, args[0])
}

func unknownVerb(c *cobra.Command, word string) error {
	var known []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() || sub.Name() == "help" {
			known = append(known, sub.Name())
		}
	}
	if len(known) == 0 {
		return usageError{fmt.Errorf("%s takes no %q", c.CommandPath(), word)}
	}
	slices.Sort(known)
	return usageError{errors.New(source.Unknown("verb", word, known))}
}

// wrapArgs makes every complaint about arguments one of usage.
func wrapArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			err := check(c, args)
			var usage usageError
			if err == nil || errors.As(err, &usage) {
				return err
			}
			if text := err.Error(); strings.Contains(text, "arg(s)") || strings.HasPrefix(text, "unknown command") {
				// Cobra counts what is missing, and does not name it.
				err = fmt.Errorf("wanted %s, %s", strings.TrimSuffix(c.UseLine(), " [flags]"), found(args))
			}
			return usageError{fmt.Errorf("%w (see %s --help)", err, c.CommandPath())}
		}
	}
	for _, sub := range c.Commands() {
		wrapArgs(sub)
	}
}

// found tells of the arguments that came instead of those wanted.
func found(args []string) string {
	if len(args) == 0 {
		return "found nothing after it"
	}
	return fmt.Sprintf("found %.200s", fmt.Sprintf("%q", args))
}

// completeLabs offers the shipped labs and their chapters.
func completeLabs(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var words []string
	for _, chapter := range labs.Chapters() {
		words = append(words, chapter+"\tall labs of this chapter")
	}
	shipped, _ := shippedLabs(labs.All()) // an error is for the verbs to tell
	for _, l := range shipped {
		words = append(words, l.Name+"\t"+visible(l.Title))
	}
	if c.Name() == "list" {
		return words, cobra.ShellCompDirectiveNoFileComp
	}
	return words, cobra.ShellCompDirectiveDefault
}
