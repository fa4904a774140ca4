package tools

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/lvslab/lvslab/topology/filter"
)

// arptablesVersion is the version whose words these are.
const arptablesVersion = "arptables v0.0.5"

// arpCommand is what arptables is told to do.
type arpCommand struct {
	letter byte // of A D I R F L P Z N X
	chain  string
	number int    // of -I, -R and -D; 0 where none was given
	policy string // of -P
	// spec are the words of the rule.
	spec                           []string
	numeric, verbose, lines, exact bool
}

// arptables is arptables(8) in the version that is called legacy, for the
// chains INPUT and OUTPUT. What the kernel's backend of package filter has no
// way for is refused: chains of one's own, policies that drop.
func arptables(c *call) int {
	runtime.LockOSThread() // the backends want a locked thread
	cmd, err := parseArpCommand(c.args)
	if err == nil {
		switch cmd.letter {
		case 'h':
			c.printf("%s", arptablesHelp)
			return 0
		case 'V':
			c.printf("%s\n", arptablesVersion)
			return 0
		}
		err = c.arpRules(cmd)
	}
	return c.arpStatus(err)
}

// arpStatus prints an error as arptables does.
func (c *call) arpStatus(err error) int {
	var e *exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		c.errorf("%s", e.message)
		return e.status
	}
	c.errorf("arptables: %v\n", err)
	return 1
}

// arpUsageError is a mistake in the arguments.
func arpUsageError(format string, args ...any) error {
	return fail(2, "%s: %s\nTry `arptables -h' or 'arptables --help' for more information.\n", arptablesVersion, fmt.Sprintf(format, args...))
}

// arpRefused is what the kernel would not do.
func arpRefused(format string, args ...any) error {
	return fail(1, "arptables: %s\n", fmt.Sprintf(format, args...))
}

// arpLetters are the long names of commands and of the options that are about
// output.
func arpLetters() map[string]byte {
	return map[string]byte{
		"--append": 'A', "--delete": 'D', "--insert": 'I', "--replace": 'R', "--flush": 'F', "--list": 'L',
		"--policy": 'P', "--zero": 'Z', "--new": 'N', "--new-chain": 'N', "--delete-chain": 'X', "--help": 'h',
		"--version": 'V', "--numeric": 'n', "--verbose": 'v', "--line-numbers": '#', "--exact": 'x',
	}
}

// parseArpCommand reads a command line; the words of a rule are left as they
// are.
func parseArpCommand(args []string) (*arpCommand, error) {
	cmd := &arpCommand{}
	for i := 0; i < len(args); {
		a := args[i]
		i++
		letters, ok := arpLettersOf(a)
		if !ok {
			cmd.spec = append(cmd.spec, a)
			continue
		}
		for _, l := range []byte(letters) {
			used, err := cmd.letterOption(l, args[i:])
			if err != nil {
				return nil, err
			}
			i += used
		}
	}
	if cmd.letter == 0 {
		return nil, arpUsageError("no command specified")
	}
	return cmd, nil
}

// arpLettersOf are the letters of a word of commands and options about output;
// any other word belongs to a rule.
func arpLettersOf(word string) (string, bool) {
	if letter, long := arpLetters()[word]; long {
		return string(letter), true
	}
	letters, ok := strings.CutPrefix(word, "-")
	return letters, ok && letters != "" && strings.Trim(letters, "ADIRFLPZNXhVnvx") == ""
}

// letterOption takes one letter and, for a command, the words behind it.
func (c *arpCommand) letterOption(l byte, rest []string) (used int, err error) {
	switch l {
	case 'n':
		c.numeric = true
		return 0, nil
	case 'v':
		c.verbose = true
		return 0, nil
	case 'x':
		c.exact = true
		return 0, nil
	case '#':
		c.lines = true
		return 0, nil
	}
	if c.letter != 0 {
		return 0, arpUsageError("Can't use -%c with -%c\n", l, c.letter)
	}
	c.letter = l
	word := func() (string, bool) {
		if used < len(rest) && !strings.HasPrefix(rest[used], "-") && rest[used] != "!" {
			used++
			return rest[used-1], true
		}
		return "", false
	}
	var ok bool
	if strings.IndexByte("hV", l) < 0 {
		c.chain, ok = word()
	}
	if !ok && strings.IndexByte("ADIRPN", l) >= 0 {
		return used, arpUsageError("option requires an argument -- '%c'", l)
	}
	switch l {
	case 'D', 'I', 'R':
		text, given := word()
		if !given {
			break
		}
		if c.number, err = strconv.Atoi(text); err != nil || c.number < 1 {
			return used, arpUsageError("Invalid rule number `%s'", text)
		}
	case 'P':
		if c.policy, ok = word(); !ok {
			return used, arpUsageError("-P requires a chain and a policy")
		}
	}
	if l == 'I' && c.number == 0 {
		c.number = 1
	}
	if l == 'R' && c.number == 0 {
		return used, arpUsageError("-R requires a rule number")
	}
	return used, nil
}

// arpRules carries a command out.
func (c *call) arpRules(cmd *arpCommand) error {
	if cmd.letter == 'N' || cmd.letter == 'X' && cmd.chain != "" {
		return arpRefused("lvslab's arptables has the chains INPUT and OUTPUT, and none of one's own")
	}
	known := []string{"", "INPUT", "OUTPUT", "FORWARD"}
	if !slices.Contains(known, cmd.chain) {
		if cmd.letter == 'P' {
			return arpRefused("Bad built-in chain name")
		}
		return arpRefused("No chain/target/match by that name")
	}
	var rule filter.ArpRule
	if strings.IndexByte("AIR", cmd.letter) >= 0 || cmd.letter == 'D' && cmd.number == 0 {
		var err error
		if rule, err = parseArpSpec(cmd); err != nil {
			return err
		}
	} else if len(cmd.spec) > 0 {
		return arpUsageError("Bad argument `%s'", cmd.spec[0])
	}
	backend, err := detectArp()
	if err != nil {
		return err
	}
	if cmd.letter == 'L' {
		return c.arpList(backend, cmd)
	}
	rules, err := backend.List()
	if err != nil {
		return arpRefused("%v", err)
	}
	changed, err := cmd.change(rules, rule)
	if err != nil {
		return err
	}
	if cmd.letter != 'Z' && slices.Equal(changed, rules) {
		return nil
	}
	if err := backend.Replace(changed); err != nil {
		return arpRefused("%v", err)
	}
	return nil
}

// detectArp is the kernel's way of taking ARP rules; where it has none, whoever
// keeps the lab is asked for the modules.
func detectArp() (filter.Backend, error) {
	b, err := filter.Detect()
	if err == nil {
		return b, nil
	}
	for _, m := range filter.LegacyModules() {
		if a, asked := ask(Request{Kind: Modprobe, Name: m}); asked != nil || a.Exit != 0 {
			return "", arpRefused("can't initialize arptables table `filter': %v", err)
		}
	}
	return filter.Detect()
}

// parseArpSpec reads the rule of -A, -I, -R and -D.
func parseArpSpec(cmd *arpCommand) (filter.ArpRule, error) {
	words := append([]string{"-A", cmd.chain}, cmd.spec...)
	rule, err := filter.ParseArpRule(strings.Join(words, " "))
	var syntax *filter.SyntaxError
	if errors.As(err, &syntax) {
		return rule, arpUsageError("%s", syntax.Msg)
	}
	if err != nil {
		return rule, arpUsageError("%v", err)
	}
	return rule, nil
}

// change is the rules as the command makes them.
func (c *arpCommand) change(rules []filter.ArpRule, rule filter.ArpRule) ([]filter.ArpRule, error) {
	chain := filter.Chain(c.chain)
	var mine, others []filter.ArpRule
	for _, r := range rules {
		if r.Chain == chain {
			mine = append(mine, r)
		} else {
			others = append(others, r)
		}
	}
	at := c.number - 1
	switch c.letter {
	case 'A':
		mine = append(mine, rule)
	case 'I':
		if at > len(mine) {
			return nil, arpRefused("Index of insertion too big")
		}
		mine = slices.Insert(mine, at, rule)
	case 'R':
		if at >= len(mine) {
			return nil, arpRefused("Index of replacement too big")
		}
		mine[at] = rule
	case 'D':
		if c.number == 0 {
			if at = slices.Index(mine, rule); at < 0 {
				return nil, arpRefused("Bad rule (does a matching rule exist in that chain?)")
			}
		} else if at >= len(mine) {
			return nil, arpRefused("Index of deletion too big")
		}
		mine = slices.Delete(mine, at, at+1)
	case 'F':
		if c.chain == "" {
			return nil, nil
		}
		mine = nil
	case 'P':
		switch c.policy {
		case "ACCEPT":
		case "DROP":
			return nil, arpRefused("lvslab's arptables keeps the policy ACCEPT; a last rule drops all: arptables -A %s -j DROP", c.chain)
		default:
			return nil, arpRefused("Bad policy name")
		}
	}
	return filter.Canonical(append(mine, others...)), nil
}

// arpList is -L.
func (c *call) arpList(backend filter.Backend, cmd *arpCommand) error {
	counted, err := backend.Count()
	if err != nil {
		return arpRefused("%v", err)
	}
	chains := []string{"INPUT", "OUTPUT", "FORWARD"}
	if cmd.chain != "" {
		chains = []string{cmd.chain}
	}
	for i, chain := range chains {
		if i > 0 {
			c.printf("\n")
		}
		counts := ""
		if cmd.verbose {
			counts = " 0 packets, 0 bytes"
		}
		c.printf("Chain %s (policy ACCEPT%s)\n", chain, counts)
		n := 0
		for _, r := range counted {
			if string(r.Rule.Chain) != chain {
				continue
			}
			n++
			if cmd.lines {
				c.printf("%d ", n)
			}
			c.printf("%s\n", arpListLine(r, cmd.verbose))
		}
	}
	return nil
}

// arpListLine is a rule as arptables -L has it: that of arptables-save without
// its chain. With counters the interfaces are there, too, any as *.
func arpListLine(r filter.Counted, verbose bool) string {
	save := filter.FormatSave([]filter.ArpRule{r.Rule})
	line := ""
	for l := range strings.Lines(save) {
		if rest, ok := strings.CutPrefix(l, "-A "+string(r.Rule.Chain)+" "); ok {
			line = strings.TrimSuffix(rest, "\n")
		}
	}
	if !verbose {
		return line
	}
	words := strings.Fields(line)
	target, rest := words[:2], words[2:]
	interfaces := []string{"-i", "*", "-o", "*"}
	for i := 0; i+1 < len(rest); {
		not := 0
		if rest[i] == "!" {
			not = 1
		}
		at := slices.Index([]string{"-i", "-o"}, rest[i+not])
		if at < 0 {
			break
		}
		interfaces[2*at+1] = rest[i+not+1]
		if not == 1 {
			interfaces[2*at] = "! " + interfaces[2*at]
		}
		rest = slices.Delete(rest, i, i+not+2)
	}
	all := slices.Concat(target, interfaces, rest)
	return strings.Join(all, " ") + fmt.Sprintf(" , pcnt=%d -- bcnt=%d ", r.Packets, r.Bytes)
}

// arptablesSave is arptables-save(8).
func arptablesSave(c *call) int {
	runtime.LockOSThread()
	backend, err := detectArp()
	var rules []filter.ArpRule
	if err == nil {
		rules, err = backend.List()
	}
	if err == nil {
		c.printf("%s", filter.FormatSave(rules))
	}
	return c.arpStatus(err)
}

// arptablesRestore is arptables-restore(8). Unlike it, it reads all of its input
// first and changes nothing when a line is wrong.
func arptablesRestore(c *call) int {
	runtime.LockOSThread()
	text, err := io.ReadAll(c.in)
	if err != nil {
		return c.arpStatus(err)
	}
	rules, policies, err := filter.ParseSave(string(text))
	if err != nil {
		return c.arpStatus(fail(255, "arptables-restore: %v\n", err))
	}
	if policies != (filter.Policies{}) {
		return c.arpStatus(arpRefused("lvslab's arptables keeps the policy ACCEPT; a last rule drops all: -A INPUT -j DROP"))
	}
	backend, err := detectArp()
	if err == nil {
		err = backend.Replace(rules)
	}
	return c.arpStatus(err)
}

const arptablesHelp = arptablesVersion + `
Usage: arptables -A|-D CHAIN RULE         add a rule at the end, take one away
       arptables -I CHAIN [NUMBER] RULE   add a rule before another, from 1
       arptables -R CHAIN NUMBER RULE     put a rule in another's place
       arptables -D CHAIN NUMBER
       arptables -L [CHAIN] [-n] [-v] [--line-numbers]
       arptables -F|-Z [CHAIN]            no rules, counters to zero
       arptables -P CHAIN ACCEPT
CHAIN is INPUT or OUTPUT
RULE is [!] -s ADDRESS[/LENGTH] [!] -d ADDRESS[/LENGTH] [!] --source-mac MAC [!] --destination-mac MAC
        [!] -i DEVICE [!] -o DEVICE [!] --h-length 6 [!] --opcode 1|2
        -j ACCEPT|DROP|mangle [--mangle-ip-s|--mangle-ip-d ADDRESS] [--mangle-mac-s|--mangle-mac-d MAC]
`
