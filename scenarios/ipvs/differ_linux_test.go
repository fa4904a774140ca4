package ipvs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// deliberate are the lines that ipvsadm 1.31 takes and lvslab refuses, by what
// lvslab says of them, each with the reason and a line that shows it.
var deliberate = []struct{ says, why, line string }{
	{"IPv4 address in IPv6 clothes", "no packet ever has such an address, the service would be dead", "-A -t [::ffff:10.9.0.1]:80"},
	{"no prefix: ones after zeros", "clients would be taken together in a way that no list can show", "-A -t 10.9.0.1:80 -p 30 -M 255.0.255.0"},
	{"takes all clients for one", "all clients on one server is a mistake, never a wish", "-A -t 10.9.0.1:80 -p 30 -M 0.0.0.0"},
	{"brackets are for IPv6", "ipvsadm takes it for port 0", "-A -t [10.9.0.1]:80 -p"},
	{`unexpected argument "--"`, "to ipvsadm it ends the options; a rule has nothing that could follow", "-A -t 10.9.0.1:80 --"},
	{"it is no part of a table", "a lab says what a table is, and asks for the rest elsewhere", "-Z"},
	{"must come after what makes the service IPv6", "ipvsadm forgets the mask", "-A -M 64 -t [2001:db8::1]:80 -p 30"},
	{"would give it port 0", "so does ipvsadm", "-A -t 10.9.0.1:80\n-a -r 10.9.0.11 -m -t 10.9.0.1:80"},
	{"no name of a scheduler", "an empty name is wlc to ipvsadm, and no wish", "-A -t 10.9.0.1:80 -s="},
	{"is not dotted", "ipvsadm reads a netmask as inet_aton(3) does: 24 is 0.0.0.24, 255.255.255 is 255.255.0.255", "-A -t 10.9.0.1:80 -p 30 -M 24"},
	{"is no IP address", "names are not looked up, and inet_aton(3) reads 10.9.1 as 10.9.0.1 and 010.9.0.1 as 8.9.0.1", "-A -t 10.9.1:80"},
}

// generous are the lines that lvslab takes and ipvsadm 1.31 refuses, by what
// ipvsadm says.
var generous = []struct{ says, why, line string }{
	{"invalid fwmark value `-", "ipvsadm -S prints marks from 2^31 on like that, and cannot read them back", "-A -f -1"},
}

// class is a refusal without what is particular to its line.
func class(reason string) string {
	if strings.HasPrefix(reason, "kernel: ") {
		return reason[strings.LastIndex(reason, ": "):]
	}
	return regexp.MustCompile(`"[^"]*"|[0-9a-f.:\[\]]*[0-9][0-9a-f.:\[\]]*|not to .*|\b(tcp|udp|sctp|fwmark)\b|-+[A-Za-z][a-z-]*`).ReplaceAllString(reason, "?")
}

// ipvsadmTwin is a namespace that the real ipvsadm rules, beside one that
// lvslab rules, and the table that both should have.
type ipvsadmTwin struct {
	t            *testing.T
	path         string
	theirs, ours *Conn
	node         *testNode // theirs
	model        builder
	// pending are the lines that lvslab took and ipvsadm has not seen, with the
	// table before the first and after each.
	pending []string
	tables  []Table
	reason  string // why lvslab refused the line at hand
	runs    int
	ran     time.Duration
	found   map[string]string // by class
	// refused counts lvslab's refusals by class. ipvsadm is asked of the first
	// ones of each alone, for each costs a process.
	refused map[string]int
	most    int
}

func newTwin(t *testing.T) *ipvsadmTwin {
	path, err := exec.LookPath("ipvsadm")
	if err != nil {
		t.Skip("no ipvsadm here to compare with")
	}
	w := &ipvsadmTwin{t: t, path: path, tables: []Table{nil}, found: map[string]string{}, refused: map[string]int{}, most: 3}
	w.node, w.theirs = ipvsNode(t)
	_, w.ours = ipvsNode(t)
	return w
}

// line gives one line to lvslab and, sooner or later, to ipvsadm.
func (w *ipvsadmTwin) line(line string) {
	if strings.HasPrefix(line, "#") {
		return // ipvsadm-restore strips these; ipvsadm -R alone takes none
	}
	before := w.model.table.Clone()
	reason := w.take(line)
	if reason == "" {
		w.pending = append(w.pending, line)
		w.tables = append(w.tables, w.model.table.Clone())
		if len(w.pending) >= 60 {
			w.settle("")
		}
		return
	}
	w.model.table = before
	for _, d := range deliberate {
		if regexp.MustCompile(d.says).MatchString(reason) {
			return
		}
	}
	c := class(reason)
	if w.refused[c]++; w.refused[c] <= w.most {
		w.reason = reason
		w.settle(line)
	}
}

// take parses a line and makes the kernel do it; "" when both went well.
func (w *ipvsadmTwin) take(line string) string {
	words := split(line)
	if len(words) > 0 && words[0].text == "ipvsadm" {
		words = words[1:]
	}
	if len(words) == 0 {
		return ""
	}
	r, rerr := parseRule(words)
	if rerr == nil {
		rerr = w.model.apply(r)
	}
	if rerr != nil {
		return rerr.msg
	}
	ctx := w.t.Context()
	var err error
	switch r.cmd {
	case 'C':
		err = w.ours.Flush(ctx)
	case 'A':
		err = w.ours.AddService(ctx, r.service)
	case 'E':
		err = w.ours.EditService(ctx, r.service)
	case 'D':
		err = w.ours.DelService(ctx, r.service)
	case 'a':
		err = w.ours.AddDestination(ctx, r.service, r.server)
	case 'e':
		err = w.ours.EditDestination(ctx, r.service, r.server)
	case 'd':
		err = w.ours.DelDestination(ctx, r.service, r.server)
	}
	if err != nil {
		return "kernel: " + err.Error()
	}
	return ""
}

// settle gives ipvsadm the pending lines, and bad after them, which it should
// refuse. Then both tables are as the model.
func (w *ipvsadmTwin) settle(bad string) {
	w.t.Helper()
	lines := w.pending
	if bad != "" {
		lines = append(slices.Clone(lines), bad)
	}
	if len(lines) == 0 {
		return
	}
	_, ok := w.run(lines...)
	if ok != (bad == "") || w.table(w.theirs) != canonical(w.model.table) {
		w.search(bad)
	}
	if w.table(w.ours) != canonical(w.model.table) {
		w.t.Fatalf("after %q lvslab's own namespace has\n%swanted\n%s", lines, w.table(w.ours), canonical(w.model.table))
	}
	w.pending, w.tables = nil, []Table{w.model.table.Clone()}
}

// search finds the line on which the two differ, one process each, and brings
// ipvsadm's table to the model.
func (w *ipvsadmTwin) search(bad string) {
	say := func(i int, line, kind, what string) {
		w.found[class(kind)] = fmt.Sprintf("%q %s: %s\nbefore it:\n%s", line, kind, what, canonical(w.tables[i]))
	}
	for i, line := range w.pending {
		w.reset(w.tables[i])
		out, ok := w.run(line)
		got := w.table(w.theirs)
		switch {
		case !ok && slices.ContainsFunc(generous, func(g struct{ says, why, line string }) bool { return strings.Contains(out, g.says) }):
		case !ok:
			say(i, line, "lvslab takes, ipvsadm refuses: "+strings.TrimSpace(out), "")
		case got != canonical(w.tables[i+1]):
			say(i, line, "is not to ipvsadm what it is to lvslab", "\n"+got+"and\n"+canonical(w.tables[i+1]))
		}
	}
	last := len(w.pending)
	if bad != "" {
		w.reset(w.tables[last])
		out, ok := w.run(bad)
		if got := w.table(w.theirs); ok || got != canonical(w.tables[last]) {
			say(last, bad, "lvslab refuses: "+w.reason, fmt.Sprintf("ipvsadm takes (%v): %s\n%s", ok, strings.TrimSpace(out), got))
		}
	}
	w.reset(w.model.table)
}

func (w *ipvsadmTwin) reset(t Table) {
	if err := w.theirs.Replace(w.t.Context(), t); err != nil {
		w.t.Fatal(err)
	}
}

// run gives lines to ipvsadm -R.
func (w *ipvsadmTwin) run(lines ...string) (out string, ok bool) {
	w.runs++
	begin := time.Now()
	defer func() { w.ran += time.Since(begin) }()
	err := w.node.Do(func() error {
		cmd := exec.CommandContext(w.t.Context(), w.path, "-R")
		cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
		b, err := cmd.CombinedOutput()
		out = string(b)
		return err
	})
	return out, err == nil
}

func (w *ipvsadmTwin) table(c *Conn) string {
	t, err := c.Table(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return canonical(t)
}

// canonical is t as text: services sorted, real servers as they were added.
func canonical(t Table) string {
	sorted := t.Clone()
	slices.SortStableFunc(sorted, func(a, b Entry) int { return compareServices(a.Service, b.Service) })
	return FormatCommands(sorted)
}

// Thousands of generated lines, right and wrong ones: what one of ipvsadm and
// lvslab takes and the other refuses, or takes as something else, is a finding.
func TestGuestDifferential(t *testing.T) {
	w := newTwin(t)
	for _, line := range strings.Split(readTestdata(t, "differ.lines"), "\n") {
		w.line(line)
	}
	w.settle("")
	g := &lineGen{Rand: rand.New(rand.NewPCG(20, 26)), model: &w.model}
	most := 12 * time.Second
	if d, err := time.ParseDuration(os.Getenv("LVSLAB_DIFFER")); err == nil { // a search by hand
		most, w.most = d, 200
		g.Rand = rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1)) //nolint:gosec // any
	}
	begin, n := time.Now(), 0
	for ; time.Since(begin) < most && len(w.found) < 40; n++ {
		w.line(g.line())
	}
	w.settle("")
	t.Logf("%d lines, %d runs of ipvsadm in %v of %v", n, w.runs, w.ran.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
	for _, c := range slices.Sorted(maps.Keys(w.refused)) {
		t.Logf("refused %d times: %s", w.refused[c], c)
	}
	for _, f := range w.found {
		t.Errorf("%s", f)
	}
}

// Each deliberate difference is one: ipvsadm does take the line.
func TestGuestDeliberate(t *testing.T) {
	w := newTwin(t)
	for _, d := range deliberate {
		_, err := ParseRules("rules", d.line)
		if err == nil || !regexp.MustCompile(d.says).MatchString(err.Error()) {
			t.Errorf("%q (%s): lvslab says %v, wanted %s", d.line, d.why, err, d.says)
		}
		w.reset(nil)
		if out, ok := w.run(d.line); !ok {
			t.Errorf("%q (%s): ipvsadm refuses it too: %s", d.line, d.why, out)
		}
	}
	for _, g := range generous {
		if _, err := ParseRules("rules", g.line); err != nil {
			t.Errorf("%q (%s): %v", g.line, g.why, err)
		}
		w.reset(nil)
		if out, ok := w.run(g.line); ok || !strings.Contains(out, g.says) {
			t.Errorf("%q (%s): ipvsadm says %q (ok: %v), wanted %q", g.line, g.why, out, ok, g.says)
		}
	}
}
