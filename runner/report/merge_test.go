package report

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/runner/wire"
)

// asJSON is what lvslab run --json=FILE writes.
func asJSON(t *testing.T, events ...wire.Event) string {
	t.Helper()
	return string(written(t, JSON, events))
}

// part is a run of labs that pass, as a shard of several; of is 0 for a run that
// is all of it.
func part(index, of int, seconds float64, labs ...string) []wire.Event {
	b, n := begin(), wire.Counts{}
	var shard *wire.Shard
	if of > 0 {
		shard = &wire.Shard{Index: index, Of: of}
	}
	b.Shard = shard
	events := []wire.Event{b}
	for _, lab := range labs {
		events = append(events, start(lab, ""), balances(lab), finish(lab, wire.Pass, 1, ""))
		n.Add(wire.Pass)
	}
	last := end(seconds, n)
	last.Shard, last.Verdict = shard, wire.Pass
	return append(events, last)
}

func TestReadEvents(t *testing.T) {
	whole := mixed()
	text := asJSON(t, whole...)
	got, err := ReadEvents(strings.NewReader(text), "a.json")
	if err != nil {
		t.Fatal(err)
	}
	// What is not UTF-8 is replaced once.
	if again, err := ReadEvents(strings.NewReader(asJSON(t, got...)), "a.json"); err != nil || cmp.Diff(got, again) != "" {
		t.Errorf("what was read is not what was written: %v\n%s", err, cmp.Diff(got, again))
	}
	all := strings.SplitAfter(asJSON(t, part(0, 0, 1, "a", "b")...), "\n") // of 8 lines
	for _, c := range []struct {
		name, text, want string
		incomplete       bool
	}{
		{"empty", "", `f: it is empty: the run was ended before it began, or this is not the file of lvslab run --json=FILE`, true},
		{"blank lines", "\n\n", `f: it is empty: the run was ended before it began, or this is not the file of lvslab run --json=FILE`, true},
		{"cut off in a line", strings.Join(all[:3], "") + all[3][:40], `f: line 4 ends in its middle: the file was cut off there`, true},
		{"cut off behind a line", strings.Join(all[:6], ""), `f: there is no run_finished behind line 6: the run was killed, or the file was cut off`, true},
		{"a lab without a verdict", strings.Join(append(all[:6:6], all[7]), ""), `f: no verdict of b, though the run came to its end`, true},
		{"a lab is lost", strings.Join(append(all[:4:4], all[7]), ""), `f: run_finished in line 5 counts 2 labs (2 pass, 0 fail, 0 broken, 0 skip), and the lines before it have 1 verdicts: some are lost`, true},
		{"two runs", strings.Join(all, "") + all[0], `f:9: run_started after run_finished, which is in line 8; are these several runs? Give each a file of its own`, false},
		{"garbage", all[0] + "\x00\xff{\n", `f:2: reading event: not a line of lvslab's: "\x00\xff{": invalid character '\x00' looking for beginning of value`, false},
		{"a lab file", "title: x\n", `f:1: reading event: not a line of lvslab's: "title: x": invalid character 'i' in literal true (expecting 'r')`, false},
		{"blank lines count", "\n\r\n" + `{"version":1,"event":"odd"}` + "\n", `f:3: no run sends the event "odd"`, false},
		{"another version", `{"version":2,"event":"run_started"}` + "\n", `f:1: event has version 2, this lvslab speaks version 1: use the same lvslab on both sides`, false},
		{"a guest's word", `{"version":1,"event":"hello"}` + "\n", `f:1: no run sends the event "hello"`, false},
		{"of no lab", `{"version":1,"event":"lab_finished","verdict":"pass"}` + "\n", `f:1: lab_finished of no lab`, false},
		{"no verdict", `{"version":1,"event":"lab_finished","lab":"a"}` + "\n", `f:1: lab_finished of "a" has the verdict ""; wanted pass, skip, fail or broken`, false},
		{"odd verdict", `{"version":1,"event":"step_finished","lab":"a","verdict":"pass","step":{"results":[{"verdict":"green"}]}}` + "\n", `f:1: step_finished of "a" has the verdict "green"; wanted pass, skip, fail or broken`, false},
		{"no step", `{"version":1,"event":"step_finished","lab":"a","verdict":"pass"}` + "\n", `f:1: step_finished of "a" without its step`, false},
		{"no counts", `{"version":1,"event":"run_finished"}` + "\n", `f:1: run_finished without its counts`, false},
		{"after its verdict", strings.Join(all[:4], "") + all[2], `f:5: step_finished of "a" after its verdict, which is in line 4`, false},
	} {
		events, err := ReadEvents(strings.NewReader(c.text), "f")
		var incomplete *IncompleteError
		if err == nil || err.Error() != c.want || errors.As(err, &incomplete) != c.incomplete {
			t.Errorf("%s: %v\nwanted %s", c.name, err, c.want)
		}
		if !c.incomplete && events != nil {
			t.Errorf("%s: events beside an error", c.name)
		}
	}
	long := `{"version":1,"event":"log","message":"` + strings.Repeat("x", wire.MaxEvent) + `"}` + "\n"
	if _, err := ReadEvents(strings.NewReader(long), "f"); !errors.Is(err, wire.ErrTooLong) || len(err.Error()) > 500 {
		t.Errorf("%.600v", err)
	}
	broken := errors.New("the disk is gone")
	if _, err := ReadEvents(io.MultiReader(strings.NewReader(all[0]), failing{broken}), "f"); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// merged merges what has been read from the texts f0, f1, …
func merged(t *testing.T, texts ...string) ([]wire.Event, error) {
	t.Helper()
	var inputs []Input
	for i, text := range texts {
		in := Input{Name: "f" + string(rune('0'+i))}
		in.Events, in.Err = ReadEvents(strings.NewReader(text), in.Name)
		inputs = append(inputs, in)
	}
	return Merge(inputs...)
}

func TestMerge(t *testing.T) {
	one, two, none := asJSON(t, part(1, 3, 2, "a", "b")...), asJSON(t, part(2, 3, 5, "c")...), asJSON(t, part(3, 3, 0)...)
	cut := two[:strings.LastIndex(strings.TrimSuffix(two, "\n"), "\n")+1]  // without run_finished
	cut2 := cut[:strings.LastIndex(strings.TrimSuffix(cut, "\n"), "\n")+1] // and without a verdict
	stopped := strings.Replace(two, `"verdict":"pass","seconds":5`, `"verdict":"broken","seconds":5,"message":"no kernel"`, 1)
	other := strings.ReplaceAll(one, "6.1.176", "6.12.1")
	for _, c := range []struct {
		name    string
		texts   []string
		counts  wire.Counts
		verdict wire.Verdict
		message string
	}{
		{"in any order", []string{two, none, one}, wire.Counts{Labs: 3, Pass: 3}, wire.Pass, ""},
		{"a shard is missing", []string{two, one}, wire.Counts{Labs: 3, Pass: 3}, wire.Broken, "shard 3 of 3 is missing"},
		{"cut off", []string{one, cut, none}, wire.Counts{Labs: 3, Pass: 3}, wire.Broken, "f1: there is no run_finished behind line 4: the run was killed, or the file was cut off"},
		{"killed in a lab", []string{one, cut2, none}, wire.Counts{Labs: 3, Pass: 2, Broken: 1}, wire.Broken, "f1: there is no run_finished behind line 3: the run was killed, or the file was cut off"},
		{"no kernel", []string{one, stopped, none}, wire.Counts{Labs: 3, Pass: 3}, wire.Broken, "f1: no kernel"},
		{"empty", []string{one, two, none, ""}, wire.Counts{Labs: 3, Pass: 3}, wire.Broken, "f3: it is empty: the run was ended before it began, or this is not the file of lvslab run --json=FILE"},
		{"two kernels", []string{asJSON(t, part(0, 0, 1, "a")...), strings.ReplaceAll(asJSON(t, part(0, 0, 1, "a")...), "6.1.176", "6.12.1")}, wire.Counts{Labs: 2, Pass: 2}, wire.Pass, ""},
		{"a shard of the other kernel is missing", []string{one, two, none, other}, wire.Counts{Labs: 5, Pass: 5}, wire.Broken, "shard 2 of 3 is there 1 of 2 times; shard 3 of 3 is there 1 of 2 times"},
		{"no lab", []string{asJSON(t, part(0, 0, 1)...)}, wire.Counts{}, wire.Broken, "f0: no lab was run"},
		{"a failure", []string{asJSON(t, mixed()...), one, two, none}, wire.Counts{Labs: 9, Pass: 4, Fail: 2, Broken: 2, Skip: 1}, wire.Broken, ""},
	} {
		events, err := merged(t, c.texts...)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		last := events[len(events)-1]
		if d := cmp.Diff(c.counts, *last.Counts); d != "" || last.Kind != wire.RunFinished || last.Verdict != c.verdict || last.Message != c.message {
			t.Errorf("%s: %s %q\n%s", c.name, last.Verdict, last.Message, d)
		}
		// What was merged can be merged again, and every report agrees.
		again, err := ReadEvents(strings.NewReader(asJSON(t, events...)), "merged")
		if err != nil || asJSON(t, again...) != asJSON(t, events...) {
			t.Errorf("%s: merged again: %v", c.name, err)
		}
		n := checkJUnit(t, written(t, func(w io.Writer) Sink { return JUnit(w, nil) }, events))
		if red := c.verdict != wire.Pass; red != (n["error"]+n["failure"] > 0) {
			t.Errorf("%s: JUnit has %v", c.name, n)
		}
		if text := string(render(t, TextOptions{}, events...)); !strings.Contains(text, c.message) {
			t.Errorf("%s: no %q in\n%s", c.name, c.message, text)
		}
	}
	events, err := merged(t, two, none, one)
	if err != nil {
		t.Fatal(err)
	}
	if last := events[len(events)-1]; last.Seconds != 5 || events[1].Lab != "a" || events[len(events)-2].Lab != "" && events[len(events)-2].Lab != "c" {
		t.Errorf("%v s; %v", last.Seconds, events)
	}
}

// Shards that were dealt by different times may have a lab between them that is in
// none.
func TestMergeLost(t *testing.T) {
	of := func(all int, events []wire.Event) string {
		for _, e := range events {
			if e.Shard != nil {
				e.Shard.Labs = all
			}
		}
		return asJSON(t, events...)
	}
	for all, want := range map[int]string{
		3: "",
		4: "the shards of a run of 4 labs hold 3 of them: one ended early, or they were not dealt by the same times (--timings)",
	} {
		events, err := merged(t, of(all, part(1, 2, 1, "a", "b")), of(all, part(2, 2, 1, "c")))
		if err != nil {
			t.Fatal(err)
		}
		verdict := wire.Pass
		if want != "" {
			verdict = wire.Broken
		}
		if last := events[len(events)-1]; last.Message != want || last.Verdict != verdict {
			t.Errorf("of %d: %s %q", all, last.Verdict, last.Message)
		}
	}
}

func TestMergeRefuses(t *testing.T) {
	one := asJSON(t, part(0, 0, 2, "a", "b")...)
	for name, c := range map[string]struct {
		texts []string
		want  string
	}{
		"a lab twice":       {[]string{one, asJSON(t, part(0, 0, 1, "c", "b")...)}, "f1: lab b in 6.1.176 is in f0 too; merge runs of different labs, or of different kernels"},
		"the same file":     {[]string{one, one}, "f1: lab a in 6.1.176 is in f0 too; merge runs of different labs, or of different kernels"},
		"different wholes":  {[]string{asJSON(t, part(1, 2, 1, "a")...), asJSON(t, part(2, 3, 1, "b")...)}, "f1 is shard 2 of 3, and f0 is one of 2: they are parts of different wholes"},
		"no such shard":     {[]string{asJSON(t, part(4, 3, 1, "a")...)}, "f0: it says that it is shard 4 of 3, which there is not"},
		"not a run":         {[]string{one, "x\n"}, `f1:1: reading event: not a line of lvslab's: "x": invalid character 'x' looking for beginning of value`},
		"too many shards":   {[]string{asJSON(t, part(4, 1e9, 1, "a")...)}, "f0: it says that it is shard 4 of 1000000000, which there is not"},
		"not a whole shard": {[]string{asJSON(t, part(0, 3, 1, "a")...)}, "f0: it says that it is shard 0 of 3, which there is not"},
	} {
		if _, err := merged(t, c.texts...); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v\nwanted %s", name, err, c.want)
		}
	}
}

func FuzzReadEvents(f *testing.F) {
	f.Add([]byte(`{"version":1,"event":"run_started","kernel":"6.1","backend":"uml","message":"m"}
{"version":1,"event":"lab_started","lab":"a","title":"t","pos":{"file":"f","line":1},"from":{"file":"k","line":2}}
{"version":1,"event":"step_finished","lab":"a","verdict":"fail","seconds":1,"step":{"index":1,"of":3,"name":"s","did":["d"],"results":[{"check":"c","verdict":"fail","wanted":"w","seen":"s","evidence":[{"title":"t","text":"x"}]}]}}
{"version":1,"event":"lab_finished","lab":"a","verdict":"fail","message":"m"}
{"version":1,"event":"run_finished","verdict":"fail","counts":{"labs":1,"fail":1}}
`))
	f.Add([]byte(`{"version":1,"event":"lab_finished","lab":"a","verdict":"pass"}
{"version":1,"event":"run_finished","verdict":"pass","counts":{"labs":1,"pass":1},"shard":{"index":1,"of":1}}
`))
	f.Add([]byte(`{"version":1,"event":"run_started","shard":{"index":-1,"of":9999999999}}` + "\n" + `{"version":1,"event":"run_finished","counts":{}}` + "\n"))
	f.Add([]byte("\xef\xbb\xbf{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := Input{Name: "f"}
		in.Events, in.Err = ReadEvents(bytes.NewReader(data), "f")
		events, err := Merge(in)
		if err != nil {
			if len(err.Error()) > 5000 {
				t.Fatalf("error of %d bytes", len(err.Error()))
			}
			return
		}
		last := events[len(events)-1]
		junit := written(t, func(w io.Writer) Sink { return JUnit(w, nil) }, events)
		n := checkJUnit(t, junit)
		tap := string(written(t, func(w io.Writer) Sink { return TAP(w, nil) }, events))
		if _, notOK, _ := checkTAP(t, strings.Split(tap, "\nBail out!")[0]); (notOK > 0 || strings.Contains(tap, "\nBail out!")) != (n["error"]+n["failure"] > 0) {
			t.Fatalf("TAP and JUnit do not agree:\n%s\n%s", tap, junit)
		}
		// Nothing that is not whole, or whose labs did not all pass, is green.
		green := last.Verdict == wire.Pass || last.Verdict == wire.Skip
		if in.Err != nil && green || green != (n["error"]+n["failure"] == 0) {
			t.Fatalf("%v, verdict %s, but JUnit has %v:\n%s", in.Err, last.Verdict, n, junit)
		}
	})
}
