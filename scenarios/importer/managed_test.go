package importer

import (
	"net/netip"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// TestPageText: whatever a configuration holds, the lab has it byte for byte, as
// a block where that is possible.
func TestPageText(t *testing.T) {
	for text, block := range map[string]bool{
		"a\nb\n":                     true,
		"a":                          true,
		"a\n\n\n":                    true,
		"\n\na\n":                    true,
		"    indented\nnot\n":        true,
		"\n  indented\n":             true,
		"a\n\tb\n":                   true,
		"# a: b\n- {c}\n---\nd: |\n": true,
		"a\r\nb\r\n":                 false,
		"a \n b\n":                   true,
		"\n":                         false,
		"a\u2028b\n":                 false,
		"bell \a, quote \" and \\\n": false,
		"ünï😀\n":                     true,
		"${NOT} @a\n":                true,
	} {
		p := new(page)
		p.line(0, source.Pos{}, "files:")
		p.text(1, "/etc/x", text)
		p.line(0, source.Pos{}, "after: 1")
		var back struct {
			Files map[string]string
			After int
		}
		if err := yaml.Unmarshal(p.b.Bytes(), &back); err != nil {
			t.Errorf("%q: %v in\n%s", text, err, p.b.String())
			continue
		}
		if got := back.Files["/etc/x"]; got != text || back.After != 1 {
			t.Errorf("%q came back as %q from\n%s", text, got, p.b.String())
		}
		if got := strings.HasPrefix(p.b.String(), "files:\n  /etc/x: |"); got != block {
			t.Errorf("%q: a block: %v, wanted %v:\n%s", text, got, block, p.b.String())
		}
	}
}

func TestManagedPath(t *testing.T) {
	c := &config.Config{Files: []config.File{{Name: "conf/lvs.conf"}, {Name: "conf/more/a.conf"}, {Name: "conf/b.conf"}}}
	for i, want := range []string{"/etc/keepalived/keepalived.conf", "/etc/keepalived/more/a.conf", "/etc/keepalived/b.conf"} {
		if got := managedPath(c, i); got != want {
			t.Errorf("%s is %s, wanted %s", c.Files[i].Name, got, want)
		}
	}
}

// TestManagedTable: with a quorum that all weights together do not reach, the
// real keepalived calls the sorry server at once.
func TestManagedTable(t *testing.T) {
	at := func(s string, weight int) config.Server {
		return config.Server{Destination: ipvs.Destination{Addr: netip.MustParseAddrPort(s), Forward: ipvs.NAT, Weight: weight}}
	}
	sorry := at("10.0.0.9:80", 1)
	s := config.Service{
		Service: ipvs.Service{Protocol: ipvs.TCP, Addr: netip.MustParseAddrPort("10.0.0.100:80"), Scheduler: "rr"},
		Servers: []config.Server{at("10.0.0.2:80", 1), at("10.0.0.3:80", 2)}, Sorry: &sorry,
	}
	for quorum, want := range map[int]string{
		1: "-a -t 10.0.0.100:80 -r 10.0.0.2:80 -m -w 1\n-a -t 10.0.0.100:80 -r 10.0.0.3:80 -m -w 2\n",
		3: "-a -t 10.0.0.100:80 -r 10.0.0.2:80 -m -w 1\n-a -t 10.0.0.100:80 -r 10.0.0.3:80 -m -w 2\n",
		4: "-a -t 10.0.0.100:80 -r 10.0.0.9:80 -m -w 1\n",
	} {
		s.Quorum = quorum
		c := &config.Config{Services: []config.Service{s}}
		if got := ipvs.FormatCommands(managedTable(c)); got != "-A -t 10.0.0.100:80 -s rr\n"+want {
			t.Errorf("quorum %d:\n%s", quorum, got)
		}
	}
}
