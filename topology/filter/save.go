package filter

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/lvslab/lvslab/topology/source"
)

// Policies says what becomes of a packet that no rule decided on, a chain at a
// time. Empty is Accept.
type Policies struct{ Input, Output, Forward Target }

// FormatSave gives the text that arptables-legacy-save (arptables 0.0.5)
// prints for a table with these rules and policies that accept, to the blank
// at the end of each rule and the empty line at the end of the text.
func FormatSave(rules []ArpRule) string {
	var b strings.Builder
	b.WriteString("*filter\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:FORWARD ACCEPT\n")
	for _, r := range Canonical(rules) {
		b.WriteString(r.saveLine())
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return b.String()
}

// saveLine is the rule as arptables -L -n prints it after "-A CHAIN": the
// target first, then the tests in the order of the tool's source.
func (r ArpRule) saveLine() string {
	w := words{"-A", string(r.Chain)}
	w.add(false, "-j", string(r.Target))
	w.add(r.Not&NotIn != 0, "-i", r.In)
	w.add(r.Not&NotOut != 0, "-o", r.Out)
	w.add(r.Not&NotSrc != 0, "-s", prefixString(r.Src))
	w.add(r.Not&NotSrcMAC != 0, "--src-mac", r.SrcMAC.String())
	w.add(r.Not&NotDst != 0, "-d", prefixString(r.Dst))
	w.add(r.Not&NotDstMAC != 0, "--dst-mac", r.DstMAC.String())
	if r.HLen != 0 {
		w.add(r.Not&NotHLen != 0, "--h-length", strconv.Itoa(int(r.HLen)))
	}
	if r.Opcode != 0 {
		w.add(r.Not&NotOpcode != 0, "--opcode", strconv.Itoa(int(r.Opcode)))
	}
	r.addMangle(&w)
	return strings.Join(w, " ") + " "
}

// ParseSave reads the text of arptables-legacy-save or of arptables-nft-save.
// It takes all of it or nothing: the error joins a *SyntaxError for every line
// that is wrong, and then no rule is returned. An empty text is an empty
// table.
func ParseSave(text string) ([]ArpRule, Policies, error) {
	p := saveParser{chains: map[string]bool{}}
	for i, line := range strings.Split(text, "\n") {
		if err := p.line(strings.TrimSuffix(line, "\r")); err != nil {
			err.Line = i + 1
			p.errs = append(p.errs, err)
		}
	}
	if err := errors.Join(p.errs...); err != nil {
		return nil, Policies{}, err
	}
	return p.rules, p.policies, nil
}

type saveParser struct {
	inTable  bool
	chains   map[string]bool
	rules    []ArpRule
	policies Policies
	errs     []error
}

func (p *saveParser) line(line string) *SyntaxError {
	ws := split(line)
	if len(ws) == 0 || strings.HasPrefix(ws[0].text, "#") {
		return nil
	}
	first := ws[0]
	fail := func(format string, args ...any) *SyntaxError {
		return &SyntaxError{Col: first.col, Msg: fmt.Sprintf(format, args...)}
	}
	switch {
	case first.text[0] == '*':
		if first.text != "*filter" || len(ws) > 1 {
			return fail("%q: the only table is *filter", strings.TrimSpace(line))
		}
		if p.inTable {
			return fail("the table *filter begins a second time")
		}
		p.inTable = true
		return nil
	case !p.inTable:
		// Said once; the lines after it would all repeat it.
		p.inTable = true
		return fail("*filter must come before %q", first.text)
	case first.text[0] == ':':
		return p.policy(ws)
	case first.text == "COMMIT" && len(ws) == 1:
		return nil
	}
	r, err := parseRule(line)
	if err == nil {
		p.rules = append(p.rules, r)
	}
	return err
}

// policy reads ":CHAIN POLICY", which may have "[packets:bytes]" after it.
func (p *saveParser) policy(ws []word) *SyntaxError {
	fail := func(w word, format string, args ...any) *SyntaxError {
		return &SyntaxError{Col: w.col, Msg: fmt.Sprintf(format, args...)}
	}
	name := ws[0].text[1:]
	var slot *Target
	switch name {
	case "INPUT":
		slot = &p.policies.Input
	case "OUTPUT":
		slot = &p.policies.Output
	case "FORWARD":
		slot = &p.policies.Forward
	default:
		return fail(ws[0], "%s (user chains are not supported)", source.Unknown("chain", name, []string{"INPUT", "OUTPUT", "FORWARD"}))
	}
	if p.chains[name] {
		return fail(ws[0], "the policy of chain %s is given twice", name)
	}
	p.chains[name] = true
	if len(ws) < 2 {
		return fail(ws[0], "the policy of chain %s is missing (ACCEPT or DROP)", name)
	}
	if len(ws) > 3 || len(ws) == 3 && !isCounters(ws[2].text) {
		return fail(ws[2], "%q has no place after a policy", ws[2].text)
	}
	switch t := Target(ws[1].text); t {
	case Accept:
	case Drop:
		*slot = Drop
	default:
		return fail(ws[1], "%s", source.Unknown("policy", ws[1].text, []string{string(Accept), string(Drop)}))
	}
	return nil
}

// isCounters reports whether s is "[packets:bytes]".
func isCounters(s string) bool {
	inner, ok := strings.CutPrefix(s, "[")
	inner, ok2 := strings.CutSuffix(inner, "]")
	packets, bytes, ok3 := strings.Cut(inner, ":")
	if !ok || !ok2 || !ok3 {
		return false
	}
	_, err1 := strconv.ParseUint(packets, 10, 64)
	_, err2 := strconv.ParseUint(bytes, 10, 64)
	return err1 == nil && err2 == nil
}
