package tools

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// modprobe is modprobe(8): modules are loaded for the node by whoever keeps the
// lab. Dependencies and the kernel's own list of modules are the keeper's
// business.
func modprobe(c *call) int {
	var names []string
	remove, all, verbatim := false, false, false
	for _, a := range c.args {
		switch {
		case verbatim || !strings.HasPrefix(a, "-"):
			names = append(names, a)
		case a == "--":
			verbatim = true
		case a == "--remove":
			remove = true
		case a == "--all":
			all = true
		case a == "--quiet", a == "--verbose":
		case a == "--version":
			c.printf("lvslab's modprobe: modules of this node alone\n")
			return 0
		case strings.HasPrefix(a, "--"):
			c.errorf("modprobe: unrecognized option '%s'\n", a)
			return 1
		default:
			for _, letter := range a[1:] {
				switch letter {
				case 'r':
					remove = true
				case 'a':
					all = true
				case 'q', 'v':
				default:
					c.errorf("modprobe: invalid option -- '%c'\n", letter)
					return 1
				}
			}
		}
	}
	if len(names) == 0 {
		c.errorf("modprobe: ERROR: missing parameters. See -h.\n")
		return 1
	}
	if !remove && !all {
		if len(names) > 1 {
			c.errorf("modprobe: FATAL: module parameters (%s) cannot be given in a node\n", strings.Join(names[1:], " "))
			return 1
		}
	}
	for _, name := range names {
		if exit := c.pass(Request{Kind: Modprobe, Name: name, Remove: remove}); exit != 0 {
			return exit
		}
	}
	return 0
}

// Verbs are what a unit can be asked for.
func Verbs() []string {
	return []string{"start", "stop", "restart", "reload", "status", "is-active", "is-enabled", "enable", "disable"}
}

// systemctl is systemctl(1), as far as units of a node go.
func systemctl(c *call) int {
	var words []string
	now := false
	for _, a := range c.args {
		switch {
		case a == "--now":
			now = true
		case a == "-q", a == "--quiet", a == "-l", a == "--full", a == "--no-pager", a == "--system":
		case strings.HasPrefix(a, "-"):
			c.errorf("systemctl: unrecognized option '%s'\n", a)
			return 1
		default:
			words = append(words, a)
		}
	}
	if len(words) == 0 {
		c.errorf("systemctl: a node has no list of units; its services are ipvsadm, arptables and httpd\n")
		return 1
	}
	verb, units := words[0], words[1:]
	switch {
	case verb == "daemon-reload" && len(units) == 0:
		return 0
	case !slices.Contains(Verbs(), verb):
		c.errorf("Unknown command verb %s.\n", verb)
		return 1
	case len(units) == 0:
		c.errorf("Too few arguments.\n")
		return 1
	}
	exit := 0
	for _, u := range units {
		name := strings.TrimSuffix(u, ".service")
		exit = max(exit, c.pass(Request{Kind: Unit, Name: name, Verb: verb}))
		if now && exit == 0 {
			follow := map[string]string{"enable": "start", "disable": "stop"}[verb]
			if follow != "" {
				exit = max(exit, c.pass(Request{Kind: Unit, Name: name, Verb: follow}))
			}
		}
	}
	return exit
}

// service is service(8), which hands its words on to systemctl.
func service(c *call) int {
	if len(c.args) != 2 {
		c.errorf("Usage: service < option > | --status-all | [ service_name [ command | --full-restart ] ]\n")
		return 1
	}
	name, verb := c.args[0], c.args[1]
	c.errorf("Redirecting to /bin/systemctl %s %s.service\n", verb, strings.TrimSuffix(name, ".service"))
	return systemctl(&call{name: "systemctl", args: []string{verb, name}, in: c.in, out: c.out, err: c.err})
}

// packages are the packages of the tutorial's machines and their kin, each with
// a program of it.
func packages() map[string]string {
	return map[string]string{
		"ipvsadm": "ipvsadm", "arptables": "arptables", "arptables_jf": "arptables", "arptables-legacy": "arptables",
		"curl": "curl", "net-tools": "arp", "kmod": "modprobe", "systemd": "systemctl",
		"iproute": "ip", "iputils": "ping", "tcpdump": "tcpdump", "iptables": "iptables", "nftables": "nft",
		"procps-ng": "sysctl", "vim": "vim", "vim-enhanced": "vim", "less": "less", "wireshark-cli": "tshark",
		"nmap-ncat": "nc", "keepalived": "keepalived", "ethtool": "ethtool", "bind-utils": "dig", "psmisc": "killall",
		"traceroute": "traceroute", "telnet": "telnet", "wget": "wget", "conntrack-tools": "conntrack",
	}
}

// builtIn are packages whose service a node has without any program.
func builtIn() []string { return []string{"httpd", "nginx", "apache2"} }

// yum is yum(8) of a machine that has everything already that it will ever have:
// a node's programs are the machine's and lvslab's.
func yum(c *call) int {
	var words []string
	for _, a := range c.args {
		if !strings.HasPrefix(a, "-") {
			words = append(words, a)
		}
	}
	if len(words) == 0 || words[0] != "install" && words[0] != "reinstall" {
		c.errorf("%s: only %s install PACKAGE… is known in a node, whose programs are the machine's own and lvslab's\n", c.name, c.name)
		return 1
	}
	if len(words) == 1 {
		c.errorf("Error: Need to pass a list of pkgs to install\n")
		return 1
	}
	var missing []string
	for _, p := range words[1:] {
		if has(p) {
			c.printf("Package %s is already installed.\n", p)
			continue
		}
		missing = append(missing, p)
	}
	if len(missing) == 0 {
		c.printf("Dependencies resolved.\nNothing to do.\nComplete!\n")
		return 0
	}
	for _, p := range missing {
		c.errorf("No match for argument: %s\n", p)
	}
	c.errorf("Error: Unable to find a match: %s\n", strings.Join(missing, " "))
	c.errorf("A node has the machine's programs and lvslab's own: what is installed on the machine is here at once.\n")
	return 1
}

// has reports whether a package's commands are there.
func has(name string) bool {
	if slices.Contains(builtIn(), name) {
		return true
	}
	program, known := packages()[name]
	if !known {
		program = name
	}
	_, err := exec.LookPath(program)
	return err == nil
}

// release is the kernel's, as `uname -r` has it.
func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// NoModule is what modprobe says of a module that a kernel has not.
func NoModule(name string) Answer {
	return Answer{Exit: 1, Err: fmt.Sprintf("modprobe: FATAL: Module %s not found in directory /lib/modules/%s\n", name, release())}
}

// hostname is the node's name.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "node"
	}
	return name
}
