package probe

import (
	"errors"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
	"github.com/lvslab/lvslab/topology/netns"
)

// ipRuleTrial is the way to find out about a feature of packet filter rules for
// IP (filter.TableFeature, filter.IPRule.Needs): a rule that needs it is written
// in a scratch namespace and read back.
func ipRuleTrial(f topology.Feature) (trial, bool) {
	rule, ok := filter.ExampleIP(f)
	if !ok {
		return trial{}, false
	}
	return trial{
		module: string(f), harmless: true, yes: "a scratch namespace took a rule with it",
		gate: func(s *system) (Answer, bool) { return gateIPRule(s, f, rule) },
		run:  func(n *netns.Namespace) error { return n.Do(func() error { return tryIPRule(rule) }) },
	}, true
}

// gateIPRule says whether trying loads nothing: whether the modules of the rule
// are there, or cannot be loaded by trying. nf_tables is tried first, and the
// older ip_tables, which are loaded as soon as one of their tables is asked for,
// only where that will not do.
func gateIPRule(s *system, f topology.Feature, rule filter.IPRule) (a Answer, safe bool) {
	if _, isTable := filter.IPModules(f); !isTable {
		if a, safe := s.mayTry(string(f)); !safe {
			return a, false // the same module for both
		}
	}
	table := filter.TableFeature(rule.Family, rule.Table)
	alternatives, _ := filter.IPModules(table)
	for i, modules := range alternatives {
		// To open a socket of nf_tables loads nfnetlink, whatever comes after.
		for _, m := range append([]string{"nfnetlink", "x_tables"}, modules...) {
			// A module that does not exist cannot be loaded.
			if a, safe := s.mayTry(m); !safe && s.presence(m) != lacking {
				return a, false
			}
		}
		if i == 0 && inScratch(trial{run: func(n *netns.Namespace) error { return n.Do(func() error { return tryIPNFT(table) }) }}) == nil {
			break // and then ip_tables are left alone
		}
	}
	return Answer{}, true
}

// tryIPNFT writes a rule by nf_tables alone.
func tryIPNFT(table topology.Feature) error {
	rule, _ := filter.ExampleIP(table)
	return filter.IPNFTables.Replace(rule.Family, []filter.IPRule{rule})
}

func tryIPRule(rule filter.IPRule) error {
	backend, err := filter.DetectIP(rule.Family)
	if errors.Is(err, filter.ErrNoIPBackend) {
		return &absentError{what: err.Error()}
	}
	if err != nil {
		return err
	}
	err = backend.Replace(rule.Family, []filter.IPRule{rule})
	if filter.IsMissing(err) {
		return &absentError{what: err.Error()}
	}
	return err
}
