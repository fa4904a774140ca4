package tools

import (
	"slices"
	"strings"
)

// ipvsCommand is what ipvsadm is told to do, by the letter of its option, or by
// one of the words below.
type ipvsCommand string

// Commands that have no letter.
const (
	cmdSet         ipvsCommand = "set"
	cmdStartDaemon ipvsCommand = "start-daemon"
	cmdStopDaemon  ipvsCommand = "stop-daemon"
)

// name is the command as messages have it.
func (c ipvsCommand) name() string {
	names := map[ipvsCommand]string{
		"A": "add-service", "E": "edit-service", "D": "delete-service", "C": "flush", "L": "list",
		"a": "add-server", "e": "edit-server", "d": "delete-server", "S": "save", "R": "restore", "Z": "zero",
	}
	if n, ok := names[c]; ok {
		return n
	}
	return string(c)
}

// ipvsOptions are all options, the commands first.
func ipvsOptions() []poptOption {
	return append(ipvsCommands(), []poptOption{
		{"tcp-service", 't', poptOne},
		{"udp-service", 'u', poptOne},
		{"sctp-service", 0, poptOne},
		{"fwmark-service", 'f', poptOne},
		{"scheduler", 's', poptOne},
		{"persistent", 'p', poptMaybe},
		{"netmask", 'M', poptOne},
		{"real-server", 'r', poptOne},
		{"masquerading", 'm', poptNone},
		{"ipip", 'i', poptNone},
		{"gatewaying", 'g', poptNone},
		{"weight", 'w', poptOne},
		{"u-threshold", 'x', poptOne},
		{"l-threshold", 'y', poptOne},
		{"numeric", 'n', poptNone},
		{"connection", 'c', poptNone},
		{"mcast-interface", 0, poptOne},
		{"syncid", 0, poptOne},
		{"sync-maxlen", 0, poptOne},
		{"mcast-group", 0, poptOne},
		{"mcast-port", 0, poptOne},
		{"mcast-ttl", 0, poptOne},
		{"timeout", 0, poptNone},
		{"daemon", 0, poptNone},
		{"stats", 0, poptNone},
		{"rate", 0, poptNone},
		{"thresholds", 0, poptNone},
		{"persistent-conn", 0, poptNone},
		{"nosort", 0, poptNone},
		{"sort", 0, poptNone},
		{"exact", 0, poptNone},
		{"ipv6", '6', poptNone},
		{"ops", 'o', poptNone},
		{"pe", 0, poptOne},
		{"sched-flags", 'b', poptOne},
		{"tun-info", 0, poptNone},
		{"tun-type", 0, poptOne},
		{"tun-port", 0, poptOne},
		{"tun-nocsum", 0, poptNone},
		{"tun-csum", 0, poptNone},
		{"tun-remcsum", 0, poptNone},
	}...)
}

func ipvsCommands() []poptOption {
	return []poptOption{
		{"add-service", 'A', poptNone},
		{"edit-service", 'E', poptNone},
		{"delete-service", 'D', poptNone},
		{"clear", 'C', poptNone},
		{"list", 'L', poptNone},
		{"list", 'l', poptNone},
		{"zero", 'Z', poptNone},
		{"add-server", 'a', poptNone},
		{"edit-server", 'e', poptNone},
		{"delete-server", 'd', poptNone},
		{"help", 'h', poptNone},
		{"version", 'v', poptNone},
		{"restore", 'R', poptNone},
		{"save", 'S', poptNone},
		{"set", 0, poptNone},
		{"start-daemon", 0, poptOne},
		{"stop-daemon", 0, poptOne},
	}
}

// ipvsGroup is the name that messages have for an option: what takes each
// other's place has one name.
func ipvsGroup(long string) string {
	switch long {
	case "tcp-service", "udp-service", "sctp-service", "fwmark-service":
		return "service-address"
	case "masquerading", "ipip", "gatewaying":
		return "forwarding-method"
	}
	return long
}

// ipvsTakes are the groups of options that a command takes, "!" before those
// that it cannot do without.
func ipvsTakes(c ipvsCommand) []string {
	const (
		service = "!service-address"
		server  = "!real-server"
	)
	setServer := []string{
		service, server, "forwarding-method", "weight", "u-threshold", "l-threshold",
		"tun-type", "tun-port", "tun-nocsum", "tun-csum", "tun-remcsum",
	}
	switch c {
	case "A", "E":
		return []string{service, "scheduler", "persistent", "netmask", "ops", "pe", "sched-flags"}
	case "D":
		return []string{service}
	case "a", "e":
		return setServer
	case "d":
		return []string{service, server}
	case "L":
		return []string{
			"numeric", "connection", "service-address", "timeout", "daemon", "stats", "rate", "thresholds",
			"persistent-conn", "nosort", "exact", "tun-info",
		}
	case "S":
		return []string{"numeric"}
	case "Z":
		return []string{"service-address"}
	case cmdStartDaemon:
		return []string{"mcast-interface", "syncid", "sync-maxlen", "mcast-group", "mcast-port", "mcast-ttl"}
	}
	return nil
}

// ipvsOrder is the order in which ipvsadm looks at options, so that of several
// mistakes it tells of the first.
func ipvsOrder() []string {
	return []string{
		"numeric", "connection", "service-address", "scheduler", "persistent", "netmask", "real-server",
		"forwarding-method", "weight", "u-threshold", "l-threshold", "mcast-interface", "timeout", "daemon", "stats",
		"rate", "thresholds", "persistent-conn", "nosort", "syncid", "exact", "ops", "pe", "sched-flags",
		"mcast-group", "mcast-port", "mcast-ttl", "sync-maxlen", "tun-info", "tun-type", "tun-port", "tun-nocsum",
		"tun-csum", "tun-remcsum",
	}
}

// checkTakes finds options that the command does not take, and those that it
// lacks.
func checkTakes(c ipvsCommand, groups map[string]bool) error {
	takes := ipvsTakes(c)
	alone := "" // of -L: what is listed instead of the table
	for _, g := range ipvsOrder() {
		needed := slices.Contains(takes, "!"+g)
		switch {
		case needed && !groups[g]:
			return fail(2, "You need to supply the '%s' option for the '%s' command", g, c.name())
		case groups[g] && !needed && !slices.Contains(takes, g):
			return fail(2, "Illegal '%s' option with the '%s' command", g, c.name())
		case groups[g] && c == "L" && slices.Contains([]string{"connection", "service-address", "timeout", "daemon"}, g):
			if alone != "" {
				return fail(2, "The option '%s' conflicts with the '%s' option in the '%s' command", g, alone, c.name())
			}
			alone = g
		}
	}
	return nil
}

// isCommand reports whether an option is a command, and which.
func isCommand(g poptGiven) (ipvsCommand, bool) {
	for _, o := range ipvsCommands() {
		if o.long == g.long {
			switch {
			case o.long == "list":
				return "L", true
			case o.short == 0:
				return ipvsCommand(o.long), true
			}
			return ipvsCommand(string(o.short)), true
		}
	}
	return "", false
}

// wordsOf splits a line of rules as ipvsadm does, which knows no quotes.
func wordsOf(line string) []string {
	return strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\r\n\v\f", r) })
}
