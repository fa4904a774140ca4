package scenarios_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/syntax"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
)

var legacy = topology.Dialect{Arptables: "arptables-legacy"}

func load(t testing.TB, text string) *scenarios.Plan {
	t.Helper()
	found, err := scenarios.Load("lab.yaml", "lab", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p, err := found[0].Plan()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// programs are all that a script calls, its own functions among them.
func programs(t testing.TB, text string) []string {
	t.Helper()
	f, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(text), "lab.sh")
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	var list []string
	syntax.Walk(f, func(n syntax.Node) bool {
		if c, ok := n.(*syntax.CallExpr); ok && len(c.Args) > 0 {
			if w := c.Args[0].Lit(); !slices.Contains(list, w) {
				list = append(list, w)
			}
		}
		return true
	})
	slices.Sort(list)
	return list
}

func TestScriptOfShippedLabs(t *testing.T) {
	for _, f := range labs.All() {
		found, err := scenarios.Load(f.Path, f.Name, f.Data)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		for _, l := range found {
			p, err := l.Plan()
			if err != nil {
				t.Fatal(err)
			}
			text := p.Script(legacy)
			programs(t, text)
			if again := p.Script(legacy); again != text {
				t.Errorf("%s: two scripts of one plan differ", l.Name)
			}
			for _, o := range p.Setup {
				for _, line := range o.Shell(legacy) {
					// Sysctls are put together.
					if !strings.Contains(line, " sysctl -qw ") && !strings.Contains(text, "  "+line+"\n") {
						t.Errorf("%s: the script lacks %s", l.Name, line)
					}
				}
			}
			for _, s := range []string{l.Title, "step_1() {", "  # Expected:", "for ns in $namespaces"} {
				if !strings.Contains(strings.ReplaceAll(text, "\n# ", " "), s) {
					t.Errorf("%s: the script lacks %q", l.Name, s)
				}
			}
		}
	}
}

const hostile = `
title: "quiet\ntouch /tmp/title; $(touch x) ` + "`touch y`" + ` \u001b[31m \u202e"
about: "one\rtwo\ntouch /tmp/about"
networks: {lan: 10.0.0.0/24}
sysctls: {"net.ipv4.tcp_rmem": "1; touch z $(touch x) 'q' ` + "`touch y`" + `"}
nodes:
  a: {links: {eth0: lan 10.0.0.1/24}, serve: [http]}
  b: {links: {eth0: lan 10.0.0.2/24}, sysctls: {net.ipv4.ip_default_ttl: 64}}
steps:
- name: "first\ntouch /tmp/step"
  do:
  - run: {node: a, command: "echo 'it''s'\necho two \u0007"}
  - write: {node: a, file: "/../../etc/it's $(touch f)", content: "a\n$(touch g)\n"}
  - request: {from: b, to: a, path: "/x?a=1&b=2", count: 2}
  - change: {sysctls: {"net.ipv4.tcp_rmem": "2\"; touch i"}}
  - ping: {from: b, to: a}
  expect:
  - body: "\ntouch k"
  - result: ok
`

// Whatever a lab file says stays in its word or its comment.
func TestScriptHoldsNoOtherCommands(t *testing.T) {
	text := load(t, hostile).Script(legacy)
	// As of a lab that says the same without malice.
	tame := load(t, strings.NewReplacer("touch", "nothing", "$(", "", "`", "", "\\u001b", "", "\\u0007", "", "\\u202e", "").Replace(hostile)).Script(legacy)
	want := programs(t, tame)
	got := programs(t, text)
	got = slices.DeleteFunc(got, func(w string) bool { return w == "printf" })
	want = slices.DeleteFunc(want, func(w string) bool { return w == "printf" })
	if !slices.Equal(got, want) {
		t.Errorf("the script calls %q, the tame one %q", got, want)
	}
	if strings.ContainsAny(text, "\x1b\x07\r\u202e") {
		t.Error("the script has characters that a terminal obeys")
	}
	if !strings.Contains(text, `"$state"/files/a/etc/'it'\''s $(touch f)'`) {
		t.Errorf("the file of a node is not below the state folder:\n%s", text)
	}
}

// A script for a machine without a tool, or by a user who is not root, says so
// and makes nothing.
func TestScriptChecksFirst(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lab.sh")
	lab := labs.All()
	found, err := scenarios.Load(lab[0].Path, lab[0].Name, lab[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	p, err := found[0].Plan()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(p.Script(legacy)), 0o600); err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	id, err := exec.LookPath("id")
	if err != nil {
		t.Skip("no id")
	}
	if err := os.Symlink(id, filepath.Join(bin, "id")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		want   string
		status int
	}{
		{[]string{"up"}, " is missing: apt install iproute2", 1},
		{[]string{"dance"}, "usage: ", 2},
		{[]string{"step", "1"}, "the lab is not up", 1},
		{[]string{"down"}, "is not up", 0},
	} {
		if c.status != 2 && os.Getuid() != 0 && c.args[0] != "step" {
			c.want, c.status = "only root can", 1
		}
		cmd := exec.Command("/bin/sh", append([]string{file}, c.args...)...)
		cmd.Env = []string{"PATH=" + bin}
		out, _ := cmd.CombinedOutput()
		if !strings.Contains(string(out), c.want) || cmd.ProcessState.ExitCode() != c.status {
			t.Errorf("sh lab.sh %v: exit status %d and %q; wanted %d and %q", c.args, cmd.ProcessState.ExitCode(), out, c.status, c.want)
		}
	}
}
