package scenarios

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/assert"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// Step is what is done, each thing exactly once, and what is expected then.
type Step struct {
	Pos    source.Pos
	Name   string   `yaml:"name,required"`
	Do     []Action `yaml:"do"`
	Expect []Expect `yaml:"expect"`
	// Within is how long an observation may take to come true; DefaultWithin
	// when the lab does not say. Stimuli are never repeated.
	Within time.Duration `yaml:"within"`

	// After is the lab as the step's changes leave it, and State its ops, both
	// worked out by Plan.
	After *Lab
	State []topology.Op
}

// DefaultWithin is how long an observation may take to come true.
const DefaultWithin = 3 * time.Second

// Expect is one expectation.
type Expect struct{ assert.Check }

// UnmarshalSource reads one item of the list.
func (e *Expect) UnmarshalSource(d *source.Decoder, n *yaml.Node) { e.Check = assert.Decode(d, n) }

// Action is one thing that a step does; exactly one of its fields is set.
type Action struct {
	Pos  source.Pos
	Kind string

	Request   *Request
	Release   *Release
	Wait      *Wait
	Daemon    *DaemonChange
	Ping      *Ping
	Run       *Run
	Flush     []string // nodes; empty means all
	Zero      []string // directors
	Write     *Write
	Save      *Save
	Restore   *Save
	Systemctl *Systemctl

	// What changes the lab: a patch of its file, links, or roles left out.
	patch *yaml.Node
	Link  *LinkChange
	Omit  *Mutate
	// Ops are what the change does, worked out by Plan.
	Ops []topology.Op
}

// DefaultTimeout bounds a request or a ping where the lab does not.
const DefaultTimeout = 5 * time.Second

// Bounds of what a lab may ask for.
const (
	maxCount       = 10000
	maxConcurrency = 256
	maxTimeout     = 5 * time.Minute
)

// Ping is an ICMP echo request.
type Ping struct {
	Pos     source.Pos
	To      string        `yaml:"to,required"`
	From    string        `yaml:"from"`
	Count   int           `yaml:"count"`
	Timeout time.Duration `yaml:"timeout"`

	Addr netip.Addr `yaml:"-"`
}

// Run is a command in a node, run by sh -c.
type Run struct {
	Pos     source.Pos
	Node    string        `yaml:"node,required"`
	Command string        `yaml:"command,required"`
	Timeout time.Duration `yaml:"timeout"`
}

// Write makes a file in a node's own view of its files.
type Write struct {
	Pos     source.Pos
	Node    string `yaml:"node,required"`
	File    string `yaml:"file,required"`
	Content string `yaml:"content"`
}

// Save writes a node's table to a file, or restores it from there.
type Save struct {
	Pos  source.Pos
	Node string `yaml:"node,required"`
	// Table is "ipvs" (the format of ipvsadm -S -n) or "arp" (that of
	// arptables-save).
	Table string `yaml:"table,required"`
	File  string `yaml:"file,required"`
}

// Systemctl does what `systemctl start|stop|restart ipvsadm|arptables` does on
// the tutorial's machines.
type Systemctl struct {
	Pos     source.Pos
	Node    string `yaml:"node,required"`
	Command string `yaml:"command,required"`

	Verb, Unit string `yaml:"-"`
}

// LinkChange pulls cables, puts them in, and delays links.
type LinkChange struct {
	Pos    source.Pos
	Nodes  []string       `yaml:"nodes,required"`
	Device string         `yaml:"device"`
	Down   *bool          `yaml:"down"`
	Delay  *time.Duration `yaml:"delay"`
}

// Mutate leaves all ops of a role out from here on.
type Mutate struct {
	Pos  source.Pos
	Omit string `yaml:"omit,required"`
}

// action decodes the value of one kind of action.
type action func(d *source.Decoder, n *yaml.Node, a *Action)

// actions is the table of all that a step can do.
func actions() map[string]action {
	return map[string]action{
		"request":          func(d *source.Decoder, n *yaml.Node, a *Action) { decodeInto(d, n, &a.Request) },
		"release":          func(d *source.Decoder, n *yaml.Node, a *Action) { decodeInto(d, n, &a.Release) },
		"wait":             func(d *source.Decoder, n *yaml.Node, a *Action) { decodeInto(d, n, &a.Wait) },
		"stop":             func(d *source.Decoder, n *yaml.Node, a *Action) { decodeInto(d, n, &a.Daemon) },
		"start":            func(d *source.Decoder, n *yaml.Node, a *Action) { decodeInto(d, n, &a.Daemon) },
		"ping":             func(d *source.Decoder, n *yaml.Node, a *Action) { decodeInto(d, n, &a.Ping) },
		"run":              func(d *source.Decoder, n *yaml.Node, a *Action) { decodeInto(d, n, &a.Run) },
		"write":            func(d *source.Decoder, n *yaml.Node, a *Action) { decodeInto(d, n, &a.Write) },
		"save":             func(d *source.Decoder, n *yaml.Node, a *Action) { decodeInto(d, n, &a.Save) },
		"restore":          func(d *source.Decoder, n *yaml.Node, a *Action) { decodeInto(d, n, &a.Restore) },
		"systemctl":        func(d *source.Decoder, n *yaml.Node, a *Action) { decodeInto(d, n, &a.Systemctl) },
		"link":             func(d *source.Decoder, n *yaml.Node, a *Action) { decodeInto(d, n, &a.Link) },
		"mutate":           func(d *source.Decoder, n *yaml.Node, a *Action) { decodeInto(d, n, &a.Omit) },
		"flush_neighbours": decodeFlush,
		"zero":             func(d *source.Decoder, n *yaml.Node, a *Action) { d.Decode(n, &a.Zero) },
		"change": func(d *source.Decoder, n *yaml.Node, a *Action) {
			for range d.Pairs(n) { // records what is no mapping, and keys that come twice
			}
			a.patch = n
		},
	}
}

// ActionKinds are the words of all actions, sorted.
func ActionKinds() []string {
	var names []string
	for k := range actions() {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

func decodeInto[T any](d *source.Decoder, n *yaml.Node, into **T) {
	*into = new(T)
	d.Decode(n, *into)
}

func decodeFlush(d *source.Decoder, n *yaml.Node, a *Action) {
	d.Decode(n, &a.Flush)
	if slices.Contains(a.Flush, "all") {
		a.Flush = nil
	}
}

// UnmarshalSource reads one item of a do list.
func (a *Action) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	key, val := d.Single(n, "action")
	if key == nil {
		return
	}
	a.Pos, a.Kind = d.Pos(key), key.Value
	dec, ok := actions()[key.Value]
	if !ok {
		d.Fail(key, "%s", source.Unknown("action", key.Value, ActionKinds()))
		return
	}
	if val == nil {
		d.Fail(key, "action %q needs a value", key.Value)
		return
	}
	dec(d, val, a)
	a.defaults(d, val)
}

func (a *Action) defaults(d *source.Decoder, n *yaml.Node) {
	bound := func(what string, v, most int) {
		if v < 0 || v > most || v == 0 && child(n, what) != nil {
			d.Fail(n, "%s is from 1 to %d, found %d", what, most, v)
		}
	}
	timeout := func(t *time.Duration, def time.Duration) {
		if *t = cmp.Or(*t, def); *t > maxTimeout {
			d.Fail(n, "timeout %s is longer than %s", *t, maxTimeout)
		}
	}
	file := func(path string) {
		if !strings.HasPrefix(path, "/") || strings.Contains(path, "\x00") {
			d.Fail(n, "file: %q does not begin with /", path)
		}
	}
	switch {
	case a.Request != nil:
		a.Request.defaults(d, n)
	case a.Ping != nil:
		bound("count", a.Ping.Count, maxCount)
		timeout(&a.Ping.Timeout, time.Second)
		a.Ping.Count = cmp.Or(a.Ping.Count, 1)
	case a.Run != nil:
		timeout(&a.Run.Timeout, 10*time.Second)
	case a.Write != nil:
		file(a.Write.File)
	case a.Save != nil:
		file(a.Save.File)
		a.Save.check(d, n)
	case a.Restore != nil:
		file(a.Restore.File)
		a.Restore.check(d, n)
	case a.Systemctl != nil:
		s := a.Systemctl
		words := strings.Fields(s.Command)
		if len(words) != 2 || !slices.Contains([]string{"start", "stop", "restart"}, words[0]) || !slices.Contains([]string{"ipvsadm", "arptables"}, strings.TrimSuffix(words[1], ".service")) {
			d.Fail(n, "command: wanted start, stop or restart and then ipvsadm or arptables, found %q", s.Command)
			return
		}
		s.Verb, s.Unit = words[0], strings.TrimSuffix(words[1], ".service")
	case a.Link != nil:
		a.Link.Device = cmp.Or(a.Link.Device, "eth0")
		if (a.Link.Down == nil) == (a.Link.Delay == nil) {
			d.Fail(n, "link needs one of down: and delay:")
		}
		if a.Link.Delay != nil && *a.Link.Delay > maxDelay {
			d.Fail(n, "delay %s is longer than %s", *a.Link.Delay, maxDelay)
		}
	}
}

func (s *Save) check(d *source.Decoder, n *yaml.Node) {
	if s.Table != "ipvs" && s.Table != "arp" {
		d.Fail(n, "%s", source.Unknown("table", s.Table, []string{"ipvs", "arp"}))
	}
}

// Changes reports whether the action changes the lab itself.
func (a *Action) Changes() bool { return a.patch != nil || a.Link != nil || a.Omit != nil }

// Words are what the action does, as a person would type it.
func (a *Action) Words() string {
	switch {
	case a.Request != nil:
		return a.Request.words()
	case a.Release != nil:
		return a.Release.words()
	case a.Wait != nil:
		return "wait for the requests in the background"
	case a.Daemon != nil:
		return a.Daemon.words(a.Kind)
	case a.Ping != nil:
		return fmt.Sprintf("%s: ping -c %d %s", a.Ping.From, a.Ping.Count, a.Ping.Addr)
	case a.Run != nil:
		return a.Run.Node + ": " + a.Run.Command
	case a.Write != nil:
		return fmt.Sprintf("%s: write %s", a.Write.Node, a.Write.File)
	case a.Save != nil:
		return fmt.Sprintf("%s: save the %s table to %s", a.Save.Node, a.Save.Table, a.Save.File)
	case a.Restore != nil:
		return fmt.Sprintf("%s: restore the %s table from %s", a.Restore.Node, a.Restore.Table, a.Restore.File)
	case a.Systemctl != nil:
		return fmt.Sprintf("%s: systemctl %s %s", a.Systemctl.Node, a.Systemctl.Verb, a.Systemctl.Unit)
	case a.Zero != nil:
		return strings.Join(a.Zero, ", ") + ": ipvsadm -Z"
	case a.Kind == "flush_neighbours":
		if len(a.Flush) == 0 {
			return "every node: ip neigh flush all"
		}
		return strings.Join(a.Flush, ", ") + ": ip neigh flush all"
	case a.Omit != nil:
		return "leave out " + a.Omit.Omit
	}
	return a.Kind
}

// UsesFiles reports whether any step reads, writes or runs something in a
// node's files, which then need a view of their own.
func (l *Lab) UsesFiles() bool {
	for _, s := range l.Steps {
		for _, a := range s.Do {
			if a.Run != nil || a.Write != nil || a.Save != nil || a.Restore != nil || a.Systemctl != nil {
				return true
			}
		}
		for _, e := range s.Expect {
			if e.Check != nil && e.Kind() == "file" {
				return true
			}
		}
	}
	return false
}
