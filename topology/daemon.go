package topology

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// Daemon describes a server that a node runs.
type Daemon struct {
	// Name is unique in its node: "http:8080".
	Name string
	// Service is what is served: "http"; with a Command, the name it has in the
	// lab.
	Service string
	// Protocols are those of Port: "tcp", "udp", "sctp".
	Protocols []string
	// Port is what is listened on.
	Port uint16
	// Address is the only one listened at; every address of the node when it
	// is not valid.
	Address netip.Addr
	// Root is a folder of the node's own files that is served, or "".
	Root string
	// Index is a file of the node whose content an HTTP server without a Root
	// answers with where it is there, or "". Labs' own servers have none.
	Index string
	// Command is a line for sh that runs a daemon of the machine in the
	// foreground, instead of a server of lvslab's.
	Command string
	// Ready, for a Command that listens on no port, is a file of the node's below
	// /run that is there once the daemon is ready.
	Ready string
	// PassiveFirst and PassiveLast bound an FTP server's passive ports; 0 means
	// any that is free.
	PassiveFirst, PassiveLast uint16
}

// programPrefix begins a feature that is no module but a program of the machine.
const programPrefix = "program:"

// Program is the feature of having a program: "program:nginx".
func Program(name string) Feature { return Feature(programPrefix + name) }

// Program is the program that a feature asks for, false for one of the kernel.
func (f Feature) Program() (name string, ok bool) {
	return strings.CutPrefix(string(f), programPrefix)
}

type daemonOp struct {
	meta Meta
	d    Daemon
	stop bool
}

// NewDaemon is the op that starts a server in a node.
func NewDaemon(m Meta, node string, d Daemon) Op {
	m.Key = Key{node, "daemon", d.Name}
	m.Role = Role(d.Service + "-daemon")
	return daemonOp{m, d, false}
}

func (o daemonOp) About() Meta { return o.meta }

// Shell calls the functions that a printed script defines at its top.
func (o daemonOp) Shell(Dialect) []string { return []string{o.d.Shell(o.meta.Key.Node, !o.stop)} }

// Shell is the line of a printed script that starts the server in a node, or
// stops it:
//
//	serve_http NODE PORT [ADDRESS|- [ROOT|- [FIRST-LAST]]]
//	serve_command NODE PORT PROTOCOL COMMAND
//	serve_daemon NODE NAME FILE COMMAND
//	stop_http NODE PORT
func (d Daemon) Shell(node string, start bool) string {
	if d.Ready != "" {
		if !start {
			return fmt.Sprintf("stop_daemon %s %s", node, d.Name)
		}
		return fmt.Sprintf("serve_daemon %s %s %s %s", node, d.Name, Quote(d.Ready), Quote(d.Command))
	}
	if d.Command != "" {
		if !start {
			return fmt.Sprintf("stop_command %s %d %s", node, d.Port, d.protocol())
		}
		return fmt.Sprintf("serve_command %s %d %s %s", node, d.Port, d.protocol(), Quote(d.Command))
	}
	if !start {
		return fmt.Sprintf("stop_%s %s %d", d.Service, node, d.Port)
	}
	line := fmt.Sprintf("serve_%s %s %d", d.Service, node, d.Port)
	args := []string{"-", "-", "-"}
	if d.Address.IsValid() {
		args[0] = d.Address.String()
	}
	if d.Root != "" {
		args[1] = Quote(d.Root)
	}
	if d.PassiveFirst > 0 {
		args[2] = fmt.Sprintf("%d-%d", d.PassiveFirst, d.PassiveLast)
	}
	for len(args) > 0 && args[len(args)-1] == "-" {
		args = args[:len(args)-1]
	}
	return strings.Join(append([]string{line}, args...), " ")
}

func (d Daemon) protocol() string {
	if len(d.Protocols) == 0 {
		return "tcp"
	}
	return d.Protocols[0]
}

func (o daemonOp) Apply(ctx context.Context, w World) error {
	n, err := w.Node(o.meta.Key.Node)
	if err != nil {
		return err
	}
	if o.stop {
		return fail(o, n.StopDaemon(o.d.Name))
	}
	return fail(o, n.StartDaemon(ctx, o.d))
}

func (o daemonOp) Undo() (Op, bool) {
	o.stop = !o.stop
	return o, true
}
