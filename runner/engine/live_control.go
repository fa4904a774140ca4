package engine

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/lvslab/lvslab/runner/node/tools"
	"github.com/lvslab/lvslab/topology"
)

// control answers what programs in the nodes of a living lab ask for.
type control struct {
	lab *Live

	mu sync.Mutex
	// units are the states of services by "NODE UNIT".
	units map[string]unitState
}

// unitState is what systemd would remember of a service.
type unitState struct {
	active, enabled bool
	// failure says why the last start failed.
	failure string
	// web is the web server that was stopped.
	web *topology.Daemon
}

func newControl(l *Live) *control { return &control{lab: l, units: make(map[string]unitState)} }

// controlWait bounds what one request may take.
const controlWait = 25 * time.Second

// serve serves a node's control socket, whoever the node of that name is at the
// time of a request.
func (c *control) serve(w *world, name string) func(net.Listener) {
	return func(l net.Listener) {
		tools.Serve(l, func(r tools.Request) tools.Answer {
			n, err := w.live(name)
			if err != nil {
				return tools.Answer{Exit: 1, Err: err.Error() + "\n"}
			}
			ctx, stop := c.lab.changing.during(context.Background())
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, controlWait)
			defer cancel()
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.answer(ctx, n, r)
		})
	}
}

func (c *control) answer(ctx context.Context, n *liveNode, r tools.Request) tools.Answer {
	switch {
	case r.Kind == tools.Modprobe && !plainModule(r.Name):
		return tools.NoModule(r.Name)
	case r.Kind == tools.Modprobe && r.Remove:
		return c.unload(n, strings.ReplaceAll(r.Name, "-", "_"))
	case r.Kind == tools.Modprobe:
		return c.load(ctx, n, strings.ReplaceAll(r.Name, "-", "_"))
	case r.Kind == tools.Unit && slices.Contains(tools.Verbs(), r.Verb):
		return c.unit(ctx, n, r.Name, r.Verb)
	}
	return tools.Answer{Exit: 1, Err: fmt.Sprintf("lvslab does not know the request %q %q\n", r.Kind, r.Verb)}
}

// plainModule reports whether a name is one that a module can have.
func plainModule(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	})
}

// ipip is the module of tunl0.
const ipip = "ipip"

// load loads a module for a node.
func (c *control) load(ctx context.Context, n *liveNode, module string) tools.Answer {
	k := c.lab.world.kernel
	fatal := func(format string, args ...any) tools.Answer {
		return tools.Answer{Exit: 1, Err: "modprobe: FATAL: " + fmt.Sprintf(format, args...) + "\n"}
	}
	switch {
	case k.load != nil:
		known, err := k.load(ctx, module)
		if err != nil {
			return fatal("%v", err)
		}
		if !known {
			return tools.NoModule(module)
		}
	case !loaded(module):
		return fatal("Module %s is not loaded, and lvslab loads none into the machine's own kernel: as root of the machine, modprobe %s, "+
			"or bring the lab up in a kernel of its own: lvslab up --kernel uml", module, module)
	}
	if module != ipip || !k.tunnels {
		return tools.Answer{}
	}
	if err := n.addFallback(tunl0); err != nil {
		return fatal("%v", err)
	}
	return tools.Answer{}
}

// loaded reports whether the kernel has a module that can be seen there.
func loaded(module string) bool {
	_, err := os.Stat("/sys/module/" + module)
	return err == nil
}

// unload takes a module away from a node.
func (c *control) unload(n *liveNode, module string) tools.Answer {
	if !loaded(module) {
		return tools.Answer{} // as modprobe does
	}
	if module != ipip {
		return tools.Answer{Exit: 1, Err: fmt.Sprintf("modprobe: FATAL: Module %s stays: all nodes of the lab share one kernel. "+
			"What it does in this node can be undone: ipvsadm -C, ip link del, arptables -F\n", module)}
	}
	dev, err := topology.LinkByName(n, tunl0)
	if err != nil {
		return tools.Answer{} // this node has none
	}
	if c.lab.world.kernel.tunnels {
		if err := n.Netlink().LinkDel(dev); err != nil {
			return tools.Answer{Exit: 1, Err: fmt.Sprintf("modprobe: FATAL: Module %s is in use: %v\n", module, err)}
		}
		return tools.Answer{}
	}
	if err := emptyDevice(n, dev); err != nil {
		return tools.Answer{Exit: 1, Err: fmt.Sprintf("modprobe: FATAL: %v\n", err)}
	}
	return tools.Answer{Err: "modprobe: ipip stays, for this kernel is not this node's alone: tunl0 is down now and has no address\n"}
}

// emptyDevice sets a device down and takes its addresses, and with them its
// routes.
func emptyDevice(n *liveNode, dev netlink.Link) error {
	addresses, err := n.Netlink().AddrList(dev, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if err := n.Netlink().AddrDel(dev, &a); err != nil {
			return err
		}
	}
	return n.Netlink().LinkSetDown(dev)
}

// unit does with a service what systemctl was told.
func (c *control) unit(ctx context.Context, n *liveNode, name, verb string) tools.Answer {
	table := name == "ipvsadm" || name == "arptables"
	web := slices.Contains([]string{"httpd", "nginx", "apache2"}, name)
	if !table && !web {
		return noUnit(name, verb)
	}
	key := n.name + " " + name
	if web {
		key = n.name + " httpd" // they are one
	}
	s := c.units[key]
	if web {
		s.active = n.webServer() != nil
	}
	var a tools.Answer
	switch verb {
	case "enable", "disable":
		a, s.enabled = enabled(name, s.enabled, verb == "enable")
	case "is-enabled":
		a = word(s.enabled, "enabled", "disabled", 1)
	case "is-active":
		a = word(s.active, "active", inactiveState(s), 3)
	case "status":
		a = status(name, s)
	case "reload":
		if table || !s.active {
			a = tools.Answer{Exit: 1, Err: fmt.Sprintf("Failed to reload %s.service: Job type reload is not applicable for unit %[1]s.service.\n", name)}
		}
	default:
		a, s = c.switchUnit(ctx, n, name, verb, s)
	}
	c.units[key] = s
	return a
}

// switchUnit starts, stops or restarts a service. One that runs is not started,
// one that does not is not stopped.
func (c *control) switchUnit(ctx context.Context, n *liveNode, name, verb string, s unitState) (tools.Answer, unitState) {
	if verb == "restart" && !s.active {
		verb = "start"
	} else if verb != "restart" && s.active == (verb == "start") {
		return tools.Answer{}, s
	}
	var failure string
	var err error
	if name == "ipvsadm" || name == "arptables" {
		failure, err = n.switchUnit(ctx, name, verb)
	} else {
		err = n.switchWeb(ctx, verb, &s.web)
	}
	if err != nil {
		failure = err.Error()
	}
	s.active, s.failure = verb != "stop" && failure == "", failure
	c.lab.log.note(n.name, "systemctl %s %s%s", verb, name, strings.TrimRight(": "+failure, ": "))
	if failure == "" {
		return tools.Answer{}, s
	}
	return tools.Answer{Exit: 1, Err: fmt.Sprintf("Job for %s.service failed because the control process exited with error code.\n"+
		"See \"systemctl status %[1]s.service\" and \"journalctl -xeu %[1]s.service\" for details.\n", name)}, s
}

// noUnit is what systemctl says of a unit that a machine has not.
func noUnit(name, verb string) tools.Answer {
	switch verb {
	case "status":
		return tools.Answer{Exit: 4, Err: fmt.Sprintf("Unit %s.service could not be found.\n", name)}
	case "is-active":
		return tools.Answer{Exit: 3, Out: "inactive\n"}
	case "is-enabled":
		return tools.Answer{Exit: 1, Err: fmt.Sprintf("Failed to get unit file state for %s.service: No such file or directory\n", name)}
	case "enable", "disable":
		return tools.Answer{Exit: 1, Err: fmt.Sprintf("Failed to %s unit: Unit file %s.service does not exist.\n", verb, name)}
	case "stop":
		return tools.Answer{Exit: 5, Err: fmt.Sprintf("Failed to stop %s.service: Unit %[1]s.service not loaded.\n", name)}
	}
	return tools.Answer{Exit: 5, Err: fmt.Sprintf("Failed to %s %s.service: Unit %[2]s.service not found.\n", verb, name)}
}

func enabled(name string, was, on bool) (tools.Answer, bool) {
	const link = "/etc/systemd/system/multi-user.target.wants/%s.service"
	switch {
	case on && !was:
		return tools.Answer{Err: fmt.Sprintf("Created symlink "+link+" → /usr/lib/systemd/system/%[1]s.service.\n", name)}, on
	case was && !on:
		return tools.Answer{Err: fmt.Sprintf("Removed \""+link+"\".\n", name)}, on
	}
	return tools.Answer{}, on
}

// word is a state in one word, with an exit status where it is no.
func word(ok bool, yes, no string, exit int) tools.Answer {
	if ok {
		return tools.Answer{Out: yes + "\n"}
	}
	return tools.Answer{Out: no + "\n", Exit: exit}
}

// inactiveState is the state of a service that is not active.
func inactiveState(s unitState) string {
	if s.failure != "" {
		return "failed"
	}
	return "inactive"
}

func status(name string, s unitState) tools.Answer {
	lead, how, exit := "●", "active", 0
	if !s.active {
		lead, how, exit = "○", "inactive (dead)", 3
	}
	if s.failure != "" {
		lead, how = "×", "failed (Result: exit-code)"
	}
	enabled := "disabled"
	if s.enabled {
		enabled = "enabled"
	}
	text := fmt.Sprintf("%s %s.service\n     Loaded: loaded (/usr/lib/systemd/system/%[2]s.service; %s)\n     Active: %s\n", lead, name, enabled, how)
	if s.failure != "" {
		text += "\n" + s.failure + "\n"
	}
	return tools.Answer{Out: text, Exit: exit}
}

// indexFile is the page of a web server that systemctl has started.
const indexFile = "/var/www/html/index.html"

const webPort = 80

// webServer is the node's server of the web, nil for none.
func (n *liveNode) webServer() *topology.Daemon {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name := range n.daemons {
		if d := n.started[name]; d.Port == webPort && slices.Contains(d.Protocols, "tcp") {
			return &d
		}
	}
	return nil
}

// switchWeb starts, stops or restarts the web server: the lab's own where it has
// one, else one that answers with indexFile, and without that with its name.
func (n *liveNode) switchWeb(ctx context.Context, verb string, stopped **topology.Daemon) error {
	if runs := n.webServer(); runs != nil && verb != "start" {
		if err := n.StopDaemon(runs.Name); err != nil {
			return err
		}
		*stopped = runs
	}
	if verb == "stop" {
		return nil
	}
	d := topology.Daemon{
		Name: fmt.Sprintf("http:%d", webPort), Service: "http", Protocols: []string{"tcp"}, Port: webPort, Index: indexFile,
	}
	if *stopped != nil {
		d = **stopped
	}
	return n.StartDaemon(ctx, d)
}
