package filter

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/topology"
)

// ipTyped are rules as typed and as IPRule.String gives them back, empty where
// that is the same.
var ipTyped = map[Family][]struct{ words, short string }{
	IPv4: {
		{"-A INPUT", ""},
		{"-A INPUT -j ACCEPT", ""},
		{"--append FORWARD --source 10.0.0.0/255.255.255.0 --dst 10.0.1.9/32 --jump DROP", "-A FORWARD -s 10.0.0.0/24 -d 10.0.1.9 -j DROP"},
		{"iptables -t filter -A INPUT ! -i lo ! -s 10.0.0.7 -p all -j RETURN", "-A INPUT ! -s 10.0.0.7 ! -i lo -j RETURN"},
		{"-A FORWARD -i eth+ -o eth1 -m conntrack --ctstate INVALID -j DROP", ""},
		{"-A FORWARD -m conntrack ! --ctstate ESTABLISHED,RELATED,NEW -j DROP", "-A FORWARD -m conntrack ! --ctstate NEW,RELATED,ESTABLISHED -j DROP"},
		{"-A INPUT -m state --state NEW,ESTABLISHED -j ACCEPT", ""},
		{"-A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP", "-A OUTPUT -p icmp --icmp-type 3/4 -j DROP"},
		{"-A OUTPUT -p icmp -m icmp ! --icmp-type 8 -j DROP", "-A OUTPUT -p icmp ! --icmp-type 8 -j DROP"},
		{"-A INPUT -p tcp --dport 80 -j REJECT", ""},
		{"-A INPUT -p tcp -m tcp --syn -j REJECT --reject-with tcp-reset", "-A INPUT -p tcp --tcp-flags FIN,SYN,RST,ACK SYN -j REJECT --reject-with tcp-reset"},
		{"-A INPUT -p udp ! --sport 1024: --dport :99 -j ACCEPT", "-A INPUT -p udp ! --sport 1024:65535 --dport 0:99 -j ACCEPT"},
		{"-A INPUT -p sctp --sport 7 ! --dport 80:90 -j ACCEPT", ""},
		{"-A INPUT ! -p tcp -j ACCEPT", ""},
		{"-A INPUT -p 47 -j ACCEPT", "-A INPUT -p gre -j ACCEPT"},
		{"-A INPUT -p ipencap -j ACCEPT", ""},
		{"-t mangle -A PREROUTING -d 10.0.0.100 -p tcp --dport 80 -j MARK --set-mark 1", ""},
		{"-t mangle -A INPUT -m mark ! --mark 0x1/0xff -j MARK --set-xmark 0x10/0xf0", ""},
		{"-t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu", ""},
		{"-t mangle -A POSTROUTING -o eth0 -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1400", ""},
		{"-t mangle -A OUTPUT -m mark --mark 7", "-t mangle -A OUTPUT -m mark --mark 0x7"},
		{"-t nat -A POSTROUTING -s 10.0.0.0/24 -o eth0 -j MASQUERADE", ""},
		{"-t nat -A POSTROUTING -j SNAT --to-source 10.0.0.1-10.0.0.9", ""},
		{"-t nat -A INPUT -p tcp -j SNAT --to-source 10.0.0.1:1024-2048", ""},
		{"-t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.0.0.1:8080", ""},
		{"-t nat -A OUTPUT -d 1.2.3.4 -j DNAT --to-destination 10.0.0.1", ""},
		{"-t raw -A PREROUTING -s 1.2.3.4 -j DROP", ""},
		{"-t raw -A OUTPUT -j ACCEPT", ""},
	},
	IPv6: {
		{"-A INPUT -j ACCEPT", ""},
		{"ip6tables -A FORWARD -s fd00:a::/64 ! -d FD00:B::0009 -j DROP", "-A FORWARD -s fd00:a::/64 ! -d fd00:b::9 -j DROP"},
		{"-A OUTPUT -p icmpv6 --icmpv6-type packet-too-big -j DROP", "-A OUTPUT -p ipv6-icmp --icmpv6-type 2 -j DROP"},
		{"-A INPUT -p udp --dport 53 -j REJECT", ""},
		{"-A INPUT -p tcp --dport 53 -j REJECT --reject-with icmp6-adm-prohibited", ""},
		{"-A INPUT -i eth0 -m conntrack --ctstate INVALID -j DROP", ""},
		{"-t mangle -A PREROUTING -d fd00::100 -p tcp --dport 80 -j MARK --set-mark 0x2", ""},
		{"-t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1300", ""},
		{"-t nat -A POSTROUTING -s fd00:a::/64 -j MASQUERADE", ""},
		{"-t nat -A POSTROUTING -j SNAT --to-source fd00::1-fd00::9", ""},
		{"-t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination [fd00::1]:8080", ""},
		{"-t raw -A PREROUTING -p ipv6-icmp", ""},
	},
}

// ipvsTyped need a kernel with xt_ipvs.
var ipvsTyped = map[Family][]struct{ words, short string }{
	IPv4: {
		{"-t nat -A POSTROUTING -m ipvs --vaddr 10.0.0.100 --vport 80 -j MASQUERADE", ""},
		{"-t nat -A POSTROUTING -p tcp --dport 80 -m ipvs --ipvs --vproto tcp ! --vaddr 10.0.0.0/24 --vdir ORIGINAL --vmethod MASQ -j SNAT --to-source 10.0.0.1", "-t nat -A POSTROUTING -p tcp --dport 80 -m ipvs --vproto 6 ! --vaddr 10.0.0.0/24 --vdir ORIGINAL --vmethod MASQ -j SNAT --to-source 10.0.0.1"},
		{"-A FORWARD -m ipvs ! --ipvs -j DROP", ""},
		{"-A OUTPUT -m ipvs ! --vport 81 --vdir REPLY ! --vmethod GATE", ""},
		{"-A OUTPUT -m ipvs --vmethod IPIP -m mark --mark 0x1", ""},
	},
	IPv6: {
		{"-t nat -A POSTROUTING -m ipvs --vaddr fd00::100 --vport 80 -j MASQUERADE", ""},
	},
}

func families(t *testing.T, f func(t *testing.T, family Family)) {
	for _, family := range []Family{IPv4, IPv6} {
		t.Run(family.Tool(), func(t *testing.T) { f(t, family) })
	}
}

func mustIP(tb testing.TB, f Family, lines ...string) []IPRule {
	tb.Helper()
	var rules []IPRule
	for _, l := range lines {
		r, err := ParseIPRule(f, l)
		if err != nil {
			tb.Fatalf("%s: %v", l, err)
		}
		rules = append(rules, r)
	}
	return rules
}

func typedIP(tb testing.TB, f Family, ipvs bool) (rules []IPRule) {
	tb.Helper()
	all := ipTyped[f]
	if ipvs {
		all = append(slices.Clone(all), ipvsTyped[f]...)
	}
	for _, c := range all {
		rules = append(rules, mustIP(tb, f, c.words)...)
	}
	return rules
}

func TestParseIP(t *testing.T) {
	families(t, func(t *testing.T, f Family) {
		for _, c := range append(slices.Clone(ipTyped[f]), ipvsTyped[f]...) {
			r := mustIP(t, f, c.words)[0]
			want := c.short
			if want == "" {
				want = c.words
			}
			if r.String() != strings.ReplaceAll(want, "--set-mark 1", "--set-mark 0x1") {
				t.Errorf("%s\n gives %s\nwanted %s", c.words, r, want)
			}
			if again := mustIP(t, f, r.String())[0]; again != r {
				t.Errorf("%s is read back as %s", r, again)
			}
		}
	})
}

func TestParseIPErrors(t *testing.T) {
	for _, c := range []struct {
		f     Family
		words string
		col   int
		want  string
	}{
		{IPv4, "", 1, "chain is missing"},
		{IPv4, "-j DROP", 1, "chain is missing"},
		{IPv4, "-A INPT -j DROP", 4, "INPUT"},
		{IPv4, "-t nat -A FORWARD -j ACCEPT", 11, `"FORWARD" is not in table nat`},
		{IPv4, "-t security -A INPUT", 4, "security"},
		{IPv4, "-A INPUT -s example.org -j DROP", 13, "example.org"},
		{IPv4, "-A INPUT -s fd00::1 -j DROP", 13, "fd00::1"},
		{IPv6, "-A INPUT -s 10.0.0.1 -j DROP", 13, "10.0.0.1"},
		{IPv4, "-A INPUT -s 10.0.0.1,10.0.0.2 -j DROP", 13, "list"},
		{IPv4, "-A INPUT -s 10.0.0.0/33 -j DROP", 13, "33"},
		{IPv4, "-A INPUT --dport 80 -j DROP", 10, "must come after -p tcp"},
		{IPv4, "-A INPUT -p tcp --dport 70000", 25, "70000"},
		{IPv4, "-A INPUT -p tcp --dport http", 25, "http"},
		{IPv4, "-A INPUT -p tcp --dport 90:80", 25, "ends before"},
		{IPv4, "-A INPUT -p tcp --dport 0", 25, "port 0"},
		{IPv4, "-A INPUT ! -p tcp --dport 80", 1, "need -p tcp"},
		{IPv4, "-A INPUT -p tpc", 13, "tcp"},
		{IPv4, "-A INPUT -p icmpv6", 1, "icmp"},
		{IPv4, "-A INPUT -m tcp --dport 80", 13, "needs -p tcp before it"},
		{IPv4, "-A INPUT --vaddr 10.0.0.100", 10, "must come after -m ipvs"},
		{IPv4, "-A INPUT -m ipvs ! --ipvs --vport 80", 1, "! --ipvs cannot go"},
		{IPv4, "-A INPUT -m ipvs", 10, "-m ipvs needs"},
		{IPv4, "-A INPUT -m ipvs --vport 0", 26, "0"},
		{IPv4, "-A INPUT -m ipvs --vdir BACK", 25, "BACK"},
		{IPv4, "-A INPUT -m ipvs --vmethod NAT", 28, "NAT"},
		{IPv4, "-A INPUT -m ipvs --vportctl 21", 18, "--vportctl"},
		{IPv4, "-A INPUT -m conntrack --ctstate NEWS", 33, "NEW"},
		{IPv4, "-A INPUT -m state --ctstate NEW", 19, "must come after -m conntrack"},
		{IPv4, "-A INPUT -m comment --comment x", 13, "comment"},
		{IPv4, "-A INPUT -m mark --mark x", 25, "x"},
		{IPv4, "-A INPUT -m mark --mark 2/1", 1, "never matches"},
		{IPv4, "-A INPUT -p icmp --icmp-type echo-requst", 30, "echo-request"},
		{IPv4, "-A INPUT -p tcp --tcp-flags SYN", 17, "2 values"},
		{IPv4, "-A INPUT -p tcp --tcp-flags SIN SYN", 29, "SYN"},
		{IPv4, "-A INPUT -p tcp --tcp-flags ACK SYN", 1, "never matches"},
		{IPv4, "-A INPUT -j LOG", 13, "LOG"},
		{IPv4, "-A INPUT -j MASQUERADE", 1, "table nat only"},
		{IPv4, "-t nat -A PREROUTING -j MASQUERADE", 1, "POSTROUTING"},
		{IPv4, "-t nat -A POSTROUTING -j DROP", 1, "DROP"},
		{IPv4, "-t nat -A POSTROUTING -j SNAT", 23, "--to-source"},
		{IPv4, "-t nat -A POSTROUTING -j SNAT --to-source 1.2.3.4:80", 1, "-p tcp"},
		{IPv4, "-t nat -A POSTROUTING -j SNAT --to-source 1.2.3.4-1.2.3.1", 1, "before they begin"},
		{IPv4, "-t nat -A POSTROUTING -j SNAT --to-destination 1.2.3.4", 31, "-j DNAT"},
		{IPv4, "-t mangle -A INPUT -j MARK", 20, "--set-mark"},
		{IPv4, "-t mangle -A FORWARD -j TCPMSS --set-mss 1400", 1, "SYN"},
		{IPv4, "-t mangle -A INPUT -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu", 1, "INPUT"},
		{IPv4, "-t mangle -A INPUT -p tcp --syn -j TCPMSS --set-mss 0", 53, "0"},
		{IPv4, "-A INPUT -j REJECT --reject-with icmp6-no-route", 34, "icmp6-no-route"},
		{IPv4, "-A INPUT -j REJECT --reject-with tcp-reset", 1, "-p tcp"},
		{IPv4, "-A INPUT -o eth0", 1, "-o cannot be used in chain INPUT"},
		{IPv4, "-t nat -A POSTROUTING -i eth0", 1, "-i cannot be used"},
		{IPv4, "-A INPUT -i eth0;rm", 13, "not allowed"},
		{IPv4, "-A INPUT -s 1.2.3.4 -s 1.2.3.5", 21, "-s is given twice"},
		{IPv4, "-A INPUT ! -j DROP", 12, "cannot be negated"},
		{IPv4, "-A INPUT -s ! 1.2.3.4", 13, "before -s"},
		{IPv4, "-A INPUT ! -s 0.0.0.0/0", 1, "can never match"},
		{IPv4, "-P INPUT DROP", 1, "-P"},
		{IPv4, "-I INPUT -j DROP", 1, "-I"},
		{IPv4, "-A INPUT DROP", 10, "DROP"},
		{IPv4, "-A INPUT --dprot 80", 10, "--dport"},
		{IPv4, "-A INPUT -j", 10, "needs a value"},
		{IPv4, "-A INPUT !", 10, "needs an option"},
		{IPv4, "-A INPUT\n-j DROP", 9, "one line"},
		{IPv4, "-A INPUT -p tcp --syn --tcp-flags ALL NONE", 23, "exclude each other"},
		{0, "-A INPUT", 1, "neither IPv4 nor IPv6"},
	} {
		_, err := ParseIPRule(c.f, c.words)
		var s *SyntaxError
		if !errors.As(err, &s) || !strings.Contains(s.Msg, c.want) || s.Col != c.col {
			t.Errorf("%s: %v; wanted column %d and %q", c.words, err, c.col, c.want)
		}
	}
}

// TestIPSaveGolden compares with the text of the real tool (see
// TestIPToolGolden, which writes it).
func TestIPSaveGolden(t *testing.T) {
	families(t, func(t *testing.T, f Family) {
		data, err := os.ReadFile(ipSaveFile(f))
		if err != nil {
			t.Fatal(err)
		}
		rules := typedIP(t, f, true)
		if diff := cmp.Diff(string(data), FormatIPSave(rules)); diff != "" {
			t.Errorf("FormatIPSave differs from the tool (- its, + ours):\n%s", diff)
		}
		got, err := ParseIPSave(f, string(data))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, CanonicalIP(rules)) {
			t.Errorf("ParseIPSave gives\n%swanted\n%s", ruleLines(got), ruleLines(CanonicalIP(rules)))
		}
	})
}

func ipSaveFile(f Family) string { return "testdata/" + f.Tool() + "-legacy-save.txt" }

func TestParseIPSaveErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"-A INPUT -j DROP\n", "line 1, column 1: a line such as *filter"},
		{"*filter\n:INPUT DROP [0:0]\nCOMMIT\n", "line 2, column 8: the policy DROP"},
		{"*filter\n:MINE - [0:0]\nCOMMIT\n", "user chains"},
		{"*filter\n-A INPUT -j DORP\nCOMMIT\n", "line 2, column 13"},
		{"*filter\n[1:2] -A INPUT -j DORP\nCOMMIT\n", "line 2, column 19"},
		{"*filter\n-t nat -A INPUT\nCOMMIT\n", "*LINE"},
		{"*filter\n", "COMMIT is missing"},
		{"*filter\nCOMMIT\n*filter\nCOMMIT\n", "second time"},
		{"*flter\n", "filter"},
		{"*filter x\n", "no place"},
		{"*filter\n:INPUT ACCEPT\n:INPUT ACCEPT\nCOMMIT\n", "twice"},
		{"*filter\n:INPUT ACCEPT [x]\nCOMMIT\n", "no place"},
	} {
		if rules, err := ParseIPSave(IPv4, c.text); err == nil || rules != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, %v; wanted %q", c.text, rules, err, c.want)
		}
	}
	rules, err := ParseIPSave(IPv4, "# c\n*nat\n:INPUT ACCEPT [1:2]\n[3:180] -A POSTROUTING -j MASQUERADE\nCOMMIT\n")
	if err != nil || !slices.Equal(rules, mustIP(t, IPv4, "-t nat -A POSTROUTING -j MASQUERADE")) {
		t.Errorf("with counters: %v, %v", rules, err)
	}
}

func TestFormatIPCounted(t *testing.T) {
	r := mustIP(t, IPv4, "-A INPUT -p tcp --dport 80 -j DROP", "-A OUTPUT")
	got := FormatIPCounted([]CountedIP{{r[0], 3, 180}, {r[1], 0, 0}})
	want := "iptables -t filter -S -v\n-A INPUT -p tcp -m tcp --dport 80 -c 3 180 -j DROP\n-A OUTPUT -c 0 0\n"
	if got != want {
		t.Errorf("got\n%swanted\n%s", got, want)
	}
}

func TestIPBlob(t *testing.T) {
	families(t, func(t *testing.T, f Family) {
		rules := CanonicalIP(typedIP(t, f, true))
		for _, table := range Tables() {
			of := ofTable(rules, table)
			b := encodeIP(f, table, of)
			got, err := decodeIP(f, table, b)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(rulesOf(got), of) {
				t.Errorf("table %s gives\n%swanted\n%s", table, ruleLines(rulesOf(got)), ruleLines(of))
			}
		}
	})
}

func TestIPNeeds(t *testing.T) {
	r := mustIP(t, IPv4, ipvsTyped[IPv4][0].words)[0]
	if got, want := r.Needs(), []topology.Feature{"iptable_nat", "xt_ipvs", "xt_MASQUERADE"}; !slices.Equal(got, want) {
		t.Errorf("needs %v, wanted %v", got, want)
	}
	families(t, func(t *testing.T, f Family) {
		for _, r := range typedIP(t, f, true) {
			for _, n := range r.Needs() {
				example, ok := ExampleIP(n)
				if n == featureIPv6 {
					continue
				}
				if !ok || !slices.Contains(example.Needs(), n) || example.Validate() != nil {
					t.Errorf("%s has the example %s, which is no good", n, example)
				}
			}
		}
	})
}

func TestSurvivors(t *testing.T) {
	r := mustIP(t, IPv4, "-A INPUT -s 1.0.0.1", "-A INPUT -s 1.0.0.2", "-A FORWARD -s 1.0.0.3", "-A FORWARD -s 1.0.0.4", "-A INPUT -s 1.0.0.5")
	a, b, c, d, n := r[0], r[1], r[2], r[3], r[4]
	for _, tt := range []struct {
		old, new []IPRule
		want     []int
	}{
		{[]IPRule{a, b, c}, []IPRule{a, b, n, c}, []int{0, 1, -1, 2}},
		{[]IPRule{a, b, c, d}, []IPRule{b, d}, []int{1, 3}},
		{[]IPRule{a, b, c}, []IPRule{n, a, c}, []int{-1, -1, 2}},
		{[]IPRule{a, b}, []IPRule{b, a}, []int{1, -1}},
		{nil, []IPRule{a}, []int{-1}},
	} {
		if got := survivors(tt.old, tt.new); !slices.Equal(got, tt.want) {
			t.Errorf("%v to %v: %v, wanted %v", tt.old, tt.new, got, tt.want)
		}
	}
}

func FuzzParseIPRule(f *testing.F) {
	for _, list := range []map[Family][]struct{ words, short string }{ipTyped, ipvsTyped} {
		for family, rules := range list {
			for _, c := range rules {
				f.Add(family == IPv6, c.words)
			}
		}
	}
	f.Fuzz(func(t *testing.T, v6 bool, text string) {
		family := IPv4
		if v6 {
			family = IPv6
		}
		r, err := ParseIPRule(family, text)
		if err != nil {
			return
		}
		if again, err := ParseIPRule(family, r.String()); err != nil || again != r {
			t.Fatalf("%q is %s, which is read as %s, %v", text, r, again, err)
		}
		saved, err := ParseIPSave(family, FormatIPSave([]IPRule{r}))
		if err != nil || len(saved) != 1 || saved[0] != r {
			t.Fatalf("%q saved:\n%sread as %v, %v", text, FormatIPSave([]IPRule{r}), saved, err)
		}
		got, err := decodeIP(family, r.Table, encodeIP(family, r.Table, saved))
		if err != nil || len(got) != 1 || got[0].Rule != r {
			t.Fatalf("%s comes back from the blob as %v, %v", r, got, err)
		}
		if err := r.Validate(); err != nil {
			t.Fatalf("%s is read and not valid: %v", r, err)
		}
	})
}

func FuzzDecodeIP(f *testing.F) {
	for family, rules := range ipTyped {
		for _, c := range rules {
			r, err := ParseIPRule(family, c.words)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(family == IPv6, encodeIP(family, FilterTable, []IPRule{r}).entries)
		}
	}
	f.Fuzz(func(_ *testing.T, v6 bool, data []byte) {
		family := IPv4
		if v6 {
			family = IPv6
		}
		b := encodeIP(family, FilterTable, nil)
		b.entries = data
		// No panic; a table of nonsense may well be an error.
		_, _ = decodeIP(family, FilterTable, b)
	})
}
