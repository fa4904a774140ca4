package report

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology/source"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test ./runner/report -update writes it", err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s is not what was written (-want +got); if the change is meant, go test ./runner/report -update:\n%s", path, d)
	}
}

func begin() wire.Event {
	return wire.Event{
		Kind: wire.RunStarted, Kernel: "6.1.176", Backend: "uml",
		Message: "Linux 6.1.176 in User-Mode Linux, since this kernel (6.18.2) has no ip_vs and no ipip",
	}
}

func start(lab, title string) wire.Event {
	return wire.Event{Kind: wire.LabStarted, Lab: lab, Title: title, Pos: &source.Pos{File: "labs/" + lab + ".yaml", Line: 1, Col: 1}}
}

func step(lab string, line int, v wire.Verdict, seconds float64, s wire.Step) wire.Event {
	return wire.Event{Kind: wire.StepFinished, Lab: lab, Verdict: v, Seconds: seconds, Step: &s, Pos: &source.Pos{File: "labs/" + lab + ".yaml", Line: line, Col: 3}}
}

func finish(lab string, v wire.Verdict, seconds float64, message string) wire.Event {
	return wire.Event{Kind: wire.LabFinished, Lab: lab, Verdict: v, Seconds: seconds, Message: message}
}

func end(seconds float64, c wire.Counts) wire.Event {
	return wire.Event{Kind: wire.RunFinished, Seconds: seconds, Counts: &c}
}

func at(lab string, line int) source.Pos {
	return source.Pos{File: "labs/" + lab + ".yaml", Line: line, Col: 11}
}

func render(t *testing.T, opts TextOptions, events ...wire.Event) []byte {
	t.Helper()
	var b bytes.Buffer
	s := Text(&b, opts)
	for _, e := range events {
		s.Event(e)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const (
	titleRace   = "Direct routing, and nobody keeps the real servers from answering ARP"
	titleTables = "Direct routing, kept in order by arptables"
	titleFilter = "Tunnelling, with the reverse path filter in the way"
)

func balances(lab string) wire.Event {
	return step(lab, 19, wire.Pass, 0.05, wire.Step{
		Index: 1, Of: 3, Name: "direct routing balances",
		Did:     []string{"request http://172.25.12.100:80/ from client, 4 times"},
		Results: []wire.Result{{Check: "rotation", Pos: at(lab, 22), Verdict: wire.Pass, Wanted: "web1 and web2 in turn", Seen: "web2 web1 web2 web1"}},
	})
}

func sticks(lab string) wire.Event {
	return step(lab, 25, wire.Fail, 0.31, wire.Step{
		Index: 2, Of: 3, Name: "and still does after every ARP cache was flushed",
		Did: []string{"flush the neighbours of client, director, web1, web2", "request http://172.25.12.100:80/ from client, 4 times"},
		Results: []wire.Result{
			{
				Check: "arp_owner", Pos: at(lab, 31), Verdict: wire.Fail, Wanted: "director alone answers who-has 172.25.12.100",
				Seen: "director (02:c5:00:00:00:01) and web1 (02:c5:00:00:00:02) answer; the client keeps web1's",
				Evidence: []wire.Evidence{
					{Title: "client: neighbours", Text: "172.25.12.100 dev eth0 lladdr 02:c5:00:00:00:02 REACHABLE\n172.25.12.1 dev eth0 lladdr 02:c5:00:00:00:01 STALE\n"},
					{Title: "lan: ARP seen", Text: "0.000000\twho-has 172.25.12.100 tell 172.25.12.250\n0.000041\t172.25.12.100 is-at 02:c5:00:00:00:02\n0.000058\t172.25.12.100 is-at 02:c5:00:00:00:01\n"},
				},
			},
			{Check: "peer", Pos: at(lab, 33), Verdict: wire.Pass, Wanted: "172.25.12.250", Seen: "172.25.12.250, 4 times"},
			{
				Check: "rotation", Pos: at(lab, 30), Verdict: wire.Fail, Wanted: "web1 and web2 in turn", Seen: "web1 web1 web1 web1",
				Evidence: []wire.Evidence{{
					Title: "director: IPVS table",
					Text:  "TCP  172.25.12.100:80 rr\n  -> 172.25.12.3:80       Route   1  0  2\n  -> 172.25.12.2:80       Route   1  0  2\n",
				}},
			},
		},
	})
}

var three = []string{"dr/arp-race", "dr/arptables", "tun/rp-filter"}

func TestText(t *testing.T) {
	failed := []wire.Event{
		begin(), start(three[0], titleRace), start(three[1], titleTables), balances(three[1]),
		sticks(three[1]), finish(three[1], wire.Fail, 0.63, ""), start(three[2], titleFilter),
		finish(three[0], wire.Pass, 0.41, ""), finish(three[2], wire.Pass, 1.2, ""),
		end(2.1, wire.Counts{Labs: 3, Pass: 2, Fail: 1}),
	}
	console := "the guest ended without its final record (exit status 139)\n" + numbered(50, "[    0.%06d] random: crng init") +
		"Kernel panic - not syncing: Segfault with no mm\n\x1b[31mCPU: 0 PID: 1\x1b[0m\r\n"
	died := []wire.Event{
		begin(), start(three[0], titleRace), start(three[1], titleTables), balances(three[1]),
		finish(three[0], wire.Broken, 0.2, console), finish(three[1], wire.Broken, 0.2, console),
		start(three[2], titleFilter),
		step(three[2], 12, wire.Broken, 0.1, wire.Step{Index: 1, Of: 1, Name: "requests vanish", Error: "web1: add address 172.25.12.100/32 to tunl0: no such device; lvslab doctor says whether this kernel has ipip"}),
		finish(three[2], wire.Broken, 0.1, ""),
		end(2.1, wire.Counts{Labs: 3, Broken: 3}),
	}
	verbose := []wire.Event{
		begin(),
		{Kind: wire.Log, Message: "loaded ip_vs, ip_vs_rr"},
		start(three[1], titleTables),
		{Kind: wire.Log, Lab: three[1], Message: "37 ops applied in 12 ms"},
		balances(three[1]), finish(three[1], wire.Pass, 0.41, ""),
		start(three[2], titleFilter), finish(three[2], wire.Skip, 0, "this kernel has no ipip"),
		end(0.5, wire.Counts{Labs: 2, Pass: 1, Skip: 1}),
	}
	long := []wire.Event{
		begin(), start("dr/long", "Much to show"),
		step("dr/long", 4, wire.Fail, 0.1, wire.Step{Index: 1, Of: 1, Name: "floods", Results: []wire.Result{
			{
				Check: "output", Pos: at("dr/long", 7), Verdict: wire.Fail, Wanted: "one line\nof two lines", Seen: "60 lines",
				Evidence: []wire.Evidence{{Title: "stdout", Text: numbered(60, "line %d")}, {Title: "stderr"}},
			},
			{Check: "output", Verdict: wire.Fail, Wanted: "silence", Seen: "60 lines", Evidence: []wire.Evidence{{Title: "stdout", Text: numbered(60, "line %d")}}},
			{Check: "counter", Verdict: wire.Skip, Seen: "this kernel does not count it"},
		}}),
		finish("dr/long", wire.Fail, 0.1, ""), end(0.1, wire.Counts{Labs: 1, Fail: 1}),
	}
	nasty := "a\x1b]0;owned\x07b\x1b[2J\u202egpj\u009b31m\xff\xfe\x00\x7f\u200b"
	hostile := []wire.Event{
		{Kind: wire.RunStarted, Message: nasty, Kernel: "6.1\x1b[31m"},
		start("x/"+nasty, "line one\nline two\t"+nasty),
		step("x/"+nasty, 3, wire.Fail, 0, wire.Step{Index: 1, Of: 1, Name: nasty, Did: []string{nasty + "\nFAIL"}, Results: []wire.Result{{
			Check: nasty, Pos: source.Pos{File: nasty, Line: 3}, Verdict: "green", Wanted: nasty, Seen: "漢字\tand\té\n" + nasty,
			Evidence: []wire.Evidence{{Title: nasty, Text: "::error::hello\n漢字\tx\nab\tx\r\n" + strings.Repeat("é", 3000)}},
		}}}),
		finish("x/"+nasty, wire.Fail, 0.1, nasty), end(0.1, wire.Counts{Labs: 1, Fail: 1}),
	}
	first, rest := failed[:5], []wire.Event{start("dr/never", "")}
	for _, c := range []struct {
		name   string
		opts   TextOptions
		events []wire.Event
	}{
		{"pass", TextOptions{Labs: three[:2]}, []wire.Event{
			begin(), start(three[0], titleRace), start(three[1], titleTables), balances(three[1]),
			finish(three[1], wire.Pass, 0.63, ""), finish(three[0], wire.Pass, 71.6, ""), end(72, wire.Counts{Labs: 2, Pass: 2}),
		}},
		{"failed", TextOptions{Labs: three}, failed},
		{"failed-color", TextOptions{Labs: three, Terminal: true, Color: true, Width: 100}, failed},
		{"failed-narrow", TextOptions{Labs: three, Terminal: true, Width: 40}, failed},
		{"broken", TextOptions{Labs: three}, died},
		{"verbose", TextOptions{Labs: three[1:], Verbose: true}, verbose},
		{"skip", TextOptions{Labs: three[1:]}, verbose},
		{"long", TextOptions{}, long},
		{"hostile", TextOptions{Terminal: true, Width: 200}, hostile},
		{"early", TextOptions{Labs: append(slices.Clone(three), "dr/sysctl")}, slices.Concat(first, rest)},
		{"boot", TextOptions{Labs: three}, []wire.Event{{
			Kind: wire.RunFinished, Verdict: wire.Broken, Counts: &wire.Counts{},
			Message: "the guest did not say hello within 10 s\ncheck_ptrace : expected SIGSTOP, got status = 9\n",
		}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := render(t, c.opts, c.events...)
			golden(t, c.name, got)
			if !c.opts.Terminal && bytes.ContainsAny(got, "\x1b\r") {
				t.Error("a report that is not for a terminal has control characters")
			}
		})
	}
}

func numbered(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format+"\n", i+1)
	}
	return b.String()
}

func TestTextTwice(t *testing.T) {
	// A guest died: its unfinished lab starts again, and the first try is
	// forgotten. A lab that ends twice keeps the worse verdict.
	got := string(render(t, TextOptions{Labs: []string{"a", "b"}},
		start("b", "B"), sticks("b"), start("b", "B"), finish("b", wire.Pass, 1, ""),
		start("a", "A"), finish("a", wire.Pass, 1, ""), finish("a", wire.Broken, 1, "its namespace was left behind"),
		wire.Event{Kind: wire.RunFinished}, wire.Event{Kind: wire.RunFinished}))
	for _, want := range []string{"why     its namespace was left behind\n", "BROKEN     1.0 s  a  A\n", "2 labs: 1 passed, 1 broken\n", "\n  lvslab run a\n"} {
		if strings.Count(got, want) != 1 {
			t.Errorf("%q is not in the report once:\n%s", want, got)
		}
	}
	if strings.Contains(got, "rotation") {
		t.Errorf("the first try is shown:\n%s", got)
	}
}

func TestTextNothing(t *testing.T) {
	if got := render(t, TextOptions{Labs: three, Terminal: true}); len(got) > 0 {
		t.Errorf("a run of no event prints %q", got)
	}
}

func TestRerun(t *testing.T) {
	events := []wire.Event{finish("it's", wire.Fail, 1, ""), finish("b", wire.Broken, 1, ""), finish("c", wire.Skip, 0, "")}
	if got := string(render(t, TextOptions{}, events...)); !strings.Contains(got, `  lvslab run 'it'\''s' b`+"\n") {
		t.Errorf("no command to run again in\n%s", got)
	}
	opts := TextOptions{Rerun: func(labs []string) string { return "again " + strings.Join(labs, "+") }}
	if got := string(render(t, opts, events...)); !strings.Contains(got, "  again it's+b\n") {
		t.Errorf("not the caller's command in\n%s", got)
	}
}

// TestRecallAlike shows that many labs in a row that ended alike are a few
// lines, and that none in between is lost.
func TestRecallAlike(t *testing.T) {
	s := Text(io.Discard, TextOptions{}).(*textSink)
	add := func(n int, cause string) {
		for i := range n {
			s.again = append(s.again, &lab{name: fmt.Sprintf("%s/%d", cause, i), verdict: wire.Broken, messages: []string{cause}})
		}
	}
	add(5, "a")
	add(4, "b")
	add(1, "c")
	s.nameWidth = 20
	s.recall()
	var got []string
	for line := range strings.Lines(s.buf.String()) {
		got = append(got, strings.Join(strings.Fields(line)[1:], " "))
	}
	want := []string{"a/0 a", "a/1 a", "a/2 a", "… and 2 more a", "b/0 b", "b/1 b", "b/2 b", "b/3 b", "c/0 c"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
