package prove

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/engine"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
)

// scriptFile is where the guest writes a script.
const scriptFile = "/tmp/lab.sh"

// prove is what the guest does: it makes each lab by script and by engine, and
// tells of every difference. The kernel's modules are loaded beforehand.
func prove(ctx context.Context, job wire.Job, load func(...string) error, emit func(wire.Event)) error {
	found, err := engine.Labs(job)
	if err != nil {
		return err
	}
	if err := legacyARP(); err != nil {
		return err
	}
	plans := make([]*scenarios.Plan, len(found))
	loaded := make(map[topology.Feature]bool)
	// Once it is loaded for modules that want its symbols alone, a kernel's ipv6
	// stays off for all.
	if slices.ContainsFunc(found, (*scenarios.Lab).NeedsIPv6) {
		if err := load("ipv6"); err != nil {
			return err
		}
	}
	// All modules come first: a tool must have what it asks about in every lab,
	// or it would fail equally in both.
	for i, l := range found {
		if plans[i], err = l.Plan(); err != nil {
			return err
		}
		for _, f := range plans[i].AllNeeds() {
			if _, program := f.Program(); program || loaded[f] {
				continue
			}
			loaded[f] = true
			if err := load(modulesFor(f)...); err != nil {
				return err
			}
		}
	}
	if err := writable("/var", load); err != nil {
		return err
	}
	t := &trial{done: make(map[string]bool), typed: make(map[string]bool), emit: emit}
	for _, plan := range plans {
		if err := t.lab(ctx, plan); err != nil {
			t.say(plan.Lab.Name, wire.Broken, "", "%v", err)
		}
	}
	return nil
}

// legacyARP makes arptables the legacy one, in this guest alone.
// arptables-legacy-save is a script of Debian's that calls /usr/sbin/arptables,
// which the package iptables points elsewhere. The guest's root cannot be
// written to, so a folder with the same links but for these is laid over.
func legacyARP() error {
	const dir = "/etc/alternatives"
	links, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	targets := make(map[string]string)
	for _, l := range links {
		if target, err := os.Readlink(filepath.Join(dir, l.Name())); err == nil {
			targets[l.Name()] = target
		}
	}
	for _, name := range []string{"arptables", "arptables-save", "arptables-restore"} {
		if _, ok := targets[name]; ok {
			targets[name] = "/usr/sbin/" + strings.Replace(name, "arptables", "arptables-legacy", 1)
		}
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mounting on %s: %w", dir, err)
	}
	for name, target := range targets {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// writable lays memory over a folder: daemons of the machine keep what they need
// there, and the guest's root cannot be written to.
func writable(dir string, load func(...string) error) error {
	if err := load("overlay"); err != nil {
		return err
	}
	upper, work := "/tmp/upper"+dir, "/tmp/work"+dir
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("overlay", dir, "overlay", 0, "lowerdir="+dir+",upperdir="+upper+",workdir="+work); err != nil {
		return fmt.Errorf("mounting on %s: %w", dir, err)
	}
	return nil
}

// trial is the proof in one guest.
type trial struct {
	// done are the kinds of ops of which a difference was planted, typed the
	// stimuli that a script has done.
	done, typed map[string]bool
	emit        func(wire.Event)
}

func (t *trial) say(lab string, v wire.Verdict, title, format string, args ...any) {
	t.emit(wire.Event{Kind: wire.Log, Lab: lab, Verdict: v, Title: title, Message: fmt.Sprintf(format, args...)})
}

func (t *trial) lab(ctx context.Context, plan *scenarios.Plan) error {
	name := plan.Lab.Name
	if why := unscriptable(plan); why != nil {
		err := refused(plan, why)
		if err == nil {
			t.say(name, wire.Pass, "", "the script says that it cannot: %v", why)
		}
		return err
	}
	start := time.Now()
	byScript, err := t.runScript(plan)
	if err != nil {
		return err
	}
	scripted := time.Now()
	byEngine, err := runEngine(ctx, plan, nil)
	if err != nil {
		return err
	}
	for _, d := range differences(name, byScript, byEngine) {
		t.say(name, wire.Fail, d.where, "%s", d.what)
	}
	engined := time.Now()
	err = plant(ctx, plan, byScript[0], t.done, func(kind, what string, found bool) {
		v := wire.Pass
		if !found {
			v = wire.Fail
		}
		t.say(planted, v, kind, "%s", what)
	})
	if err != nil {
		return err
	}
	t.say(name, wire.Pass, "", "%d states of %d nodes compared; script %.1fs, engine %.1fs, planted differences %.1fs",
		len(byScript), len(byScript[0].nodes), scripted.Sub(start).Seconds(), engined.Sub(scripted).Seconds(), time.Since(engined).Seconds())
	return nil
}

// refused is an error if the script of a lab that no script can make does not
// say so and leave everything as it was.
func refused(p *scenarios.Plan, why error) error {
	if err := os.WriteFile(scriptFile, []byte(p.Script(dialect())), 0o600); err != nil {
		return err
	}
	out, err := exec.Command("sh", scriptFile, "up").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(string(out), "lvslab run can") {
		return fmt.Errorf("sh lab.sh up ends with %w and %q, and should say: %w", err, out, why)
	}
	return clean()
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

// where tells of which nodes the sysctls may be others after these ops, and who
// has synchronization daemons.
func where(p *scenarios.Plan, ops []topology.Op) func(node string) closely {
	is := func(ops []topology.Op, node string, kinds ...string) bool {
		return slices.ContainsFunc(ops, func(o topology.Op) bool {
			k := o.About().Key
			return k.Node == node && slices.Contains(kinds, k.Kind)
		})
	}
	return func(node string) closely {
		return closely{
			sysctls: is(ops, node, "network", "node", "link", "sysctl", "device", "tunnel", "mtu"),
			daemons: is(p.Setup, node, ipvs.KindDaemon, ipvs.KindTimeouts) ||
				slices.ContainsFunc(p.Steps, func(s scenarios.Step) bool {
					return is(changes(s), node, ipvs.KindDaemon, ipvs.KindTimeouts)
				}),
		}
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
func (t *trial) runScript(p *scenarios.Plan) (states []state, err error) {
	sh, err := write(p, func(a scenarios.Action) bool { return a.Changes() }) // only changes count
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_, _ = sh("down") // for the next lab's sake
		}
	}()
	paths := make(map[string]string)
	for _, n := range names(p) {
		paths[n] = filepath.Join("/run/netns", n)
	}
	look := func(after string, ops []topology.Op) error {
		nodes, err := dumpAll(paths, where(p, ops))
		states = append(states, state{after, nodes})
		return err
	}
	if _, err := sh("up"); err != nil {
		return nil, err
	}
	if err := look("the setup", p.Setup); err != nil {
		return nil, err
	}
	for _, i := range changing(p) {
		if _, err := sh("step", fmt.Sprint(i+1)); err != nil {
			return nil, err
		}
		if err := look(fmt.Sprintf("step %d", i+1), changes(p.Steps[i])); err != nil {
			return nil, err
		}
	}
	if err := t.stimuli(p); err != nil {
		return nil, err
	}
	if _, err := sh("down"); err != nil {
		return nil, err
	}
	return states, clean()
}

// write writes the script of a plan, in whose steps only some actions are left,
// and gives back what runs it.
func write(p *scenarios.Plan, keep func(scenarios.Action) bool) (sh func(args ...string) (string, error), err error) {
	part := *p
	part.Steps = slices.Clone(p.Steps)
	for i := range part.Steps {
		s := &part.Steps[i]
		s.Do = slices.DeleteFunc(slices.Clone(s.Do), func(a scenarios.Action) bool { return !keep(a) })
		for j := range s.Do {
			if r := s.Do[j].Request; r != nil {
				fewer := *r
				fewer.Count = min(r.Count, max(2, len(r.From)))
				s.Do[j].Request = &fewer
			}
		}
	}
	if err := os.WriteFile(scriptFile, []byte(part.Script(dialect())), 0o600); err != nil {
		return nil, err
	}
	return func(args ...string) (string, error) {
		var stdout, stderr strings.Builder
		cmd := exec.Command("sh", append([]string{scriptFile}, args...)...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("sh lab.sh %s: %w\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
		}
		if bad := misused.FindString(stdout.String() + stderr.String()); bad != "" {
			return "", fmt.Errorf("sh lab.sh %s: a tool does not take what it is told (%q):\n%s%s", strings.Join(args, " "), bad, stdout.String(), stderr.String())
		}
		return stdout.String(), nil
	}, nil
}

// misused is how programs complain of the words that they were given, and what
// a script shows of one that was not found.
var misused = regexp.MustCompile(`(?im): not found$|^usage:|invalid (option|argument|number)|unrecognized|illegal option|syntax error|^exit status 12[67]$`)

// clean is an error where a script left something.
func clean() error {
	for _, dir := range []string{"/run/netns", "/run/lvslab-plan"} {
		left, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if len(left) > 0 {
			return fmt.Errorf("sh lab.sh down left %s/%s", dir, left[0].Name())
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := exec.Command("pgrep", "-x", "busybox|python3|nc|ncat").Run()
		if err != nil {
			return nil //nolint:nilerr // pgrep found none
		}
		if time.Now().After(deadline) {
			return errors.New("sh lab.sh down left a server or a client running")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// runEngine makes the lab by lvslab's own code. only, where it is not nil, says
// what to look at: at which nodes and how closely.
func runEngine(ctx context.Context, p *scenarios.Plan, only map[string]closely) (states []state, err error) {
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
			if _, wanted := only[name]; only != nil && !wanted {
				continue
			}
			paths[name] = filepath.Join("/run/netns", name) // where it is not
			if n, err := r.Node(name); err == nil {
				paths[name] = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.NsFd())
			}
		}
		how := where(p, ops)
		if only != nil {
			how = func(node string) closely { return only[node] }
		}
		nodes, err := dumpAll(paths, how)
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
				// Where only one of them was asked for, there is nothing to compare.
				if command == "sysctl" && (a[command] == nil || b[command] == nil) {
					continue
				}
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
