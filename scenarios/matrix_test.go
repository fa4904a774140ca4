package scenarios_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/scenarios"
)

// table is a lab with a matrix, with more lines put behind it.
func table(matrix string) string {
	return "matrix:\n  " + strings.ReplaceAll(strings.TrimSpace(matrix), "\n", "\n  ") + "\n" + good
}

func loadAll(t testing.TB, text string) []*scenarios.Lab {
	t.Helper()
	labs, err := scenarios.Load("f.yaml", "chapter/f", []byte(text))
	if err != nil {
		t.Fatalf("%v\nof\n%s", err, text)
	}
	return labs
}

func names(labs []*scenarios.Lab) string {
	var words []string
	for _, l := range labs {
		words = append(words, strings.TrimPrefix(l.Name, "chapter/f"))
	}
	return strings.Join(words, " ")
}

func TestMatrix(t *testing.T) {
	labs := loadAll(t, strings.NewReplacer("    scheduler: rr\n", "    scheduler: ${scheduler}\n", "title: A lab", "title: By ${scheduler}").
		Replace(table(`
scheduler: [rr, wrr]
suppression: {sysctl: {}, none: {virtual_services: {web: {arp_suppression: none}}}, Odd one: }
count: {few: {steps: [{name: few, do: [{request: {to: web, count: 2}}]}]}, many: {nodes: {web3: {links: {eth0: lan 10.0.0.4/24}, serve: [http]}}}}
exclude: [{scheduler: wrr, suppression: [none, Odd one]}, {count: many, suppression: sysctl, scheduler: rr}]
`)))
	const want = "/rr-sysctl-few /rr-none-few /rr-none-many /rr-odd-one-few /rr-odd-one-many /wrr-sysctl-few /wrr-sysctl-many"
	if got := names(labs); got != want {
		t.Errorf("labs\n%s\nwant\n%s", got, want)
	}
	for _, l := range labs {
		m := l.Matrix
		if m == nil || m.Of != "chapter/f" || m.Title != "By ${scheduler}" || l.Name != m.Of+"/"+m.Name {
			t.Errorf("%s: %+v", l.Name, m)
			continue
		}
		v, _ := l.VirtualServices.Get("web")
		if v.Scheduler != m.Values[0].Value || l.Title != "By "+v.Scheduler {
			t.Errorf("%s: scheduler %s, title %s", l.Name, v.Scheduler, l.Title)
		}
		wantStep, wantNodes := "one", 5
		if m.Values[2].Value == "few" {
			wantStep, wantNodes = "few", 4
		}
		if l.Steps[0].Name != wantStep || len(l.Nodes) != wantNodes {
			t.Errorf("%s: step %s, %d nodes", l.Name, l.Steps[0].Name, len(l.Nodes))
		}
	}
	if diff := cmp.Diff([]scenarios.AxisValue{{"scheduler", "rr"}, {"suppression", "Odd one"}, {"count", "few"}}, labs[3].Matrix.Values); diff != "" {
		t.Error(diff)
	}
}

// TestMatrixOrder shows that two runs give the same labs in the same order.
func TestMatrixOrder(t *testing.T) {
	text := strings.Replace(table("scheduler: [rr, wrr, lc]\nweight: {one: {}, two: {virtual_services: {web: {real_servers: [web1]}}}}"), "scheduler: rr", "scheduler: ${scheduler}", 1)
	first := names(loadAll(t, text))
	for range 5 {
		if again := names(loadAll(t, text)); again != first {
			t.Errorf("%s, then %s", first, again)
		}
	}
	if first != "/rr-one /rr-two /wrr-one /wrr-two /lc-one /lc-two" {
		t.Error(first)
	}
}

// TestMatrixText shows where ${…} is replaced: in values, keys, aliases and
// patches, of a document with a matrix and of no other.
func TestMatrixText(t *testing.T) {
	const plain = "steps:\n- name: one\n  do:\n  - run: {node: web1, command: \"echo ${HOME} $${HOME} $$\"}\n"
	before, _, _ := strings.Cut(good, "steps:")
	without := before + plain
	command := func(l *scenarios.Lab) string { return l.Steps[0].Do[0].Run.Command }
	if got := command(loadAll(t, without)[0]); got != "echo ${HOME} $${HOME} $$" {
		t.Errorf("without a matrix: %s", got)
	}
	with := strings.Replace("matrix: {what: [a, b]}\n"+without, "${HOME} $${HOME} $$", "${what}${what} $${what} $$ $$${what} $", 1)
	if got := command(loadAll(t, with)[1]); got != "echo bb ${what} $$ $${what} $" {
		t.Errorf("with one: %s", got)
	}

	labs := loadAll(t, `matrix:
  real: {web2: &real {nodes: {"${real}": {sysctls: {net.ipv4.tcp_sack: 0}}}}, web3: *real}
title: &title Serves ${real}
about: *title
networks: {lan: 10.0.0.0/24}
nodes:
  client: {links: {eth0: lan 10.0.0.250/24}}
  ${real}: {links: {eth0: lan 10.0.0.2/24}, serve: [http]}
`)
	for i, l := range labs {
		node := []string{"web2", "web3"}[i]
		n, ok := l.Nodes.Get(node)
		if !ok || l.About != "Serves "+node || l.Title != l.About || len(n.Sysctls) != 1 || len(n.Links) != 1 {
			t.Errorf("%s: %s, nodes %v: %+v", l.Name, l.About, l.Nodes.Names(), n)
		}
	}
}

// TestMatrixSeveral shows a matrix beside other labs of one file.
func TestMatrixSeveral(t *testing.T) {
	labs := loadAll(t, strings.Replace(table("scheduler: [rr, wrr]"), "scheduler: rr", "scheduler: ${scheduler}", 1)+
		"---\nname: plain\n"+good+"---\nname: more\n"+strings.Replace(table("scheduler: [lc, wlc]"), "scheduler: rr", "scheduler: ${scheduler}", 1))
	if got := names(labs); got != "/1/rr /1/wrr /plain /more/lc /more/wlc" {
		t.Error(got)
	}
	if labs[2].Matrix != nil || labs[3].Matrix.Of != "chapter/f/more" {
		t.Errorf("%+v, %+v", labs[2].Matrix, labs[3].Matrix)
	}
}

func TestMatrixErrors(t *testing.T) {
	many := make([]string, 33)
	for i := range many {
		many[i] = fmt.Sprintf("v%d", i)
	}
	list := "[" + strings.Join(many, ", ") + "]"
	use := func(s string) string { return strings.Replace(s, "scheduler: rr", "scheduler: ${a}", 1) }
	for _, c := range []struct{ text, want string }{
		{"matrix:\n" + good, "f.yaml:1:8: wanted a mapping (key: value), found nothing"},
		{"matrix: []\n" + good, "f.yaml:1:9: wanted a mapping (key: value), found a list"},
		{"matrix: {}\n" + good, "f.yaml:1:9: a matrix needs an axis, as in forwarding: [dr, tun]"},
		{"matrix: {a: rr}\n" + good, "f.yaml:1:13: axis a: wanted a list of values, or a mapping of values with what each changes"},
		{"matrix: {a: []}\n" + good, "f.yaml:1:13: axis a has no value"},
		{"matrix: {A: [rr]}\n" + good, `f.yaml:1:10: axis "A": a name is small letters, digits and dashes, begins with a letter and has at most 31 characters`},
		{"matrix: {a: [rr, [b]]}\n" + good, "f.yaml:1:18: wanted a value of the axis (for one with a patch make the axis a mapping), found a list"},
		{"matrix: {a: [rr, \"..\"]}\n" + good, `f.yaml:1:18: value ".." of axis a has no letter or digit, which the names of its labs need`},
		{"matrix: {a: [rr, RR]}\n" + good, `f.yaml:1:18: value "RR" of axis a is here a second time; both make labs called rr`},
		{"matrix: {a: {rr: 1}}\n" + good, `f.yaml:1:18: wanted a mapping (key: value), found "1"`},
		{"matrix: {a: {rr: {name: x, matrix: {}}}}\n" + good, "f.yaml:1:19: a value of a matrix cannot change name\nf.yaml:1:28: a value of a matrix cannot change matrix"},
		{"matrix: {a: {rr: {nodes: {web1: {}, web1: {}}}}}\n" + good, `f.yaml:1:37: key "web1" is here a second time; the first is in line 1`},
		{"matrix: {a: [rr, lc]}\nmatrix: {b: [rr]}\n" + use(good), `f.yaml:2:1: key "matrix" is here a second time; the first is in line 1`},
		{"name: x-${a}\nmatrix: {a: [rr, lc]}\n" + use(good), `f.yaml:1:7: name: "x-${a}": the labs of a matrix are told apart by its values, which follow the name`},
		{"matrix: {a: " + list + ", b: " + list + "}\n" + good, "f.yaml:1:9: the matrix has more than 1024 combinations, of a 33 × b 33"},
		{"matrix: {a: [" + strings.Repeat("r", 70) + "]}\n" + good, "f.yaml:1:9: the lab " + strings.Repeat("r", 70) + " has a name of more than 63 characters; shorten the values"},
		{"matrix: {a: [rr, lc]}\n" + good, "f.yaml:1:10: axis a changes nothing: no ${a} stands anywhere, and no value of it is a patch"},
		{"matrix: {a: [rr, lc], exclude: x}\n" + use(good), "f.yaml:1:32: exclude: wanted a list of combinations, as in [{forwarding: nat, protocol: sctp}]"},
		{"matrix: {a: [rr, lc], exclude: [{}]}\n" + use(good), "f.yaml:1:33: exclude: an item names an axis and its value, as in {forwarding: nat}"},
		{"matrix: {a: [rr, lc], exclude: [{b: rr}]}\n" + use(good), `f.yaml:1:34: unknown axis "b", did you mean "a"? Allowed: a`},
		{"matrix: {a: [rr, lc], exclude: [{a: r}]}\n" + use(good), `f.yaml:1:37: unknown value of axis a "r", did you mean "rr"? Allowed: rr, lc`},
		{"matrix: {a: [rr, lc], exclude: [{a: [rr, lc]}]}\n" + use(good), "f.yaml:1:9: exclude leaves no combination"},
		{"matrix: {sched: [rr, lc]}\n" + strings.Replace(good, "scheduler: rr", "scheduler: ${shed}", 1), `f.yaml:14:16: unknown axis "shed", did you mean "sched"? Allowed: sched; $${ stands for ${ itself`},
		{"matrix: {a: [rr, lc]}\n" + strings.Replace(good, "scheduler: rr", "scheduler: \"${a\"", 1), "f.yaml:14:16: ${ without a } behind it; the axes of this matrix are a, and $${ stands for ${ itself"},
		// What is wrong in all labs is told once, and what is wrong in some
		// with their names.
		{"matrix: {a: [rr, lc]}\n" + strings.Replace(use(good), "rotation: [web1, web2]", "rotation: [web1, web4]", 1), `f.yaml:24:5: unknown node "web4", did you mean "web1"? Allowed: client, director, web1, web2`},
		{"matrix: {a: [rr, x1, lc]}\n" + use(good), `f.yaml:14:16: unknown scheduler "x1"; Allowed: rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos (in x1)`},
		{"matrix: {a: [rr, lc], b: {x: {nodes: {web2: null}}, y: }}\n" + use(good), `f.yaml:18:26: unknown node "web2", did you mean "web1"? Allowed: client, director, web1 (in rr-x and 1 more of the 4 combinations)`},
	} {
		labs, err := scenarios.Load("f.yaml", "f", []byte(c.text))
		if err == nil {
			t.Errorf("no error: %s\n%s", names(labs), c.text)
		} else if err.Error() != c.want {
			t.Errorf("%s:\n  %v\nwant\n  %s", strings.SplitN(c.text, "\n", 2)[0], err, c.want)
		}
	}
}

// TestMatrixAlike shows that a mistake which differs from lab to lab does not
// fill the screen.
func TestMatrixAlike(t *testing.T) {
	var values []string
	for i := range 100 {
		values = append(values, fmt.Sprintf("bad%d", i))
	}
	_, err := scenarios.Load("f.yaml", "f", []byte("matrix: {a: ["+strings.Join(values, ", ")+"]}\n"+strings.Replace(good, "scheduler: rr", "scheduler: ${a}", 1)))
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 4 || !strings.HasSuffix(lines[3], " (in bad3); and 96 more errors here, in other combinations") {
		t.Errorf("%d lines:\n%v", len(lines), err)
	}
}

// TestMatrixBomb shows that a small file does not unfold into a full memory.
func TestMatrixBomb(t *testing.T) {
	text := "matrix:\n  a:\n"
	for i := range 1000 {
		text += fmt.Sprintf("  - v%d\n", i)
	}
	text += "title: ${a}\nabout: " + strings.Repeat("${a}", 40000) + "\n" + strings.TrimPrefix(good, "title: A lab\n")
	if _, err := scenarios.Load("f.yaml", "f", []byte(text)); err == nil || !strings.Contains(err.Error(), "f.yaml:2:3: the labs of this matrix are more than can be held: ") {
		t.Errorf("%.300v", err)
	}
}

// FuzzMatrix looks for documents that break the expansion, or make it differ
// from one time to the next.
func FuzzMatrix(f *testing.F) {
	for _, s := range []string{
		table("scheduler: [rr, wrr]"),
		strings.Replace(table("scheduler: [rr, wrr]"), "scheduler: rr", "scheduler: ${scheduler}", 1),
		table("a: {x: {steps: []}, y: {nodes: {web2: null}}}\nexclude: [{a: x}]"),
		"matrix: &m {a: [x]}\ntitle: ${a}\nnodes: *m\nnetworks: {lan: 10.0.0.0/24}\n",
		"matrix: {a: [x], b: {y: &p {title: \"${a}${b}$${a}\"}, z: *p}}\ntitle: t\nnetworks: {lan: 10.0.0.0/24}\nnodes: {n: {}}\n",
		"matrix: {a: {x: {a: &l [*l]}}}\n",
		"matrix: {${a}: [x]}\n${a}: ${\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		labs, err := scenarios.Load("f.yaml", "f", data)
		again, errAgain := scenarios.Load("f.yaml", "f", data)
		if names(labs) != names(again) || fmt.Sprint(err) != fmt.Sprint(errAgain) {
			t.Errorf("%s %v\n%s %v", names(labs), err, names(again), errAgain)
		}
		seen := make(map[string]bool)
		for _, l := range labs {
			if seen[l.Name] {
				t.Errorf("two labs called %s", l.Name)
			}
			seen[l.Name] = true
		}
	})
}
