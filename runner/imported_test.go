package runner_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/importer"
	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
)

// readRules reads rules as an operator's file has them.
func readRules(t *testing.T, text string) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rules")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := importer.Read(path, importer.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// drafted is the lab for rules.
func drafted(t *testing.T, c *config.Config, name string) *importer.Lab {
	t.Helper()
	l, err := importer.Draft(c, importer.DraftOptions{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// everyScheduler are rules with each scheduler that the guest's kernel has, by each
// method, with and without persistence.
func everyScheduler() string {
	var b strings.Builder
	port := 8000
	for _, scheduler := range []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"} {
		for _, method := range []struct{ option, vip, server string }{
			{"-g", "10.0.0.100", "10.0.0.1%d"}, {"-i", "10.0.0.101", "10.0.0.1%d"}, {"-m", "198.51.100.1", "192.168.7.1%d"},
		} {
			for _, persistent := range []string{"", " -p 300"} {
				port++
				service := fmt.Sprintf("-t %s:%d", method.vip, port)
				fmt.Fprintf(&b, "-A %s -s %s%s\n", service, scheduler, persistent)
				for i, weight := range []int{3, 2, 1} {
					fmt.Fprintf(&b, "-a %s -r "+method.server+":%d %s -w %d\n", service, i+1, port, method.option, weight)
				}
			}
		}
	}
	return b.String()
}

// everyProtocol are rules with UDP by each scheduler, UDP packet by packet, SCTP,
// IPv6 by each method, a firewall mark, and all ports of an address.
func everyProtocol() string {
	var b strings.Builder
	add := func(service, options, server, method string, weights ...int) {
		fmt.Fprintf(&b, "-A %s %s\n", service, options)
		for i, weight := range weights {
			fmt.Fprintf(&b, "-a %s -r "+server+" %s -w %d\n", service, i+1, method, weight)
		}
	}
	for i, scheduler := range []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"} {
		port := 7000 + i
		add(fmt.Sprintf("-u 10.0.0.100:%d", port), "-s "+scheduler, "10.0.0.1%d"+fmt.Sprintf(":%d", port), "-g", 3, 2, 1)
		add(fmt.Sprintf("-u 10.0.0.101:%d", port), "-s "+scheduler+" -o", "10.0.0.1%d"+fmt.Sprintf(":%d", port), "-i", 3, 2, 1)
	}
	for i, scheduler := range []string{"rr", "wlc", "sed", "nq", "sh"} {
		port := 6000 + i
		add(fmt.Sprintf("--sctp-service 10.0.0.102:%d", port), "-s "+scheduler, "10.0.0.1%d"+fmt.Sprintf(":%d", port), "-g", 2, 1)
	}
	add("-t [2001:db8::100]:80", "-s wrr", "[2001:db8::1%d]:80", "-g", 3, 1)
	add("-t [2001:db8::101]:80", "-s rr -p 300 -M 64", "[2001:db8::1%d]:80", "-i", 1, 1)
	add("-t [2001:db8:2::1]:80", "-s lc -p 300", "[2001:db8:1::1%d]:8080", "-m", 3, 1)
	add("-f 7", "-s wrr", "10.0.0.1%d:0", "-g", 2, 1)
	add("-t 10.0.0.104:0", "-s rr -p 300 -M 255.255.255.0", "10.0.0.1%d:0", "-g", 2, 1)
	add("-t 10.0.0.105:80", "-s wrr", "10.0.0.1%d:80", "-g", 107, 64, 50)
	add("-t 10.0.0.105:81", "-s wlc -b flag-1", "10.0.0.1%d:81", "-g", 107, 64, 50)
	add("-t 10.0.0.105:82", "-s nq", "10.0.0.1%d:82", "-g", 107, 64, 50)
	add("-t 10.0.0.105:83", "-s mh -b mh-port", "10.0.0.1%d:83", "-g", 2, 1)
	add("-t 10.0.0.105:84", "-s sh -b sh-fallback", "10.0.0.1%d:84", "-g", 2, 0, 1)
	add("-t 10.0.0.105:85", "-s sh", "10.0.0.1%d:85", "-g", 2, 0, 1)
	add("-t 10.0.0.105:86", "-s rr", "10.0.0.1%d:86", "-g", 0, 0)
	add("-t 10.0.0.105:87", "-s rr", "", "")
	// Methods that differ within a service, thresholds, servers on one machine.
	b.WriteString("-A -t 10.0.0.106:80 -s wlc\n-a -t 10.0.0.106:80 -r 10.0.0.11 -g -w 2\n-a -t 10.0.0.106:80 -r 10.0.0.12 -i -w 1\n")
	b.WriteString("-A -t 10.0.0.106:81 -s rr\n-a -t 10.0.0.106:81 -r 10.0.0.11 -g -x 3\n-a -t 10.0.0.106:81 -r 10.0.0.12 -g -x 3 -y 1\n")
	b.WriteString("-A -t 198.51.100.1:80 -s wrr\n-a -t 198.51.100.1:80 -r 192.168.7.11:8080 -m -w 2\n-a -t 198.51.100.1:80 -r 192.168.7.11:8081 -m -w 1\n-a -t 198.51.100.1:80 -r 192.168.7.12:8080 -m -w 1\n")
	return b.String()
}

// TestImportedSchedulers runs what is drafted for every scheduler by every method,
// and for the rest of what rules can say: a kernel that does right passes.
func TestImportedSchedulers(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a guest")
	}
	var files []wire.File
	for name, rules := range map[string]string{"schedulers": everyScheduler(), "protocols": everyProtocol()} {
		l := drafted(t, readRules(t, rules), name)
		files = append(files, wire.File{Path: name + ".yaml", Name: name, Data: l.Text})
	}
	for name, r := range runImported(t, guestBackend(t), files) {
		if r.verdict != wire.Pass {
			t.Errorf("%s: %s: %s", name, r.verdict, r.why)
		}
	}
}

// runImported runs labs in one guest.
func runImported(t *testing.T, b runner.Backend, files []wire.File) map[string]*ran {
	t.Helper()
	var mu sync.Mutex
	got := make(map[string]*ran)
	for _, f := range files {
		got[f.Name] = &ran{}
	}
	_, err := runner.Run(t.Context(), runner.Options{Files: files, Backends: []runner.Backend{b}, Parallel: 9}, func(e wire.Event) {
		mu.Lock()
		defer mu.Unlock()
		switch r := got[e.Lab]; {
		case r == nil:
		case e.Kind == wire.StepFinished && e.Verdict != wire.Pass:
			_, why := missed(e)
			r.why += why
			r.steps = append(r.steps, e.Step)
		case e.Kind == wire.LabFinished:
			r.verdict = e.Verdict
			r.why += e.Message
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// ran is what a lab came to, with the steps that did not pass.
type ran struct {
	verdict wire.Verdict
	why     string
	steps   []*wire.Step
}

// importedRules are those that are changed, one thing at a time.
const importedRules = `-A -t 10.0.0.100:80 -s wrr
-a -t 10.0.0.100:80 -r 10.0.0.11:80 -g -w 2
-a -t 10.0.0.100:80 -r 10.0.0.12:80 -g -w 1
-A -t 10.0.0.101:80 -s rr -p 300
-a -t 10.0.0.101:80 -r 10.0.0.11:80 -i -w 1
-a -t 10.0.0.101:80 -r 10.0.0.12:80 -i -w 1
-A -t 198.51.100.1:80 -s wlc
-a -t 198.51.100.1:80 -r 192.168.7.11:8080 -m -w 3
-a -t 198.51.100.1:80 -r 192.168.7.12:8080 -m -w 1
-A -u 10.0.0.103:7000 -s sed
-a -u 10.0.0.103:7000 -r 10.0.0.11:7000 -g -w 2
-a -u 10.0.0.103:7000 -r 10.0.0.12:7000 -g -w 1 -x 1000
-A -t 10.0.0.104:80 -s rr
-a -t 10.0.0.104:80 -r 10.0.0.11:80 -g -w 1
-a -t 10.0.0.104:80 -r 10.0.0.12:80 -g -w 1
`

// TestImportedChanges gives the director of a drafted lab rules that differ in one
// thing. The assertions that are about it fail, and no others of the lab; each
// names the line of the rules that it came from.
func TestImportedChanges(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a guest")
	}
	old := readRules(t, importedRules)
	l := drafted(t, old, "old")
	changes := []struct {
		name, from, to string
		// want are the assertions that fail, with the lines of the rules.
		want string
	}{
		{"nothing", "", "", ""},
		{"a weight of wrr", "12:80 -g -w 1\n-A -t 10.0.0.101", "12:80 -g -w 2\n-A -t 10.0.0.101", "answers:1 table:3"},
		{"a weight of wlc", "-m -w 3", "-m -w 2", "answers:7 table:8"},
		{"a weight that rr does not look at", "11:80 -i -w 1", "11:80 -i -w 5", "table:5"},
		{"weight 0", "12:80 -i -w 1", "12:80 -i -w 0", "answers:4 table:6"},
		{"a method", "-r 10.0.0.11:80 -g -w 2", "-r 10.0.0.11:80 -i -w 2", "path:2 table:2"},
		{"a scheduler that shows", "-s wrr", "-s rr", "answers:1 table:1"},
		{"a scheduler that does not", "-t 10.0.0.104:80 -s rr", "-t 10.0.0.104:80 -s wrr", "table:13"},
		{"no persistence", " -p 300", "", "sticky:4 table:4"},
		{"another persistence", " -p 300", " -p 301", "table:4"},
		{"a server less", "-a -t 10.0.0.104:80 -r 10.0.0.12:80 -g -w 1\n", "", "rotation:13 table:15"},
		{"a server more", "-a -t 10.0.0.100:80 -r 10.0.0.12:80 -g -w 1\n", "-a -t 10.0.0.100:80 -r 10.0.0.12:80 -g -w 1\n-a -t 10.0.0.100:80 -r 10.0.0.13:80 -g -w 0\n", "table:1"},
		{"a server's address", "-t 10.0.0.104:80 -r 10.0.0.12:80", "-t 10.0.0.104:80 -r 10.0.0.13:80", "result:13 rotation:13 path:14 table:15"},
		{"a server's port", "192.168.7.12:8080", "192.168.7.12:8081", "result:7 answers:7 table:9"},
		{"a virtual IP", "10.0.0.104", "10.0.0.114", "result:13 rotation:13 path:14 table:13"},
		{"a threshold", " -x 1000", "", "table:12"},
		{"one-packet scheduling", "-s sed", "-s sed -o", "table:10"},
	}
	var files []wire.File
	for i, c := range changes {
		text := strings.ReplaceAll(importedRules, c.from, c.to)
		if c.from == "" {
			text = importedRules
		} else if text == importedRules {
			t.Fatalf("%s: %q is not in the rules", c.name, c.from)
		}
		name := fmt.Sprintf("m%d", i)
		files = append(files, wire.File{Path: name + ".yaml", Name: name, Data: l.Text, Set: tableOf(t, l, readRules(t, text))})
	}
	fails := func(r *ran) string {
		var list []string
		for _, s := range r.steps {
			for _, x := range s.Results {
				if x.Verdict == wire.Fail {
					list = append(list, fmt.Sprintf("%s:%d", x.Check, l.Origins[x.Pos.Line].Line))
				}
			}
		}
		return strings.Join(list, " ")
	}
	b := guestBackend(t)
	got := runImported(t, b, files)
	var late []wire.File
	for i, f := range files {
		if fails(got[f.Name]) != changes[i].want {
			t.Logf("to be tried again: %s: %s at %q: %s", changes[i].name, got[f.Name].verdict, fails(got[f.Name]), got[f.Name].why)
			late = append(late, f)
		}
	}
	if len(late) == 0 {
		return
	}
	again := runImported(t, b, late)
	for i, f := range files {
		if r := again[f.Name]; r != nil && fails(r) != changes[i].want {
			t.Errorf("%s: %s at %q, want %q: %s", changes[i].name, r.verdict, fails(r), changes[i].want, r.why)
		}
	}
}

// tableOf are the assignments by which a drafted lab's director has another table,
// while all else stays as it is.
func tableOf(t *testing.T, l *importer.Lab, now *config.Config) []string {
	t.Helper()
	list, err := scenarios.Load("old.yaml", "old", l.Text)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(ipvs.FormatCommands(now.Table()))
	if err != nil {
		t.Fatal(err)
	}
	set := []string{"nodes.director.rules=" + string(text)}
	for _, name := range list[0].VirtualServices.Names() {
		set = append(set, "virtual_services."+name+".managed_by="+scenarios.ManagedByRules)
	}
	return slices.Clip(set)
}
