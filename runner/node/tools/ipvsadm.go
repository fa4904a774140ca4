package tools

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
)

// here is the node that this process runs in: its own namespace.
type here struct{ topology.Node }

// Name implements topology.Node.
func (here) Name() string { return hostname() }

// Do implements topology.Node: every thread of the process is in the node.
func (here) Do(f func() error) error { return f() }

// ipvsadm is ipvsadm(8), as version 1.31 is. What it does not take are netmasks
// that are no prefix. --nosort lists as it would without: the kernel's own order
// is that of its hash table.
func ipvsadm(c *call) int {
	conn, err := openIPVS()
	if err != nil {
		c.errorf("Can't initialize ipvs: %s\nAre you sure that IP Virtual Server is built in the kernel or as module?\n", ipvsText("", err))
		return 2
	}
	defer conn.Close()
	a := &ipvsAdmin{call: c, conn: conn, names: readNames()}
	if len(c.args) == 0 {
		return a.status(a.do(&ipvsRule{command: "L"}))
	}
	r, err := parseIPVSRule(a.names, c.args)
	if err == nil {
		err = a.do(r)
	}
	return a.status(err)
}

// openIPVS opens the door to IPVS. Where the kernel has none, whoever keeps the
// lab is asked for it, as ipvsadm asks modprobe.
func openIPVS() (*ipvs.Conn, error) {
	// The library behind the door runs modprobe once, which here would be
	// another process that asks for the same.
	if err := os.Setenv("PATH", "/nowhere"); err != nil {
		return nil, err
	}
	conn, err := ipvs.Open(here{})
	if !errors.Is(err, ipvs.ErrNoIPVS) {
		return conn, err
	}
	if a, asked := ask(Request{Kind: Modprobe, Name: "ip_vs"}); asked != nil || a.Exit != 0 {
		return nil, unix.ENOPROTOOPT
	}
	return ipvs.Open(here{})
}

// ipvsAdmin is one run of ipvsadm.
type ipvsAdmin struct {
	*call
	conn  *ipvs.Conn
	names *names
}

// status prints an error and is the exit status.
func (a *ipvsAdmin) status(err error) int {
	var e *exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		a.errorf("%s\n", e.message)
		return e.status
	}
	a.errorf("%v\n", err)
	return 255
}

// do carries a rule out.
func (a *ipvsAdmin) do(r *ipvsRule) error {
	ctx := context.Background() // the door has a deadline of its own
	var err error
	switch r.command {
	case "A":
		err = a.withScheduler(r.service, func() error { return a.conn.AddService(ctx, r.service) })
	case "E":
		err = a.withScheduler(r.service, func() error { return a.conn.EditService(ctx, r.service) })
	case "D":
		err = a.conn.DelService(ctx, r.service)
	case "C":
		err = a.conn.Flush(ctx)
	case "a":
		err = a.conn.AddDestination(ctx, r.service, r.server)
	case "e":
		err = a.conn.EditDestination(ctx, r.service, r.server)
	case "d":
		err = a.conn.DelDestination(ctx, r.service, r.server)
	case "Z":
		var s *ipvs.Service
		if r.groups["service-address"] {
			s = &r.service
		}
		err = a.conn.Zero(ctx, s)
	case cmdSet:
		err = a.conn.SetTimeouts(ctx, r.timeouts)
	case cmdStartDaemon:
		err = a.startDaemon(ctx, r.daemon)
	case cmdStopDaemon:
		err = a.stopDaemon(ctx, r.daemon.State)
	case "S":
		return a.save(ctx, r)
	case "R":
		return a.restore(a.in)
	case "L":
		return a.list(ctx, r)
	case "v":
		return a.version(ctx, "")
	case "h":
		return a.version(ctx, ipvsadmHelp)
	}
	if err != nil {
		return fail(255, "%s", ipvsText(r.command, err))
	}
	return nil
}

// withScheduler does something that needs a service's scheduler; the kernel of a
// lab asks nobody for modules by itself.
func (a *ipvsAdmin) withScheduler(s ipvs.Service, do func() error) error {
	err := do()
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	modules := []string{"ip_vs_" + s.Scheduler}
	if s.PE != "" {
		modules = append(modules, "ip_vs_pe_"+s.PE)
	}
	for _, m := range modules {
		if answer, asked := ask(Request{Kind: Modprobe, Name: m}); asked != nil || answer.Exit != 0 {
			return err
		}
	}
	return do()
}

// startDaemon refuses a second daemon, which the door would put in the first
// one's place.
func (a *ipvsAdmin) startDaemon(ctx context.Context, d ipvs.SyncDaemon) error {
	if d.Interface == "" {
		d.Interface = "eth0" // ipvsadm's default
	}
	there, err := a.daemonRuns(ctx, d.State)
	if err == nil && there {
		err = unix.EEXIST
	}
	if err != nil {
		return err
	}
	return a.conn.StartDaemon(ctx, d)
}

// stopDaemon misses a daemon that is not there, which the door does not.
func (a *ipvsAdmin) stopDaemon(ctx context.Context, s ipvs.SyncState) error {
	there, err := a.daemonRuns(ctx, s)
	if err == nil && !there {
		err = unix.ESRCH
	}
	if err != nil {
		return err
	}
	return a.conn.StopDaemon(ctx, s)
}

func (a *ipvsAdmin) daemonRuns(ctx context.Context, s ipvs.SyncState) (bool, error) {
	all, err := a.conn.Daemons(ctx)
	return slices.ContainsFunc(all, func(d ipvs.SyncDaemon) bool { return d.State == s }), err
}

// restore carries out a line at a time, until one is wrong.
func (a *ipvsAdmin) restore(in io.Reader) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		words := wordsOf(lines.Text())
		if len(words) > 0 && words[0] == "ipvsadm" {
			words = words[1:]
		}
		if len(words) == 0 {
			continue
		}
		r, err := parseIPVSRule(a.names, words)
		if err == nil {
			err = a.do(r)
		}
		if err != nil {
			return err
		}
	}
	return lines.Err()
}

// version is the first line of the help, too.
func (a *ipvsAdmin) version(ctx context.Context, more string) error {
	i, err := a.conn.Info(ctx)
	if err != nil {
		return err
	}
	v := i.Version
	a.printf("ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v%d.%d.%d)\n%s", v>>16&0xff, v>>8&0xff, v&0xff, more)
	return nil
}

// ipvsText is what ipvsadm says of an error number.
func ipvsText(c ipvsCommand, err error) string {
	var e unix.Errno
	if !errors.As(err, &e) {
		return err.Error()
	}
	server := c == "a" || c == "e" || c == "d"
	switch {
	case e == unix.EEXIST && c == "A":
		return "Service already exists"
	case e == unix.EEXIST && c == "a":
		return "Destination already exists"
	case e == unix.EEXIST && c == cmdStartDaemon:
		return "Daemon has already run"
	case e == unix.ENOENT && (c == "A" || c == "E"):
		return "Scheduler or persistence engine not found"
	case e == unix.ENOENT && server:
		return "No such destination"
	case e == unix.ESRCH && server:
		return "Service not defined"
	case e == unix.ESRCH && c == cmdStopDaemon:
		return "No daemon is running"
	case e == unix.ESRCH:
		return "No such service"
	case e == unix.EPERM:
		return "Permission denied (you must be root)"
	case e == unix.EINVAL:
		return "Invalid operation.  Possibly wrong module version, address not specified, ..."
	case e == unix.ENOPROTOOPT:
		return "Protocol not available"
	case e == unix.ENOMEM:
		return "Memory allocation problem"
	case e == unix.EOPNOTSUPP:
		return "Operation not supported with IPv6"
	case e == unix.EAFNOSUPPORT:
		return "Operation not supported with specified address family"
	case e == unix.EMSGSIZE:
		return "Module is wrong version"
	}
	return sentence(e.Error())
}

const saveHelp = `ipvsadm-save: Script to save the IPVS table to stdout.
   With the -n option, prints out the table in numeric format.
`

// ipvsadmSave is ipvsadm-save(8).
func ipvsadmSave(c *call) int {
	args := []string{"-S"}
	for _, a := range c.args {
		switch {
		case a == "-n":
			args = append(args, "-n")
		case strings.HasPrefix(a, "-"):
			c.errorf("%s", saveHelp)
			return 1
		}
	}
	return ipvsadm(&call{name: "ipvsadm", args: args, in: c.in, out: c.out, err: c.err})
}

// ipvsadmRestore is ipvsadm-restore(8): it clears the table and passes over
// comments.
func ipvsadmRestore(c *call) int {
	text, err := io.ReadAll(c.in)
	if err != nil {
		c.errorf("ipvsadm-restore: %v\n", err)
		return 1
	}
	var rules strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			rules.WriteString(line)
		}
	}
	if exit := ipvsadm(&call{name: "ipvsadm", args: []string{"-C"}, out: c.out, err: c.err}); exit != 0 {
		return exit
	}
	return ipvsadm(&call{name: "ipvsadm", args: []string{"-R"}, in: strings.NewReader(rules.String()), out: c.out, err: c.err})
}
