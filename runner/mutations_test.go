package runner_test

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
)

// mutation is one mistake that is made in a lab on purpose, by leaving out a
// role or by setting something.
type mutation struct {
	Omit topology.Role `yaml:"omit"`
	Set  words         `yaml:"set"`
	// Fails is where the lab must fail, "STEP/CHECK", or "broken".
	Fails string `yaml:"fails"`

	lab string
}

// words are one or several.
type words []string

func (w *words) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.SequenceNode {
		return n.Decode((*[]string)(w))
	}
	*w = words{n.Value}
	return nil
}

func (m mutation) String() string {
	if m.Omit != "" {
		return m.lab + " --omit " + string(m.Omit)
	}
	return m.lab + " --set '" + strings.Join(m.Set, "' --set '") + "'"
}

func (m mutation) omitted() []topology.Role {
	if m.Omit == "" {
		return nil
	}
	return []topology.Role{m.Omit}
}

// mutations are those of testdata/mutations.yaml, in its order.
func mutations(t *testing.T) []mutation {
	t.Helper()
	f, err := os.Open("testdata/mutations.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table := make(map[string][]mutation)
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(&table); err != nil {
		t.Fatal(err)
	}
	var all []mutation
	for _, lab := range slices.Sorted(maps.Keys(table)) {
		for _, m := range table[lab] {
			m.lab = lab
			if (m.Omit == "") == (len(m.Set) == 0) || m.Fails == "" {
				t.Errorf("testdata/mutations.yaml: %s: wanted omit or set, and fails, found %+v", lab, m)
			}
			all = append(all, m)
		}
	}
	return all
}

// shippedLab is one lab, with its file.
type shippedLab struct {
	file  wire.File
	lab   *scenarios.Lab
	roles []topology.Role
}

// of is the name by which all labs of a matrix are one.
func (l shippedLab) of() string {
	if l.lab.Matrix != nil {
		return l.lab.Matrix.Of
	}
	return l.lab.Name
}

// shipped are the shipped labs by their names.
func shipped(t *testing.T) map[string]shippedLab {
	t.Helper()
	all := make(map[string]shippedLab)
	for _, f := range labs.All() {
		list, err := scenarios.Load(f.Path, f.Name, f.Data)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			p, err := l.Plan()
			if err != nil {
				t.Fatal(err)
			}
			all[l.Name] = shippedLab{f, l, p.Roles}
		}
	}
	return all
}

// outcome is what a mutated lab came to.
type outcome struct {
	verdict wire.Verdict
	// at are the checks that did not pass, "STEP/CHECK" each; why is a line
	// for a person.
	at   []string
	why  string
	took time.Duration
}

// mutate runs every mutation as a lab of its own, in the first kernel that can.
// They wait for timeouts most of their time, so many run at once.
func mutate(t *testing.T, all map[string]shippedLab, list []mutation) []outcome {
	t.Helper()
	outcomes := make([]outcome, len(list))
	files := make(map[string]wire.File)
	at := make(map[string]int)
	var needs []runner.LabNeeds
	for i, m := range list {
		l, known := all[m.lab]
		if !known {
			t.Errorf("testdata/mutations.yaml: there is no lab %s", m.lab)
			continue
		}
		name := fmt.Sprintf("m%d/%s", i, m.lab)
		f := l.file
		f.Name, f.Set = fmt.Sprintf("m%d/%s", i, f.Name), m.Set
		if m.Omit != "" {
			f.Omit = []string{string(m.Omit)}
		}
		changed, err := scenarios.Load(f.Path, f.Name, f.Data, f.Set...)
		if err != nil {
			outcomes[i].why = err.Error()
			continue
		}
		n := slices.IndexFunc(changed, func(l *scenarios.Lab) bool { return l.Name == name })
		p, err := changed[n].Plan(m.omitted()...)
		if err != nil {
			outcomes[i].why = err.Error()
			continue
		}
		at[name], files[name] = i, f
		needs = append(needs, runner.LabNeeds{Lab: name, Needs: p.AllNeeds()})
	}
	var mu sync.Mutex
	hear := func(e wire.Event) {
		mu.Lock()
		defer mu.Unlock()
		i, ours := at[e.Lab]
		switch {
		case !ours:
		case e.Kind == wire.StepFinished && e.Verdict != wire.Pass:
			outcomes[i].at, outcomes[i].why = missed(e)
		case e.Kind == wire.LabFinished:
			outcomes[i].verdict = e.Verdict
			outcomes[i].took = time.Duration(e.Seconds * float64(time.Second))
			if e.Message != "" {
				outcomes[i].why = e.Message
			}
		}
	}
	backends := guestBackends(t)
	shares, err := runner.Assign(t.Context(), backends, runner.Auto, needs)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, s := range shares {
		guests := 1
		if sh, ok := s.Backend.(runner.Shards); ok {
			guests = sh.Shards()
		}
		for g := range guests {
			o := runner.Options{Backends: []runner.Backend{oneGuest{s.Backend}}, Parallel: 12}
			for i := g; i < len(s.Labs); i += guests {
				o.Labs, o.Files = append(o.Labs, s.Labs[i]), append(o.Files, files[s.Labs[i]])
			}
			if len(o.Labs) == 0 {
				continue
			}
			wg.Go(func() {
				if _, err := runner.Run(t.Context(), o, hear); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	return outcomes
}

// oneGuest hides that a backend has several guests. What is dealt to those goes
// by CPU time and in several jobs, which is no good for labs that wait.
type oneGuest struct{ runner.Backend }

// missed is what a step that did not pass says.
func missed(e wire.Event) (at []string, why string) {
	why = fmt.Sprintf("step %d", e.Step.Index)
	if e.Step.Error != "" {
		return nil, why + ": " + e.Step.Error
	}
	for _, r := range e.Step.Results {
		if r.Verdict != wire.Pass {
			at = append(at, fmt.Sprintf("%d/%s", e.Step.Index, r.Check))
			why += fmt.Sprintf(": %s: %s, seen %s", r.Check, r.Wanted, r.Seen)
		}
	}
	return at, why
}

// TestMutations makes every mistake of testdata/mutations.yaml. A lab that
// passes all the same does not check what it is about, so every lab has one at
// which it must fail, and every role of any lab is left out somewhere, or listed
// with the reason in testdata/unmissed-roles.txt.
func TestMutations(t *testing.T) {
	if testing.Short() {
		t.Skip("boots guests")
	}
	all, list := shipped(t), mutations(t)
	complete(t, all, list)
	var again []mutation
	for i, o := range mutate(t, all, list) {
		m := list[i]
		t.Logf("%6.1f s  %s at %q: %s", o.took.Seconds(), o.verdict, o.at, m)
		if o.verdict == wire.Skip {
			t.Logf("not tried: %s: %s", m, o.why)
		} else if !o.as(m) {
			t.Logf("to be tried again, with fewer beside it: %s: got %s at %q: %s", m, o.verdict, o.at, o.why)
			again = append(again, m)
		}
	}
	if len(again) == 0 {
		return
	}
	// Two hundred labs at once take each other's time, and one that is late
	// fails at another check than the one that is meant.
	for i, o := range mutate(t, all, again) {
		if m := again[i]; !o.as(m) {
			t.Errorf("%s:\n  wanted a failure at %s\n  got %s at %q: %s", m, m.Fails, o.verdict, o.at, o.why)
		}
	}
}

// as tells whether a lab came to what is said of the mistake.
func (o outcome) as(m mutation) bool {
	if m.Fails == "broken" {
		return o.verdict == wire.Broken
	}
	return o.verdict == wire.Fail && slices.Contains(o.at, m.Fails)
}

// complete demands an entry for every lab, one of them for all labs of a matrix,
// and one for every role.
func complete(t *testing.T, all map[string]shippedLab, list []mutation) {
	t.Helper()
	tried := make(map[string]bool)
	unmissed := unmissedRoles(t)
	known := slices.Collect(maps.Keys(unmissed))
	for _, m := range list {
		if l, ok := all[m.lab]; ok && m.Fails != "broken" {
			tried[l.of()] = true
		}
		if _, not := unmissed[m.Omit]; not {
			t.Errorf("%s fails, but testdata/unmissed-roles.txt says that no lab misses it", m)
		}
		known = append(known, m.Omit)
	}
	var without []string
	missing := make(map[topology.Role]bool)
	for _, l := range all {
		if !tried[l.of()] {
			without = append(without, l.of())
		}
		for _, r := range l.roles {
			missing[r] = missing[r] || !slices.Contains(known, r)
		}
	}
	slices.Sort(without)
	for _, name := range slices.Compact(without) {
		t.Errorf("%s: what makes it fail? testdata/mutations.yaml has no entry for it", name)
	}
	maps.DeleteFunc(missing, func(_ topology.Role, m bool) bool { return !m })
	if len(missing) > 0 {
		t.Errorf("no entry of testdata/mutations.yaml leaves out %v, and testdata/unmissed-roles.txt has no reason", slices.Sorted(maps.Keys(missing)))
	}
}

// TestUnmissedRoles holds testdata/unmissed-roles.txt to its word with a few labs
// a role, and with all of them when LVSLAB_ROLES=all.
func TestUnmissedRoles(t *testing.T) {
	if testing.Short() {
		t.Skip("boots guests")
	}
	all := shipped(t)
	names := slices.Sorted(maps.Keys(all))
	var list []mutation
	for role, reason := range unmissedRoles(t) {
		if strings.HasPrefix(reason, "by luck: ") {
			continue
		}
		var having []mutation
		for _, name := range names {
			if slices.Contains(all[name].roles, role) {
				having = append(having, mutation{Omit: role, lab: name})
			}
		}
		if len(having) == 0 {
			t.Errorf("no lab has the role %s of testdata/unmissed-roles.txt", role)
		}
		const few = 4
		if step := len(having) / few; os.Getenv("LVSLAB_ROLES") != "all" && step > 0 {
			for i := range few {
				list = append(list, having[i*step])
			}
		} else {
			list = append(list, having...)
		}
	}
	for i, o := range mutate(t, all, list) {
		if o.verdict != wire.Pass && o.verdict != wire.Skip {
			t.Errorf("%s: %s: %s: so it is missed; move it to testdata/mutations.yaml", list[i], o.verdict, o.why)
		}
	}
}

// unmissedRoles are the first words of the lines of testdata/unmissed-roles.txt,
// with the reasons.
func unmissedRoles(t *testing.T) map[topology.Role]string {
	t.Helper()
	f, err := os.Open("testdata/unmissed-roles.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	roles := make(map[topology.Role]string)
	for s := bufio.NewScanner(f); s.Scan(); {
		role, reason, _ := strings.Cut(s.Text(), ": ")
		if strings.HasPrefix(role, "#") || role == "" {
			continue
		}
		if reason == "" {
			t.Errorf("testdata/unmissed-roles.txt gives no reason for %s", role)
		}
		roles[topology.Role(role)] = reason
	}
	return roles
}

// TestHostileInit runs labs of each kind in the worst kernel that pinned
// settings can meet: one whose initial namespace has values that would spoil
// them.
func TestHostileInit(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a guest")
	}
	var files []wire.File
	for _, name := range []string{
		"dr/arptables", "dr/sysctl", "dr/half-suppressed", "tun/from-dr", "tun/rp-filter", "tun/across-networks",
		"nat/two-networks", "nat/ip-forward", "fullnat", "ipv6/nat", "ipv6/tun", "persistence/timeout", "protocols/udp",
	} {
		found := labs.Find(name)
		if len(found) == 0 {
			t.Errorf("there is no lab %s", name)
		}
		files = append(files, found...)
	}
	why := make(map[string]string)
	_, err := runner.Run(t.Context(), runner.Options{Files: files, Backends: []runner.Backend{guestBackend(t)}, HostileInit: true}, func(e wire.Event) {
		switch {
		case e.Kind == wire.StepFinished && e.Verdict != wire.Pass:
			_, why[e.Lab] = missed(e)
		case e.Kind == wire.LabFinished && e.Verdict == wire.Skip:
			t.Logf("%s: skipped: %s", e.Lab, e.Message)
		case e.Kind == wire.LabFinished && e.Verdict != wire.Pass:
			t.Errorf("%s: %s: %s %s", e.Lab, e.Verdict, why[e.Lab], e.Message)
		}
	})
	if err != nil {
		t.Error(err)
	}
}
