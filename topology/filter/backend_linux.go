package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Backend is a kernel's way of taking ARP rules. Its methods work on the
// network namespace of the calling thread, which must be locked to its
// goroutine (topology.Node.Do sees to that) and must have CAP_NET_ADMIN there.
type Backend string

// The two backends.
const (
	// NFTables is the arp family of nf_tables, in the table and the chains
	// that arptables-nft uses too: "arp filter", INPUT and OUTPUT.
	NFTables Backend = "nf_tables"
	// ARPTables is the older interface of socket options, that of
	// arptables-legacy.
	ARPTables Backend = "arp_tables"
)

// LegacyModules are the modules that ARPTables needs, in the order in which
// they are loaded.
func LegacyModules() []string { return []string{"arp_tables", "arptable_filter", "arpt_mangle"} }

// ErrNoBackend is the answer "no": the kernel was asked and has neither way.
var ErrNoBackend = errors.New("the kernel has neither nf_tables for arp nor arp_tables with mangle")

// Counted is a rule with what it has counted since it was written.
type Counted struct {
	Rule ArpRule
	// Packets and Bytes are of ARP packets that matched. Bytes differ
	// between the backends: nf_tables counts the packet, arp_tables the
	// header of an ARP packet on that link.
	Packets, Bytes uint64
}

func (b Backend) String() string { return string(b) }

// Detect tries, in the namespace of the calling thread, which backend the
// kernel has, without leaving anything there. Where both are there it is
// NFTables. There are three answers: a Backend; an error that is
// ErrNoBackend, for no; any other error, for could not tell (no privilege, a
// kernel that does not answer).
func Detect() (Backend, error) {
	nft := probeNFT()
	if nft == nil {
		return NFTables, nil
	}
	legacy := probeLegacy()
	if legacy == nil {
		return ARPTables, nil
	}
	if isAbsent(nft) && isAbsent(legacy) {
		return "", fmt.Errorf("%w (nf_tables: %w; arp_tables: %w); try loading the modules %s",
			ErrNoBackend, nft, legacy, strings.Join(LegacyModules(), ", "))
	}
	return "", fmt.Errorf("cannot tell how this kernel takes ARP rules (nf_tables: %w; arp_tables: %w)", nft, legacy)
}

// absentError marks a probe's certain "no".
type absentError struct{ err error }

func (e *absentError) Error() string { return e.err.Error() }
func (e *absentError) Unwrap() error { return e.err }

func isAbsent(err error) bool {
	var a *absentError
	return errors.As(err, &a)
}

// Replace makes the namespace's ARP filter exactly these rules, in one step
// for the packets that pass meanwhile, and reads them back: an error says that
// the kernel refused, or holds something else than was written. Counters start
// at zero. Without rules nothing is left of the table (NFTables), or an empty
// one that accepts (ARPTables). The rules of the other backend are neither
// seen nor touched; a foreign table of NFTables is an error.
func (b Backend) Replace(rules []ArpRule) error {
	for i, r := range rules {
		if err := r.Validate(); err != nil {
			return fmt.Errorf("ARP rule %d (%s): %w", i+1, r, err)
		}
	}
	wanted := Canonical(rules)
	var err error
	switch b {
	case NFTables:
		err = replaceNFT(wanted)
	case ARPTables:
		err = replaceLegacy(wanted)
	default:
		err = b.unknown()
	}
	if err != nil {
		return fmt.Errorf("writing the ARP rules with %s: %w", b, err)
	}
	got, err := b.List()
	if err != nil {
		return fmt.Errorf("reading ARP rules back after writing: %w", err)
	}
	if !slices.Equal(got, wanted) {
		return fmt.Errorf("%s took %d ARP rules without an error and holds others:\nwanted:\n%sheld:\n%s",
			b, len(rules), lines(wanted), lines(got))
	}
	return nil
}

func lines(rules []ArpRule) string {
	var s strings.Builder
	for _, r := range rules {
		fmt.Fprintf(&s, "  %s\n", r)
	}
	return s.String()
}

// List reads the rules of the namespace's ARP filter from the kernel, in the
// order of Canonical. It reads what arptables-legacy (ARPTables) and
// arptables-nft (NFTables) wrote too. What an ArpRule cannot say is an error.
func (b Backend) List() ([]ArpRule, error) {
	counted, err := b.Count()
	if err != nil {
		return nil, err
	}
	rules := make([]ArpRule, len(counted))
	for i, c := range counted {
		rules[i] = c.Rule
	}
	return rules, nil
}

// Count is List with counters, exact at once. A rule that nf_tables keeps
// without a counter, which none of lvslab's is, counts zero.
func (b Backend) Count() ([]Counted, error) {
	var counted []Counted
	var err error
	switch b {
	case NFTables:
		counted, err = countNFT()
	case ARPTables:
		counted, err = countLegacy()
	default:
		err = b.unknown()
	}
	if err != nil {
		return nil, fmt.Errorf("reading ARP rules with %s: %w", b, err)
	}
	return counted, nil
}

func (b Backend) unknown() error {
	return fmt.Errorf("%q is not a backend for ARP rules; %s and %s are (see Detect)", string(b), NFTables, ARPTables)
}
