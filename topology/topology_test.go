package topology

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/topology/source"
)

func TestParseRoute(t *testing.T) {
	for text, want := range map[string]string{
		"default via 10.0.0.1":   "",
		"10.1.0.0/16 dev eth0":   "",
		"10.0.0.9 via 10.0.0.1":  "10.0.0.9/32 via 10.0.0.1",
		"0.0.0.0/0 via 10.0.0.1": "default via 10.0.0.1",
		"172.25.12.0/24 dev eth0 proto kernel scope link src 172.25.12.3 metric 100":  "",
		"172.25.12.0/24 metric 100 src 172.25.12.3 scope link proto kernel dev eth0 ": "172.25.12.0/24 dev eth0 proto kernel scope link src 172.25.12.3 metric 100",
		"default dev eth0 metric 0": "default dev eth0",
	} {
		if want == "" {
			want = text
		}
		r, err := ParseRoute(text)
		if err != nil || r.String() != want {
			t.Errorf("%q is %q, %v; want %q", text, r, err, want)
		}
		if again, err := ParseRoute(r.String()); err != nil || again != r {
			t.Errorf("%q read again is %+v, %v; want %+v", r, again, err, r)
		}
	}
	for text, want := range map[string]string{
		"":                                  `an empty route; wanted as in "default via 10.0.0.1"`,
		"via 10.0.0.1":                      `route destination "via" is neither "default" nor an address or prefix`,
		"default":                           "route to default: neither via nor dev is given",
		"10.0.0.1/8 dev eth0":               "route destination 10.0.0.1/8 has host bits set; did you mean 10.0.0.0/8?",
		"default via":                       `route: nothing follows "via"`,
		"default via eth0":                  `route via: ParseAddr("eth0"): unable to parse IP`,
		"default via 10.0.0.1 metric -1":    `route metric: strconv.ParseUint: parsing "-1": invalid syntax`,
		"default via 10.0.0.1 scope galaxy": `route scope: unknown scope "galaxy"; Allowed: global, link, host`,
		"default via 10.0.0.1 proto dhcp":   `route proto: unknown proto "dhcp"; Allowed: kernel, boot, static`,
		"default vai 10.0.0.1":              `unknown route word "vai", did you mean "via"? Allowed: via, dev, src, metric, scope, proto`,
		"default via fe80::1":               "route to default: fe80::1 is of one link only, so dev must say which",
		"10.0.0.0/8 via fd00::1":            "route to 10.0.0.0/8 mixes IPv4 and IPv6",
		"::ffff:0.0.0.0/96 via fd00::1":     `route to ::ffff:0.0.0.0/96: "::ffff:0.0.0.0" is no plain IPv4 or IPv6 address`,
		"10.0.0.0/8 dev eth0 src ::1":       "route to 10.0.0.0/8 mixes IPv4 and IPv6",
	} {
		if _, err := ParseRoute(text); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func FuzzParseRoute(f *testing.F) {
	for _, s := range []string{"default via 10.0.0.1", "10.0.0.0/8 dev eth0 proto kernel scope link src 10.0.0.3 metric 100", "::/0 via fe80::1", "default dev a dev b", "1.2.3.4 via ::ffff:1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRoute(s)
		if err != nil || r.Device != "" && strings.Fields(r.Device)[0] != r.Device {
			return
		}
		again, err := ParseRoute(r.String())
		if err != nil {
			// Only an IPv6 default route is written as IPv4's.
			if r.To.Addr().Is4() {
				t.Errorf("%q is written %q, which cannot be read: %v", s, r, err)
			}
			return
		}
		if again.String() != r.String() {
			t.Errorf("%q, %q, %q", s, r, again)
		}
	})
}

func TestSysctlPath(t *testing.T) {
	for key, want := range map[string]string{
		"net.ipv4.ip_forward":             "/proc/sys/net/ipv4/ip_forward",
		"net.ipv4.conf.all.rp_filter":     "/proc/sys/net/ipv4/conf/all/rp_filter",
		"net/ipv4/conf/eth0.12/rp_filter": "/proc/sys/net/ipv4/conf/eth0.12/rp_filter",
		"net.ipv4.vs.conntrack":           "/proc/sys/net/ipv4/vs/conntrack",
	} {
		if got, err := SysctlPath(key); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", key, got, err, want)
		}
	}
	for _, key := range []string{
		"", "net", "net.", "net.ipv4", "kernel.hostname", "vm.drop_caches", "net..ip_forward", ".net.ipv4.ip_forward", "net.ipv4.ip_forward.",
		"net/../kernel/hostname", "net/ipv4/../../kernel/hostname", "net/./ipv4/x", "/net/ipv4/ip_forward", "net/ipv4/.../x",
		"net.ipv4.ip forward", "net.ipv4.ip_forward\n", "net.ipv4.x\x00y", "net.ipv4.ip_forward=1", "net.ipv4.x;reboot", "net.ipv4.$HOME.x", "net.ipv4.x\ty", "net.ipv4.ä",
	} {
		if got, err := SysctlPath(key); err == nil {
			t.Errorf("%q is the file %s, want an error", key, got)
		} else if !strings.Contains(err.Error(), "only keys below net. belong to a node") {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func FuzzSysctlPath(f *testing.F) {
	for _, s := range []string{"net.ipv4.ip_forward", "net/../x/y", "net/ipv4/conf/eth0.1/rp_filter", "net.a/b.c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		path, err := SysctlPath(key)
		if err != nil {
			return
		}
		if !strings.HasPrefix(path, "/proc/sys/net/") || strings.Contains(path+"/", "/../") || strings.ContainsAny(path, "\n\x00 =") {
			t.Errorf("%q leads to %q", key, path)
		}
	})
}

func TestPortName(t *testing.T) {
	seen := make(map[string]string)
	add := func(node, device string) {
		t.Helper()
		p := PortName(node, device)
		if len(p) > maxDeviceName || p == "" || strings.ContainsAny(p, "/ :") {
			t.Errorf("%s of %s: %q is no name for a device", device, node, p)
		}
		if other, twice := seen[p]; twice {
			t.Errorf("%s of %s has the port name of %s: %s", device, node, other, p)
		}
		seen[p] = device + " of " + node
	}
	if p := PortName("web1", "eth0"); p != "web1-eth0" {
		t.Errorf("web1's eth0 is plugged into %s", p)
	}
	add("a-b", "c")
	add("a", "b-c")
	add("a", "b")
	add("web-a", "eth0")
	add("web", "a-eth0")
	for i := range 20000 {
		add(fmt.Sprintf("real-server-%d", i), "eth0")
		add(fmt.Sprintf("real-server-%d", i), "eth1")
	}
}

func TestMACs(t *testing.T) {
	seen := make(map[string]bool)
	for _, node := range []string{"a", "b", "ab", ""} {
		for _, device := range []string{"a", "b", "ab", ""} {
			for _, lab := range []string{"a", "b", "ab", ""} {
				m := MAC(lab, node, device)
				if m[0]&3 != 2 {
					t.Errorf("%s is not unicast and locally administered", m)
				}
				if seen[m.String()] {
					t.Errorf("%s twice", m)
				}
				seen[m.String()] = true
			}
		}
	}
}

// model is what a kernel holds: a pure one, in which an op is kept under its
// key. Taking back what is not there is as it is in a kernel: no error.
type model map[Key]string

func (m model) apply(ops []Op) {
	for _, o := range ops {
		key := o.About().Key
		line := strings.Join(o.Shell(Dialect{}), "; ")
		switch u := o.(type) {
		case removal, networkRemoval:
			for k := range m { // with all that is in it
				if k.Node == key.Node {
					delete(m, k)
				}
			}
		case linkRemoval:
			for k := range m {
				if k == key || onDevice(k, map[Key]bool{key: true}) && k.Kind != "sysctl" {
					delete(m, k)
				}
			}
		case addressOp:
			m.set(key, line, !u.del)
		case routeOp:
			m.set(key, line, !u.del)
		case daemonOp:
			m.set(key, line, !u.stop)
		case netemOp:
			u.afresh = false // the same in the end
			m.set(key, strings.Join(u.Shell(Dialect{}), "; "), !u.netem.nothing())
		case setOp:
			m.set(key, line, u.up == (key.Kind == "device"))
		default:
			m[key] = line
		}
	}
}

func (m model) set(k Key, line string, there bool) {
	if there {
		m[k] = line
	} else {
		delete(m, k)
	}
}

func wishes(nodes map[string]string) []Op {
	ops := []Op{NewNetwork(Meta{}, "lan", MAC("l", "lan", Bridge)), NewNetwork(Meta{}, "wan", MAC("l", "wan", Bridge))}
	var names []string
	for n := range nodes {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		ops = append(ops, NewNode(Meta{}, n), NewSysctl(Meta{}, n, "net.ipv4.ip_forward", "0"))
		for w := range strings.FieldsSeq(nodes[n]) {
			kind, arg, _ := strings.Cut(w, ":")
			switch kind {
			case "link":
				dev, network, _ := strings.Cut(arg, "@")
				ops = append(ops, NewLink(Meta{}, n, Link{Lab: "l", Network: network, Device: dev}))
				if dev == "eth0" {
					ops = append(ops, NewSysctl(Meta{}, n, "net.ipv4.conf.eth0.rp_filter", "0"))
				}
			case "addr":
				dev, p, _ := strings.Cut(arg, "@")
				p, np := strings.CutSuffix(p, "!")
				ops = append(ops, NewAddress(Meta{}, n, Address{Device: dev, Prefix: netip.MustParsePrefix(p), NoPrefixRoute: np}))
			case "route":
				r, err := ParseRoute(strings.ReplaceAll(arg, "_", " "))
				if err != nil {
					panic(err)
				}
				ops = append(ops, NewRoute(Meta{}, n, r))
			case "delay":
				d, _ := time.ParseDuration(arg)
				ops = append(ops, NewDelay(Meta{}, n, "eth0", d))
			case "cut":
				ops = append(ops, NewCut(Meta{}, n, Link{"l", arg, "eth0"}))
			case "up":
				ops = append(ops, NewDeviceUp(Meta{}, n, arg))
			case "http":
				ops = append(ops, NewDaemon(Meta{}, n, Daemon{Name: "http:" + arg, Service: "http", Port: 80}))
			default:
				panic(w)
			}
		}
	}
	return ops
}

func TestDiff(t *testing.T) {
	base := map[string]string{
		"a": "link:eth0@lan addr:eth0@10.0.0.1/24 route:default_via_10.0.0.9 http:80",
		"b": "link:eth0@lan addr:eth0@10.0.0.2/24 link:eth1@wan delay:50ms",
	}
	with := func(node, what string) map[string]string {
		m := map[string]string{"a": base["a"], "b": base["b"]}
		if m[node] = what; what == "" {
			delete(m, node)
		}
		return m
	}
	states := map[string]map[string]string{
		"base":               base,
		"nothing":            {},
		"a gone":             with("a", ""),
		"c new":              with("c", "link:eth0@lan addr:eth0@10.0.0.3/24"),
		"address other":      with("a", "link:eth0@lan addr:eth0@10.0.0.7/24 route:default_via_10.0.0.9 http:80"),
		"address noprefix":   with("a", "link:eth0@lan addr:eth0@10.0.0.1/24! route:default_via_10.0.0.9 http:80"),
		"link moved":         with("a", "link:eth0@wan addr:eth0@10.0.0.1/24 route:default_via_10.0.0.9 http:80"),
		"moved and new":      with("a", "link:eth0@wan addr:eth0@10.9.0.1/24 delay:20ms http:80"),
		"delayed link moved": with("b", "link:eth0@wan addr:eth0@10.0.0.2/24 link:eth1@wan delay:50ms"),
		"cut":                with("a", "link:eth0@lan addr:eth0@10.0.0.1/24 cut:lan http:80"),
		"link gone":          with("b", "link:eth1@wan"),
		"tunnel":             with("a", "link:eth0@lan addr:tunl0@10.0.0.99/32 up:tunl0"),
	}
	d := Dialect{}
	for from, old := range states {
		for to, new := range states {
			o, n := wishes(old), wishes(new)
			ops, err := Diff(o, n)
			if err != nil {
				// A sysctl of a device that goes with it has no way back.
				if !strings.Contains(err.Error(), "cannot be taken back") {
					t.Errorf("%s to %s: %v", from, to, err)
				}
				continue
			}
			if from == to && len(ops) > 0 {
				t.Errorf("from %s to itself: %d ops", from, len(ops))
			}
			got, want := make(model), make(model)
			got.apply(o)
			got.apply(ops)
			want.apply(n)
			if diff := cmp.Diff(want, got); diff != "" {
				var lines []string
				for _, op := range ops {
					lines = append(lines, op.Shell(d)...)
				}
				t.Errorf("%s to %s:\n%s\nby\n%s", from, to, diff, strings.Join(lines, "\n"))
			}
		}
	}
}

func TestDiffMovesALinkWithAllThatIsOnIt(t *testing.T) {
	old := wishes(map[string]string{"a": "link:eth0@lan addr:eth0@10.0.0.1/24 delay:20ms route:default_via_10.0.0.9"})
	new := wishes(map[string]string{"a": "link:eth0@wan addr:eth0@10.0.0.1/24 delay:20ms route:default_via_10.0.0.9"})
	ops, err := Diff(old, new)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, o := range ops {
		kind := o.About().Key.Kind
		if _, gone := o.(linkRemoval); gone {
			kind = "no " + kind
		}
		kinds = append(kinds, kind)
	}
	if got, want := strings.Join(kinds, ", "), "no link, link, sysctl, address, qdisc, route"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestDiffWithoutAWayBack(t *testing.T) {
	pos := source.Pos{File: "f", Line: 3, Col: 5}
	old := []Op{NewNode(Meta{}, "a"), NewSysctl(Meta{Pos: pos}, "a", "net.ipv4.vs.conntrack", "1")}
	_, err := Diff(old, old[:1])
	const want = `f:3:5: a: "ip netns exec a sysctl -qw net.ipv4.vs.conntrack=1" cannot be taken back by itself; give the value it should have instead`
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// chained is an op of an ordered group.
type chained struct {
	key  Key
	text string
	undo bool
}

func (o chained) About() Meta { return Meta{Key: o.key, Group: "chain"} }
func (o chained) Shell(Dialect) []string {
	if o.undo {
		return []string{"-" + o.text}
	}
	return []string{o.text}
}
func (o chained) Apply(context.Context, World) error { return nil }
func (o chained) Undo() (Op, bool)                   { o.undo = !o.undo; return o, true }

func chain(texts ...string) []Op {
	var ops []Op
	for i, s := range texts {
		ops = append(ops, chained{Key{"a", "rule", fmt.Sprint(i)}, s, false})
	}
	return ops
}

func TestDiffRebuildsAChain(t *testing.T) {
	for _, c := range []struct{ old, new, want []string }{
		{[]string{"a", "b"}, []string{"a", "b"}, nil},
		{[]string{"a", "b"}, []string{"a"}, []string{"-b", "-a", "a"}},
		{[]string{"a", "b"}, []string{"b", "a"}, []string{"-b", "-a", "b", "a"}},
		{nil, []string{"a"}, []string{"a"}},
		{[]string{"a"}, nil, []string{"-a"}},
	} {
		ops, err := Diff(chain(c.old...), chain(c.new...))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range ops {
			got = append(got, o.Shell(Dialect{})...)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q to %q: %q, want %q", c.old, c.new, got, c.want)
		}
	}
}

func TestOmit(t *testing.T) {
	ops := wishes(map[string]string{"a": "link:eth0@lan addr:eth0@10.0.0.1/24"})
	left, err := Omit("link")(ops)
	if err != nil || len(left) != len(ops)-1 {
		t.Errorf("%d of %d ops are left, %v", len(left), len(ops), err)
	}
	if _, err := Omit("link")(left); err == nil || err.Error() != `no op plays the role "link" here; the roles are network, node, ip-forwarding, reverse-path-filter, ` {
		t.Error(err)
	}
}

// batched notes how ops are applied.
type batched struct {
	key  Key
	at   source.Pos
	log  *[]string
	fail error
}

func (o batched) About() Meta            { return Meta{Key: o.key, Pos: o.at} }
func (o batched) Shell(Dialect) []string { return []string{o.key.String()} }
func (o batched) Undo() (Op, bool)       { return nil, false }
func (o batched) Apply(ctx context.Context, w World) error {
	return o.ApplyAll(ctx, w, []Op{o})
}

func (o batched) ApplyAll(_ context.Context, _ World, ops []Op) error {
	var ids []string
	for _, op := range ops {
		ids = append(ids, op.About().Key.ID)
	}
	*o.log = append(*o.log, o.key.Node+":"+strings.Join(ids, "+"))
	return o.fail
}

// single is applied by itself.
type single struct{ batched }

func (o single) ApplyAll() {} // not Batch's

func TestApplyAll(t *testing.T) {
	var log []string
	op := func(node, kind, id string) batched { return batched{key: Key{node, kind, id}, log: &log} }
	ops := []Op{
		op("a", "x", "1"), op("a", "x", "2"), op("a", "y", "3"), op("b", "x", "4"), op("a", "x", "5"),
		single{op("a", "x", "6")},
		op("a", "x", "7"), op("a", "x", "8"),
	}
	if err := ApplyAll(t.Context(), nil, ops); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(log, " "), "a:1+2 a:3 b:4 a:5 a:6 a:7+8"; got != want {
		t.Errorf("applied as %s, want %s", got, want)
	}

	log = nil
	bad := op("b", "x", "2")
	bad.fail, bad.at = errors.New("no"), source.Pos{File: "f", Line: 7, Col: 1}
	err := ApplyAll(t.Context(), nil, []Op{op("a", "x", "1"), bad, op("c", "x", "3")})
	if err == nil || err.Error() != "f:7:1: no" {
		t.Errorf("error %v, want one at f:7:1", err)
	}
	if got := strings.Join(log, " "); got != "a:1 b:2" {
		t.Errorf("applied %s; nothing is to come after what failed", got)
	}

	log = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ApplyAll(ctx, nil, ops); !errors.Is(err, context.Canceled) || len(log) > 0 {
		t.Errorf("after the end of its context: %v, %q", err, log)
	}
}
