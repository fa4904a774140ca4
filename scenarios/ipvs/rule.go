package ipvs

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/topology/source"
)

// ruleError is a mistake in a line, at a column.
type ruleError struct {
	col int
	msg string
}

func (w word) errorf(format string, args ...any) *ruleError {
	return &ruleError{w.col, fmt.Sprintf(format, args...)}
}

// rule is one command, read and checked by itself.
type rule struct {
	cmd     rune // A E D C a e d
	service Service
	server  Destination
	// service1 and server1 are the words that named them, for errors.
	service1, server1 word
	// named is the real server's address as the rule has it, before the kernel
	// keeps another port.
	named netip.AddrPort
	opts  []given
}

// argument says what follows an option.
type argument int

const (
	noArg argument = iota
	oneArg
	maybeArg // -p takes the next word unless that begins with a dash
)

// option is one option of ipvsadm. Options of one group exclude each other, and
// each is given once at most.
type option struct {
	long  string
	short byte // 0: none
	arg   argument
	group string
	// cmds are the commands that take it.
	cmds string
}

const (
	serviceCmds = "AEDaed"
	setCmds     = "AE"
	serverCmds  = "aed"
	setSrvCmds  = "ae"
)

// commands are ipvsadm's commands; a rule begins with one.
func commands() []option {
	return []option{
		{long: "add-service", short: 'A'},
		{long: "edit-service", short: 'E'},
		{long: "delete-service", short: 'D'},
		{long: "clear", short: 'C'},
		{long: "add-server", short: 'a'},
		{long: "edit-server", short: 'e'},
		{long: "delete-server", short: 'd'},
	}
}

// foreign are the commands that change no table, with what they do.
func foreign() map[string]string {
	return map[string]string{
		"list": "lists", "L": "lists", "l": "lists",
		"save": "saves", "S": "saves", "restore": "restores", "R": "restores",
		"zero": "sets counters to zero (a lab has the action zero)", "Z": "sets counters to zero (a lab has the action zero)",
		"set":          "sets timeouts of all connections",
		"start-daemon": "starts a synchronisation daemon (a lab has sync_daemons)",
		"stop-daemon":  "stops a synchronisation daemon",
		"help":         "prints help", "h": "prints help",
		"version": "prints a version", "v": "prints a version",
	}
}

// options are those of rules. It is an array, since each word of each rule asks for
// it: nothing is allocated.
func options() [23]option {
	return [23]option{
		{long: "tcp-service", short: 't', arg: oneArg, group: "virtual service", cmds: serviceCmds},
		{long: "udp-service", short: 'u', arg: oneArg, group: "virtual service", cmds: serviceCmds},
		{long: "sctp-service", arg: oneArg, group: "virtual service", cmds: serviceCmds},
		{long: "fwmark-service", short: 'f', arg: oneArg, group: "virtual service", cmds: serviceCmds},
		{long: "ipv6", short: '6', group: "ipv6", cmds: serviceCmds},
		{long: "scheduler", short: 's', arg: oneArg, group: "scheduler", cmds: setCmds},
		{long: "persistent", short: 'p', arg: maybeArg, group: "persistence", cmds: setCmds},
		{long: "netmask", short: 'M', arg: oneArg, group: "netmask", cmds: setCmds},
		{long: "pe", arg: oneArg, group: "persistence engine", cmds: setCmds},
		{long: "ops", short: 'o', group: "one-packet scheduling", cmds: setCmds},
		{long: "sched-flags", short: 'b', arg: oneArg, group: "scheduler flags", cmds: setCmds},
		{long: "real-server", short: 'r', arg: oneArg, group: "real server", cmds: serverCmds},
		{long: "gatewaying", short: 'g', group: "forwarding method", cmds: setSrvCmds},
		{long: "ipip", short: 'i', group: "forwarding method", cmds: setSrvCmds},
		{long: "masquerading", short: 'm', group: "forwarding method", cmds: setSrvCmds},
		{long: "weight", short: 'w', arg: oneArg, group: "weight", cmds: setSrvCmds},
		{long: "u-threshold", short: 'x', arg: oneArg, group: "upper threshold", cmds: setSrvCmds},
		{long: "l-threshold", short: 'y', arg: oneArg, group: "lower threshold", cmds: setSrvCmds},
		{long: "tun-type", arg: oneArg, group: "tunnel type", cmds: setSrvCmds},
		{long: "tun-port", arg: oneArg, group: "tunnel port", cmds: setSrvCmds},
		{long: "tun-nocsum", group: "tunnel checksum", cmds: setSrvCmds},
		{long: "tun-csum", group: "tunnel checksum", cmds: setSrvCmds},
		{long: "tun-remcsum", group: "tunnel checksum", cmds: setSrvCmds},
	}
}

// given is an option as it was given. Its word is its argument's, or its own
// where it has none.
type given struct {
	option
	word
	hasArg bool
}

// parseRule reads the words of one line.
func parseRule(words []word) (*rule, *ruleError) {
	first := words[0]
	cmd, rest, err := parseCommand(words)
	if err != nil {
		return nil, err
	}
	r := &rule{cmd: cmd}
	opts, err := parseOptions(rest, cmd)
	if err != nil {
		return nil, err
	}
	r.opts = opts
	if cmd == 'C' {
		return r, nil
	}
	if err := r.setService(first, opts); err != nil {
		return nil, err
	}
	if strings.ContainsRune(serverCmds, cmd) {
		return r, r.setServer(first, opts)
	}
	return r, nil
}

// parseCommand reads the first option, which must be the command; what is
// bundled with it (-At) becomes an option of its own.
func parseCommand(words []word) (rune, []word, *ruleError) {
	first, rest := words[0], words[1:]
	var names []string
	for _, c := range commands() {
		names = append(names, "-"+string(c.short))
		if first.text == "--"+c.long {
			return rune(c.short), rest, nil
		}
		if strings.HasPrefix(first.text, "-"+string(c.short)) {
			if more := first.text[2:]; more != "" {
				rest = append([]word{{"-" + more, first.col + 1}}, rest...)
			}
			return rune(c.short), rest, nil
		}
	}
	bare := strings.TrimPrefix(first.text, "-")
	if !strings.HasPrefix(first.text, "--") && bare != first.text {
		bare = bare[:min(1, len(bare))]
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(bare, "-"), "=")
	if does, ok := foreign()[name]; ok && first.text != bare {
		return 0, nil, first.errorf("%s %s; it is no part of a table, leave it out", first.text, does)
	}
	return 0, nil, first.errorf("a rule begins with its command, one of %s; found %.40q",
		strings.Join(names, " "), first.text)
}

// parseOptions reads the rest as popt does: short options may be bundled, an
// argument may be glued on (-srr, -s=rr, --scheduler=rr).
func parseOptions(words []word, cmd rune) ([]given, *ruleError) {
	var out []given
	for len(words) > 0 {
		w := words[0]
		words = words[1:]
		if len(w.text) < 2 || w.text[0] != '-' || w.text == "--" {
			return nil, unexpected(w)
		}
		for rest := w; rest.text != ""; {
			opt, value, glued, next, err := nextOption(rest)
			if err != nil {
				return nil, err
			}
			g := given{option: opt, word: rest}
			switch {
			case glued:
				g.word, g.hasArg = value, true
			case opt.arg == oneArg && len(words) == 0:
				return nil, rest.errorf("-%s needs an argument", opt.dashed())
			case opt.arg == oneArg, opt.arg == maybeArg && len(words) > 0 && !strings.HasPrefix(words[0].text, "-"):
				g.word, g.hasArg, words = words[0], true, words[1:]
			}
			if err := admit(out, g, w, cmd); err != nil {
				return nil, err
			}
			out = append(out, g)
			rest = next
		}
	}
	return out, nil
}

// dashed is the option's name without its first dash.
func (o option) dashed() string {
	if o.short != 0 {
		return string(o.short)
	}
	return "-" + o.long
}

func unexpected(w word) *ruleError {
	if strings.HasPrefix(w.text, "#") {
		return w.errorf("a comment must be a line of its own that begins with #; ipvsadm takes one at the end of a rule for an argument")
	}
	return w.errorf("unexpected argument %.40q", w.text)
}

// nextOption takes one option off the front of w, which begins with a dash:
// a long one, or the first of bundled short ones, when next is the others.
func nextOption(w word) (opt option, value word, glued bool, next word, err *ruleError) {
	all := options()
	if long, ok := strings.CutPrefix(w.text, "--"); ok {
		name, val, has := strings.Cut(long, "=")
		i := slices.IndexFunc(all[:], func(o option) bool { return o.long == name })
		if i < 0 {
			return opt, value, false, next, w.errorf("%s", unknownLong(name))
		}
		opt = all[i]
		if has && opt.arg == noArg {
			return opt, value, false, next, w.errorf("--%s takes no argument", name)
		}
		return opt, word{val, w.col + len("--") + len(name) + 1}, has, next, nil
	}
	i := slices.IndexFunc(all[:], func(o option) bool { return o.short != 0 && o.short == w.text[1] })
	if i < 0 {
		return opt, value, false, next, w.errorf("%s", unknownShort(w.text[1:2]))
	}
	opt = all[i]
	rest := word{w.text[2:], w.col + 2}
	if opt.arg == noArg {
		if rest.text != "" {
			next = word{"-" + rest.text, rest.col - 1}
		}
		return opt, value, false, next, nil
	}
	if strings.HasPrefix(rest.text, "=") {
		return opt, word{rest.text[1:], rest.col + 1}, true, next, nil
	}
	return opt, rest, rest.text != "", next, nil
}

func unknownLong(name string) string {
	var names []string
	for _, o := range options() {
		names = append(names, "--"+o.long)
	}
	for _, c := range commands() {
		if c.long == name {
			return "a second command, --" + name + "; a rule has one"
		}
	}
	return source.Unknown("option", fmt.Sprintf("--%.40s", name), names)
}

func unknownShort(letter string) string {
	for _, c := range commands() {
		if string(c.short) == letter {
			return "a second command, -" + letter + "; a rule has one"
		}
	}
	return fmt.Sprintf("unknown option %q", "-"+letter)
}

// admit checks that the option may stand here: known to the command, and not
// given before.
func admit(before []given, g given, w word, cmd rune) *ruleError {
	if !strings.ContainsRune(g.cmds, cmd) {
		return w.errorf("-%s does not go with the command -%c", g.dashed(), cmd)
	}
	if i := slices.IndexFunc(before, func(o given) bool { return o.group == g.group }); i >= 0 {
		return w.errorf("a second %s; -%s gave one already", g.group, before[i].dashed())
	}
	if g.short == '6' && !slices.ContainsFunc(before, func(o given) bool { return o.short == 'f' }) {
		return w.errorf("-6 must come after -f, which alone needs it")
	}
	return nil
}
