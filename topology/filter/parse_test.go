package filter

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// typed are rules as a person types them and as arptables-legacy-save prints
// them; the second column was printed by arptables 0.0.5.
var typed = []struct{ words, again, save string }{
	{"-A INPUT -d 172.25.12.100 -j DROP", "", "-A INPUT -j DROP -d 172.25.12.100 "},
	{"-A INPUT -j DROP", "", "-A INPUT -j DROP "},
	{"-A INPUT -s 10.0.0.0/8 -d 10.1.2.3/24 -j ACCEPT", "-A INPUT -s 10.0.0.0/8 -d 10.1.2.0/24 -j ACCEPT", "-A INPUT -j ACCEPT -s 10.0.0.0/8 -d 10.1.2.0/24 "},
	{"-A INPUT -s ! 10.0.0.0/255.0.0.0 -j ACCEPT", "-A INPUT ! -s 10.0.0.0/8 -j ACCEPT", "-A INPUT -j ACCEPT ! -s 10.0.0.0/8 "},
	{"-A INPUT -s 1.2.3.4/0 -j DROP", "-A INPUT -j DROP", "-A INPUT -j DROP "},
	{"-A INPUT -i eth+ -s 0.0.0.0 -j DROP", "", "-A INPUT -j DROP -i eth+ -s 0.0.0.0 "},
	{
		"-A INPUT --source-mac 0:1:2:3:4:5 --dst-mac 0a:01:02:03:04:05/ff:ff:ff:00:00:00 -j DROP",
		"-A INPUT --source-mac 00:01:02:03:04:05 --destination-mac 0a:01:02:00:00:00/ff:ff:ff:00:00:00 -j DROP",
		"-A INPUT -j DROP --src-mac 00:01:02:03:04:05 --dst-mac 0a:01:02:00:00:00/ff:ff:ff:00:00:00 ",
	},
	{"-A INPUT --opcode request_reverse -j DROP", "-A INPUT --opcode Request_Reverse -j DROP", "-A INPUT -j DROP --opcode 3 "},
	{"-A INPUT --opcode 65535 -j DROP", "", "-A INPUT -j DROP --opcode 65535 "},
	{
		"-A INPUT ! -i eth0 ! -s 1.2.3.4 ! --src-mac 00:01:02:03:04:05 ! -d 1.2.3.4/24 ! --h-length 6 ! --opcode 1 -j DROP",
		"-A INPUT ! -i eth0 ! -s 1.2.3.4 ! --source-mac 00:01:02:03:04:05 ! -d 1.2.3.0/24 ! --h-length 6 ! --opcode Request -j DROP",
		"-A INPUT -j DROP ! -i eth0 ! -s 1.2.3.4 ! --src-mac 00:01:02:03:04:05 ! -d 1.2.3.0/24 ! --h-length 6 ! --opcode 1 ",
	},
	{"-A INPUT -j mangle --mangle-ip-s 1.2.3.4", "", "-A INPUT -j mangle --mangle-ip-s 1.2.3.4 "},
	{
		"--append OUTPUT --source-ip 172.25.12.100 --jump mangle --mangle-ip-s 172.25.12.2",
		"-A OUTPUT -s 172.25.12.100 -j mangle --mangle-ip-s 172.25.12.2",
		"-A OUTPUT -j mangle -s 172.25.12.100 --mangle-ip-s 172.25.12.2 ",
	},
	{
		"-t filter -A OUTPUT -j mangle -s 3.4.5.6 --mangle-ip-s 1.2.3.4 --mangle-target ACCEPT",
		"-A OUTPUT -s 3.4.5.6 -j mangle --mangle-ip-s 1.2.3.4",
		"-A OUTPUT -j mangle -s 3.4.5.6 --mangle-ip-s 1.2.3.4 ",
	},
	{
		"-A OUTPUT -o eth0 -j mangle --mangle-ip-d 1.2.3.4 --mangle-target DROP", "",
		"-A OUTPUT -j mangle -o eth0 --mangle-ip-d 1.2.3.4 --mangle-target DROP ",
	},
	{
		"-A OUTPUT -s 172.25.12.100 -l 6 -j mangle --mangle-ip-s 172.25.12.2 --mangle-ip-d 1.2.3.4 --mangle-mac-s 00:01:02:03:04:05 --mangle-mac-d 00:01:02:03:04:06 --mangle-target CONTINUE",
		"-A OUTPUT -s 172.25.12.100 --h-length 6 -j mangle --mangle-ip-s 172.25.12.2 --mangle-mac-s 00:01:02:03:04:05 --mangle-ip-d 1.2.3.4 --mangle-mac-d 00:01:02:03:04:06 --mangle-target CONTINUE",
		"-A OUTPUT -j mangle -s 172.25.12.100 --h-length 6 --mangle-ip-s 172.25.12.2 --mangle-mac-s 00:01:02:03:04:05 --mangle-ip-d 1.2.3.4 --mangle-mac-d 00:01:02:03:04:06 --mangle-target CONTINUE ",
	},
	{"-A OUTPUT ! -o eth+ --destination-mac 00:00:00:00:00:00 -j DROP", "", "-A OUTPUT -j DROP ! -o eth+ --dst-mac 00:00:00:00:00:00 "},
}

func mustParse(tb testing.TB, lines ...string) []ArpRule {
	tb.Helper()
	var rules []ArpRule
	for _, l := range lines {
		r, err := ParseArpRule(l)
		if err != nil {
			tb.Fatalf("ParseArpRule(%q): %v", l, err)
		}
		rules = append(rules, r)
	}
	return rules
}

// typedRules are all the rules of typed.
func typedRules(tb testing.TB) []ArpRule {
	var rules []ArpRule
	for _, c := range typed {
		rules = append(rules, mustParse(tb, c.words)...)
	}
	return rules
}

func TestParseArpRule(t *testing.T) {
	for _, c := range typed {
		r := mustParse(t, c.words)[0]
		again := c.again
		if again == "" {
			again = c.words
		}
		if got := r.String(); got != again {
			t.Errorf("%q comes back as\n%q, wanted\n%q", c.words, got, again)
		}
		if got := r.saveLine(); got != c.save {
			t.Errorf("%q is saved as\n%q, wanted\n%q", c.words, got, c.save)
		}
		for _, text := range []string{again, c.save} {
			if got := mustParse(t, text)[0]; got != r {
				t.Errorf("%q is read as\n%#v, wanted\n%#v", text, got, r)
			}
		}
	}
	want := ArpRule{
		Chain: Output, Src: netip.MustParsePrefix("172.25.12.100/32"),
		Target: Mangle, MangleIPSrc: netip.MustParseAddr("172.25.12.2"),
	}
	if got := mustParse(t, "-A OUTPUT -s 172.25.12.100 -j mangle --mangle-ip-s 172.25.12.2")[0]; got != want {
		t.Errorf("got %#v, wanted %#v", got, want)
	}
}

func TestParseArpRuleErrors(t *testing.T) {
	for _, c := range []struct {
		text string
		col  int
		msg  string
	}{
		{"", 1, "the chain is missing"},
		{"-d 1.2.3.4 -j DROP", 1, "the chain is missing"},
		{"-A INPUT", 1, "the target is missing"},
		{"-A INPUT -j", 10, "-j needs a value"},
		{"-A INPUT -j DORP", 13, `did you mean "DROP"`},
		{"-A INPUT -j drop", 13, `did you mean "DROP"`},
		{"-A INPUT -j RETURN", 13, "RETURN is not supported"},
		{"-A INPTU -j DROP", 4, `did you mean "INPUT"`},
		{"-A FORWARD -j DROP", 4, "FORWARD is not supported"},
		{"-A mine -j DROP", 4, "user chains are not supported"},
		{"-A INPUT -d 1.2.3 -j DROP", 13, "not an IPv4 address"},
		{"-A INPUT -d localhost -j DROP", 13, "not an IPv4 address"},
		{"-A INPUT -d fe80::1 -j DROP", 13, "not an IPv4 address"},
		{"-A INPUT -d 1.2.3.4/33 -j DROP", 13, "prefix length"},
		{"-A INPUT -d 10.0.0.0/255.0.255.0 -j DROP", 13, "holes"},
		{"-A INPUT -d 1.2.3.4 -d 1.2.3.5 -j DROP", 21, "given twice"},
		{"-A INPUT -d 1.2.3.4 --dst-ip 1.2.3.5 -j DROP", 21, "given twice"},
		{"-A INPUT ! -d ! 1.2.3.4 -j DROP", 15, "second !"},
		{"-A INPUT ! -j DROP", 12, "cannot be negated"},
		{"-A INPUT -j DROP !", 18, "needs an option after it"},
		{"-A INPUT ! -d 0.0.0.0/0 -j DROP", 1, "can never match"},
		{"-A INPUT --desination-ip 1.2.3.4 -j DROP", 10, `did you mean "--destination-ip"`},
		{"-A INPUT stray -j DROP", 10, "is not an option"},
		{"-A INPUT --h-type 1 -j DROP", 10, "--h-type (the hardware type) is not supported"},
		{"-D INPUT -j DROP", 1, "-D (deleting a rule) is not supported"},
		{"-A INPUT --opcode 2/3 -j DROP", 19, "a mask is not supported"},
		{"-A INPUT --opcode 0 -j DROP", 19, "neither a number"},
		{"-A INPUT -o eth0 -j DROP", 1, "-o cannot be used in chain INPUT"},
		{"-A OUTPUT -i eth0 -j DROP", 1, "-i cannot be used in chain OUTPUT"},
		{"-A INPUT -i averyverylongname -j DROP", 13, "longer than 15"},
		{"-A INPUT -i $(reboot) -j DROP", 13, "not allowed"},
		{"-A INPUT --source-mac 00:01:02 -j DROP", 23, "not a MAC address"},
		{"-A OUTPUT --mangle-ip-s 1.2.3.4 -j mangle", 11, "after -j mangle"},
		{"-A OUTPUT -j DROP --mangle-ip-s 1.2.3.4", 19, "after -j mangle"},
		{"-A OUTPUT -j mangle", 1, "needs something to mangle"},
		{"-A OUTPUT -j mangle --mangle-ip-s 1.2.3.4/8", 35, "not an IPv4 address"},
		{"-A OUTPUT -j mangle --mangle-mac-s 0:1:2:3:4:5", 1, "need --h-length 6"},
		{"-A OUTPUT -j mangle --mangle-ip-s 1.2.3.4 --mangle-target RETURN", 59, "unknown target"},
		{"-t nat -A INPUT -j DROP", 4, "the only one is filter"},
		{"-A INPUT -j DROP\n-A INPUT -j DROP", 17, "one line"},
	} {
		r, err := ParseArpRule(c.text)
		var se *SyntaxError
		if !errors.As(err, &se) {
			t.Errorf("%q: got %v, %v, wanted a *SyntaxError", c.text, r, err)
			continue
		}
		if se.Col != c.col || !strings.Contains(se.Msg, c.msg) {
			t.Errorf("%q: got %v, wanted column %d: …%s…", c.text, err, c.col, c.msg)
		}
		if r != (ArpRule{}) {
			t.Errorf("%q: an error and a rule, %v", c.text, r)
		}
	}
}

// TestSaveGolden compares with what arptables-legacy-save 0.0.5 printed; see
// TestToolGolden for how the file is made.
func TestSaveGolden(t *testing.T) {
	text, err := os.ReadFile("testdata/arptables-legacy-save.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), FormatSave(typedRules(t))); diff != "" {
		t.Errorf("FormatSave differs (- the tool's, + ours):\n%s", diff)
	}
	rules, policies, err := ParseSave(string(text))
	if err != nil || policies != (Policies{}) {
		t.Fatalf("ParseSave: %v, %v", policies, err)
	}
	if !slices.Equal(rules, Canonical(typedRules(t))) {
		t.Errorf("ParseSave gives\n%swanted\n%s", lines(rules), lines(Canonical(typedRules(t))))
	}
}

func TestParseSave(t *testing.T) {
	// As arptables-nft-save 1.8.9 prints it.
	rules, policies, err := ParseSave("# Generated by arptables-save v1.8.9 (nf_tables)\n*filter\n:INPUT DROP\n:OUTPUT ACCEPT [1:28]\n-A INPUT -j DROP -i eth0 -d 172.25.12.100\n# Completed\n")
	if err != nil {
		t.Fatal(err)
	}
	if want := mustParse(t, "-A INPUT -i eth0 -d 172.25.12.100 -j DROP"); !slices.Equal(rules, want) || policies != (Policies{Input: Drop}) {
		t.Errorf("got %v, %v", rules, policies)
	}
	if rules, policies, err := ParseSave(""); err != nil || rules != nil || policies != (Policies{}) {
		t.Errorf("an empty text gives %v, %v, %v", rules, policies, err)
	}
	rules, _, err = ParseSave("*filter\n:INPUT ACCEPT\n:mine -\n:OUTPUT RETURN\n-A INPUT -j DROP\n  -A INPUT -j DORP\n:INPUT DROP\n:FORWARD\n*nat\n")
	if err == nil || rules != nil {
		t.Fatalf("got %v, %v, wanted no rule and an error", rules, err)
	}
	want := `line 3, column 1: unknown chain "mine"; Allowed: INPUT, OUTPUT, FORWARD (user chains are not supported)
line 4, column 9: unknown policy "RETURN"; Allowed: ACCEPT, DROP
line 6, column 15: -j: unknown target "DORP", did you mean "DROP"? Allowed: ACCEPT, DROP, mangle (user chains are not supported)
line 7, column 1: the policy of chain INPUT is given twice
line 8, column 1: the policy of chain FORWARD is missing (ACCEPT or DROP)
line 9, column 1: "*nat": the only table is *filter`
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("errors differ (- wanted, + got):\n%s", diff)
	}
	if _, _, err := ParseSave("-A INPUT -j DROP\n-A INPUT -j DROP\n"); err == nil || err.Error() != `line 1, column 1: *filter must come before "-A"` {
		t.Errorf("without a table: %v", err)
	}
}

func TestValidate(t *testing.T) {
	err := ArpRule{
		Chain: "FORWARD", Src: netip.MustParsePrefix("fe80::/64"), Target: Mangle,
		MangleIPSrc: netip.MustParseAddr("::1"), MangleTarget: "RETURN",
	}.Validate()
	for _, want := range []string{"FORWARD", "fe80::/64", "::1", "RETURN"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
	// What canonical leaves out must not be needed to tell right from wrong.
	if err := (ArpRule{Chain: Input, Target: Drop, Src: netip.PrefixFrom(netip.MustParseAddr("1.2.3.4"), 99)}).Validate(); err == nil {
		t.Error("a prefix of 99 bits is taken")
	}
}

func FuzzParseArpRule(f *testing.F) {
	for _, c := range typed {
		f.Add(c.words)
		f.Add(c.save)
	}
	f.Add("-A INPUT ! -s ! 1.2.3.4/ -j")
	f.Add("-A OUTPUT -o + -s 1.2.3.4/00 -j ACCEPT")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseArpRule(text)
		if err != nil {
			var se *SyntaxError
			if !errors.As(err, &se) || se.Col < 1 || se.Col > len(text)+1 || strings.Contains(se.Error(), "\n") {
				t.Fatalf("%q: %#v", text, err)
			}
			return
		}
		if again, err := ParseArpRule(r.String()); err != nil || again != r {
			t.Fatalf("%q → %q → %v, %v", text, r, again, err)
		}
		if again, err := ParseArpRule(r.saveLine()); err != nil || again != r {
			t.Fatalf("%q → %q → %v, %v", text, r.saveLine(), again, err)
		}
		got, err := decodeTable(encodeTable([]ArpRule{r}))
		if err != nil || len(got) != 1 || got[0].Rule != r {
			t.Fatalf("%q through arp_tables: %v, %v", r, got, err)
		}
	})
}

func FuzzParseSave(f *testing.F) {
	f.Add("*filter\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:FORWARD ACCEPT\n\n")
	f.Add("# c\r\n*filter\r\n:INPUT DROP [0:0]\r\n-A INPUT -j DROP -d 1.2.3.4 \r\nCOMMIT\r\n")
	f.Add(FormatSave(typedRules(f)))
	f.Fuzz(func(t *testing.T, text string) {
		rules, _, err := ParseSave(text)
		if err != nil {
			if rules != nil {
				t.Fatalf("an error and rules: %v", err)
			}
			return
		}
		again, policies, err := ParseSave(FormatSave(rules))
		if err != nil || policies != (Policies{}) || !slices.Equal(again, Canonical(rules)) {
			t.Fatalf("%v comes back as %v, %v, %v", rules, again, policies, err)
		}
	})
}
