package tools

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/netns"
)

// inGuest skips a test elsewhere than in a guest, whose kernel has IPVS and
// arp_tables.
func inGuest(t *testing.T) {
	t.Helper()
	if os.Getenv("LVSLAB_INSIDE") != "1" {
		t.Skip("for a kernel with IPVS; runner/guest/inside runs it in one")
	}
}

// machineOf is an empty node with an address.
func machineOf(t *testing.T, name string) *netns.Namespace {
	t.Helper()
	n, err := netns.New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	lo, err := n.Netlink().LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Netlink().LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth1"}
	if err := n.Netlink().LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	for _, device := range []string{"eth1", "eth0"} {
		l, err := n.Netlink().LinkByName(device)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Netlink().LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
		if a, err := netlink.ParseAddr("172.25.12.1/24"); device == "eth0" {
			if err == nil {
				err = n.Netlink().AddrAdd(l, a)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

// said is what a program printed, and its exit status.
type said struct {
	text string
	exit int
}

// sorted is a text with its lines in order: that of the kernel's hash tables is
// another one in each namespace.
func sorted(text string) string {
	return strings.Join(slices.Sorted(strings.Lines(text)), "")
}

// tableOf is a node's table with all that it has. /proc/net/ip_vs would not do:
// read in pieces, it passes over services where other namespaces have some
// (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_info_seq_next).
func tableOf(t *testing.T, n *netns.Namespace) (text string) {
	t.Helper()
	if err := n.Thread(func() error {
		conn, err := ipvs.Open(here{})
		if err != nil {
			return err
		}
		defer conn.Close()
		table, err := conn.Table(context.Background())
		text = ipvs.FormatCommands(table)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return text
}

// ours runs one of this package's programs, real one of the machine's.
func ours(t *testing.T, n *netns.Namespace, in string, args []string) said {
	t.Helper()
	var out bytes.Buffer
	s := said{}
	if err := n.Thread(func() error {
		s.exit = Main(args, strings.NewReader(in), &out, &out)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	s.text = out.String()
	return s
}

func realOne(t *testing.T, n *netns.Namespace, in string, args []string) said {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), "/usr/sbin/"+args[0], args[1:]...) //nolint:gosec // the test's own words
	cmd.Args[0] = args[0]                                                               // messages name it
	cmd.Stdin = strings.NewReader(in)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := n.Thread(func() error { _ = cmd.Run(); return nil }); err != nil {
		t.Fatal(err)
	}
	return said{out.String(), cmd.ProcessState.ExitCode()}
}

// ipvsLines are command lines of ipvsadm, one after another; what follows a bar
// is their input, lines with semicolons between them.
const ipvsLines = `
-C

-L
-A -t 172.25.12.100:80 -s rr
-A -t 172.25.12.100:80 -s rr
-a -t 172.25.12.100:80 -r 172.25.12.2:80 -g
-a -t 172.25.12.100:80 -r 172.25.12.2:80 -g
-a -t 172.25.12.100:80 -r 172.25.12.3 -g -w 3
-a -t 1.2.3.4:81 -r 172.25.12.3:80
-A -u 1.2.3.4:53 -p
-A -u 1.2.3.4:54 -o -s rr
-A --sctp-service 1.2.3.4:9 -s wrr -p 50
-A -f 7 -s sh -b sh-port -p 100 -M 255.255.255.0
-a -f 7 -r 172.25.12.3 -m -x 10 -y 5
-A -t 8.8.8.8:80 --scheduler=mh -b mh-port,mh-fallback
-At 9.9.9.9:80 -srr
-a -t 9.9.9.9:80 -r 172.25.12.2:8080 -i
-a -t 9.9.9.9:80 -r 172.25.12.3:80 -i --tun-type gue --tun-port 6080 --tun-csum
-a -t 9.9.9.9:80 -r 172.25.12.4:80 -i --tun-type gre
-a -t 9.9.9.9:80 -r 172.25.12.5:80 -i --tun-type gue
-a -t 9.9.9.9:80 -r 172.25.12.5:80 -i --tun-type gre --tun-port 7
-a -t 9.9.9.9:80 -r 172.25.12.5:80 --tun-type gre
-a -t 9.9.9.9:80 -r 172.25.12.5:80 -i --tun-type nope
-L
-Ln
-ln
-Ln --rate
-Ln --stats --exact
-Ln --thresholds
-Ln --persistent-conn
-Ln --tun-info
-Lnc
-Lc
-Lnc --persistent-conn
-L --timeout
-L --daemon
-Ln -t 9.9.9.9:80
-L -t 9.9.9.9:http
-Ln -f 7
-Ln -t 1.2.3.4:81
-L --timeout --daemon
-L -c -t 9.9.9.9:80
-Ln -c --stats
-Ln --stats --rate
-S
-Sn
-E -t 172.25.12.100:80 -s wrr
-E -t 1.2.3.4:82
-A -t 1.2.3.4:83 -s nope
-e -t 172.25.12.100:80 -r 172.25.12.3 -w 0
-e -t 172.25.12.100:80 -r 172.25.12.9 -w 0
-d -t 172.25.12.100:80 -r 172.25.12.9
-d -t 172.25.12.100:80 -r 172.25.12.3
-D -t 1.2.3.4:99
-D -t 8.8.8.8:80
-D
-A
-A -t
-A -t foo
-A -t 1.2.3.4
-A -f 0
-A -6
-a -t 172.25.12.100:80
-a -t 172.25.12.100:80 -r
-a -t 172.25.12.100:80 -r 172.25.12.2:80 -g -i
-a -t 172.25.12.100:80 -r 172.25.12.2:80 -w foo
-A -t 1.2.3.4:80 -t 1.2.3.4:80
-A -D
-A -t 1.2.3.4:80 extra
-A -t 1.2.3.4:80 --bogus
--bogus
-t 1.2.3.4:80 -A
-A -t 1.2.3.4:80 -r 1.2.3.4
-L -r 1.2.3.4
-R -n
-A -t 1.2.3.4:80 -p foo
-A -t 1.2.3.4:80 -o
-A -t 1.2.3.4:80 -b foo
-A -t 1.2.3.4:80 -s rr -b sh-port
-A -t 1.2.3.4:nosuch
--set 1 2 3
-L --timeout
--set 1 2
--set a b c
-Z
-Z -t 172.25.12.100:80
-Z -t 1.2.3.4:99
--start-daemon master --mcast-interface eth0 --syncid 3
--start-daemon master --mcast-interface eth0
-L --daemon
--stop-daemon master
--stop-daemon master
--start-daemon foo
-v
-R|-A -t 5.5.5.5:80 -s rr;-a -t 5.5.5.5:80 -r 172.25.12.2:80
-R|ipvsadm -A -t 5.5.5.6:80;;bad;-A -t 5.5.5.7:80
-Ln
`

// Whatever is typed, this package's ipvsadm says what the machine's does, and
// leaves the same table.
func TestGuestIpvsadm(t *testing.T) {
	inGuest(t)
	mine, theirs := machineOf(t, "mine"), machineOf(t, "theirs")
	compare := func(in string, args ...string) {
		t.Helper()
		got, want := ours(t, mine, in, args), realOne(t, theirs, in, args)
		if got != want {
			t.Errorf("%s: exit %d and\n%swanted exit %d and\n%s", strings.Join(args, " "), got.exit, got.text, want.exit, want.text)
		}
		if want.exit != 0 || len(args) < 2 || strings.ContainsAny(args[1][:2], "LlSZv") {
			return // nothing can have changed
		}
		if got, want := tableOf(t, mine), tableOf(t, theirs); got != want {
			t.Fatalf("after %s the table is\n%swanted\n%s", strings.Join(args, " "), got, want)
		}
	}
	for line := range strings.Lines(strings.TrimPrefix(ipvsLines, "\n")) {
		line, in, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "|")
		compare(strings.ReplaceAll(in, ";", "\n")+"\n", append([]string{"ipvsadm"}, strings.Fields(line)...)...)
	}
	compare("# a comment\n-A -t 5.5.5.8:80 -s rr\n-a -t 5.5.5.8:80 -r 172.25.12.2:80 -m -w 7\n", "ipvsadm-restore")
	compare("", "ipvsadm-save")
	compare("", "ipvsadm-save", "-n")
	compare("", "ipvsadm-save", "-x")
}

// arpLines are command lines of arptables that both know the same answer to.
const arpLines = `-nL
-A INPUT -d 172.25.12.100 -j DROP
-A OUTPUT -s 172.25.12.100 -j mangle --mangle-ip-s 172.25.12.2
-nL
-L
-L INPUT -n
-nL --line-numbers
-nvL
-I INPUT -s 1.2.3.4 -j ACCEPT
-I INPUT 2 -s 1.2.3.5 -j ACCEPT
-I INPUT 9 -s 1.2.3.5 -j ACCEPT
-nL
-R INPUT 1 -s 1.1.1.1 -j DROP
-D INPUT 1
-D INPUT 9
-D INPUT -s 9.9.9.9 -j DROP
-D INPUT -s 1.2.3.5 -j ACCEPT
-A INPUT -d 1.2.3.0/24 -i eth0 -j DROP
-A OUTPUT ! -o eth1 --opcode 1 -j ACCEPT
-nL
-nvL --line-numbers
-D OUTPUT -s 172.25.12.100 -j mangle --mangle-ip-s 172.25.12.2
-P INPUT ACCEPT
-P FOO ACCEPT
-Z
-F FOO
-A FOO -j DROP
-F INPUT
-nL

-V
-F
-nL`

func TestGuestArptables(t *testing.T) {
	inGuest(t)
	mine, theirs := machineOf(t, "mine"), machineOf(t, "theirs")
	compare := func(in string, tool string, args ...string) {
		t.Helper()
		got := ours(t, mine, in, append([]string{tool}, args...))
		want := realOne(t, theirs, in, append([]string{strings.Replace(tool, "arptables", "arptables-legacy", 1)}, args...))
		if got != want {
			t.Errorf("%s %s: exit %d and\n%q wanted exit %d and\n%q", tool, strings.Join(args, " "), got.exit, got.text, want.exit, want.text)
		}
	}
	for line := range strings.SplitSeq(arpLines, "\n") {
		compare("", "arptables", strings.Fields(line)...)
	}
	// The scripts beside arptables-legacy run whatever is called arptables.
	if to, err := filepath.EvalSymlinks("/usr/sbin/arptables"); err != nil || strings.Contains(to, "nft") {
		return
	}
	const rules = "*filter\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:FORWARD ACCEPT\n-A INPUT -j DROP -d 172.25.12.100 \n"
	compare(rules, "arptables-restore")
	compare("", "arptables-save")
	compare("", "arptables", "-nL")
}
