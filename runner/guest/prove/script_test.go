package prove

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/runner/engine"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
)

// redLab is the name under which the guest tells of the comparison that must
// find a difference.
const redLab = "red"

// scriptFile is where the guest writes a script.
const scriptFile = "/tmp/lab.sh"

// prove is what the guest does: it makes each lab by script and by engine, and
// tells of every difference. The kernel's modules are loaded beforehand.
func prove(ctx context.Context, job wire.Job, load func(...string) error, emit func(wire.Event)) error {
	found, err := engine.Labs(job)
	if err != nil {
		return err
	}
	plans := make([]*scenarios.Plan, len(found))
	lacking := make(map[topology.Feature]error)
	// All modules come first: a tool must have what it asks about in every lab,
	// or it would fail equally in both.
	for i, l := range found {
		if plans[i], err = l.Plan(); err != nil {
			return err
		}
		for _, f := range plans[i].Needs {
			mods := []string{string(f)}
			if f == filter.Feature {
				mods = filter.LegacyModules()
			}
			// The tools of the comparison are those of the older tables.
			if alternatives, ok := filter.IPModules(f); ok {
				mods = alternatives[len(alternatives)-1]
			}
			if _, asked := lacking[f]; !asked {
				lacking[f] = load(mods...)
			}
		}
	}
	for i, plan := range plans {
		l := found[i]
		say := func(v wire.Verdict, title, format string, args ...any) {
			emit(wire.Event{Kind: wire.Log, Lab: l.Name, Verdict: v, Title: title, Message: fmt.Sprintf(format, args...)})
		}
		if f := slices.IndexFunc(plan.Needs, func(f topology.Feature) bool { return lacking[f] != nil }); f >= 0 {
			say(wire.Skip, "", "this kernel lacks %s: %v", plan.Needs[f], lacking[plan.Needs[f]])
			continue
		}
		start := time.Now()
		byScript, err := runScript(plan)
		if err != nil {
			say(wire.Broken, "", "%v", err)
			continue
		}
		scripted := time.Since(start)
		byEngine, err := runEngine(ctx, plan)
		if err != nil {
			say(wire.Broken, "", "%v", err)
			continue
		}
		for _, d := range differences(l.Name, byScript, byEngine) {
			say(wire.Fail, d.where, "%s", d.what)
		}
		say(wire.Pass, "", "%d states of %d nodes compared; script %.1fs, engine %.1fs",
			len(byScript), len(byScript[0].nodes), scripted.Seconds(), (time.Since(start) - scripted).Seconds())
		if i > 0 {
			continue
		}
		red, err := otherAddress(plan)
		if err != nil {
			return err
		}
		states, err := runEngine(ctx, red)
		if err != nil {
			return err
		}
		for _, d := range differences(l.Name, byScript, states[:1]) {
			emit(wire.Event{Kind: wire.Log, Lab: redLab, Verdict: wire.Fail, Title: d.where, Message: d.what})
		}
	}
	return nil
}

// otherAddress is a plan that differs in one address, and has no steps.
func otherAddress(p *scenarios.Plan) (*scenarios.Plan, error) {
	red := *p
	red.Setup, red.Steps = slices.Clone(p.Setup), nil
	for i, o := range red.Setup {
		m := o.About()
		device, prefix, _ := strings.Cut(m.Key.ID, " ")
		if m.Key.Kind != "address" {
			continue
		}
		other, err := topology.ParsePrefix(prefix)
		if err != nil {
			return nil, err
		}
		host := other.Addr().Next().Next().Next() // 172.25.12.250 becomes .253
		red.Setup[i] = topology.NewAddress(m, m.Key.Node, topology.Address{Device: device, Prefix: netip.PrefixFrom(host, other.Bits())})
		return &red, nil
	}
	return nil, fmt.Errorf("lab %s has no address to change", p.Lab.Name)
}

// state is all nodes after the setup, or after one step's changes.
type state struct {
	after string
	nodes map[string]dump
}

// changing are the steps that change something.
func changing(p *scenarios.Plan) []int {
	var list []int
	for i, s := range p.Steps {
		if len(changes(s)) > 0 {
			list = append(list, i)
		}
	}
	return list
}

// changes are the ops of a step.
func changes(s scenarios.Step) []topology.Op {
	var ops []topology.Op
	for _, a := range s.Do {
		ops = append(ops, a.Ops...)
	}
	return ops
}

// where tells of which nodes the sysctls may be others after these ops.
func where(ops []topology.Op) func(node string) bool {
	return func(node string) bool {
		return slices.ContainsFunc(ops, func(o topology.Op) bool {
			k := o.About().Key
			return k.Node == node && slices.Contains([]string{"network", "node", "link", "sysctl", "device"}, k.Kind)
		})
	}
}

// names are the namespaces that a plan ever makes.
func names(p *scenarios.Plan) []string {
	ops := slices.Clone(p.Setup)
	for _, s := range p.Steps {
		ops = append(ops, changes(s)...)
	}
	var list []string
	for _, o := range ops {
		if k := o.About().Key; (k.Kind == "node" || k.Kind == "network") && !slices.Contains(list, k.Node) {
			list = append(list, k.Node)
		}
	}
	return list
}

// runScript makes the lab as a person would: sh lab.sh up, step N, down.
func runScript(p *scenarios.Plan) ([]state, error) {
	// The same steps without what they ask and look at: only changes count.
	quiet := *p
	quiet.Steps = slices.Clone(p.Steps)
	for i := range quiet.Steps {
		s := &quiet.Steps[i]
		s.Do = slices.DeleteFunc(slices.Clone(s.Do), func(a scenarios.Action) bool { return !a.Changes() })
	}
	text := quiet.Script(topology.Dialect{Arptables: "arptables-legacy"})
	if err := os.WriteFile(scriptFile, []byte(text), 0o600); err != nil {
		return nil, err
	}
	sh := func(args ...string) error {
		out, err := exec.Command("sh", append([]string{scriptFile}, args...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("sh lab.sh %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	paths := make(map[string]string)
	for _, n := range names(p) {
		paths[n] = filepath.Join("/run/netns", n)
	}
	var states []state
	look := func(after string, ops []topology.Op) error {
		nodes, err := dumpAll(paths, where(ops))
		states = append(states, state{after, nodes})
		return err
	}
	if err := sh("up"); err != nil {
		return nil, err
	}
	if err := look("the setup", p.Setup); err != nil {
		return nil, err
	}
	for _, i := range changing(p) {
		if err := sh("step", fmt.Sprint(i+1)); err != nil {
			return nil, err
		}
		if err := look(fmt.Sprintf("step %d", i+1), changes(p.Steps[i])); err != nil {
			return nil, err
		}
	}
	// One lab's own requests show that the script's web servers answer.
	if p.Lab.Name == "dr/arptables" {
		whole := p.Script(topology.Dialect{Arptables: "arptables-legacy"})
		if err := os.WriteFile(scriptFile, []byte(whole), 0o600); err != nil {
			return nil, err
		}
		out, err := exec.Command("sh", scriptFile, "step", "1").Output()
		if got := string(out); err != nil || got != "web1\nweb2\nweb1\nweb2\n" && got != "web2\nweb1\nweb2\nweb1\n" {
			return nil, fmt.Errorf("sh lab.sh step 1: the servers answer %q (%w), wanted them to answer in turn", got, err)
		}
	}
	if err := sh("down"); err != nil {
		return nil, err
	}
	return states, clean()
}

// clean is an error where a script left something.
func clean() error {
	for _, dir := range []string{"/run/netns", "/run/lvslab-plan"} {
		left, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		if len(left) > 0 {
			return fmt.Errorf("sh lab.sh down left %s/%s", dir, left[0].Name())
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := exec.Command("pgrep", "-x", "busybox").Run()
		if err != nil {
			return nil //nolint:nilerr // pgrep found none
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("sh lab.sh down left a web server running")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// runEngine makes the lab by lvslab's own code.
func runEngine(ctx context.Context, p *scenarios.Plan) (states []state, err error) {
	r, err := engine.Start(ctx, p)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := r.Close(); err == nil {
			err = cerr
		}
	}()
	look := func(after string, ops []topology.Op) error {
		paths := make(map[string]string)
		for _, name := range names(p) {
			paths[name] = filepath.Join("/run/netns", name) // where it is not
			if n, err := r.Node(name); err == nil {
				paths[name] = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.NsFd())
			}
		}
		nodes, err := dumpAll(paths, where(ops))
		states = append(states, state{after, nodes})
		return err
	}
	if err := look("the setup", p.Setup); err != nil {
		return nil, err
	}
	for _, i := range changing(p) {
		if err := r.Apply(ctx, changes(p.Steps[i])); err != nil {
			return nil, err
		}
		if err := look(fmt.Sprintf("step %d", i+1), changes(p.Steps[i])); err != nil {
			return nil, err
		}
	}
	return states, nil
}

type difference struct{ where, what string }

// differences are those between the states that a lab came to in both ways.
func differences(lab string, script, engine []state) []difference {
	var all []difference
	// A state that only one of them has would be a mistake of this test.
	for i := range min(len(script), len(engine)) {
		for name := range script[i].nodes {
			a, b := script[i].nodes[name], engine[i].nodes[name]
			commands := slices.Sorted(maps.Keys(a))
			for c := range b {
				if _, both := a[c]; !both {
					commands = append(commands, c)
				}
			}
			for _, command := range commands {
				if d := cmp.Diff(a[command], b[command]); d != "" {
					where := fmt.Sprintf("%s, after %s, node %s, %s (- by the script, + by lvslab)", lab, script[i].after, name, command)
					all = append(all, difference{where, d})
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b difference) int { return strings.Compare(a.where, b.where) })
	return all
}
