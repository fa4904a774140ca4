package importer

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// drafted is the lab of a configuration in testdata, which must load.
func drafted(t *testing.T, file string, o DraftOptions) (*Lab, *scenarios.Lab) {
	t.Helper()
	c, err := Read(file, ReadOptions{ID: "lvs1"})
	if err != nil {
		t.Fatal(err)
	}
	return loaded(t, c, o)
}

func loaded(t *testing.T, c *config.Config, o DraftOptions) (*Lab, *scenarios.Lab) {
	t.Helper()
	lab, err := Draft(c, o)
	if err != nil {
		t.Fatal(err)
	}
	labs, err := scenarios.Load(lab.Name+".yaml", lab.Name, lab.Text)
	if err != nil {
		t.Fatalf("the lab of %s does not load:\n%v\n%s", lab.Name, err, lab.Text)
	}
	if len(labs[0].Findings) > 0 {
		t.Errorf("%s: %v", lab.Name, labs[0].Findings)
	}
	return lab, labs[0]
}

// The labs of the configurations in testdata, written out.
func TestDrafts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.[cr]*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no configurations: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			got, lab := drafted(t, file, DraftOptions{})
			if _, err := lab.Plan(); err != nil {
				t.Error(err)
			}
			golden := strings.TrimSuffix(file, filepath.Ext(file)) + ".yaml"
			if os.Getenv("LVSLAB_UPDATE") != "" {
				if err := os.WriteFile(golden, got.Text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || string(want) != string(got.Text) {
				t.Errorf("the lab of %s is not %s (%v); LVSLAB_UPDATE=1 writes it anew:\n%s", file, golden, err, got.Text)
			}
			checkOrigins(t, file, got)
		})
	}
}

// checkOrigins looks whether every line of a configuration that names a service
// or a real server is one that the lab says it came from.
func checkOrigins(t *testing.T, file string, lab *Lab) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[int]bool)
	for line, pos := range lab.Origins {
		if pos.File != file || pos.Line > strings.Count(string(data), "\n") {
			t.Errorf("line %d is said to come from %s", line, pos)
		}
		named[pos.Line] = true
	}
	for i, line := range strings.Split(string(data), "\n") {
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if slices.Contains([]string{"-A", "-a", "virtual_server", "real_server"}, word) && !named[i+1] {
			t.Errorf("%s:%d: nothing in the lab came from %q", file, i+1, line)
		}
	}
}

// What a configuration does not say is told, a network at a time.
func TestDraftNotes(t *testing.T) {
	lab, _ := drafted(t, "testdata/nat.rules", DraftOptions{})
	want := []string{
		"testdata/nat.rules:1: assumed: network outside is 203.0.113.0/24, from the virtual IPs (203.0.113.10), since the file gives no prefix length",
		"testdata/nat.rules:2:1: assumed: network inside is 10.0.0.0/24, from the real servers' addresses (10.0.0.2 and 1 more), since the file gives no prefix length",
	}
	var got []string
	for _, n := range lab.Notes {
		got = append(got, n.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwanted\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	prefixes := []netip.Prefix{netip.MustParsePrefix("203.0.112.0/22"), netip.MustParsePrefix("10.0.0.0/16")}
	lab, file := drafted(t, "testdata/nat.rules", DraftOptions{Networks: prefixes, Name: "shop"})
	if len(lab.Notes) > 0 || lab.Name != "shop" {
		t.Errorf("with all networks given, %s has the notes %v", lab.Name, lab.Notes)
	}
	for i, w := range file.Networks {
		if w.Value.Prefixes[0] != prefixes[i] {
			t.Errorf("network %s is %s, wanted %s", w.Name, w.Value, prefixes[i])
		}
	}
}

// configOf makes a configuration of ipvsadm rules.
func configOf(t *testing.T, rules string) *config.Config {
	t.Helper()
	table, err := ipvs.ParseRules("f.rules", rules)
	if err != nil {
		t.Fatal(err)
	}
	c := &config.Config{Kind: config.IPVSAdm, Files: []config.File{{Name: "f.rules", Data: []byte(rules)}}}
	line := 0
	for _, e := range table {
		line++
		v := config.Service{Service: e.Service, Pos: source.Pos{File: "f.rules", Line: line}}
		for _, d := range e.Destinations {
			line++
			v.Servers = append(v.Servers, config.Server{Destination: d, Pos: source.Pos{File: "f.rules", Line: line}})
		}
		c.Services = append(c.Services, v)
	}
	return c
}

// A configuration that no lab can be says so, with the place.
func TestDraftErrors(t *testing.T) {
	for _, c := range []struct{ rules, want string }{
		{"", "f.rules:1: no virtual service is in it, so that there is nothing to try"},
		{
			"-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 127.0.0.1:80 -m\n",
			"f.rules:2: real server 127.0.0.1 of tcp 10.0.0.1:80 is the director itself (a loopback address): it would answer its own clients, " +
				"which no other machine can do for it; give it an address of its own to try it",
		},
		{
			"-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.0.1:8080 -m\n",
			"f.rules:2: real server 10.0.0.1 of tcp 10.0.0.1:80 is the director itself (the virtual IP of tcp 10.0.0.1:80 at f.rules:1): it would answer its own clients, " +
				"which no other machine can do for it; give it an address of its own to try it",
		},
	} {
		if _, err := Draft(configOf(t, c.rules), DraftOptions{}); err == nil || err.Error() != c.want {
			t.Errorf("%q\ngot    %v\nwanted %s", c.rules, err, c.want)
		}
	}
	twice := configOf(t, "-A -t 10.0.0.1:80 -s rr\n")
	twice.Services = append(twice.Services, twice.Services[0])
	if _, err := Draft(twice, DraftOptions{}); err == nil || err.Error() != "f.rules:1: virtual service tcp 10.0.0.1:80 is here a second time; the first is at f.rules:1" {
		t.Errorf("a service twice: %v", err)
	}
	small := DraftOptions{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/30")}}
	if _, err := Draft(configOf(t, "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g\n"), small); err == nil ||
		err.Error() != "network 10.0.0.0/30: wanted a prefix of at most 29 bits without host bits, such as 10.0.0.0/24" {
		t.Errorf("a small network: %v", err)
	}
	if _, err := Draft(configOf(t, "-A -t 10.0.0.1:80 -s rr\n"), DraftOptions{ManagedBy: "nobody"}); err == nil || !strings.HasPrefix(err.Error(), `unknown manager "nobody"`) {
		t.Errorf("an unknown manager: %v", err)
	}
}

// A sorry server on the director itself is left out, and that is told.
func TestLocalSorryServer(t *testing.T) {
	c := configOf(t, "-A -t 10.0.0.100:80 -s rr\n-a -t 10.0.0.100:80 -r 10.0.0.2:80 -m\n")
	c.Services[0].Sorry = &config.Server{
		Destination: ipvs.Destination{Addr: netip.MustParseAddrPort("127.0.0.1:80"), Forward: ipvs.NAT, Weight: 1}, Pos: source.Pos{File: "f.rules", Line: 9},
	}
	lab, _ := loaded(t, c, DraftOptions{})
	want := "f.rules:9: ignored: sorry server 127.0.0.1:80 of tcp 10.0.0.100:80 is the director itself (a loopback address); " +
		"the lab leaves it out, since the director's own servers are no part of a lab"
	if got := lab.Notes[len(lab.Notes)-1].String(); got != want {
		t.Errorf("got    %s\nwanted %s", got, want)
	}
}

// manyServices is a configuration with many services, each with real servers of
// its own, by all methods.
func manyServices(services, servers int) string {
	var b strings.Builder
	for i := range services {
		vip := fmt.Sprintf("203.0.%d.%d:80", i/250, i%250+1)
		fmt.Fprintf(&b, "-A -t %s -s wrr\n", vip)
		for k := range servers {
			n := i*servers + k
			fmt.Fprintf(&b, "-a -t %s -r 10.%d.%d.%d:80 %s -w 1\n", vip, 20+10*(i%3), n/250, n%250+1, []string{"-g", "-m", "-i"}[i%3])
		}
	}
	return b.String()
}

// Thousands of real servers share nodes, and those of one service are apart.
func TestManyServers(t *testing.T) {
	c := configOf(t, manyServices(300, 10))
	_, lab := loaded(t, c, DraftOptions{})
	if n := len(lab.Nodes); n > 200 {
		t.Errorf("%d nodes", n)
	}
	w, err := survey(c, DraftOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range w.services {
		if !p.apart {
			t.Errorf("real servers of %s share nodes", p.name)
		}
	}
	c = configOf(t, manyServices(1, 100))
	loaded(t, c, DraftOptions{})
	if w, err = survey(c, DraftOptions{}); err != nil || w.services[0].apart {
		t.Errorf("a hundred real servers of one service are apart: %v", err)
	}
}

// FuzzDraft: whatever rules ipvsadm takes, the lab of them loads, or the error
// says why there can be none.
func FuzzDraft(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.rules")
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && len(data) < 4096 {
			f.Add(string(data))
		}
	}
	f.Fuzz(func(t *testing.T, rules string) {
		if len(rules) > 4096 {
			t.Skip()
		}
		table, err := ipvs.ParseRules("f.rules", rules)
		if err != nil || len(table) == 0 {
			t.Skip()
		}
		c := configOf(t, rules)
		lab, err := Draft(c, DraftOptions{})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f.rules:") {
				t.Errorf("an error without a place: %v", err)
			}
			return
		}
		if _, err := scenarios.Load("f.yaml", "f", lab.Text); err != nil {
			t.Errorf("%v\n%s", err, lab.Text)
		}
	})
}

// With the real keepalived the director has its files, and the lab loads.
func TestDraftManaged(t *testing.T) {
	lab, file := drafted(t, "testdata/eight.conf", DraftOptions{ManagedBy: "keepalived"})
	director, _ := file.Nodes.Get("director")
	data, err := os.ReadFile("testdata/eight.conf")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := director.Files.Get(scenarios.KeepalivedConf); got != string(data) {
		t.Errorf("the director's keepalived.conf is\n%s", got)
	}
	for _, v := range file.VirtualServices {
		if v.Value.ManagedBy != scenarios.ManagedByKeepalived {
			t.Errorf("%s is managed by %q", v.Name, v.Value.ManagedBy)
		}
	}
	checkOrigins(t, "testdata/eight.conf", lab)
}

func BenchmarkDraft(b *testing.B) {
	table, err := ipvs.ParseRules("f.rules", manyServices(1000, 10))
	if err != nil {
		b.Fatal(err)
	}
	c := &config.Config{Kind: config.IPVSAdm}
	for _, e := range table {
		v := config.Service{Service: e.Service}
		for _, d := range e.Destinations {
			v.Servers = append(v.Servers, config.Server{Destination: d})
		}
		c.Services = append(c.Services, v)
	}
	for b.Loop() {
		if _, err := Draft(c, DraftOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
