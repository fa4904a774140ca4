// Package tools holds lvslab's own ipvsadm, arptables, arp, curl, modprobe,
// systemctl and a few more: programs for the inside of a node, for where the
// machine has none, or one that this kernel refuses, or one that would reach
// beyond the node. Each says what the real one says, to the letter where a
// person or a script goes by it: output, errors, exit status.
//
// They are this very program, started by scripts in the node (node.Toolbox), as
// processes of their own in the node's namespaces and with the rights of any
// other command there. What such a process cannot do, to load a module or to
// start the node's web server, it asks of the process that keeps the lab, over a
// Unix socket (Request, Answer).
package tools

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
)

// Argument is the first argument of a process that is one of these programs; the
// path that it was called by and its own arguments follow.
const Argument = "lvslab-node-tool"

// call is one run of a program.
type call struct {
	// name is what the program was called as.
	name string
	args []string
	in   io.Reader
	out  io.Writer
	err  io.Writer
}

// printf writes to the output, errorf to the error output. What cannot be
// written is nobody's to read.
func (c *call) printf(format string, args ...any) { _, _ = fmt.Fprintf(c.out, format, args...) }
func (c *call) errorf(format string, args ...any) { _, _ = fmt.Fprintf(c.err, format, args...) }

// programs is the table of programs by their names. Their results are exit
// statuses.
func programs() map[string]func(*call) int {
	return map[string]func(*call) int{
		"ipvsadm":           ipvsadm,
		"ipvsadm-save":      ipvsadmSave,
		"ipvsadm-restore":   ipvsadmRestore,
		"arptables":         arptables,
		"arptables-save":    arptablesSave,
		"arptables-restore": arptablesRestore,
		"arp":               arp,
		"curl":              curl,
		"modprobe":          modprobe,
		"systemctl":         systemctl,
		"service":           service,
		"yum":               yum,
		"dnf":               yum,
	}
}

// Names are the programs that there are, sorted.
func Names() []string { return slices.Sorted(maps.Keys(programs())) }

// Enter runs a program and ends the process, when it was started as that;
// otherwise it returns at once. It belongs at the top of main.
func Enter() {
	if len(os.Args) < 3 || os.Args[1] != Argument {
		return
	}
	os.Exit(Main(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
}

// Main runs a program, whose path args begin with, and returns its exit status.
// It acts on the network namespace of the calling thread and on the files that
// this process sees.
func Main(args []string, in io.Reader, out, errw io.Writer) int {
	name := path.Base(args[0])
	run, ok := programs()[name]
	if !ok {
		_, _ = fmt.Fprintf(errw, "lvslab: %s is none of its programs: %v\n", name, Names())
		return 127 // as a shell has it for a command that is not found
	}
	return run(&call{name: name, args: args[1:], in: in, out: out, err: errw})
}
