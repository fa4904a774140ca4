package labs

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/topology"
)

func lines(ops []topology.Op) []string {
	var all []string
	for _, o := range ops {
		all = append(all, o.Shell(topology.Dialect{Arptables: "arptables"})...)
	}
	return all
}

// state is what ops leave, by their keys; where a key was undone, it is gone.
type state map[topology.Key]string

// apply does ops. made are the command lines by which things are made in the two
// states; an op with any other undoes. What is edited ends as if it were made so.
func (s state) apply(ops []topology.Op, made map[string]bool) {
	for _, o := range ops {
		k := o.About().Key
		line := strings.Join(lines([]topology.Op{o}), "; ")
		line = strings.ReplaceAll(strings.ReplaceAll(line, "ipvsadm -E ", "ipvsadm -A "), "ipvsadm -e ", "ipvsadm -a ")
		if made[line] {
			s[k] = line
		} else {
			delete(s, k)
		}
	}
}

func stateOf(ops []topology.Op) (state, map[string]bool) {
	s, made := make(state), make(map[string]bool)
	for _, o := range ops {
		line := strings.Join(lines([]topology.Op{o}), "; ")
		s[o.About().Key], made[line] = line, true
	}
	return s, made
}

// forgetPinned drops what a state keeps of an earlier one on purpose: the pinned
// settings of a tunnel's device, which stays in its namespace when nobody needs
// it any more.
func (s state) forgetPinned(want state) {
	for k, line := range s {
		if _, wanted := want[k]; !wanted && k.Kind == "sysctl" && strings.HasSuffix(line, ".rp_filter=0") {
			delete(s, k)
		}
	}
}

// TestDiffOfAllStates takes the states that the shipped labs come to and goes
// from each to each other of the same lab: a change must lead to the very state
// that a setup from nothing makes, and from a state to itself there is nothing
// to do.
func TestDiffOfAllStates(t *testing.T) {
	for _, l := range load(t) {
		p, err := l.Plan()
		if err != nil {
			t.Fatal(err)
		}
		states := [][]topology.Op{p.Setup}
		for _, s := range p.Steps {
			after, err := s.After.Plan()
			if err != nil {
				t.Fatalf("%s after %q: %v", l.Name, s.Name, err)
			}
			states = append(states, after.Setup)
		}
		for i, from := range states {
			for j, to := range states {
				ops, err := topology.Diff(from, to)
				if err != nil {
					t.Errorf("%s: from its state %d to %d: %v", l.Name, i, j, err)
					continue
				}
				if i == j && len(ops) > 0 {
					t.Errorf("%s: from its state %d to itself: %q", l.Name, i, lines(ops))
				}
				got, madeFrom := stateOf(from)
				want, made := stateOf(to)
				maps.Copy(made, madeFrom)
				got.apply(ops, made)
				got.forgetPinned(want)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: from its state %d to %d:\n%s", l.Name, i, j, diff)
				}
			}
		}
	}
}
