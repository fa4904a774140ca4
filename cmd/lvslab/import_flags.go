package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lvslab/lvslab/scenarios/importer"
	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// importFlags are those of each verb that reads a director's configuration.
type importFlags struct {
	as       kindFlag
	id       string
	networks networksFlag
	marks    marksFlag
}

// addImportFlags adds the flags that say what a configuration's file cannot.
func addImportFlags(f *pflag.FlagSet) *importFlags {
	i := &importFlags{}
	f.Var(&i.as, "as", "what the file is: "+strings.Join(config.Kinds(), " or ")+" (default: as its words say)")
	f.StringVar(&i.id, "id", "", "the `NAME` of this machine in keepalived's @NAME lines, as its --config-id (default: none, so such lines are for other machines)")
	f.Var(&i.networks, "network", "a `PREFIX` whose addresses are on one network, such as 10.0.0.0/22; may be repeated (default: worked out from the addresses)")
	f.Var(&i.marks, "mark", "what a firewall mark stands for, `MARK=PROTOCOL ADDRESS:PORT`, such as '1=tcp 198.51.100.10:80'; may be repeated (default: an address is made up)")
	return i
}

// complete tells the shell which words these flags take.
func (f *importFlags) complete(c *cobra.Command) {
	// It fails only for a flag that is not there, or completed already.
	_ = c.RegisterFlagCompletionFunc("as", cobra.FixedCompletions(config.Kinds(), cobra.ShellCompDirectiveNoFileComp))
	for _, name := range []string{"id", "network", "mark"} {
		_ = c.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
}

// read reads a configuration; "-" is standard input.
func (f *importFlags) read(path string) (*config.Config, error) {
	return importer.Read(path, importer.ReadOptions{As: config.Kind(f.as), ID: f.id})
}

// draftOptions are what the flags say of a lab.
func (f *importFlags) draftOptions() importer.DraftOptions {
	return importer.DraftOptions{Networks: f.networks, Marks: f.marks}
}

// tellNotes tells what was ignored, assumed, or is doubtful.
func (a *app) tellNotes(notes []config.Note) {
	for _, n := range notes {
		a.complain("%v", n)
	}
}

// kindFlag is --as, which refuses any other word while flags are parsed.
type kindFlag config.Kind

func (k *kindFlag) String() string { return string(*k) }
func (k *kindFlag) Type() string   { return "kind" }

func (k *kindFlag) Set(s string) error {
	if !slices.Contains(config.Kinds(), s) {
		return errors.New(source.Unknown("kind", s, config.Kinds()))
	}
	*k = kindFlag(s)
	return nil
}

// networksFlag is --network.
type networksFlag []netip.Prefix

func (n *networksFlag) String() string {
	var words []string
	for _, p := range *n {
		words = append(words, p.String())
	}
	return strings.Join(words, ",")
}

func (n *networksFlag) Type() string { return "prefix" }

func (n *networksFlag) Set(s string) error {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return errors.New("wanted a network and the length of its prefix, such as 10.0.0.0/22")
	case p != p.Masked():
		return fmt.Errorf("%s is an address in the network %s; wanted the network", s, p.Masked())
	}
	for _, o := range *n {
		if o.Overlaps(p) {
			return fmt.Errorf("it overlaps %s, and an address is on one network", o)
		}
	}
	*n = append(*n, p)
	return nil
}

// marksFlag is --mark.
type marksFlag map[uint32][]importer.Probe

func (m *marksFlag) String() string {
	var words []string
	for mark, probes := range *m {
		for _, p := range probes {
			words = append(words, fmt.Sprintf("%d=%s %s", mark, p.Protocol, p.Addr))
		}
	}
	slices.Sort(words)
	return strings.Join(words, ",")
}

func (m *marksFlag) Type() string { return "mark" }

func (m *marksFlag) Set(s string) error {
	number, probe, _ := strings.Cut(s, "=")
	mark, err := strconv.ParseUint(strings.TrimSpace(number), 10, 32)
	protocol, addr, _ := strings.Cut(strings.TrimSpace(probe), " ")
	if err != nil || mark == 0 || addr == "" {
		return errors.New("wanted MARK=PROTOCOL ADDRESS:PORT, such as '1=tcp 198.51.100.10:80'")
	}
	var p importer.Probe
	if p.Protocol, err = ipvs.ParseProtocol(protocol); err != nil {
		return err
	}
	addr = strings.TrimSpace(addr)
	if p.Addr, err = netip.ParseAddrPort(addr); err != nil || p.Addr.Port() == 0 {
		return fmt.Errorf("%q is no address with a port, such as 198.51.100.10:80 or [2001:db8::1]:80", addr)
	}
	if *m == nil {
		*m = make(marksFlag)
	}
	(*m)[uint32(mark)] = append((*m)[uint32(mark)], p)
	return nil
}
