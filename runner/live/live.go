// Package live is how one talks with a lab that stays up: what such a lab can be
// asked for (Lab), and the same things asked over a connection (Client, Serve).
//
// The connection is SSH without its logins: channels with windows of their own
// carry what is asked, so that one that floods does not starve the others, and
// programs have stdin, stdout, stderr, a window size, signals and an exit status
// as ssh(1) has them. Who may ask is decided by who can reach the other end: a
// socket in a folder that its owner alone can enter, or the line into a guest.
//
// A Client is a Lab, too. A lab in a guest is asked by way of the keeper of the
// guest, which serves what its own client asks.
package live

import (
	"context"
	"io"
	"time"

	"github.com/lvslab/lvslab/runner/wire"
)

// Lab is a lab that is up. All methods may be called from several goroutines at
// once; those that change the lab wait for one another.
type Lab interface {
	// Exec runs a program in a node and returns when it has ended and all that
	// it wrote has been passed on. The error is that it could not be run, or
	// that ctx ended, with which the program is killed, or on a terminal hung
	// up.
	Exec(ctx context.Context, e Exec, s Streams) (Exit, error)
	// Status says in short how the lab is; it takes milliseconds.
	Status(ctx context.Context) (*Status, error)
	// Inspect reads all that there is to see from the kernel.
	Inspect(ctx context.Context) (*Inspection, error)
	// Logs writes what the lab and its daemons have said so far.
	Logs(ctx context.Context, l Logs, w io.Writer) error
	// Apply brings the lab to what another text of its file says.
	Apply(ctx context.Context, a Apply) (*Change, error)
	// Run does steps in the lab as it stands, and takes back what they have
	// changed in it: they can be run as often as wanted. Before the lab's own
	// steps its nodes forget one another: neighbours, and connections. The
	// events are those of a run of the lab, from LabStarted to LabFinished.
	Run(ctx context.Context, r Run, emit func(wire.Event)) error
	// Capture writes packets as pcapng, each as soon as it was seen, until ctx
	// ends or as many were seen as were asked for.
	Capture(ctx context.Context, c Capture, w io.Writer) error
	// Fault breaks something on purpose.
	Fault(ctx context.Context, f Fault) (*Change, error)
	// Heal takes faults back.
	Heal(ctx context.Context, h Heal) (*Change, error)
}

// Exec is a program to be run in a node.
type Exec struct {
	Node string `json:"node"`
	// Args are the program, looked up in the node's PATH, and its arguments.
	// Empty means an interactive shell, whose prompt names the node.
	Args []string `json:"args,omitempty"`
	// TTY gives it a pseudo-terminal. Stderr then comes with Stdout.
	TTY bool `json:"tty,omitempty"`
	// Term is TERM on a terminal.
	Term string `json:"term,omitempty"`
	Size Size   `json:"size"`
}

// Size is that of a terminal's window, in characters.
type Size struct {
	Rows uint16 `json:"rows,omitempty"`
	Cols uint16 `json:"cols,omitempty"`
}

// Streams are what goes into a program and comes out of it.
type Streams struct {
	// Stdin ends the program's input with its own end; nil means none at all.
	Stdin io.Reader
	// Stdout and Stderr are written by one goroutine each. Stderr is not used
	// on a terminal.
	Stdout, Stderr io.Writer
	// Resize are new sizes of the window, Signals the names of signals for the
	// program, without SIG, as SSH has them (RFC 4254, 6.10): "INT", "TERM". A
	// nil channel never says anything.
	Resize  <-chan Size
	Signals <-chan string
}

// Exit is how a program ended.
type Exit struct {
	Code int `json:"code"`
	// Signal names what ended it, without SIG; Code is then 128 and its
	// number, as a shell has it.
	Signal string `json:"signal,omitempty"`
}

// Status is how a lab is, in short.
type Status struct {
	// Lab is its name in its file, Title its title there.
	Lab   string `json:"lab"`
	Title string `json:"title"`
	// Nodes are those that run.
	Nodes []string `json:"nodes"`
	// Faults are what is broken on purpose.
	Faults []Broken `json:"faults,omitempty"`
	// Troubles are what is broken, and not on purpose: a daemon that ended.
	Troubles []string `json:"troubles,omitempty"`
	// Process is what the process takes that runs the lab, in its kernel.
	Process Gauges `json:"process"`
}

// Logs says whose log is asked for.
type Logs struct {
	// Node is one node, "" all and the lab itself.
	Node string `json:"node,omitempty"`
}

// Apply is another text of the lab's file.
type Apply struct {
	File wire.File `json:"file"`
	// Lab is the name of the lab in the file.
	Lab string `json:"lab"`
	// DryRun says what would change, and changes nothing.
	DryRun bool `json:"dry_run,omitempty"`
}

// Change is what was changed in a lab, or would be: command lines in the words
// of ip(8), ipvsadm(8) and their like, in their order. None means that there was
// nothing to change.
type Change struct {
	Commands []string `json:"commands"`
	// Done is how many of them were carried out.
	Done int `json:"done"`
	// Faults are what is broken on purpose from now on.
	Faults []Broken `json:"faults,omitempty"`
}

// Run is a run of steps.
type Run struct {
	// Steps is a file that holds steps and nothing else; nil means the lab's
	// own steps.
	Steps *wire.File `json:"steps,omitempty"`
	// Timeout bounds all of them; 0 means the engine's default.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Capture asks for Captured events.
	Capture bool `json:"capture,omitempty"`
}

// Capture is what packets to listen to.
type Capture struct {
	// Links are NODE:DEVICE, or NODE for all links of a node; none means all
	// links of the lab.
	Links []string `json:"links,omitempty"`
	// Count ends the capture after as many packets, 0 never.
	Count int `json:"count,omitempty"`
}

// Keeper is what keeps a lab up.
type Keeper interface {
	// Info is about the lab as a whole. It never waits for the lab.
	Info() Info
	// Down takes the lab down and returns when nothing of it is left.
	Down(ctx context.Context) error
}

// Info is what is known of a lab without asking it.
type Info struct {
	// Version is wire.Version.
	Version int `json:"version"`
	// Name is what the lab is called while it is up: that of its file, unless
	// it was given another one.
	Name string `json:"name"`
	// File is where the lab file was, Lab the name of the lab in it.
	File string `json:"file"`
	Lab  string `json:"lab"`
	// Kernel is the kernel's release and what it is, Backend the word of
	// --kernel.
	Kernel  string `json:"kernel"`
	Backend string `json:"backend"`
	// Pid is the keeper's process.
	Pid int `json:"pid"`
	// Started is when the lab was asked for, Ready when it was up.
	Started time.Time `json:"started"`
	Ready   time.Time `json:"ready"`
	// Dead says why the lab is no more, though its keeper is: its guest ended.
	// Empty means that it lives.
	Dead string `json:"dead,omitempty"`
	// Process is what the keeper takes; nothing where it cannot be asked.
	Process Gauges `json:"process,omitzero"`
}
