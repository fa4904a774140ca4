package topology

import (
	"fmt"
	"slices"
	"strings"
)

// Diff is the ops that bring a kernel from the state that old makes to the one
// that new makes. What is only in old is undone, last first; then what is new
// or different is applied, in new's order. An ordered group (a chain of rules)
// of which any member differs is undone and built again as a whole. Routes of a
// node whose addresses or device states change are applied again, since the
// kernel drops routes with the address or device they rest on. A link that goes
// to another network is made anew, and with it all that is on its device. Of a
// node that is only in old, its links and itself are undone; the rest goes with
// it.
//
// An op that is only in old and cannot be undone is an error, which names its
// place.
func Diff(old, new []Op) ([]Op, error) {
	before, after := index(old), index(new)
	groups := changedGroups(old, new)
	touched := make(map[string]bool) // nodes with a changed address or device
	anew := make(map[Key]bool)       // links that are made anew

	var ops []Op
	for _, o := range slices.Backward(old) {
		m := o.About()
		if n, kept := after[m.Key]; kept && !groups[group(m)] {
			if m.Key.Kind != "link" || Same(o, n) {
				continue
			}
			anew[m.Key] = true
		} else if !kept && leaves(m.Key, before, after) {
			continue
		}
		u, ok := o.Undo()
		if !ok {
			at := ""
			if m.Pos.IsValid() {
				at = m.Pos.String() + ": "
			}
			return nil, fmt.Errorf("%s%s: %q cannot be taken back by itself; give the value it should have instead", at, m.Key.Node, strings.Join(o.Shell(Dialect{}), "; "))
		}
		if Same(o, u) {
			continue // a pinned setting stays
		}
		ops = append(ops, u)
		if m.Key.Kind == "address" || m.Key.Kind == "device" || m.Key.Kind == "link" {
			touched[m.Key.Node] = true
		}
	}
	for _, n := range new {
		m := n.About()
		was, had := before[m.Key]
		again := m.Key.Kind == "route" && touched[m.Key.Node] || anew[m.Key] || onDevice(m.Key, anew)
		if had && Same(was, n) && !groups[group(m)] && !again {
			continue
		}
		// An address whose options changed is another address to the kernel, and
		// what is mounted with other options is mounted anew.
		if had && (m.Key.Kind == "address" || m.Key.Kind == "mount") && !Same(was, n) && !onDevice(m.Key, anew) {
			if u, ok := was.Undo(); ok {
				ops = append(ops, u)
				touched[m.Key.Node] = touched[m.Key.Node] || m.Key.Kind == "address"
			}
		}
		if e, ok := n.(Editor); ok && had {
			n = e.Edit()
		}
		if c, ok := n.(Changer); ok && had {
			n = c.From(was)
		}
		ops = append(ops, n)
	}
	return ops, nil
}

// leaves reports whether what a key names goes by itself, since its node is
// taken away. Links are undone all the same: only then is the other end gone
// when the node is.
func leaves(k Key, before, after map[Key]Op) bool {
	node := Key{k.Node, "node", ""}
	_, was := before[node]
	_, is := after[node]
	return was && !is && k.Kind != "node" && k.Kind != "link"
}

// onDevice reports whether what a key names is on the device of one of the
// links, and goes with it.
func onDevice(k Key, links map[Key]bool) bool {
	for l := range links {
		if l.Node != k.Node {
			continue
		}
		switch k.Kind {
		case "address":
			if strings.HasPrefix(k.ID, l.ID+" ") {
				return true
			}
		case "qdisc", "cable":
			if k.ID == l.ID {
				return true
			}
		case "sysctl":
			if strings.Contains(k.ID, "."+l.ID+".") || strings.Contains(k.ID, "/"+l.ID+"/") {
				return true
			}
		}
	}
	return false
}

// Editor is an op whose command line is another one where the thing is there
// already and is only to be set differently (ipvsadm -A and -E).
type Editor interface {
	// Edit is the same wish with that command line.
	Edit() Op
}

// Changer is an op whose command line depends on what is there already.
type Changer interface {
	// From is the same wish where old has been applied before.
	From(old Op) Op
}

func index(ops []Op) map[Key]Op {
	m := make(map[Key]Op, len(ops))
	for _, o := range ops {
		m[o.About().Key] = o
	}
	return m
}

// group is a node's chain, or "" for an op that is in none.
func group(m Meta) string {
	if m.Group == "" {
		return ""
	}
	return m.Key.Node + " " + m.Group
}

func changedGroups(old, new []Op) map[string]bool {
	chains := func(ops []Op) map[string][]string {
		c := make(map[string][]string)
		for _, o := range ops {
			if g := group(o.About()); g != "" {
				c[g] = append(c[g], o.Shell(Dialect{})...)
			}
		}
		return c
	}
	a, b := chains(old), chains(new)
	changed := make(map[string]bool)
	for g := range a {
		changed[g] = !slices.Equal(a[g], b[g])
	}
	for g := range b {
		changed[g] = !slices.Equal(a[g], b[g])
	}
	return changed
}

// Mutation changes a plan on purpose.
type Mutation func([]Op) ([]Op, error)

// Omit is the mutation that leaves out every op of a role. A role that no op
// plays is an error, since leaving it out would prove nothing.
func Omit(role Role) Mutation {
	return func(ops []Op) ([]Op, error) {
		left := slices.DeleteFunc(slices.Clone(ops), func(o Op) bool { return o.About().Role == role })
		if len(left) == len(ops) {
			names := make([]string, 0)
			for _, r := range Roles(ops) {
				names = append(names, string(r))
			}
			return nil, fmt.Errorf("no op plays the role %q here; the roles are %s", role, strings.Join(names, ", "))
		}
		return left, nil
	}
}

// Roles are the roles that ops play, each once, in their first order.
func Roles(ops []Op) []Role {
	var roles []Role
	for _, o := range ops {
		if r := o.About().Role; !slices.Contains(roles, r) {
			roles = append(roles, r)
		}
	}
	return roles
}

// Features are what a kernel needs for ops, each once, sorted.
func Features(ops []Op) []Feature {
	var fs []Feature
	for _, o := range ops {
		fs = append(fs, o.About().Needs...)
	}
	slices.Sort(fs)
	return slices.Compact(fs)
}
