package filter

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func needIPBackend(tb testing.TB, ns *testNS, b IPBackend, f Family) {
	tb.Helper()
	err := ns.Do(func() error {
		if b == IPTables {
			return probeLegacyIP(f)
		}
		return probeNFTIP(f)
	})
	if isAbsent(err) {
		tb.Skipf("this kernel has no %s for %s: %v", b, f, err)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// hasIPVSMatch reports whether a namespace takes rules with -m ipvs.
func hasIPVSMatch(tb testing.TB, b IPBackend) bool {
	tb.Helper()
	ns := newNS(tb)
	r, _ := ExampleIP("xt_ipvs")
	err := ns.Do(func() error { return b.Replace(IPv4, []IPRule{r}) })
	if err != nil && !strings.Contains(err.Error(), "xt_ipvs") {
		tb.Fatal(err)
	}
	return err == nil
}

func eachIPBackend(t *testing.T, f func(t *testing.T, b IPBackend, family Family)) {
	for _, b := range []IPBackend{IPNFTables, IPTables} {
		for _, family := range []Family{IPv4, IPv6} {
			t.Run(b.String()+"/"+family.Tool(), func(t *testing.T) { f(t, b, family) })
		}
	}
}

func TestIPReplaceAndList(t *testing.T) {
	eachIPBackend(t, func(t *testing.T, b IPBackend, f Family) {
		ns := newNS(t)
		needIPBackend(t, ns, b, f)
		all := typedIP(t, f, hasIPVSMatch(t, b))
		for _, rules := range [][]IPRule{nil, all, all[:3], all[len(all)/2:], nil} {
			ns.must(func() error {
				if err := b.Replace(f, rules); err != nil {
					return err
				}
				got, err := b.List(f)
				if !slices.Equal(got, CanonicalIP(rules)) {
					t.Errorf("List gives\n%swanted\n%s", ruleLines(got), ruleLines(CanonicalIP(rules)))
				}
				return err
			})
		}
	})
}

// toolOf is the program that reads and writes what a backend does.
func toolOf(b IPBackend, f Family) string {
	if b == IPTables {
		return f.Tool() + "-legacy"
	}
	return f.Tool() + "-nft"
}

// saved is the text of the tool's iptables-save, as FormatIPSave has it: without
// comments and tables without rules, in its order of tables, the policies'
// counters zero.
func saved(ns *testNS, tool string) string {
	tables := map[Table]string{}
	var table Table
	text := ""
	for line := range strings.Lines(ns.run(tool + "-save")) {
		line = strings.TrimRight(line, " \n")
		if name, ok := strings.CutPrefix(line, "*"); ok {
			table, text = Table(name), ""
		}
		if strings.HasPrefix(line, ":") {
			chain, _, _ := strings.Cut(line, "[")
			line = chain + "[0:0]"
		}
		if line != "" && line[0] != '#' {
			text += line + "\n"
		}
		if line == "COMMIT" && strings.Contains(text, "\n-A") {
			tables[table] = text
		}
	}
	text = ""
	for _, t := range Tables() {
		text += tables[t]
	}
	return text
}

// withoutICMP: iptables-nft 1.8.9 does not read ICMP types that are tested by
// nf_tables' own expressions, as ipExprs has to.
func withoutICMP(rules []IPRule) []IPRule {
	return slices.DeleteFunc(slices.Clone(rules), func(r IPRule) bool { return r.ICMP.Valid })
}

func TestIPToolReads(t *testing.T) {
	eachIPBackend(t, func(t *testing.T, b IPBackend, f Family) {
		needTool(t, toolOf(b, f))
		ns := newNS(t)
		needIPBackend(t, ns, b, f)
		rules := typedIP(t, f, hasIPVSMatch(t, b))
		if b == IPNFTables {
			rules = withoutICMP(rules)
		}
		ns.must(func() error { return b.Replace(f, rules) })
		if diff := cmp.Diff(FormatIPSave(rules), saved(ns, toolOf(b, f))); diff != "" {
			t.Errorf("%s sees others (- ours, + the tool's):\n%s", toolOf(b, f), diff)
		}
	})
}

func TestIPListReadsTool(t *testing.T) {
	eachIPBackend(t, func(t *testing.T, b IPBackend, f Family) {
		needTool(t, toolOf(b, f))
		ns := newNS(t)
		needIPBackend(t, ns, b, f)
		rules := typedIP(t, f, hasIPVSMatch(t, b))
		for _, r := range rules {
			ns.run(toolOf(b, f), strings.Fields(r.String())...)
		}
		ns.must(func() error {
			got, err := b.List(f)
			if err == nil && !slices.Equal(got, CanonicalIP(rules)) {
				t.Errorf("List gives\n%swanted\n%s", ruleLines(got), ruleLines(CanonicalIP(rules)))
			}
			return err
		})
		// What no IPRule can say is an error that names it.
		for _, c := range []struct{ do, undo, want string }{
			{"-N mine", "-X mine", "user chain"},
			{"-P INPUT DROP", "-P INPUT ACCEPT", "policy"},
			{"-A INPUT -m conntrack --ctdir REPLY", "-F INPUT", "conntrack"},
		} {
			ns.run(toolOf(b, f), strings.Fields(c.do)...)
			ns.must(func() error {
				if _, err := b.List(f); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("after %s: %v", c.do, err)
				}
				return nil
			})
			ns.run(toolOf(b, f), strings.Fields(c.undo)...)
		}
	})
}

// TestIPToolGolden compares the golden files with what iptables-legacy-save says
// of the typed rules, those with -m ipvs included. It needs a kernel with
// xt_ipvs.
func TestIPToolGolden(t *testing.T) {
	families(t, func(t *testing.T, f Family) {
		tool := toolOf(IPTables, f)
		needTool(t, tool)
		ns := newNS(t)
		needIPBackend(t, ns, IPTables, f)
		if !hasIPVSMatch(t, IPTables) {
			t.Skip("this kernel has no xt_ipvs")
		}
		for _, r := range ipTyped[f] {
			ns.run(tool, strings.Fields(strings.TrimPrefix(r.words, f.Tool()))...)
		}
		for _, r := range ipvsTyped[f] {
			ns.run(tool, strings.Fields(r.words)...)
		}
		got := saved(ns, tool)
		want, err := os.ReadFile(ipSaveFile(f))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s is not what %s-save says here (- file, + tool):\n%s", ipSaveFile(f), tool, diff)
		}
	})
}

func TestDetectIP(t *testing.T) {
	families(t, func(t *testing.T, f Family) {
		ns := newNS(t)
		ns.must(func() error {
			b, err := DetectIP(f)
			if err != nil {
				return err
			}
			rules, err := b.List(f)
			if len(rules) != 0 {
				t.Errorf("DetectIP left %v", rules)
			}
			return err
		})
		if _, err := exec.LookPath("nft"); err == nil && ns.Do(func() error { return probeNFTIP(f) }) == nil {
			if out := ns.run("nft", "list", "ruleset"); strings.TrimSpace(out) != "" {
				t.Errorf("DetectIP left:\n%s", out)
			}
		}
		// A namespace that has rules by the older way keeps to it.
		if ns.Do(func() error { return probeLegacyIP(f) }) == nil {
			ns.must(func() error { return IPTables.Replace(f, mustIP(t, f, "-A INPUT -j ACCEPT")) })
			ns.must(func() error {
				if b, err := DetectIP(f); b != IPTables || err != nil {
					t.Errorf("with older rules: %s, %v", b, err)
				}
				return nil
			})
		}
	})
}

// TestIPCounters has packets on the loopback counted, and kept counted while
// other rules come and go.
func TestIPCounters(t *testing.T) {
	eachIPBackend(t, func(t *testing.T, b IPBackend, f Family) {
		ns := newNS(t)
		needIPBackend(t, ns, b, f)
		ns.upLoopback()
		rules := mustIP(t, f, "-A INPUT -j ACCEPT -s "+loopback(f), "-A OUTPUT -p udp --dport 9", "-A OUTPUT -p udp --dport 10 -j DROP")
		count := func(want ...uint64) {
			t.Helper()
			ns.must(func() error {
				counted, err := b.Count(f)
				var got []uint64
				for _, c := range counted {
					got = append(got, c.Packets)
					if (c.Packets == 0) != (c.Bytes == 0) {
						t.Errorf("%s counts %d packets of %d bytes", c.Rule, c.Packets, c.Bytes)
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("counted %d, wanted %d", got, want)
				}
				return err
			})
		}
		ns.must(func() error { return b.Replace(f, rules) })
		count(0, 0, 0)
		ns.datagrams(f, 9, 3)
		ns.datagrams(f, 10, 2)
		// An ICMP error comes back for each datagram to a closed port.
		ns.must(func() error {
			counted, err := b.Count(f)
			if err != nil {
				return err
			}
			if counted[0].Packets < 3 || counted[1].Packets != 3 || counted[2].Packets != 2 {
				t.Errorf("counted %+v", counted)
			}
			return nil
		})
		var before []CountedIP
		ns.must(func() (err error) { before, err = b.Count(f); return err })
		more := append(slices.Clone(rules), mustIP(t, f, "-A OUTPUT -p udp --dport 11", "-t mangle -A OUTPUT")...)
		ns.must(func() error { return b.Replace(f, more) })
		ns.must(func() error { return b.Replace(f, append(rules[:1:1], rules[2:]...)) })
		count(before[0].Packets, 2)
	})
}

func loopback(f Family) string {
	if f == IPv6 {
		return "::1"
	}
	return "127.0.0.1"
}

func (ns *testNS) upLoopback() {
	ns.tb.Helper()
	ns.must(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		req, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_UP)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
	})
}

// datagrams sends some to a port of the loopback.
func (ns *testNS) datagrams(f Family, port, n int) {
	ns.tb.Helper()
	ns.must(func() error {
		domain, to := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
		if f == IPv6 {
			domain, to = unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}}
		}
		for range n {
			// A new socket each: an error that came back would be told by the next
			// sending.
			fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			err = unix.Sendto(fd, []byte("x"), 0, to)
			unix.Close(fd)
			if err != nil && err != unix.EPERM { // dropped on its way out
				return err
			}
		}
		return nil
	})
}
