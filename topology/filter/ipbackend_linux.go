package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// IPBackend is a kernel's way of taking IP rules. Its methods work on the
// network namespace of the calling thread, which must be locked to its
// goroutine (topology.Node.Do sees to that) and must have CAP_NET_ADMIN there.
type IPBackend string

// The two backends.
const (
	// IPNFTables are the families ip and ip6 of nf_tables, in the tables and
	// chains, and mostly with the expressions, that iptables-nft uses too.
	IPNFTables IPBackend = "nf_tables"
	// IPTables is the older interface of socket options, that of
	// iptables-legacy.
	IPTables IPBackend = "ip_tables"
)

func (b IPBackend) String() string { return string(b) }

// ErrNoIPBackend is the answer "no": the kernel was asked and has neither way.
var ErrNoIPBackend = errors.New("the kernel has neither nf_tables with the matches of x_tables nor ip_tables")

// DetectIP tries, in the namespace of the calling thread, which backend the
// kernel has for a family, without leaving a rule there. Where both are there it
// is IPNFTables, unless the namespace has rules by the other already: a
// namespace's rules are to be in one place. There are three answers: a backend;
// an error that is ErrNoIPBackend, for no; any other error, for could not tell.
func DetectIP(f Family) (IPBackend, error) { return detectIP(f, nil) }

// detectIP asks for the wanted tables before others.
func detectIP(f Family, wanted []Table) (IPBackend, error) {
	if rules, err := countLegacyIP(f); err != nil || len(rules) > 0 {
		// What is there and cannot be read is there nonetheless.
		return IPTables, nil //nolint:nilerr // whoever reads the rules is told
	}
	nft := probeNFTIP(f)
	if nft == nil {
		return IPNFTables, nil
	}
	legacy := probeLegacyIP(f, wanted...)
	if legacy == nil {
		return IPTables, nil
	}
	if isAbsent(nft) && isAbsent(legacy) {
		return "", fmt.Errorf("%s: %w (nf_tables: %w; %s: %w); try loading the module %s",
			f, ErrNoIPBackend, nft, f.core(), legacy, TableFeature(f, FilterTable))
	}
	return "", fmt.Errorf("cannot tell how this kernel takes %s rules (nf_tables: %w; %s: %w)", f, nft, f.core(), legacy)
}

// CountIP reads the family's rules with their counters by whichever backend they
// were written with. It tries nothing out, so that it leaves the namespace as it
// is: to ask for a table makes it, and that of NAT starts connection tracking.
// Without any backend there are no rules.
func CountIP(f Family) ([]CountedIP, error) {
	if counted, err := IPTables.Count(f); err != nil || len(counted) > 0 {
		return counted, err
	}
	counted, err := IPNFTables.Count(f)
	if isAbsent(err) {
		return nil, nil
	}
	return counted, err
}

// List reads the family's rules of all tables, in the order of CanonicalIP. What
// an IPRule cannot say (a user chain, a policy that drops, another match) is an
// error.
func (b IPBackend) List(f Family) ([]IPRule, error) {
	counted, err := b.Count(f)
	return rulesOf(counted), err
}

// Count reads the rules with their counters, which are exact at that moment.
func (b IPBackend) Count(f Family) ([]CountedIP, error) {
	var counted []CountedIP
	var err error
	switch b {
	case IPNFTables:
		counted, err = countNFTIP(f)
	case IPTables:
		counted, err = countLegacyIP(f)
	default:
		err = b.unknown()
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s rules with %s: %w", f, b, err)
	}
	return counted, nil
}

// Replace makes the family's built-in chains of all tables exactly these rules,
// a table in one step for the packets that pass meanwhile, and reads them back:
// an error says that the kernel refused, or holds something else than was
// written. Of each chain, rules that were there before what is new keep their
// counters. Tables that do not change are left alone; what is not of that family
// is neither seen nor touched.
func (b IPBackend) Replace(f Family, rules []IPRule) error {
	for i, r := range rules {
		err := r.Validate()
		if err == nil && r.Family != f {
			err = fmt.Errorf("it is of %s", r.Family)
		}
		if err != nil {
			return fmt.Errorf("%s rule %d (%s): %w", f, i+1, r, err)
		}
	}
	wanted := CanonicalIP(rules)
	var err error
	switch b {
	case IPNFTables:
		err = replaceNFTIP(f, wanted)
	case IPTables:
		var old []IPRule
		if old, err = b.List(f); err == nil {
			err = replaceLegacyIP(f, old, wanted)
		}
	default:
		err = b.unknown()
	}
	if err != nil {
		return fmt.Errorf("writing the %s rules with %s: %w", f, b, err)
	}
	got, err := b.List(f)
	if err != nil {
		return fmt.Errorf("reading %s rules back after writing: %w", f, err)
	}
	if !slices.Equal(got, wanted) {
		return fmt.Errorf("%s holds other %s rules than were written\nwanted:\n%sfound:\n%s", b, f, ruleLines(wanted), ruleLines(got))
	}
	return nil
}

func (b IPBackend) unknown() error {
	return fmt.Errorf("%q is not a backend for IP rules; %s and %s are (see DetectIP)", string(b), IPNFTables, IPTables)
}

// IsMissing reports whether an error of Replace says that the kernel has not got
// something that a rule needs.
func IsMissing(err error) bool { return errors.Is(err, unix.ENOENT) || isAbsent(err) }

func rulesOf(counted []CountedIP) []IPRule {
	var rules []IPRule
	for _, c := range counted {
		rules = append(rules, c.Rule)
	}
	return rules
}

func ofTable(rules []IPRule, t Table) []IPRule {
	var of []IPRule
	for _, r := range rules {
		if r.Table == t {
			of = append(of, r)
		}
	}
	return of
}

func ruleLines(rules []IPRule) string {
	var b strings.Builder
	for _, r := range rules {
		fmt.Fprintf(&b, "  %s %s\n", r.Family.Tool(), r)
	}
	return b.String()
}
