package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner/live"
)

func TestFaultWords(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		words string
		flags faultWords
		want  live.Fault
		err   string
	}{
		{words: "cut web1", want: live.Fault{Kind: live.Cut, Node: "web1"}},
		{words: "cut web1:eth1", want: live.Fault{Kind: live.Cut, Node: "web1", Device: "eth1"}},
		{words: "delay web1 50ms", flags: faultWords{jitter: 10 * ms}, want: live.Fault{Kind: live.Delay, Node: "web1", Delay: 50 * ms, Jitter: 10 * ms}},
		{words: "lose web1 30%", want: live.Fault{Kind: live.Lose, Node: "web1", Percent: 30}},
		{words: "corrupt web1:eth0 0.5", want: live.Fault{Kind: live.Corrupt, Node: "web1", Device: "eth0", Percent: 0.5}},
		{words: "reorder web1 25%", flags: faultWords{delay: 5 * ms}, want: live.Fault{Kind: live.Reorder, Node: "web1", Percent: 25, Delay: 5 * ms}},
		{words: "kill web1 http", want: live.Fault{Kind: live.Kill, Node: "web1", Daemon: "http"}},
		{words: "kill web1/http:80", want: live.Fault{Kind: live.Kill, Node: "web1", Daemon: "http:80"}},
		{words: "hang web1", want: live.Fault{Kind: live.Hang, Node: "web1"}},
		{words: "stop web1", want: live.Fault{Kind: live.Stop, Node: "web1"}},
		{words: "drop-arp web1 10.0.0.100", want: live.Fault{Kind: live.DropARP, Node: "web1", Address: "10.0.0.100"}},
		{words: "cutt web1", err: `did you mean "cut"`},
		{words: "cut", err: "name a node"},
		{words: "cut web1:", err: "wanted a device"},
		{words: "cut web1 web2", err: `"web2" is one word too many`},
		{words: "kill web1/http http", err: "one word too many"},
		{words: "kill web1 http 80", err: `"80" is one word too many`},
		{words: "delay web1", err: "how late? as in: delay web1 50ms"},
		{words: "delay web1 50", err: "wanted a time"},
		{words: "lose web1 many", err: "wanted a percentage"},
		{words: "lose web1 3%", flags: faultWords{jitter: 1}, err: "--jitter is of delay"},
		{words: "delay web1 3ms", flags: faultWords{delay: 1}, err: "--delay is of reorder"},
	} {
		got, err := c.flags.fault(strings.Fields(c.words))
		switch {
		case c.err == "" && (err != nil || got != c.want):
			t.Errorf("%s: %+v, %v, wanted %+v", c.words, got, err, c.want)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: %v, wanted %q", c.words, err, c.err)
		}
	}
}

// A fault is healed by the words that made it, by those that it is called by, and
// by less.
func TestHealWords(t *testing.T) {
	cut := live.Fault{Kind: live.Cut, Node: "web1", Device: "eth0"}
	kill := live.Fault{Kind: live.Kill, Node: "web1", Daemon: "http:80"}
	lose := live.Fault{Kind: live.Lose, Node: "web2", Device: "eth0", Percent: 3}
	arp := live.Fault{Kind: live.DropARP, Node: "web1", Address: "10.0.0.100"}
	var all []live.Broken
	for _, f := range []live.Fault{cut, kill, lose, arp} {
		all = append(all, live.Broken{ID: f.ID(), Fault: f})
	}
	for words, want := range map[string][]string{
		"cut": {"cut"}, "cut web1": {"cut"}, "cut web1:eth0": {"cut"}, "web1:eth0": {"cut"}, "kill web1 http": {"kill"}, "web1/http": {"kill"},
		"kill web1/http:80": {"kill"}, "lose web2 3%": {"lose"}, "lose web2": {"lose"}, "web2 web1:eth0": {"cut", "lose"},
		"web1": {"cut", "kill", "drop-arp"}, "drop-arp web1 10.0.0.100": {"drop-arp"}, "drop-arp web1": {"drop-arp"},
		"cut web1 web2": nil, "kill web1 ftp": nil, "cut web2": nil, "lose web1": nil,
	} {
		var got []string
		asked := healWords(strings.Fields(words))
		for _, b := range all {
			if slices.ContainsFunc(asked, b.Is) {
				got = append(got, b.Kind)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("heal %s (%q): %v, wanted %v", words, asked, got, want)
		}
	}
}
