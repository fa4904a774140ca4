package tools

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// lines are command lines that the fuzz targets begin with.
func lines(f *testing.F, of ...string) {
	for _, text := range of {
		for line := range strings.SplitSeq(text, "\n") {
			f.Add(line)
		}
	}
}

// FuzzIPVSRule: no words make it panic, and what it takes has a command.
func FuzzIPVSRule(f *testing.F) {
	lines(f, ipvsLines)
	n := parseNames("10.0.0.1 web1\n", "http 80/tcp\n")
	f.Fuzz(func(t *testing.T, line string) {
		for _, args := range [][]string{wordsOf(line), strings.Fields(line), strings.Split(line, " ")} {
			r, err := parseIPVSRule(n, args)
			if r == nil && err == nil {
				t.Fatalf("%q: neither a rule nor an error", args)
			}
			if err == nil && r.command == "" {
				t.Errorf("%q: no command: %+v", args, r)
			}
		}
	})
}

// FuzzArptables: no words make it panic.
func FuzzArptables(f *testing.F) {
	lines(f, arpLines, "-P INPUT DROP\n-I INPUT 2 ! -s 1.2.3.4 -j mangle --mangle-mac-s 0:0:0:0:0:1\n-nvL#x\n-\n--\n-A")
	f.Fuzz(func(t *testing.T, line string) {
		for _, args := range [][]string{strings.Fields(line), strings.Split(line, " ")} {
			cmd, err := parseArpCommand(args)
			if err != nil {
				continue
			}
			if cmd.letter == 0 {
				t.Errorf("%q: no command", args)
			}
			if rule, err := parseArpSpec(cmd); err == nil {
				_, _ = cmd.change(nil, rule) // it may refuse
			}
		}
	})
}

// FuzzCurl: no words make it panic, and a time that it takes is one to wait for.
func FuzzCurl(f *testing.F) {
	lines(f, "-s -m 5 http://10.0.0.1/\n-sSo /dev/null -w %{http_code}\\n%{time_total} web1\n-H a:b -d x=1 -d y -XPUT -L -k https://[fe80::1%eth0]:443/a?b#c\n-m\n-w %{ -w %%\\\n--\n-4 -6 --interface eth0 --connect-timeout 1e-9 :80\n-m 1e6\n-m NaN\n--s\n-")
	f.Fuzz(func(t *testing.T, line string) {
		if len(line) > 4<<10 {
			t.Skip() // nobody types that
		}
		for _, args := range [][]string{strings.Fields(line), strings.Split(line, " ")} {
			o, done, err := parseCurl(args)
			if err != nil || done != "" {
				continue
			}
			if o.maxTime < 0 || o.connectTime < 0 || o.maxTime > 1e6*time.Second {
				t.Errorf("%q: times %s and %s", args, o.maxTime, o.connectTime)
			}
			tr := &transfer{call: &call{out: io.Discard, err: io.Discard}, o: o, names: parseNames("", ""), begin: time.Now()}
			_, _ = tr.written(), tr.method()
			for _, u := range o.urls {
				if parsed, err := parseURL(u); err == nil && parsed.Hostname() == "" {
					t.Errorf("%q is a URL without a host", u)
				}
			}
		}
	})
}

// FuzzArp: no words make it panic, nor do any lines of /proc/net/arp.
func FuzzArp(f *testing.F) {
	lines(f, "-an\n-d 10.0.0.1\n-s 10.0.0.1 2:0:0:0:0:1 temp\n-i eth0 -v\nIP address HW type Flags HW address Mask Device\n10.0.0.1 0x1 0x2 02:00:00:00:00:01 * eth0\n10.0.0.1 0x1 0xc 00:00:00:00:00:00 * eth0")
	f.Fuzz(func(_ *testing.T, line string) {
		o, _ := parseArpOptions(strings.Fields(line))
		c := &call{err: new(strings.Builder), out: new(strings.Builder)}
		_, _, _ = c.arpWords(o, slices.Clone(strings.Fields(line)))
		_, _ = parseMAC(line)
		for _, e := range parseArp("header\n" + line + "\n") {
			_, _ = e.bsd("x"), e.linux("x")
		}
	})
}

// FuzzNames: no hosts and services make it panic.
func FuzzNames(f *testing.F) {
	f.Add("127.0.0.1 localhost # x\n::1 a b\n", "http 80/tcp www\nx /\n", "http")
	f.Fuzz(func(_ *testing.T, hosts, services, name string) {
		n := parseNames(hosts, services)
		if a, ok := n.host(name); ok {
			_ = n.addrName(a)
		}
		if p, ok := n.port(name, "tcp"); ok {
			_ = n.portName(p, "tcp")
		}
	})
}
