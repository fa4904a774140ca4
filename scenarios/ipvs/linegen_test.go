package ipvs

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// lineGen writes rule lines: most are right, many nearly so. It knows the table
// that they meet, so that most find the service and the server they name.
type lineGen struct {
	*rand.Rand
	model *builder
}

func (g *lineGen) of(words ...string) string { return words[g.IntN(len(words))] }

// one is true once in n times.
func (g *lineGen) one(n int) bool { return g.IntN(n) == 0 }

// rare is usual, and once in ten times another.
func (g *lineGen) rare(usual string, others ...string) string {
	if g.one(10) {
		return g.of(others...)
	}
	return usual
}

// line is one line.
func (g *lineGen) line() string {
	words := g.rule()
	for g.one(9) {
		words = g.mutate(words)
	}
	line := strings.Join(words, g.of(" ", " ", " ", " ", "  ", "\t"))
	switch {
	case g.one(50):
		return "ipvsadm " + line
	case g.one(80):
		return line + g.of(" # comment", " #", "\r", " x", " -", " --", " --x", " -n")
	case g.one(120):
		return g.of("", "# comment", " ", "\t", "#", "-C", "ipvsadm", "ipvsadm -C", "  -C", "--clear")
	}
	return line
}

func (g *lineGen) rule() []string {
	if g.one(30) {
		return []string{g.of("-C", "-C", "--clear")}
	}
	svc := g.service(g.one(6))
	cmd := g.of("A", "A", "A", "A", "E", "E", "D", "a", "a", "a", "a", "a", "a", "e", "e", "d")
	server := g.server()
	if t := g.model.table; cmd != "A" && len(t) > 0 && !g.one(12) {
		e := t[g.IntN(len(t))]
		svc = strings.Fields(serviceRule(e.Service))
		if n := len(e.Destinations); cmd != "a" && n > 0 && !g.one(12) {
			server = e.Destinations[g.IntN(n)].Addr.String()
		}
	}
	switch cmd {
	case "A":
		return g.shuffled(g.of("-A", "-A", "-A", "--add-service"), append(svc, g.serviceOptions()...))
	case "E":
		return g.shuffled(g.of("-E", "--edit-service"), append(svc, g.serviceOptions()...))
	case "D":
		return append([]string{g.of("-D", "--delete-service")}, svc...)
	case "a":
		return g.shuffled(g.of("-a", "-a", "-a", "--add-server"), append(svc, g.serverOptions(server)...))
	case "e":
		return g.shuffled(g.of("-e", "--edit-server"), append(svc, g.serverOptions(server)...))
	}
	return append(append([]string{g.of("-d", "--delete-server")}, svc...), g.opt("-r", "--real-server", server)...)
}

// What generated rules make of a table is written so that it reads as it was.
func TestGeneratedRoundTrip(t *testing.T) {
	var b builder
	g := &lineGen{Rand: rand.New(rand.NewPCG(5, 6)), model: &b}
	taken := 0
	for range 5000 {
		line := g.line()
		words := split(strings.TrimPrefix(line, "ipvsadm "))
		if strings.HasPrefix(line, "#") || len(words) == 0 {
			continue
		}
		r, err := parseRule(words)
		if err == nil {
			before := b.table.Clone()
			if err = b.apply(r); err == nil {
				taken++
				checkRoundTrip(t, b.table)
				if err := b.table.Validate(); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				continue
			}
			b.table = before
		}
		if err.col < 1 || err.col > len(line)+1 || err.msg == "" {
			t.Errorf("%q: error %+v", line, err)
		}
	}
	if taken < 1000 {
		t.Errorf("only %d of 5000 generated lines are right", taken)
	}
}

// opt is an option with its argument, in one of the ways to write that.
func (g *lineGen) opt(short, long, value string) []string {
	switch {
	case short == "" || g.one(6):
		return g.split(long, value, long+"="+value)
	case g.one(20):
		return []string{short + "=" + value}
	}
	return g.split(short, value, short+value)
}

func (g *lineGen) split(name, value, glued string) []string {
	if g.one(8) {
		return []string{glued}
	}
	return []string{name, value}
}

func (g *lineGen) service(mark bool) []string {
	if mark {
		words := g.opt("-f", "--fwmark-service", g.of("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "01", "4294967295", "2147483647", "0", "-1", "x", "4294967296", "+1", "0x1", "1x"))
		if g.one(2) {
			words = append(words, g.of("-6", "--ipv6"))
		}
		return words
	}
	host := fmt.Sprintf("10.9.0.%d", 1+g.IntN(9))
	if g.one(3) {
		host = fmt.Sprintf(g.of("[2001:db8::%d]", "[2001:DB8:0::%d]"), 1+g.IntN(9))
	}
	if g.one(12) {
		host = g.of("10.9.0.300", "10.9.1", "010.9.0.1", "0xa.9.0.1", "2001:db8::1", "[10.9.0.1]", "[2001:db8::1", "2001:db8::1]", "",
			"localhost", "no-such-host", "10.9.0.1.", "0.0.0.0", "[::]", "255.255.255.255", "224.0.0.1", "[fe80::1]", "[fe80::1%lo]", "127.0.0.1", "167837697", "1", "10.9.0.1/32", "ipvsadm")
	}
	port := g.of(":80", ":80", ":80", ":81", ":443")
	if g.one(10) {
		port = g.of("", ":", ":0", ":65535", ":65536", ":-1", ":http", ":https", ":domain", ":nosuch", ":+80", ":080", ":0x50", ":80x", "80", ":80:80", ": 80", ":ftp-data", ":99999999999999999999")
	}
	switch g.IntN(6) {
	case 0, 1, 2:
		return g.opt("-t", "--tcp-service", host+port)
	case 3, 4:
		return g.opt("-u", "--udp-service", host+port)
	}
	return g.opt("", "--sctp-service", host+port)
}

func (g *lineGen) serviceOptions() []string {
	var words []string
	if !g.one(8) {
		words = append(words, g.opt("-s", "--scheduler", g.rare(g.of("rr", "wrr", "lc", "wlc", "sh", "mh", "lblc", "nq", "ovf"), "nosuch", "", "averyveryverylongname", "r-r", "rr,wrr", "exactly15letter", "exactly16letters"))...)
	}
	if g.one(3) {
		if g.one(3) {
			words = append(words, g.of("-p", "--persistent"))
		} else {
			words = append(words, g.opt("-p", "--persistent", g.rare(g.of("30", "1", "360", "2678400"), "2678401", "0", "-1", "x", "+5", "007", "0x10", "99999999999", ""))...)
		}
	}
	if g.one(5) {
		words = append(words, g.opt("-M", "--netmask", g.rare(g.of("255.255.255.0", "255.255.255.255", "255.0.0.0"), "1", "64", "128", "0.0.0.0", "255.0.255.0", "24", "64", "128", "129", "0", "-1", "255.255.255", "255.255.255.256", "x", "1", "/24", "::1", "064", "255.255.255.0x"))...)
	}
	if g.one(8) {
		words = append(words, g.opt("", "--pe", g.of("sip", "sip", "nosuch", "", "averyveryverylongname"))...)
	}
	if g.one(6) {
		words = append(words, g.of("-o", "--ops"))
	}
	if g.one(6) {
		words = append(words, g.opt("-b", "--sched-flags", g.of("sh-port", "sh-fallback,sh-port", "mh-port", "flag-1", "flag-1,flag-2,flag-3", "flag-3", "flag-4", "", ",", "sh-port,,sh-port", "SH-PORT", "mh-fallback", "sh-port,mh-port", "x"))...)
	}
	return words
}

func (g *lineGen) server() string {
	host := fmt.Sprintf("10.9.0.%d", 11+g.IntN(5))
	if g.one(4) {
		host = fmt.Sprintf("[2001:db8::%d]", 11+g.IntN(3))
	}
	if g.one(15) {
		host = g.of("10.9.0.300", "10.9.11", "012.9.0.1", "2001:db8::11", "[10.9.0.11]", "[2001:db8::11", "", "localhost", "no-such-host", "0.0.0.0", "[::]",
			"255.255.255.255", "224.0.0.1", "[ff02::1]", "[::ffff:10.9.0.11]", "127.0.0.1", "10.9.0.1", "[2001:db8::1]", "[fe80::1]", "11")
	}
	port := g.of("", ":80", ":80", ":80", ":8080")
	if g.one(15) {
		port = g.of(":", ":0", ":65535", ":65536", ":-1", ":http", ":nosuch", ":+80", ":080", ":0x50", ":80x")
	}
	return host + port
}

func (g *lineGen) serverOptions(server string) []string {
	words := g.opt("-r", "--real-server", server)
	tun := false
	if !g.one(4) {
		method := g.of("-g", "--gatewaying", "-i", "-i", "-i", "--ipip", "-m", "-m", "--masquerading")
		tun = strings.HasSuffix(method, "i") || method == "--ipip"
		words = append(words, method)
	}
	if !g.one(4) {
		words = append(words, g.opt("-w", "--weight", g.rare(g.of("1", "2", "0", "65535"), "65536", "70000", "-1", "x", "+3", "007", "0x10", "2147483647", "2147483648", "1.5", ""))...)
	}
	if g.one(5) {
		words = append(words, g.opt("-x", "--u-threshold", g.rare(g.of("10", "65535", "7"), "0", "65536", "-1", "x", "+5", "005", "0x5", ""))...)
	}
	if g.one(6) {
		words = append(words, g.opt("-y", "--l-threshold", g.rare(g.of("5", "0", "7"), "10", "65535", "65536", "-1", "x", ""))...)
	}
	if !tun && !g.one(20) {
		return words
	}
	kind := g.of("ipip", "gue", "gue", "gre", "gre")
	if g.one(10) {
		kind = g.of("vxlan", "GUE", "", "gu", "ipip ", "0")
	}
	if g.one(4) {
		return words
	}
	words = append(words, g.opt("", "--tun-type", kind)...)
	if kind == "gue" != g.one(12) {
		words = append(words, g.opt("", "--tun-port", g.rare(g.of("6080", "1", "65535"), "65536", "0", "-1", "x", "+7", "080", ""))...)
	}
	if g.one(2) {
		words = append(words, g.of("--tun-nocsum", "--tun-csum", "--tun-csum", "--tun-remcsum"))
	}
	return words
}

// shuffled now and then puts the options before the service. An option and its
// argument may part, which is a mutation like another.
func (g *lineGen) shuffled(cmd string, words []string) []string {
	if g.one(5) {
		n := g.IntN(len(words))
		words = append(append([]string{}, words[n:]...), words[:n]...)
	}
	if g.one(6) && len(cmd) == 2 && strings.HasPrefix(words[0], "-") && !strings.HasPrefix(words[0], "--") {
		return append([]string{cmd + words[0][1:]}, words[1:]...)
	}
	return append([]string{cmd}, words...)
}

func (g *lineGen) mutate(words []string) []string {
	out := append([]string{}, words...)
	i := g.IntN(len(out))
	switch g.IntN(8) {
	case 0: // one word less
		if len(out) > 1 {
			return append(out[:i], out[i+1:]...)
		}
	case 1: // one twice
		return append(out[:i+1], words[i:]...)
	case 2: // two in the other order
		j := g.IntN(len(out))
		out[i], out[j] = out[j], out[i]
	case 3: // one from elsewhere
		other := g.rule()
		out[i] = other[g.IntN(len(other))]
	case 4: // one more from elsewhere
		other := g.rule()
		return append(out[:i], append([]string{other[g.IntN(len(other))]}, words[i:]...)...)
	case 5: // one letter less
		if w := out[i]; len(w) > 1 {
			j := g.IntN(len(w))
			out[i] = w[:j] + w[j+1:]
		}
	case 6: // one letter another
		if w := out[i]; w != "" {
			j := g.IntN(len(w))
			out[i] = w[:j] + g.of("0", "9", ":", "-", ".", "x", "=", "[", "]", ",", "+", "t", "C") + w[j+1:]
		}
	case 7: // two made one
		if i > 0 {
			out[i-1] += out[i]
			return append(out[:i], words[i+1:]...)
		}
	}
	if len(out) == 0 {
		return words
	}
	return out
}
