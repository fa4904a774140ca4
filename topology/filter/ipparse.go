package filter

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/topology/source"
)

// ipOption is what ipParser knows about an option of iptables.
type ipOption struct {
	// not is the bit of a test that "!" may turn round, else zero.
	not IPNegation
	// match and target name the extensions that bring the option; it is
	// unknown to iptables before one of them is named. Empty: it is always
	// there.
	match  []string
	target Target
	// values is how many words follow it.
	values int
	set    func(p *ipParser, v []string) error
}

// ipLongNames are other spellings, each with the one used below.
var ipLongNames = map[string]string{
	"--source": "-s", "--src": "-s", "--destination": "-d", "--dst": "-d",
	"--protocol": "-p", "--proto": "-p", "--in-interface": "-i", "--out-interface": "-o",
	"--match": "-m", "--jump": "-j", "--append": "-A", "--table": "-t",
	"--source-port": "--sport", "--destination-port": "--dport", "--icmpv6-type": "--icmp-type",
}

// ipUnsupported are options of iptables(8) that lvslab has no value for.
var ipUnsupported = map[string]string{
	"-c": "setting counters", "--set-counters": "setting counters",
	"-C": "checking a rule", "--check": "checking a rule",
	"-D": "deleting a rule", "--delete": "deleting a rule",
	"-I": "inserting a rule; rules are appended in the order of the list", "--insert": "inserting a rule; rules are appended in the order of the list",
	"-R": "replacing a rule", "--replace": "replacing a rule",
	"-L": "listing", "--list": "listing", "-S": "listing", "--list-rules": "listing",
	"-F": "flushing", "--flush": "flushing", "-Z": "zeroing counters", "--zero": "zeroing counters",
	"-N": "a user chain", "--new-chain": "a user chain", "-X": "a user chain", "--delete-chain": "a user chain",
	"-E": "renaming a chain", "--rename-chain": "renaming a chain",
	"-P": "a policy; use a last rule with -j DROP", "--policy": "a policy; use a last rule with -j DROP",
	"-g": "going to a user chain", "--goto": "going to a user chain",
	"-f": "fragments", "--fragment": "fragments", "-4": "the family", "-6": "the family", "-w": "waiting for the lock", "--wait": "waiting for the lock",
	"--tcp-option": "the match on TCP options", "--vportctl": "the controlling connection's port", "--comment": "a comment",
	"--to-ports": "the ports of MASQUERADE and REDIRECT", "--random": "random ports", "--random-fully": "random ports",
	"--persistent": "one source for a client", "--and-mark": "changing some bits of a mark", "--or-mark": "changing some bits of a mark", "--xor-mark": "changing some bits of a mark",
	"--ctdir": "the connection's direction", "--ctstatus": "the connection's status", "--ctproto": "the connection's protocol",
	"--ctorigsrc": "the connection's addresses", "--ctorigdst": "the connection's addresses", "--ctreplsrc": "the connection's addresses", "--ctrepldst": "the connection's addresses",
	"--chunk-types": "SCTP's chunk types",
}

// ipMatches are the matches of -m.
var ipMatches = []string{"tcp", "udp", "sctp", "icmp", "icmp6", "icmpv6", "ipvs", "conntrack", "state", "mark"}

func ipOptions() map[string]ipOption {
	ports := []string{"tcp", "udp", "sctp"}
	ipvs, mark := []string{"ipvs"}, []string{"mark"}
	return map[string]ipOption{
		"-t": {values: 1, set: func(p *ipParser, v []string) error { return p.setTable(v[0]) }},
		"-A": {values: 1, set: func(p *ipParser, v []string) error { return p.setChain(v[0]) }},
		"-s": {not: IPNotSrc, values: 1, set: func(p *ipParser, v []string) (err error) { p.rule.Src, err = p.prefix(v[0]); return }},
		"-d": {not: IPNotDst, values: 1, set: func(p *ipParser, v []string) (err error) { p.rule.Dst, err = p.prefix(v[0]); return }},
		"-i": {not: IPNotIn, values: 1, set: func(p *ipParser, v []string) error { p.rule.In = v[0]; return checkInterface(v[0]) }},
		"-o": {not: IPNotOut, values: 1, set: func(p *ipParser, v []string) error { p.rule.Out = v[0]; return checkInterface(v[0]) }},
		"-p": {not: IPNotProtocol, values: 1, set: func(p *ipParser, v []string) error { return p.setProtocol(v[0]) }},
		"-m": {values: 1, set: func(p *ipParser, v []string) error { return p.addMatch(v[0]) }},
		"-j": {values: 1, set: func(p *ipParser, v []string) error { return p.setTarget(v[0]) }},
		"--sport": {not: IPNotSrcPorts, match: ports, values: 1, set: func(p *ipParser, v []string) (err error) {
			p.rule.SrcPorts, err = parsePorts(v[0], ":")
			return
		}},
		"--dport": {not: IPNotDstPorts, match: ports, values: 1, set: func(p *ipParser, v []string) (err error) {
			p.rule.DstPorts, err = parsePorts(v[0], ":")
			return
		}},
		"--tcp-flags": {not: IPNotTCPFlags, match: []string{"tcp"}, values: 2, set: func(p *ipParser, v []string) error { return p.setTCPFlags(v[0], v[1]) }},
		"--syn": {not: IPNotTCPFlags, match: []string{"tcp"}, set: func(p *ipParser, _ []string) error {
			return p.setTCPFlags("FIN,SYN,RST,ACK", "SYN")
		}},
		"--icmp-type": {not: IPNotICMP, match: []string{"icmp", "icmp6"}, values: 1, set: func(p *ipParser, v []string) (err error) {
			p.rule.ICMP, err = parseICMP(p.rule.Family, v[0])
			return
		}},
		"--ipvs": {not: IPNotIPVS, match: ipvs, set: func(p *ipParser, _ []string) error { p.rule.IPVS.Property = true; return nil }},
		"--vproto": {not: IPNotVProto, match: ipvs, values: 1, set: func(p *ipParser, v []string) (err error) {
			p.rule.IPVS.Proto, err = parseProtocol(v[0])
			return
		}},
		"--vaddr": {not: IPNotVAddr, match: ipvs, values: 1, set: func(p *ipParser, v []string) (err error) { p.rule.IPVS.VAddr, err = p.prefix(v[0]); return }},
		"--vport": {not: IPNotVPort, match: ipvs, values: 1, set: func(p *ipParser, v []string) error {
			ports, err := parsePorts(v[0], ":")
			if p.rule.IPVS.VPort = ports.First; err == nil && (ports.First != ports.Last || ports.First == 0) {
				return fmt.Errorf("%q is not one port from 1 to 65535", v[0])
			}
			return err
		}},
		"--vdir": {match: ipvs, values: 1, set: func(p *ipParser, v []string) (err error) {
			p.rule.IPVS.Dir, err = oneOf("direction", IPVSDirection(v[0]), IPVSOriginal, IPVSReply)
			return
		}},
		"--vmethod": {not: IPNotVMethod, match: ipvs, values: 1, set: func(p *ipParser, v []string) (err error) {
			p.rule.IPVS.Method, err = oneOf("forwarding method", IPVSMethod(v[0]), IPVSGate, IPVSIPIP, IPVSMasq)
			return
		}},
		"--ctstate": {not: IPNotCTState, match: []string{"conntrack"}, values: 1, set: func(p *ipParser, v []string) error { return p.setState(v[0], false) }},
		"--state":   {not: IPNotCTState, match: []string{"state"}, values: 1, set: func(p *ipParser, v []string) error { return p.setState(v[0], true) }},
		"--mark": {not: IPNotMark, match: mark, values: 1, set: func(p *ipParser, v []string) (err error) {
			p.rule.Mark, err = parseMark(v[0])
			return
		}},
		"--set-mark": {target: SetMark, values: 1, set: func(p *ipParser, v []string) (err error) {
			// The bits to set are also cleared first (mark_tg of xt_mark.c).
			p.rule.NewMark, err = parseMark(v[0])
			p.rule.NewMark.Mask |= p.rule.NewMark.Value
			return
		}},
		"--set-xmark": {target: SetMark, values: 1, set: func(p *ipParser, v []string) (err error) {
			p.rule.NewMark, err = parseMark(v[0])
			return
		}},
		"--to-source":      {target: SNAT, values: 1, set: func(p *ipParser, v []string) (err error) { p.rule.To, err = p.natRange(v[0]); return }},
		"--to-destination": {target: DNAT, values: 1, set: func(p *ipParser, v []string) (err error) { p.rule.To, err = p.natRange(v[0]); return }},
		"--set-mss":        {target: TCPMSS, values: 1, set: func(p *ipParser, v []string) (err error) { p.rule.MSS, err = parseMSS(v[0]); return }},
		"--clamp-mss-to-pmtu": {target: TCPMSS, set: func(p *ipParser, _ []string) error {
			p.rule.MSS = ClampMSS
			return nil
		}},
		"--reject-with": {target: Reject, values: 1, set: func(p *ipParser, v []string) (err error) {
			p.rule.RejectWith, err = parseReject(p.rule.Family, v[0])
			return
		}},
	}
}

// together are options of which a rule can have one.
var together = map[string]string{
	"--syn": "--tcp-flags", "--set-xmark": "--set-mark", "--clamp-mss-to-pmtu": "--set-mss", "--state": "--ctstate",
}

// needed are the options that a target, or a match, is nothing without.
var needed = map[Target][]string{
	SetMark: {"--set-mark", "--set-xmark"},
	SNAT:    {"--to-source"},
	DNAT:    {"--to-destination"},
	TCPMSS:  {"--set-mss", "--clamp-mss-to-pmtu"},
}

// ParseIPRule reads the words that follow "iptables" (or "ip6tables", for
// IPv6), as "-t nat -A POSTROUTING -j MASQUERADE". A leading name of that tool
// is let pass. It takes what iptables takes, of the options, matches and
// targets that an IPRule can say, and nothing else; host names, names of
// services and abbreviated addresses are errors, because a rule must mean the
// same everywhere. The error is a *SyntaxError.
func ParseIPRule(family Family, text string) (IPRule, error) {
	if family != IPv4 && family != IPv6 {
		return IPRule{}, &SyntaxError{Col: 1, Msg: fmt.Sprintf("the family %d is neither IPv4 nor IPv6", family)}
	}
	r, err := parseIPRule(family, "", text)
	if err != nil {
		return IPRule{}, err
	}
	return r, nil
}

// ipParser reads one rule.
type ipParser struct {
	rule    IPRule
	options map[string]ipOption
	seen    map[string]word
	// matches are those that -p or -m has named so far.
	matches map[string]bool
	// table is that of iptables-save, where a rule must not name one.
	table Table
	chain word
}

func parseIPRule(family Family, table Table, text string) (IPRule, *SyntaxError) {
	if i := strings.IndexFunc(text, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }); i >= 0 {
		return IPRule{}, &SyntaxError{Col: i + 1, Msg: fmt.Sprintf("the character %q has no place in a rule, which is one line", text[i])}
	}
	p := ipParser{
		rule: IPRule{Family: family, Table: table}, table: table, options: ipOptions(),
		seen: map[string]word{}, matches: map[string]bool{},
	}
	ws := split(text)
	if len(ws) > 0 && table == "" && (ws[0].text == family.Tool() || ws[0].text == family.Tool()+"-legacy") {
		ws = ws[1:]
	}
	for len(ws) > 0 {
		used, err := p.option(ws)
		if err != nil {
			return IPRule{}, err
		}
		ws = ws[used:]
	}
	if err := p.finish(); err != nil {
		return IPRule{}, err
	}
	return p.rule.canonicalIP(), nil
}

// option reads the option at the head of ws with its values and returns how
// many words that took.
func (p *ipParser) option(ws []word) (int, *SyntaxError) {
	fail := func(w word, format string, args ...any) (int, *SyntaxError) {
		return 0, &SyntaxError{Col: w.col, Msg: fmt.Sprintf(format, args...)}
	}
	w, name, not, err := optionWord(ws, ipUnsupported, ipLongNames)
	if err != nil {
		return 0, err
	}
	i := 0
	if not {
		i = 1
	}
	opt, ok := p.options[name]
	if !ok {
		if strings.HasPrefix(name, "-") {
			return fail(w, "%s", source.Unknown("option", w.text, p.known()))
		}
		return fail(w, "%q is not an option and follows none that takes a value", w.text)
	}
	if opt.match != nil && !slices.ContainsFunc(opt.match, func(m string) bool { return p.matches[m] }) {
		return fail(w, "%s must come after %s", w.text, p.brings(opt.match))
	}
	if opt.target != "" && p.rule.Target != opt.target {
		return fail(w, "%s must come after -j %s", w.text, opt.target)
	}
	i++
	if i < len(ws) && ws[i].text == "!" && opt.not != 0 && opt.values > 0 {
		return fail(ws[i], "! must come before %s, not after it", w.text)
	}
	one := name
	if other, ok := together[name]; ok {
		one = other
	}
	first, again := p.seen[one]
	switch {
	case not && opt.not == 0:
		return fail(w, "%s cannot be negated", w.text)
	case again && name != "-m" && first.text == w.text:
		return fail(w, "%s is given twice", w.text)
	case again && name != "-m":
		return fail(w, "%s and %s exclude each other", first.text, w.text)
	case i+opt.values > len(ws):
		what := "a value"
		if opt.values > 1 {
			what = fmt.Sprintf("%d values", opt.values)
		}
		return fail(w, "%s needs %s", w.text, what)
	}
	p.seen[one] = w
	var values []string
	for _, v := range ws[i : i+opt.values] {
		values = append(values, v.text)
	}
	if err := opt.set(p, values); err != nil {
		return fail(ws[i], "%s: %v", w.text, err)
	}
	if not {
		p.rule.Not |= opt.not
	}
	if name == "-A" {
		p.chain = ws[i]
	}
	return i + opt.values, nil
}

// brings says what names the extension of an option.
func (p *ipParser) brings(matches []string) string {
	switch matches[0] {
	case "tcp":
		return "-p " + strings.Join(matches, " or -p ")
	case "icmp":
		return "-p " + p.rule.Family.icmp().String()
	}
	return "-m " + strings.Join(matches, " or -m ")
}

// known is what an unknown option is compared with.
func (p *ipParser) known() []string {
	var names []string
	for name := range p.options {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// finish says what is missing and what does not go together.
func (p *ipParser) finish() *SyntaxError {
	if _, ok := p.seen["-A"]; !ok {
		return &SyntaxError{Col: 1, Msg: "the chain is missing, as in -A INPUT"}
	}
	if options := needed[p.rule.Target]; options != nil && !slices.ContainsFunc(options, func(o string) bool { _, ok := p.seen[o]; return ok }) {
		if _, ok := p.seen[options[0]]; !ok {
			return &SyntaxError{Col: p.seen["-j"].col, Msg: fmt.Sprintf("-j %s needs %s", p.rule.Target, strings.Join(options, " or "))}
		}
	}
	for _, m := range []struct {
		match string
		empty bool
		wants string
	}{
		{"ipvs", p.rule.IPVS == IPVSMatch{}, "one of --ipvs, --vproto, --vaddr, --vport, --vdir, --vmethod"},
		{"conntrack", p.rule.CTState == 0 || p.rule.StateWord, "--ctstate"},
		{"state", p.rule.CTState == 0 || !p.rule.StateWord, "--state"},
		{"mark", p.seen["--mark"] == word{}, "--mark"},
	} {
		if p.matches[m.match] && m.empty {
			return &SyntaxError{Col: p.seen["-m"].col, Msg: fmt.Sprintf("-m %s needs %s", m.match, m.wants)}
		}
	}
	for _, name := range []string{"tcp", "udp", "sctp", "icmp", "icmp6"} {
		if got := p.rule.protocolMatch(); p.matches[name] && (got != name || p.rule.Not&IPNotProtocol != 0) && p.seen["-p"].text == "" {
			return &SyntaxError{Col: p.seen["-m"].col, Msg: fmt.Sprintf("-m %s needs -p %s", name, strings.TrimSuffix(name, "6"))}
		}
	}
	if !slices.Contains(p.rule.canonicalIP().Table.Chains(), p.rule.Chain) {
		return &SyntaxError{Col: p.chain.col, Msg: strings.ReplaceAll(p.rule.Validate().Error(), "\n", "; ")}
	}
	if err := p.rule.Validate(); err != nil {
		return &SyntaxError{Col: 1, Msg: strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return nil
}
