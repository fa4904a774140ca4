package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/topology/source"
)

// FormatIPSave gives the text that iptables-save (1.8) prints, without its
// comments, for tables with these rules and policies that accept: of every table
// that has a rule, in the order of Tables. The policies' counters are zero, as
// those of iptables-nft always are. All rules are of one family.
func FormatIPSave(rules []IPRule) string {
	var b strings.Builder
	rules = CanonicalIP(rules)
	for _, t := range Tables() {
		of := ofTable(rules, t)
		if len(of) == 0 {
			continue
		}
		fmt.Fprintf(&b, "*%s\n", t)
		for _, c := range t.Chains() {
			fmt.Fprintf(&b, ":%s ACCEPT [0:0]\n", c)
		}
		for _, r := range of {
			b.WriteString(r.saveLine("") + "\n")
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

func (r IPRule) saveLine(counters string) string {
	return strings.TrimSpace("-A " + string(r.Chain) + " " + r.saveSpec(counters))
}

// FormatIPCounted gives what iptables -t TABLE -S -v prints, of every table that
// has a rule: each rule with the packets and bytes that it has counted.
func FormatIPCounted(counted []CountedIP) string {
	var b strings.Builder
	var last CountedIP
	for _, c := range counted {
		if c.Rule.Family != last.Rule.Family || c.Rule.Table != last.Rule.Table {
			fmt.Fprintf(&b, "%s -t %s -S -v\n", c.Rule.Family.Tool(), c.Rule.Table)
		}
		last = c
		b.WriteString(c.Rule.saveLine(fmt.Sprintf("-c %d %d", c.Packets, c.Bytes)) + "\n")
	}
	return b.String()
}

// ParseIPSave reads the text of iptables-save or, for IPv6, of ip6tables-save,
// with or without counters. It takes all of it or nothing: the error joins a
// *SyntaxError for every line that is wrong, and then no rule is returned. A
// policy that is not ACCEPT is such an error. An empty text is no rules.
func ParseIPSave(f Family, text string) ([]IPRule, error) {
	if f != IPv4 && f != IPv6 {
		return nil, fmt.Errorf("the family %d is neither IPv4 nor IPv6", f)
	}
	p := ipSaveParser{family: f, chains: map[string]bool{}, tables: map[Table]bool{}}
	for i, line := range strings.Split(text, "\n") {
		if err := p.line(strings.TrimSuffix(line, "\r")); err != nil {
			err.Line = i + 1
			p.errs = append(p.errs, err)
		}
	}
	if p.table != "" {
		p.errs = append(p.errs, &SyntaxError{Line: strings.Count(text, "\n") + 1, Col: 1, Msg: fmt.Sprintf("COMMIT is missing after *%s", p.table)})
	}
	if err := errors.Join(p.errs...); err != nil {
		return nil, err
	}
	return CanonicalIP(p.rules), nil
}

type ipSaveParser struct {
	family Family
	// table is the one that has begun and not ended.
	table  Table
	tables map[Table]bool
	chains map[string]bool
	rules  []IPRule
	errs   []error
}

func (p *ipSaveParser) line(line string) *SyntaxError {
	ws := split(line)
	if len(ws) == 0 || strings.HasPrefix(ws[0].text, "#") {
		return nil
	}
	first := ws[0]
	fail := func(w word, format string, args ...any) *SyntaxError {
		return &SyntaxError{Col: w.col, Msg: fmt.Sprintf(format, args...)}
	}
	switch {
	case first.text[0] == '*':
		t, err := oneOf("table", Table(first.text[1:]), Tables()...)
		switch {
		case err != nil:
			return fail(first, "%v", err)
		case len(ws) > 1:
			return fail(ws[1], "%q has no place after *%s", ws[1].text, t)
		case p.table != "":
			return fail(first, "COMMIT is missing before *%s", t)
		case p.tables[t]:
			return fail(first, "the table *%s begins a second time", t)
		}
		p.table, p.tables[t] = t, true
		clear(p.chains)
		return nil
	case p.table == "":
		return fail(first, "a line such as *filter must come before %q", first.text)
	case first.text == "COMMIT" && len(ws) == 1:
		p.table = ""
		return nil
	case first.text[0] == ':':
		return p.policy(ws)
	}
	// Blanks in the place of the counters keep the columns right.
	if isCounters(first.text) {
		line = strings.Replace(line, first.text, strings.Repeat(" ", len(first.text)), 1)
	}
	r, err := parseIPRule(p.family, p.table, line)
	if err == nil {
		p.rules = append(p.rules, r)
	}
	return err
}

// policy reads ":CHAIN POLICY", which may have "[packets:bytes]" after it.
func (p *ipSaveParser) policy(ws []word) *SyntaxError {
	fail := func(w word, format string, args ...any) *SyntaxError {
		return &SyntaxError{Col: w.col, Msg: fmt.Sprintf(format, args...)}
	}
	name := ws[0].text[1:]
	switch {
	case !slices.Contains(p.table.Chains(), Chain(name)):
		words := make([]string, 0, numIPHooks)
		for _, c := range p.table.Chains() {
			words = append(words, string(c))
		}
		return fail(ws[0], "%s (user chains are not supported)", source.Unknown("chain", name, words))
	case p.chains[name]:
		return fail(ws[0], "the policy of chain %s is given twice", name)
	case len(ws) < 2:
		return fail(ws[0], "the policy of chain %s is missing (ACCEPT)", name)
	case ws[1].text != string(Accept):
		return fail(ws[1], "the policy %s of chain %s is not supported; ACCEPT is, and a last rule with -j DROP", ws[1].text, name)
	case len(ws) > 3 || len(ws) == 3 && !isCounters(ws[2].text):
		return fail(ws[2], "%q has no place after a policy", ws[2].text)
	}
	p.chains[name] = true
	return nil
}
