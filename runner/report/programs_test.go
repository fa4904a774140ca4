package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology/source"
)

const nasty = "a\x1b]0;owned\x07b\u202egpj\u009b31m\xff\xfe\x00\x7f\u200b ]]> </failure> | `x` <b> @me #1 $x$\n::error::obeyed\n##[add-mask]x\nok 1 - not mine\nBail out!"

// mixed is a run with everything in it: a pass, a failure of an imported lab, a
// lab that broke before its first step, one that broke in a step, a skip, hostile
// text, and a lab that was never begun.
func mixed() []wire.Event {
	imported := sticks("dr/arptables")
	imported.Step.Results = slices.Clone(imported.Step.Results)
	imported.Step.Results[0].From = &source.Pos{File: "keepalived.conf", Line: 12}
	imported.From = &source.Pos{File: "keepalived.conf", Line: 9}
	return []wire.Event{
		begin(),
		start("dr/arp-race", titleRace), balances("dr/arp-race"), finish("dr/arp-race", wire.Pass, 0.41, ""),
		start("dr/arptables", titleTables), balances("dr/arptables"), imported, finish("dr/arptables", wire.Fail, 0.63, ""),
		start("faults/died", "The guest dies"), finish("faults/died", wire.Broken, 0.2, "the guest ended without its final record\nKernel panic - not syncing\n\x1b[31mCPU: 0 PID: 1\x1b[0m\r"),
		start("tun/rp-filter", titleFilter),
		step("tun/rp-filter", 12, wire.Broken, 0.1, wire.Step{Index: 1, Of: 1, Name: "requests vanish", Error: "web1: add address to tunl0: no such device"}),
		finish("tun/rp-filter", wire.Broken, 0.1, ""),
		start("schedulers/twos", "Power of two choices"), finish("schedulers/twos", wire.Skip, 0, "this kernel lacks ip_vs_twos"),
		start("x/"+nasty, nasty),
		step("x/"+nasty, 3, wire.Fail, 0, wire.Step{Index: 1, Of: 1, Name: nasty, Did: []string{nasty}, Results: []wire.Result{{
			Check: nasty, Pos: source.Pos{File: nasty, Line: 3}, Verdict: wire.Fail, Wanted: nasty, Seen: nasty,
			Evidence: []wire.Evidence{{Title: nasty, Text: nasty}, {Title: "empty"}},
		}}}),
		finish("x/"+nasty, wire.Fail, 0.1, nasty),
		end(2.1, wire.Counts{Labs: 6, Pass: 1, Fail: 2, Broken: 2, Skip: 1}),
	}
}

var mixedLabs = []string{"dr/arp-race", "dr/arptables", "faults/died", "tun/rp-filter", "schedulers/twos", "x/" + nasty, "dr/never"}

func written(t *testing.T, make func(io.Writer) Sink, events []wire.Event) []byte {
	t.Helper()
	var b bytes.Buffer
	s := make(&b)
	for _, e := range events {
		s.Event(e)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Elements and attributes of Jenkins' junit-10.xsd, of which * must be there.
var junitSchema = map[string][]string{
	"testsuites": {"name", "time", "tests", "failures", "errors"},
	"testsuite":  {"name*", "tests*", "failures*", "errors*", "group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"},
	"properties": {}, "property": {"name*", "value*"},
	"testcase": {"name*", "time", "classname", "group"},
	"failure":  {"type", "message"}, "error": {"type", "message"}, "skipped": {"type", "message"},
}

var junitInside = map[string]string{
	"": "testsuites", "testsuites": "testsuite", "testsuite": "properties testcase", "properties": "property", "testcase": "failure error skipped",
}

// surefire is the schema's SUREFIRE_TIME.
var surefire = regexp.MustCompile(`^(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?$`)

// checkJUnit reads a document as the schema has it, and counts its cases.
func checkJUnit(t *testing.T, doc []byte) map[string]int {
	t.Helper()
	counted := make(map[string]int)
	dec := xml.NewDecoder(bytes.NewReader(doc))
	var open []string
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return counted
		}
		if err != nil {
			t.Fatalf("not XML: %v", err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			name, parent := e.Name.Local, ""
			if len(open) > 0 {
				parent = open[len(open)-1]
			}
			if !slices.Contains(strings.Fields(junitInside[parent]), name) {
				t.Errorf("<%s> inside <%s>", name, parent)
			}
			checkAttributes(t, e)
			counted[name]++
			open = append(open, name)
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
}

func checkAttributes(t *testing.T, e xml.StartElement) {
	t.Helper()
	has := make(map[string]bool)
	for _, a := range e.Attr {
		has[a.Name.Local] = true
		if !slices.ContainsFunc(junitSchema[e.Name.Local], func(n string) bool { return strings.TrimSuffix(n, "*") == a.Name.Local }) {
			t.Errorf("<%s> has no attribute %s", e.Name.Local, a.Name.Local)
		}
		if a.Name.Local == "time" && !surefire.MatchString(a.Value) {
			t.Errorf("time %q", a.Value)
		}
	}
	for _, n := range junitSchema[e.Name.Local] {
		if name, must := strings.CutSuffix(n, "*"); must && !has[name] {
			t.Errorf("<%s> without %s", e.Name.Local, name)
		}
	}
}

func TestJUnit(t *testing.T) {
	doc := written(t, func(w io.Writer) Sink { return JUnit(w, mixedLabs) }, mixed())
	golden(t, "junit", doc)
	n := checkJUnit(t, doc)
	// A case for each step, for each lab whose steps do not tell its verdict, and
	// one for those that were not run.
	if n["testsuite"] != 7 || n["failure"] != 3 || n["error"] != 2 || n["skipped"] != 4 {
		t.Errorf("%v", n)
	}
	if bytes.ContainsAny(doc, "\x1b\x00\x07\x7f\u009b\u202e") {
		t.Error("control characters")
	}
}

// What comes to nothing is not green, and is XML too.
func TestJUnitOfNothing(t *testing.T) {
	for name, events := range map[string][]wire.Event{
		"nothing":   nil,
		"no kernel": {{Kind: wire.RunFinished, Verdict: wire.Broken, Message: "no kernel", Counts: &wire.Counts{}}},
		"killed":    {begin(), start("a", "")},
		"no lab":    {begin(), end(0, wire.Counts{})},
		"left out":  {begin(), start("b", ""), finish("b", wire.Pass, 1, ""), end(0, wire.Counts{Labs: 1, Pass: 1})},
	} {
		var labs []string
		if name == "left out" {
			labs = []string{"a", "b"}
		}
		doc := written(t, func(w io.Writer) Sink { return JUnit(w, labs) }, events)
		if n := checkJUnit(t, doc); n["error"] == 0 {
			t.Errorf("%s is green:\n%s", name, doc)
		}
		tap := string(written(t, func(w io.Writer) Sink { return TAP(w, labs) }, events))
		if !strings.Contains(tap, "\nBail out! ") && !strings.Contains(tap, "\nnot ok ") {
			t.Errorf("%s is green:\n%s", name, tap)
		}
	}
	// A shard without a lab is green, and says so.
	none := []wire.Event{{Kind: wire.RunStarted, Shard: &wire.Shard{Index: 3, Of: 3}}, end(0, wire.Counts{})}
	if n := checkJUnit(t, written(t, func(w io.Writer) Sink { return JUnit(w, nil) }, none)); n["error"] != 0 {
		t.Error("an empty shard is an error")
	}
	if tap := string(written(t, func(w io.Writer) Sink { return TAP(w, nil) }, none)); tap != "TAP version 14\n1..0 # no lab is in this part of the run\n" {
		t.Errorf("%q", tap)
	}
}

var tapPoint = regexp.MustCompile(`^(not )?ok (\d+) - (.*?[^\\])?( # SKIP .*)?$`)

// checkTAP reads a document as the specification has it.
func checkTAP(t *testing.T, doc string) (ok, notOK, skip int) {
	t.Helper()
	all := strings.Split(strings.TrimSuffix(doc, "\n"), "\n")
	if all[0] != "TAP version 14" {
		t.Errorf("begins with %q", all[0])
	}
	next := map[int]int{} // the next number, by depth
	for i := 1; i < len(all); i++ {
		line := strings.TrimLeft(all[i], " ")
		indent := len(all[i]) - len(line)
		depth := indent / 4
		plan, isPlan := strings.CutPrefix(line, "1..")
		m := tapPoint.FindStringSubmatch(line)
		switch {
		case line == "---":
			from := i + 1
			for all[i] != strings.Repeat(" ", indent)+"..." {
				i++
			}
			var v map[string]any
			if err := yaml.Unmarshal([]byte(strings.Join(all[from:i], "\n")), &v); err != nil {
				t.Errorf("line %d: %v", from, err)
			}
		case m != nil:
			next[depth]++
			if m[2] != strconv.Itoa(next[depth]) {
				t.Errorf("line %d: number %s, want %d", i+1, m[2], next[depth])
			}
			switch {
			case m[1] != "":
				notOK++
			case m[4] != "":
				skip++
			default:
				ok++
			}
		case isPlan:
			if plan != strconv.Itoa(next[depth]) {
				t.Errorf("line %d: plan %s, want %d", i+1, line, next[depth])
			}
			next[depth] = 0
		case strings.HasPrefix(line, "# "):
		default:
			t.Errorf("line %d: %q", i+1, all[i])
		}
	}
	return ok, notOK, skip
}

func TestTAP(t *testing.T) {
	doc := string(written(t, func(w io.Writer) Sink { return TAP(w, mixedLabs) }, mixed()))
	golden(t, "tap", []byte(doc))
	// dr/arp-race and its first step, that of dr/arptables; two labs that failed
	// with a step each, two that are broken, one of them with a step; two labs
	// that were not run, and the rest of the steps twice.
	if ok, notOK, skip := checkTAP(t, doc); ok != 3 || notOK != 7 || skip != 4 {
		t.Errorf("%d ok, %d not ok, %d skipped", ok, notOK, skip)
	}
}

// obeyed are the lines that GitHub's runner would take for commands.
var obeyed = regexp.MustCompile(`(?m)^\s*::.*$|^.*##\[.*$`)

func TestGitHub(t *testing.T) {
	summary := filepath.Join(t.TempDir(), "summary")
	if err := os.WriteFile(summary, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := GitHubOptions{Summary: summary, Workspace: "/w", Dir: "/w/sub", Labs: mixedLabs}
	commands := written(t, func(w io.Writer) Sink { o.Commands = w; return GitHub(o) }, mixed())
	golden(t, "github", commands)
	for line := range strings.Lines(string(commands)) {
		if !strings.HasPrefix(line, "::error ") && !strings.HasPrefix(line, "::notice ") {
			t.Errorf("%q is no command of ours", line)
		}
	}
	md, err := os.ReadFile(summary)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "summary", md)
	if !bytes.HasPrefix(md, []byte("before\n")) {
		t.Error("what was there is lost")
	}
}

// GitHub drops in silence what is too much; a summary, as a whole.
func TestGitHubBounds(t *testing.T) {
	events := []wire.Event{begin()}
	for i := range 300 {
		name := "dr/lab" + strconv.Itoa(i)
		events = append(events, start(name, ""), step(name, 4, wire.Fail, 0, wire.Step{Index: 1, Of: 1, Results: []wire.Result{{
			Check: "output", Verdict: wire.Fail, Evidence: []wire.Evidence{{Title: "much", Text: strings.Repeat("a line of <much>\n", 900)}},
		}}}), finish(name, wire.Fail, 1, ""))
	}
	events = append(events, end(1, wire.Counts{Labs: 300, Fail: 300}))
	o := GitHubOptions{Summary: filepath.Join(t.TempDir(), "summary")}
	for range 2 { // a step may call lvslab twice
		commands := written(t, func(w io.Writer) Sink { o.Commands = w; return GitHub(o) }, events)
		if n := bytes.Count(commands, []byte("\n")); n != mostAnnotations || !bytes.HasSuffix(commands, []byte("::291 more are in the step's log: GitHub shows 10 of a step\n")) {
			t.Errorf("%d annotations:\n%s", n, commands)
		}
	}
	md, err := os.ReadFile(o.Summary)
	if err != nil || len(md) > 1<<20 || !bytes.Contains(md, []byte("more did not fit here")) {
		t.Errorf("%d bytes, %v", len(md), err)
	}
}

// Nothing that a lab says is obeyed by the runner that reads a step's output.
func TestNothingIsObeyed(t *testing.T) {
	for name, make := range map[string]func(io.Writer) Sink{
		"text": func(w io.Writer) Sink { return Text(w, TextOptions{Commands: true, Verbose: true}) },
		"json": JSON,
		"tap":  func(w io.Writer) Sink { return TAP(w, nil) },
	} {
		out := written(t, make, mixed())
		if m := obeyed.Find(out); m != nil {
			t.Errorf("%s: %q", name, m)
		}
	}
	if got := string(defused([]byte("::a::\n  ::b\nc::d\n x ##[e]\n###[f\n:: :\n"))); got != ": :a::\n  : :b\nc::d\n x # #[e]\n## #[f\n: : :\n" {
		t.Errorf("%q", got)
	}
}

func TestProgramsFromManyGoroutines(t *testing.T) {
	artifacts, err := Artifacts(ArtifactOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s := Map(Tee(JUnit(io.Discard, nil), TAP(io.Discard, nil), GitHub(GitHubOptions{Commands: io.Discard}), artifacts), func(e wire.Event) wire.Event { return e })
	var wg sync.WaitGroup
	for _, lab := range []string{"a", "b", "c", "d"} {
		wg.Go(func() {
			s.Event(begin())
			s.Event(start(lab, lab))
			s.Event(sticks(lab))
			s.Event(finish(lab, wire.Fail, 1, ""))
		})
	}
	wg.Wait()
	s.Event(end(1, wire.Counts{Labs: 4, Fail: 4}))
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A place in an imported file stands behind that in the lab.
func TestFrom(t *testing.T) {
	out := string(render(t, TextOptions{}, mixed()...))
	for _, want := range []string{"arp_owner at labs/dr/arptables.yaml:31 (from keepalived.conf:12)\n", "rotation at labs/dr/arptables.yaml:30\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
