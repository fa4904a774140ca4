package filter

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/lvslab/lvslab/topology/source"
)

// SyntaxError is what is wrong with a rule's text.
type SyntaxError struct {
	// Line counts from 1 in the text of arptables-save; it is 0 for a rule
	// alone.
	Line int
	// Col is the column, in bytes from 1, of the word that is wrong.
	Col int
	Msg string
}

func (e *SyntaxError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Col, e.Msg)
	}
	return fmt.Sprintf("column %d: %s", e.Col, e.Msg)
}

// word is a word of a rule with its place.
type word struct {
	text string
	col  int
}

// split cuts a line at blanks. arptables-save quotes nothing and the words of
// a rule need no quotes.
func split(line string) []word {
	var ws []word
	for i := 0; i < len(line); {
		if line[i] == ' ' || line[i] == '\t' {
			i++
			continue
		}
		start := i
		for i < len(line) && line[i] != ' ' && line[i] != '\t' {
			i++
		}
		ws = append(ws, word{line[start:i], start + 1})
	}
	return ws
}

// option is what ruleParser knows about an option of arptables.
type option struct {
	// not is the bit of a test that "!" may turn round, else zero.
	not Negation
	set func(r *ArpRule, value string) error
	// mangle marks the options that arptables knows only after "-j mangle".
	mangle bool
}

// longNames are the spellings of arptables 0.0.5 and of arptables-nft 1.8.9,
// each with the one used below.
var longNames = map[string]string{
	"--source-ip": "-s", "--src-ip": "-s",
	"--destination-ip": "-d", "--dst-ip": "-d",
	"--src-mac": "--source-mac", "--dst-mac": "--destination-mac",
	"--in-interface": "-i", "--in-if": "-i",
	"--out-interface": "-o", "--out-if": "-o",
	"-l": "--h-length", "--jump": "-j", "--append": "-A", "--table": "-t",
}

var options = map[string]option{
	"-s":                {not: NotSrc, set: func(r *ArpRule, v string) (err error) { r.Src, err = parsePrefix(v); return }},
	"-d":                {not: NotDst, set: func(r *ArpRule, v string) (err error) { r.Dst, err = parsePrefix(v); return }},
	"--source-mac":      {not: NotSrcMAC, set: func(r *ArpRule, v string) (err error) { r.SrcMAC, err = parseMACMatch(v); return }},
	"--destination-mac": {not: NotDstMAC, set: func(r *ArpRule, v string) (err error) { r.DstMAC, err = parseMACMatch(v); return }},
	"-i":                {not: NotIn, set: func(r *ArpRule, v string) error { r.In = v; return checkInterface(v) }},
	"-o":                {not: NotOut, set: func(r *ArpRule, v string) error { r.Out = v; return checkInterface(v) }},
	"--h-length":        {not: NotHLen, set: func(r *ArpRule, v string) (err error) { r.HLen, err = parseHLen(v); return }},
	"--opcode":          {not: NotOpcode, set: func(r *ArpRule, v string) (err error) { r.Opcode, err = parseOpcode(v); return }},
	"-j":                {set: setTarget},
	"--mangle-ip-s":     {mangle: true, set: func(r *ArpRule, v string) (err error) { r.MangleIPSrc, err = parseAddr(v); return }},
	"--mangle-ip-d":     {mangle: true, set: func(r *ArpRule, v string) (err error) { r.MangleIPDst, err = parseAddr(v); return }},
	"--mangle-mac-s":    {mangle: true, set: func(r *ArpRule, v string) (err error) { r.MangleMACSrc, err = parseMangleMAC(v); return }},
	"--mangle-mac-d":    {mangle: true, set: func(r *ArpRule, v string) (err error) { r.MangleMACDst, err = parseMangleMAC(v); return }},
	"--mangle-target":   {mangle: true, set: setMangleTarget},
	"-A":                {set: setChain},
	"-t":                {set: checkTable},
}

// knownOptions is what an unknown option is compared with.
var knownOptions = []string{
	"-A", "-s", "--source-ip", "-d", "--destination-ip", "--source-mac", "--destination-mac", "-i", "--in-interface",
	"-o", "--out-interface", "--h-length", "--opcode", "-j", "--jump", "--mangle-ip-s", "--mangle-ip-d",
	"--mangle-mac-s", "--mangle-mac-d", "--mangle-target",
}

// unsupported are the options of arptables(8) that lvslab has no value for.
var unsupported = map[string]string{
	"--h-type": "the hardware type", "--proto-type": "the protocol type",
	"-c": "setting counters", "--set-counters": "setting counters",
	"-D": "deleting a rule", "--delete": "deleting a rule",
	"-I": "inserting a rule", "--insert": "inserting a rule",
	"-R": "replacing a rule", "--replace": "replacing a rule",
	"-L": "listing", "--list": "listing", "-F": "flushing", "--flush": "flushing",
	"-Z": "zeroing counters", "--zero": "zeroing counters",
	"-N": "a user chain", "--new-chain": "a user chain",
	"-X": "a user chain", "--delete-chain": "a user chain",
	"-E": "renaming a chain", "--rename-chain": "renaming a chain",
	"-P": "a policy", "--policy": "a policy",
	"--set-class": "the target CLASSIFY", "--set-mark": "the target MARK",
	"--and-mark": "the target MARK", "--or-mark": "the target MARK",
}

// ParseArpRule reads the words that follow "arptables", as
// "-A INPUT -d 172.25.12.100 -j DROP". It takes what arptables takes, "!"
// before an option or before its value included, and nothing else; host names
// and abbreviated addresses are errors, because a rule must mean the same
// everywhere. The error is a *SyntaxError.
func ParseArpRule(text string) (ArpRule, error) {
	r, err := parseRule(text)
	if err != nil {
		return ArpRule{}, err
	}
	return r, nil
}

func parseRule(text string) (ArpRule, *SyntaxError) {
	if i := strings.IndexFunc(text, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }); i >= 0 {
		return ArpRule{}, &SyntaxError{Col: i + 1, Msg: fmt.Sprintf("the character %q has no place in a rule, which is one line", text[i])}
	}
	var r ArpRule
	ws := split(text)
	seen := map[string]bool{}
	for i := 0; i < len(ws); {
		used, err := parseOption(&r, ws[i:], seen)
		if err != nil {
			return ArpRule{}, err
		}
		i += used
	}
	if !seen["-A"] {
		return ArpRule{}, &SyntaxError{Col: 1, Msg: "the chain is missing (-A INPUT or -A OUTPUT)"}
	}
	if err := r.Validate(); err != nil {
		return ArpRule{}, &SyntaxError{Col: 1, Msg: strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return r.canonical(), nil
}

// optionWord is the option at the head of ws and the spelling of it that the
// grammar goes by; not says that a "!" stands before it.
func optionWord(ws []word, unsupported, longNames map[string]string) (w word, name string, not bool, err *SyntaxError) {
	fail := func(w word, format string, args ...any) (word, string, bool, *SyntaxError) {
		return w, "", false, &SyntaxError{Col: w.col, Msg: fmt.Sprintf(format, args...)}
	}
	if w = ws[0]; w.text == "!" {
		if len(ws) == 1 {
			return fail(w, "! needs an option after it")
		}
		w, not = ws[1], true
	}
	if what, ok := unsupported[w.text]; ok {
		return fail(w, "%s (%s) is not supported", w.text, what)
	}
	name = w.text
	if short, ok := longNames[name]; ok {
		name = short
	}
	return w, name, not, nil
}

// parseOption reads the option at the head of ws with its value and returns
// how many words that took.
func parseOption(r *ArpRule, ws []word, seen map[string]bool) (int, *SyntaxError) {
	fail := func(w word, format string, args ...any) (int, *SyntaxError) {
		return 0, &SyntaxError{Col: w.col, Msg: fmt.Sprintf(format, args...)}
	}
	w, name, not, err := optionWord(ws, unsupported, longNames)
	if err != nil {
		return 0, err
	}
	i := 0
	if not {
		i = 1
	}
	opt, ok := options[name]
	if !ok {
		if strings.HasPrefix(name, "-") {
			return fail(w, "%s", source.Unknown("option", w.text, knownOptions))
		}
		return fail(w, "%q is not an option and follows none that takes a value", w.text)
	}
	i++
	if i < len(ws) && ws[i].text == "!" && opt.not != 0 {
		if not {
			return fail(ws[i], "a second ! for %s", w.text)
		}
		i, not = i+1, true
	}
	switch {
	case not && opt.not == 0:
		return fail(w, "%s cannot be negated", w.text)
	case seen[name]:
		return fail(w, "%s is given twice", w.text)
	case opt.mangle && r.Target != Mangle:
		return fail(w, "%s must come after -j mangle", w.text)
	case i == len(ws):
		return fail(w, "%s needs a value", w.text)
	}
	seen[name] = true
	if err := opt.set(r, ws[i].text); err != nil {
		return fail(ws[i], "%s: %v", w.text, err)
	}
	if not {
		r.Not |= opt.not
	}
	return i + 1, nil
}

func setChain(r *ArpRule, v string) error {
	switch Chain(v) {
	case Input, Output:
		r.Chain = Chain(v)
		return nil
	case "FORWARD":
		return fmt.Errorf("the chain FORWARD is not supported; INPUT and OUTPUT are")
	}
	return fmt.Errorf("%s (user chains are not supported)", source.Unknown("chain", v, []string{string(Input), string(Output)}))
}

func checkTable(_ *ArpRule, v string) error {
	if v != "filter" {
		return fmt.Errorf("there is no table %q; the only one is filter", v)
	}
	return nil
}

func setTarget(r *ArpRule, v string) error {
	switch Target(v) {
	case Accept, Drop, Mangle:
		r.Target = Target(v)
		return nil
	}
	switch v {
	case "RETURN", "QUEUE", "CONTINUE", "CLASSIFY", "MARK":
		return fmt.Errorf("the target %s is not supported; ACCEPT, DROP and mangle are", v)
	}
	return fmt.Errorf("%s (user chains are not supported)", source.Unknown("target", v, []string{string(Accept), string(Drop), string(Mangle)}))
}

func setMangleTarget(r *ArpRule, v string) error {
	switch Target(v) {
	case Accept, Drop, Continue:
		r.MangleTarget = Target(v)
		return nil
	}
	return fmt.Errorf("%s", source.Unknown("target", v, []string{string(Accept), string(Drop), string(Continue)}))
}

// parsePrefix reads ADDRESS, ADDRESS/BITS or ADDRESS/MASK. A mask with holes,
// which arptables would take, is an error.
func parsePrefix(v string) (netip.Prefix, error) {
	host, mask, masked := strings.Cut(v, "/")
	a, err := parseAddr(host)
	if err != nil {
		return netip.Prefix{}, err
	}
	if !masked {
		return netip.PrefixFrom(a, 32), nil
	}
	if strings.Contains(mask, ".") {
		m, err := parseAddr(mask)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("mask: %w", err)
		}
		bits, ok := maskBits(m.As4())
		if !ok {
			return netip.Prefix{}, fmt.Errorf("the mask %s has holes, which is not supported", mask)
		}
		return netip.PrefixFrom(a, bits), nil
	}
	bits, err := strconv.ParseUint(mask, 10, 8)
	if err != nil || bits > 32 || strings.HasPrefix(mask, "+") {
		return netip.Prefix{}, fmt.Errorf("%q is not a prefix length from 0 to 32 or a dotted mask", mask)
	}
	return netip.PrefixFrom(a, int(bits)), nil
}

// maskBits is the length of a mask without holes.
func maskBits(m [4]byte) (int, bool) {
	u := uint32(m[0])<<24 | uint32(m[1])<<16 | uint32(m[2])<<8 | uint32(m[3])
	bits := 0
	for u&(1<<31) != 0 {
		u <<= 1
		bits++
	}
	return bits, u == 0
}

func parseAddr(v string) (netip.Addr, error) {
	a, err := netip.ParseAddr(v)
	if err != nil || !a.Is4() {
		return netip.Addr{}, fmt.Errorf("%q is not an IPv4 address such as 172.25.12.100", v)
	}
	return a, nil
}

func parseMACMatch(v string) (MACMatch, error) {
	addr, mask, masked := strings.Cut(v, "/")
	a, err := parseMAC(addr)
	if err != nil || !masked {
		return ExactMAC(a), err
	}
	m, err := parseMAC(mask)
	return MACMatch{Addr: a, Mask: m}, err
}

// parseMAC reads six hexadecimal numbers of one or two digits, as arptables
// does.
func parseMAC(v string) (MAC, error) {
	var m MAC
	parts := strings.Split(v, ":")
	ok := len(parts) == len(m)
	for i := 0; ok && i < len(m); i++ {
		b, err := strconv.ParseUint(parts[i], 16, 8)
		ok = err == nil && len(parts[i]) <= 2 && parts[i][0] != '+'
		m[i] = byte(b)
	}
	if !ok {
		return MAC{}, fmt.Errorf("%q is not a MAC address such as 02:00:5e:10:00:01", v)
	}
	return m, nil
}

func parseMangleMAC(v string) (MAC, error) {
	m, err := parseMAC(v)
	if err == nil && m == (MAC{}) {
		return m, fmt.Errorf("writing the zero MAC address is not supported")
	}
	return m, err
}

func parseHLen(v string) (uint8, error) {
	n, err := strconv.ParseUint(v, 10, 8)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a length from 1 to 255 (a mask is not supported)", v)
	}
	return uint8(n), nil
}

func parseOpcode(v string) (Opcode, error) {
	for i, name := range opcodeNames {
		if strings.EqualFold(v, name) {
			return Opcode(i + 1), nil
		}
	}
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is neither a number from 1 to 65535 (a mask is not supported) nor one of %s", v, strings.Join(opcodeNames[:], ", "))
	}
	return Opcode(n), nil
}
