package importer

import (
	"strings"
	"testing"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// readText reads rules from standard input.
func readString(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := Read(Stdin, ReadOptions{Stdin: strings.NewReader(text)})
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return c
}

func TestRules(t *testing.T) {
	c := readString(t, `# of the director
ipvsadm -A -t 198.51.100.10:http -s wrr -p 300
-a -t 198.51.100.10:http -r 10.0.0.2:http -m -w 3
-a -t 198.51.100.10:http -r 10.0.0.3:8080 -m -x 100 -y 50
-A -f 7 -6 -s sh
`)
	if c.Kind != config.IPVSAdm || len(c.Services) != 2 || len(c.Notes) != 1 || len(c.Files) != 1 || c.Files[0].Name != "stdin" {
		t.Fatalf("%+v", c)
	}
	table, err := ipvs.ParseRules("f", string(c.Files[0].Data))
	if err != nil || !c.Table().Equal(table) {
		t.Errorf("the table is not that of the rules: %v, %v", err, c.Table().Diff(table))
	}
	at := func(line, col int) source.Pos { return source.Pos{File: "stdin", Line: line, Col: col} }
	web, other := c.Services[0], c.Services[1]
	for what, pair := range map[string][2]source.Pos{
		"service":     {web.Pos, at(2, 9)},
		"scheduler":   {web.Place("scheduler"), at(2, 37)},
		"persistence": {web.Place("persistence"), at(2, 44)},
		"server":      {web.Servers[1].Pos, at(4, 1)},
		"weight":      {web.Servers[0].Place("weight"), at(3, 49)},
		"default":     {web.Servers[1].Place("weight"), at(4, 1)},
		"forwarding":  {web.Servers[1].Place("forwarding"), at(4, 43)},
		"thresholds":  {web.Servers[1].Place("thresholds"), at(4, 49)},
		"mark":        {other.Pos, at(5, 1)},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is at %v, wanted %v", what, pair[0], pair[1])
		}
	}
	if web.Parent != 1 || other.Parent != 2 || web.Quorum != 0 {
		t.Errorf("parents %d and %d, quorum %d", web.Parent, other.Parent, web.Quorum)
	}
}

func TestRulesNotes(t *testing.T) {
	for text, want := range map[string][]string{
		"-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.0.0.2:80\n": nil,
		"--set 900 120 300\n-A -t 10.0.0.1:80\n-Z\n-a -t 10.0.0.1:80 -r 10.0.0.2\n": {
			`stdin:1:1: ignored: "--set 900 120 300" sets the timeouts of all connections, and is no part of a table`,
			`stdin:3:1: ignored: "-Z" sets counters to zero, and is no part of a table`,
		},
		"-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.0.0.2:8080\n-a -t 10.0.0.1:80 -r 10.0.0.3:8080 -m\n-a -t 10.0.0.1:80 -r 10.0.0.4:81 -i\n": {
			"stdin:2:1: warning: port 8080 of real server 10.0.0.2 counts for nothing: direct routing leaves the port of a packet as it is, so it gets port 80, the service's",
			"stdin:4:1: warning: port 81 of real server 10.0.0.4 counts for nothing: tunnelling leaves the port of a packet as it is, so it gets port 80, the service's",
		},
		"-A -f 1\n-a -f 1 -r 10.0.0.2:8080\n": nil, // the kernel keeps it
		"-A -t 10.0.0.1:80\n": {
			"stdin:1:1: warning: tcp 10.0.0.1:80 has no real server: whoever connects is refused",
		},
		"-A -t 10.0.0.1:80\n-A -t 10.0.0.9:80\n-a -t 10.0.0.9:80 -r 10.0.0.9 -m\n-a -t 10.0.0.1:80 -r 10.0.0.9\n-a -t 10.0.0.1:80 -r 127.0.0.1\n": {
			"stdin:3:1: warning: real server 10.0.0.9:80 has the virtual address itself: the director would be its own real server",
			"stdin:4:1: warning: real server 10.0.0.9:80 is the director itself, which has that address by stdin:2",
			"stdin:5:1: warning: real server 127.0.0.1:80 is the director itself",
		},
		// Cut off behind "10.0.0.2", of "10.0.0.2:0 -m -w 10".
		"-A -f 1\n-a -f 1 -r 10.0.0.2": {
			"stdin:2: warning: the last line does not end in a newline, as what ipvsadm saves does; has the file been cut off?",
		},
		"# a\n-A -f 1\r\n-a -f 1 -r 10.0.0.2\r\n": {
			"stdin:2: warning: lines end in carriage return and newline (CRLF); ipvsadm takes them, other tools may not",
		},
	} {
		var got []string
		for _, n := range readString(t, text).Notes {
			got = append(got, n.String())
		}
		if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
			t.Errorf("%q:\n%s\nwanted\n%s", text, a, b)
		}
	}
}

func TestRulesOfNoUse(t *testing.T) {
	for text, want := range map[string]string{
		"-A -f 1\n-C\n": "stdin: has no virtual service left; wanted a rule that adds one (-A -t ADDRESS:PORT)",
	} {
		if _, err := Read(Stdin, ReadOptions{Stdin: strings.NewReader(text)}); err == nil || err.Error() != want {
			t.Errorf("%v, wanted %s", err, want)
		}
	}
}

// FuzzRules: whatever a file holds, each complaint and each part has its place,
// and the table is the one that ipvs.ParseRules reads.
func FuzzRules(f *testing.F) {
	f.Add([]byte("-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g -w 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Read(Stdin, ReadOptions{As: config.IPVSAdm, Stdin: strings.NewReader(string(data))})
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "stdin:") {
					t.Errorf("a complaint without its place: %q", line)
				}
			}
			return
		}
		lines := 1 + strings.Count(string(data), "\n")
		placed := func(p source.Pos) {
			if p.File != "stdin" || p.Line < 1 || p.Line > lines {
				t.Errorf("a place that is not in the file: %v", p)
			}
		}
		for _, s := range c.Services {
			placed(s.Pos)
			placed(s.Place("scheduler"))
			for _, d := range s.Servers {
				placed(d.Pos)
				placed(d.Place("weight"))
			}
		}
		for _, n := range c.Notes {
			placed(n.Pos)
		}
		if table, err := ipvs.ParseRules("f", string(data)); err == nil && !c.Table().Equal(table) {
			t.Errorf("not the table of ParseRules: %q", c.Table().Diff(table))
		}
		if err := c.Table().Validate(); err != nil {
			t.Errorf("a table that no kernel takes: %v", err)
		}
	})
}
