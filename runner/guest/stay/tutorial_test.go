package stay

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/runner/live"
)

// bare are the tutorial's machines before anything was done to them.
const bare = `title: the tutorial's machines
networks: {lan: 172.25.12.0/24}
nodes:
  client: {links: {eth0: lan 172.25.12.250/24}}
  node1:  {links: {eth0: lan 172.25.12.1/24}}
  node2:  {links: {eth0: lan 172.25.12.2/24}}
  node3:  {links: {eth0: lan 172.25.12.3/24}}
`

// typist types lines into the nodes of a lab.
type typist struct {
	*testing.T
	lab live.Lab
	// path stands before PATH.
	path string
}

// run types lines and returns what came of them and the last one's exit status.
func (y typist) run(node, lines string) (said string, exit int) {
	y.Helper()
	var out bytes.Buffer
	script := fmt.Sprintf("exec 2>&1; PATH=%s$PATH\n%s", y.path, lines)
	e, err := y.lab.Exec(y.Context(), live.Exec{Node: node, Args: []string{"sh", "-c", script}}, live.Streams{Stdout: &out})
	if err != nil {
		y.Fatalf("%s: %s: %v", node, lines, err)
	}
	y.Logf("%s# %s\n%s", node, lines, out.String())
	return out.String(), e.Code
}

// types types lines whose output must hold all of words, and whose last one must
// succeed.
func (y typist) types(node, lines string, words ...string) string {
	y.Helper()
	said, exit := y.run(node, lines)
	if exit != 0 {
		y.Errorf("%s: %s: exit %d, said %q", node, lines, exit, said)
	}
	for _, w := range words {
		if !strings.Contains(said, w) {
			y.Errorf("%s: %s: said %q, wanted %q", node, lines, said, w)
		}
	}
	return said
}

// both types lines into both web servers, @ as the last number of each.
func (y typist) both(lines string, words ...string) {
	y.Helper()
	for _, n := range []string{"2", "3"} {
		var its []string
		for _, w := range words {
			its = append(its, strings.ReplaceAll(w, "@", n))
		}
		y.types("node"+n, strings.ReplaceAll(lines, "@", n), its...)
	}
}

// balanced asks four times and wants the servers to take turns.
func (y typist) balanced() {
	y.Helper()
	said := strings.Fields(y.types("client", "arp -d 172.25.12.100; for i in 1 2 3 4; do curl -sS -m 5 172.25.12.100; done"))
	if len(said) != 4 || said[0] == said[1] || !slices.Equal(said[:2], said[2:]) {
		y.Errorf("the servers do not take turns: %v", said)
	}
	mac := y.types("node1", "cat /sys/class/net/eth0/address")
	y.types("client", "arp -an | grep 100", "? (172.25.12.100) at "+strings.TrimSpace(mac)+" [ether] on eth0\n")
}

// The tutorial's first two parts, typed as printed (with the addresses put
// right) into bare nodes that have lvslab's programs only, end balanced.
func TestTutorialTyped(t *testing.T) {
	s := boot(t)
	l, err := s.Up(t.Context(), jobOf(bare))
	if err != nil {
		t.Fatal(err)
	}
	y := typist{t, l, "/run/lvslab/bin:"}
	y.routing()
	if t.Failed() {
		return
	}
	y.balanced()
	y.tunnels()
	y.balanced()
	y.types("node1", "modprobe -r ipip; modprobe ipip; ip addr add 172.25.12.100/32 dev tunl0; ip link set up tunl0")
	y.balanced()
	if said := y.types("client", "ip -o link"); strings.Contains(said, "tunl0") {
		t.Errorf("the client has a tunnel that nobody gave it: %s", said)
	}
	y.types("node1", "modprobe -r ipip; modprobe -r ipip")
	if said := y.types("node1", "ip -o link; ip addr"); strings.Contains(said, "tunl0") || strings.Contains(said, "172.25.12.100") {
		t.Errorf("a tunnel that was taken away is there: %s", said)
	}
	y.types("node2", "ip -o link", "tunl0")
}

func (y typist) routing() {
	y.Helper()
	y.types("node1", "yum install ipvsadm -y; ipvsadm -l", "Complete!", "Prot LocalAddress:Port Scheduler Flags")
	if said, exit := y.run("node1", "systemctl start ipvsadm"); exit != 1 || !strings.HasPrefix(said, "Job for ipvsadm.service failed because") {
		y.Errorf("ipvsadm started without its file: exit %d, %q", exit, said)
	}
	y.types("node1", `touch /etc/sysconfig/ipvsadm; systemctl start ipvsadm
echo 'IPVS_SAVE_ON_RESTART="yes"' > /etc/sysconfig/ipvsadm-config
ipvsadm -A -t 172.25.12.100:80 -s rr
ipvsadm -a -t 172.25.12.100:80 -r 172.25.12.2:80 -g
ipvsadm -a -t 172.25.12.100:80 -r 172.25.12.3:80 -g`)
	if said := y.types("node1", "cat /etc/sysconfig/ipvsadm"); said != "" {
		y.Errorf("rules were saved by themselves: %q", said)
	}
	y.types("node1", "systemctl restart ipvsadm; cat /etc/sysconfig/ipvsadm; ip addr add 172.25.12.100/24 dev eth0",
		"-A -t 172.25.12.100:80 -s rr\n-a -t 172.25.12.100:80 -r 172.25.12.2:80 -g -w 1\n-a -t 172.25.12.100:80 -r 172.25.12.3:80 -g -w 1\n")
	y.both("systemctl start httpd; echo web@ > /var/www/html/index.html; ip addr add 172.25.12.100/24 dev eth0")
	y.types("client", "curl -s 172.25.12.100", "web")
	rules := "-j DROP -d 172.25.12.100 \n\nChain OUTPUT (policy ACCEPT)\n-j mangle -s 172.25.12.100 --mangle-ip-s 172.25.12.@ \n"
	y.both(`yum install -y arptables_jf
arptables -A INPUT -d 172.25.12.100 -j DROP
arptables -A OUTPUT -s 172.25.12.100 -j mangle --mangle-ip-s 172.25.12.@
arptables-save > /etc/sysconfig/arptables
arptables -F
systemctl start arptables.service; arptables -nL`, rules)
}

func (y typist) tunnels() {
	y.Helper()
	y.types("node1", `modprobe ipip; ip a
ip addr del 172.25.12.100/24 dev eth0; ip addr add 172.25.12.100/24 dev tunl0; ip link set up tunl0
ipvsadm -C; ipvsadm -A -t 172.25.12.100:80 -s rr
ipvsadm -a -t 172.25.12.100:80 -r 172.25.12.2:80 -i
ipvsadm -a -t 172.25.12.100:80 -r 172.25.12.3:80 -i
systemctl restart ipvsadm.service; cat /etc/sysconfig/ipvsadm; ipvsadm -Ln`, "tunl0@NONE: <NOARP>", "-r 172.25.12.2:80 -i -w 1",
		"  -> 172.25.12.3:80               Tunnel  1 ")
	y.both(`modprobe ipip
ip addr del 172.25.12.100/24 dev eth0; ip addr add 172.25.12.100/24 dev tunl0; ip link set up tunl0
for k in all default eth0 tunl0; do echo 0 > /proc/sys/net/ipv4/conf/$k/rp_filter; done`)
}
