package scenarios_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
)

// good is a lab with a line for each part, which the cases below spoil.
const good = `title: A lab
networks:
  lan: 10.0.0.0/24
nodes:
  client: {links: {eth0: lan 10.0.0.250/24}}
  director: {links: {eth0: lan 10.0.0.1/24}}
  web1: {links: {eth0: lan 10.0.0.2/24}, serve: [http]}
  web2: {links: {eth0: lan 10.0.0.3/24}, serve: [http]}
virtual_services:
  web:
    address: tcp 10.0.0.100:80
    directors: [director]
    scheduler: rr
    forwarding: dr
    vip: {directors: eth0/32, real_servers: lo/32}
    arp_suppression: sysctl
    real_servers: [web1, web2]
steps:
- name: one
  do:
  - request: {to: web, count: 4}
  expect:
  - rotation: [web1, web2]
`

// spoil is good with one text in the place of another.
func spoil(t testing.TB, old, new string) string {
	t.Helper()
	if !strings.Contains(good, old) {
		t.Fatalf("the good lab has no %q", old)
	}
	return strings.Replace(good, old, new, 1)
}

func TestLoadErrors(t *testing.T) {
	const (
		action = "request: {to: web, count: 4}"
		expect = "rotation: [web1, web2]"
		topKey = "title: A lab\n"
	)
	for _, c := range []struct{ old, new, want string }{
		// Structure: the file's top.
		{topKey, "", `f.yaml:1:1: key "title" is missing`},
		{topKey, "titel: A lab\n", "f.yaml:1:1: unknown key \"titel\", did you mean \"title\"? Allowed: title, about, name, networks, sysctls, allow, needs, nodes, virtual_services, steps, keep_going, matrix\nf.yaml:1:1: key \"title\" is missing"},
		{topKey, "title: A lab\nname: ../escape\n", `f.yaml:1:1: "f/../escape" cannot be the name of a lab: small letters, digits, dashes and underscores, with / between chapters`},
		{topKey, "title: A lab\nallow: [vip-in-no-netwerk]\n", `f.yaml:2:9: unknown finding "vip-in-no-netwerk", did you mean "vip-in-no-network"? Allowed: ` + strings.Join(scenarios.Codes(), ", ")},
		{topKey, "title: A lab\nallow: [vip-in-no-network]\n", "f.yaml:2:9: allow: vip-in-no-network is not found in this lab; take it out"},
		// Networks.
		{"lan: 10.0.0.0/24", "lan: 10.0.0.1/24", "f.yaml:3:8: network 10.0.0.1/24 has host bits set; did you mean 10.0.0.0/24?"},
		{"lan: 10.0.0.0/24", "lan: [10.0.0.0/24, \"::ffff:10.0.0.0/120\"]", "f.yaml:3:8: network ::ffff:10.0.0.0/120: wanted a plain IPv4 or IPv6 prefix"},
		{"lan: 10.0.0.0/24", "lan: []", "f.yaml:3:8: a network needs a prefix such as 10.0.0.0/24"},
		{"lan: 10.0.0.0/24", "lan: ten", `f.yaml:3:8: wanted an address with its prefix length such as 10.0.0.1/24, found "ten"`},
		{"lan: 10.0.0.0/24", "lan: 10.0.0.0/24\n  web1: 10.1.0.0/24", "f.yaml:4:3: network web1 has the name of the node at f.yaml:8:9; each has a namespace of its own"},
		{"lan: 10.0.0.0/24", "lan: 10.0.0.0/24\n  wan: 10.0.0.128/25", "f.yaml:4:3: network wan (10.0.0.128/25) overlaps lan (10.0.0.0/24) [networks-overlap]"},
		{"lan: 10.0.0.0/24", "lan: 10.0.0.0/24\n  ../wan: 10.1.0.0/25", `f.yaml:4:3: network name "../wan": a name is small letters, digits and dashes, begins with a letter and has at most 31 characters`},
		{"lan: 10.0.0.0/24", "lan: 10.0.0.0/24\n  lan: 10.1.0.0/25", `f.yaml:4:3: key "lan" is here a second time; the first is in line 3`},
		// Nodes.
		{"  web2: {links", "  all: {}\n  web2: {links", `f.yaml:8:3: node name "all": that word has a meaning of its own in a lab file`},
		{"  web2: {links", "  WEB: {}\n  web2: {links", `f.yaml:8:3: node name "WEB": a name is small letters, digits and dashes, begins with a letter and has at most 31 characters`},
		{"  web2: {links", "  \"a\\n\": {}\n  web2: {links", `f.yaml:8:3: node name "a\n": a name is small letters, digits and dashes, begins with a letter and has at most 31 characters`},
		{"  web2: {links", "  ./web: {}\n  web2: {links", `f.yaml:8:3: node name "./web": a name is small letters, digits and dashes, begins with a letter and has at most 31 characters`},
		{"  web2: {links", "  other:\n  web2: {links", `f.yaml:8:9: wanted a mapping with the keys links, devices, routes, sysctls, arp_rules, iptables, ip6tables, rules, `},
		{"client: {links: {eth0: lan", "client: {links: {eth0: lna", `f.yaml:5:26: unknown network "lna", did you mean "lan"? Allowed: lan`},
		{"client: {links: {eth0: lan 10.0.0.250/24}}", "client: {links: {eth0: }}", `f.yaml:5:26: wanted a mapping with the keys network, addresses, delay, mtu, down, found nothing`},
		{"client: {links: {eth0: lan 10.0.0.250/24}}", "client: {links: {eth0: null}}", `f.yaml:5:26: wanted a mapping with the keys network, addresses, delay, mtu, down, found nothing`},
		{"client: {links: {eth0:", "client: {links: {lo:", `f.yaml:5:20: a link cannot be called "lo": letters, digits, -, _ and dots, at most 15, beginning with a letter, and not as a device that is there anyway: lo, gre0, ip6gre0, ip6tnl0, sit0, tunl0`},
		{"client: {links: {eth0:", "client: {sysctls: {net.ipv4.conf.bond0.7.rp_filter: 1}, links: {bond0.7:", "f.yaml:5:22: sysctl net.ipv4.conf.bond0.7.rp_filter: device bond0.7 has a dot in its name, so that the parts have slashes between: net/ipv4/conf/bond0.7/rp_filter"},
		{"client: {links: {eth0:", "client: {links: {sixteencharslong:", `f.yaml:5:20: a link cannot be called "sixteencharslong": letters, digits, -, _ and dots, at most 15, beginning with a letter, and not as a device that is there anyway: lo, gre0, ip6gre0, ip6tnl0, sit0, tunl0`},
		{"lan 10.0.0.250/24", "lan 10.0.0.250", `f.yaml:5:26: wanted an address with its prefix length such as 10.0.0.1/24, found "10.0.0.250"`},
		{"lan 10.0.0.250/24", "lan fd00::1/64", "f.yaml:5:26: client's eth0 has fd00::1/64, which is not in network lan (10.0.0.0/24) [address-outside-network]\nf.yaml:11:5: client has no route to the virtual IP 10.0.0.100 of web [client-has-no-route]"},
		{"eth0: lan 10.0.0.250/24", "eth0: {network: lan, addresses: 10.0.0.250/24, delay: 1h}", "f.yaml:5:26: delay 1h0m0s is longer than 4s"},
		{"10.0.0.250/24}", "10.0.0.250/24}, routes: [default via 10.0.0.1 dev eth7]", `f.yaml:5:55: unknown device "eth7", did you mean "eth0"? Allowed: eth0, lo, gre0, ip6gre0, ip6tnl0, sit0, tunl0`},
		{"10.0.0.250/24}", "10.0.0.250/24}, routes: [\"::/0 via fe80::1\"]", "f.yaml:5:55: route to default: fe80::1 is of one link only, so dev must say which"},
		{"10.0.0.250/24}", "10.0.0.250/24}, devices: {dummy0: {}}", `f.yaml:5:56: unknown device "dummy0"; Allowed: lo, gre0, ip6gre0, ip6tnl0, sit0, tunl0`},
		{"10.0.0.250/24}", "10.0.0.250/24}, sysctls: {kernel.hostname: x}", `f.yaml:5:56: sysctl "kernel.hostname": only keys below net. belong to a node, as in net.ipv4.conf.all.rp_filter`},
		{"10.0.0.250/24}", "10.0.0.250/24}, sysctls: {net/../kernel/hostname: x}", `f.yaml:5:56: sysctl "net/../kernel/hostname": only keys below net. belong to a node, as in net.ipv4.conf.all.rp_filter`},
		{"10.0.0.250/24}", "10.0.0.250/24}, sysctls: {net.ipv4.ip_forward: \"1\\n0\"}", `f.yaml:5:56: sysctl net.ipv4.ip_forward: a value is one line of text, found "1\n0"`},
		{"10.0.0.250/24}", "10.0.0.250/24}, sysctls: {net.ipv4.ip_forward: \"\"}", `f.yaml:5:56: sysctl net.ipv4.ip_forward: a value is one line of text, found ""`},
		{"10.0.0.250/24}", "10.0.0.250/24}, serve: [http2]", `f.yaml:5:54: unknown service "http2", did you mean "http"? Allowed: dns, ftp, http, keepalived, nfs, sctp, smtp, tcp, udp`},
		{"10.0.0.250/24}", "10.0.0.250/24}, serve: [http 0]", `f.yaml:5:54: port "0" is not from 1 to 65535`},
		{"10.0.0.250/24}", "10.0.0.250/24}, serve: [http, http 80]", "f.yaml:5:60: node client serves port 80 twice; the first is at f.yaml:5:54"},
		{"10.0.0.250/24}", "10.0.0.2/24}", "f.yaml:7:24: web1 has the address 10.0.0.2 of client (f.yaml:5:26) [address-twice]"},
		{"10.0.0.250/24}", "10.0.1.250/24}", "f.yaml:5:26: client's eth0 has 10.0.1.250/24, which is not in network lan (10.0.0.0/24) [address-outside-network]\nf.yaml:11:5: client has no route to the virtual IP 10.0.0.100 of web [client-has-no-route]"},
		// Virtual services.
		{"  web:\n", "  web1:\n", "f.yaml:10:3: virtual service web1 has the name of the node at f.yaml:7:9; which of them would be asked?"},
		{"tcp 10.0.0.100:80", "10.0.0.100:80", `f.yaml:11:14: wanted PROTOCOL ADDRESS:PORT such as "tcp 10.0.0.100:80", or "fwmark 1", found "10.0.0.100:80"`},
		{"tcp 10.0.0.100:80", "tpc 10.0.0.100:80", `f.yaml:11:14: unknown protocol "tpc", did you mean "tcp"? Allowed: tcp, udp, sctp, fwmark`},
		{"tcp 10.0.0.100:80", "tcp 10.0.0.100:0", "f.yaml:11:5: virtual service tcp 10.0.0.100:0: port 0, which means every port, needs persistence (-p)"},
		{"tcp 10.0.0.100:80", "tcp [fe80::1%;reboot]:80", "f.yaml:11:14: service address [fe80::1%;reboot]:80: wanted a plain IPv4 or IPv6 address"},
		{"tcp 10.0.0.100:80", "tcp 10.9.0.100:80", "f.yaml:11:5: the virtual IP 10.9.0.100 of web is in no network, and no route leads to it [vip-in-no-network]\nf.yaml:11:5: client has no route to the virtual IP 10.9.0.100 of web [client-has-no-route]"},
		{"tcp 10.0.0.100:80", "tcp 10.0.0.250:80", "f.yaml:5:26: the virtual IP 10.0.0.250 of web is also client's own address [vip-is-a-node-address]"},
		{"tcp 10.0.0.100:80", "tcp 10.0.0.100:81", "f.yaml:17:20: real server web1 of web serves nothing on tcp port 81 [nothing-serves-the-port]\nf.yaml:17:26: real server web2 of web serves nothing on tcp port 81 [nothing-serves-the-port]"},
		{"directors: [director]", "directors: []", "f.yaml:11:5: directors is an empty list"},
		{"directors: [director]", "directors: [directer]", `f.yaml:11:5: unknown node "directer", did you mean "director"? Allowed: client, director, web1, web2`},
		{"scheduler: rr", "scheduler: rrr", `f.yaml:13:16: unknown scheduler "rrr", did you mean "rr"? Allowed: rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos`},
		{"forwarding: dr", "forwarding: masquerade", `f.yaml:14:17: unknown forwarding method "masquerade"; Allowed: dr, tun, nat, fullnat`},
		{"directors: eth0/32", "directors: eth0/33", "f.yaml:15:22: a prefix length of 33 is too long for 10.0.0.100"},
		{"directors: eth0/32", "directors: ../eth0/32", `f.yaml:15:22: wanted DEVICE/LENGTH such as eth0/32, or none, found "../eth0/32"`},
		{"directors: eth0/32", "directors: eth1/32", `f.yaml:15:22: node director: unknown device "eth1", did you mean "eth0"? Allowed: eth0, lo, gre0, ip6gre0, ip6tnl0, sit0, tunl0`},
		{"directors: eth0/32", "directors: none", "f.yaml:15:22: the directors of web do not carry 10.0.0.100 [vip-not-carried]"},
		{"    arp_suppression: sysctl\n", "", "f.yaml:11:5: arp_suppression is missing: the real servers carry the virtual IP, so say what keeps them from answering ARP for it: sysctl, arptables, or none"},
		{"arp_suppression: sysctl", "arp_suppression: [arp_ignore]", `f.yaml:16:22: unknown ARP suppression "arp_ignore", did you mean "arp-ignore"? Allowed: arptables, sysctl, none, arp-ignore, arp-announce, arp-input-drop, arp-output-mangle`},
		{"[web1, web2]\nsteps", "[web1, web1]\nsteps", "f.yaml:17:26: real server web1 is here a second time"},
		{"[web1, web2]\nsteps", "[web1, {node: web2, weight: -1}]\nsteps", "f.yaml:17:26: weight -1 is not from 0 to 2147483647"},
		{"[web1, web2]\nsteps", "[web1, director]\nsteps", "f.yaml:17:26: real server director is a director of the same service"},
		{"[web1, web2]\nsteps", "[web1, {node: web2, address: 10.0.0.9}]\nsteps", "f.yaml:17:26: director calls real server web2 by 10.0.0.9, which is not its address [real-server-address-unknown]"},
		{"[web1, web2]\nsteps", "[web1, {node: web2, address: \"fe80::1%;reboot\"}]\nsteps", `f.yaml:17:26: address "fe80::1%;reboot": wanted a plain IPv4 or IPv6 address`},
		// Steps: what is done.
		{"- name: one\n  do", "- do", `f.yaml:19:3: key "name" is missing`},
		{action, "reqest: {to: web}", `f.yaml:21:5: unknown action "reqest", did you mean "request"? Allowed: ` + strings.Join(scenarios.ActionKinds(), ", ")},
		{action, "request", `f.yaml:21:5: action "request" needs a value`},
		{action, "request: ~", `f.yaml:21:14: wanted a mapping with the keys to, from, name, count, `},
		{action, "{request: {to: web}, ping: {to: web}}", `f.yaml:21:26: one action a list item: "ping" is a second one; begin it with a dash`},
		{action, "request: {to: wbe}", `f.yaml:21:14: "wbe" is no address; unknown service or node "wbe", did you mean "web"? Allowed: web, client, director, web1, web2`},
		{action, "request: {to: \"[fe80::1%;reboot]:80\"}", `f.yaml:21:14: address "fe80::1%;reboot": wanted a plain IPv4 or IPv6 address`},
		{action, "ping: {to: \"fe80::1%;reboot\"}", `f.yaml:21:11: address "fe80::1%;reboot": wanted a plain IPv4 or IPv6 address`},
		{action, "request: {to: \"web1:0\"}", `f.yaml:21:14: port "0" of web1 is not from 1 to 65535`},
		{action, "request: {to: web, count: 0}", "f.yaml:21:14: count is from 1 to 10000, found 0"},
		{action, "request: {to: web, count: 10001}", "f.yaml:21:14: count is from 1 to 10000, found 10001"},
		{action, "request: {to: web, concurrency: 257}", "f.yaml:21:14: concurrency is from 1 to 256, found 257"},
		{action, "request: {to: web, timeout: 1h}", "f.yaml:21:14: timeout 1h0m0s is longer than 5m0s"},
		{action, "request: {to: web, path: x}", `f.yaml:21:14: path "x": wanted / and then what may stand in a URL; write other characters as in %20`},
		{action, "request: {to: web, path: \"/\\r\\nHost: x\"}", `f.yaml:21:14: path "/\r\nHost: x": wanted / and then what may stand in a URL; write other characters as in %20`},
		{action, "run: {node: web3, command: true}", `f.yaml:21:10: unknown node "web3", did you mean "web1"? Allowed: client, director, web1, web2`},
		{action, "write: {node: web1, file: etc/x}", `f.yaml:21:12: file: "etc/x" does not begin with /`},
		{action, "save: {node: web1, table: nft, file: /x}", `f.yaml:21:11: unknown table "nft"; Allowed: ipvs, arp`},
		{action, "systemctl: {node: web1, command: start sshd}", `f.yaml:21:16: command: wanted start, stop or restart and then ipvsadm or arptables, found "start sshd"`},
		{action, "link: {nodes: [web1]}", "f.yaml:21:11: link needs one of down: and delay:"},
		{action, "link: {nodes: [web1], device: eth1, down: true}", `f.yaml:21:11: node web1: unknown link "eth1", did you mean "eth0"? Allowed: eth0`},
		{action, "link: {nodes: [web1], delay: 1m}", "f.yaml:21:11: delay 1m0s is longer than 4s"},
		{action, "flush_neighbours: [web9]", `f.yaml:21:5: unknown node "web9", did you mean "web1"? Allowed: client, director, web1, web2`},
		{action, "mutate: {omit: arp-ignor}", `f.yaml:21:13: mutate: no op plays the role "arp-ignor" here; the roles are network, node, ip-forwarding`},
		// Changes are laid over the lab when it is loaded.
		{action, "change: {titel: x}", `f.yaml:21:14: unknown key "titel"; Allowed: networks, sysctls, nodes, virtual_services (in a change)`},
		{action, "change: {steps: []}", `f.yaml:21:14: unknown key "steps"; Allowed: networks, sysctls, nodes, virtual_services (in a change)`},
		{action, "change: {nodes: {web9: {sysctls: {net.ipv4.ip_forward: 1}}}}", `f.yaml:21:22: unknown node "web9", did you mean "web1"? Allowed: client, director, web1, web2 (in a change; a new node needs links)`},
		{"tcp 10.0.0.100:80", "udp 10.0.0.100:80", "f.yaml:17:20: real server web1 of web serves nothing on udp port 80 [nothing-serves-the-port]\nf.yaml:17:26: real server web2 of web serves nothing on udp port 80 [nothing-serves-the-port]"},
		{action, "request: {to: web, count: four}", `f.yaml:21:31: wanted a whole number, found "four"`},
		{"    directors: [director]\n", "", "f.yaml:11:5: key \"directors\" is missing"},
		{action, "change: {virtual_services: {web: {scheduler: zz}}}", `f.yaml:21:50: unknown scheduler "zz"; Allowed: rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos`},
		{action, "change: {virtual_services: {web: {schedular: rr}}}", `f.yaml:21:39: unknown key "schedular", did you mean "scheduler"? Allowed: `},
		{action, "change: {nodes: {web2: null}}", `f.yaml:17:26: unknown node "web2", did you mean "web1"? Allowed: client, director, web1`},
		{action, "change: {nodes: {web1: {links: {eth0: lan 10.0.9.2/24}}}}", "f.yaml:17:20: director director has no route to real server web1 at 10.0.9.2 [real-server-unreachable]\nf.yaml:21:43: web1's eth0 has 10.0.9.2/24, which is not in network lan (10.0.0.0/24) [address-outside-network]"},
		{action, "change: [a]", "f.yaml:21:13: wanted a mapping (key: value), found a list"},
		// What IPVS would refuse, said before a kernel is asked.
		{"tcp 10.0.0.100:80", "tcp 10.0.0.100:65536", "f.yaml:11:14: port 65536 is not from 0 to 65535"},
		{"tcp 10.0.0.100:80", "tcp [fd00::1]:99999", "f.yaml:11:14: port 99999 is not from 0 to 65535"},
		{"tcp 10.0.0.100:80", "fwmark 0", `f.yaml:11:14: firewall mark "0" is not from 1 to 4294967295`},
		{"tcp 10.0.0.100:80", "fwmark 1", "f.yaml:11:5: vips is missing: a service by firewall mark has no address of its own, so say which the directors carry"},
		{"scheduler: rr", "scheduler: rr\n    vips: [10.0.0.100]", "f.yaml:11:5: vips belongs to a service by firewall mark; this one has its address"},
		{"scheduler: rr", "scheduler: rr\n    one_packet: true", "f.yaml:11:5: virtual service tcp 10.0.0.100:80: one-packet scheduling (-o) is for UDP alone"},
		{"scheduler: rr", "scheduler: rr\n    persistence: {netmask: 0}", "f.yaml:14:18: a netmask of 0 would put all clients on one server; wanted 1 to 32, or to 128 for IPv6"},
		{"scheduler: rr", "scheduler: rr\n    persistence: {netmask: 33}", "f.yaml:11:5: virtual service tcp 10.0.0.100:80: netmask /33 is out of range, /1 to /32"},
		{"scheduler: rr", "scheduler: rr\n    persistence: 0s", "f.yaml:14:18: a persistence of 0 is none; leave the key out"},
		{"scheduler: rr", "scheduler: rr\n    scheduler_flags: [sh-prot]", `f.yaml:11:5: virtual service tcp 10.0.0.100:80: `},
		{"forwarding: dr", "forwarding: tun vxlan", `f.yaml:14:17: unknown tunnel type "vxlan"; Allowed: ipip, gre, gue PORT`},
		{"forwarding: dr", "forwarding: tun gue", `f.yaml:14:17: a gue tunnel needs its port, as in "tun gue 6080"`},
		{"forwarding: dr", "forwarding: tun gue 66000", `f.yaml:14:17: gue port "66000" is not from 1 to 65535`},
		{"forwarding: dr", "forwarding: tun ipip csum", "f.yaml:17:20: real server 10.0.0.2:80 of tcp 10.0.0.100:80: an ipip tunnel has no checksum"},
		{"forwarding: dr", "forwarding: nat gre", `f.yaml:14:17: forwarding nat: only tun is followed by a tunnel type, found "gre"`},
		{"[web1, web2]\nsteps", "[web1, {node: web2, upper_threshold: 1, lower_threshold: 2}]\nsteps", "f.yaml:17:26: real server 10.0.0.3:80 of tcp 10.0.0.100:80: the lower threshold 2 is above the upper one, 1"},
		{"[web1, web2]\nsteps", "[web1, {node: web2, port: 65536}]\nsteps", `f.yaml:17:45: wanted a whole number from 0 to 65535, found "65536"`},
		{"[web1, web2]\nsteps", "[web1, {node: web2, port: 81}]\nsteps", "f.yaml:17:26: port 81: by direct routing packets keep the service's port"},
		{"[web1, web2]\nsteps", "[web1, {node: web2, address: \"fd00::3\"}]\nsteps", "f.yaml:17:26: real server [fd00::3]:80 of tcp 10.0.0.100:80: an IPv6 real server in an IPv4 service needs tunnelling (ipvsadm -i, forwarding: tun)"},
		// Rules as text are taken as a whole or not at all, each mistake at its own place.
		{"director: {links: {eth0: lan 10.0.0.1/24}}", "director:\n    links: {eth0: lan 10.0.0.1/24}\n    rules: |\n      -A -t 10.0.0.100:81 -s rr\n      -a -t 10.0.0.100:81 -r 10.0.0.2 -i --tun-type vxlan\n      -a -t 10.0.0.100:81 -r 10.0.0.3:99999", `f.yaml:10:53: unknown tunnel type "vxlan"; allowed: ipip, gue, gre`},
		{"director: {links: {eth0: lan 10.0.0.1/24}}", "director:\n    links: {eth0: lan 10.0.0.1/24}\n    rules: |\n      -A -t 10.0.0.100:80 -s rr", "f.yaml:8:12: the rules of director have tcp 10.0.0.100:80, which is the virtual service web at f.yaml:13:3"},
		{"10.0.0.1/24}", "10.0.0.1/24}, rules: -A -t 10.0.0.100:81 -s rrr", `f.yaml:6:53: unknown scheduler "rrr", did you mean "rr"? Allowed: rr, wrr, `},
		{"director: {links: {eth0: lan 10.0.0.1/24}}", "director:\n    links: {eth0: lan 10.0.0.1/24}\n    rules: |\n      -A -t 10.0.0.100:81 -s sh -p\n      -A -u 10.0.0.100:81 -srr --pe=sap -p", `f.yaml:10:37: unknown persistence engine "sap", did you mean "sip"? Allowed: sip`},
		{"10.0.0.1/24}", "10.0.0.1/24}, rules: \"\"", "f.yaml:6:53: rules are empty; leave the key out for an empty table"},
		{"10.0.0.1/24}", "10.0.0.1/24}, timeouts: 900 120", "f.yaml:6:56: timeouts are three numbers of seconds, of TCP, of TCP after a FIN, and of UDP; found 2"},
		{"10.0.0.1/24}", "10.0.0.1/24}, sync_daemons: [master --mcast-interface eth9]", `f.yaml:6:61: node director: unknown link "eth9", did you mean "eth0"? Allowed: eth0`},
		{"10.0.0.1/24}", "10.0.0.1/24}, iptables: [-A POSTROUTING -j MASQUERADE]", `f.yaml:6:57: column 4: chain "POSTROUTING" is not in table filter, which has INPUT, FORWARD, OUTPUT`},
		{"eth0: lan 10.0.0.250/24", "eth0: {network: lan, addresses: [10.0.0.250/24], mtu: 20}", "f.yaml:5:26: mtu 20 is not from 68 to 65535"},
		// What is expected.
		{expect, "rotatoin: [web1, web2]", `f.yaml:23:5: unknown expectation "rotatoin", did you mean "rotation"? Allowed: `},
		{expect, "rotation: [web1, web9]", `f.yaml:23:5: unknown node "web9", did you mean "web1"? Allowed: client, director, web1, web2`},
		{expect, "rotation: [web1]", "f.yaml:23:15: rotation needs at least two servers; for one there is only:"},
		// No YAML at all.
		{good, "title: [", "f.yaml:1: not YAML: did not find expected node content"},
		{good, "", "f.yaml: is empty; a lab begins with title: and networks:"},
		{good, "just text", `f.yaml:1:1: wanted a mapping with the keys title, about, name, `},
	} {
		_, err := scenarios.Load("f.yaml", "f", []byte(spoil(t, c.old, c.new)))
		if err == nil {
			t.Errorf("%q in the place of %q is no error; want\n  %s", c.new, c.old, c.want)
		} else if got := err.Error(); got != c.want && (len(c.want) <= 20 || !strings.HasPrefix(got, c.want)) {
			t.Errorf("%q in the place of %q:\n  %s\nwant\n  %s", c.new, c.old, strings.ReplaceAll(got, "\n", "\n  "), c.want)
		}
	}
}

func mustLoad(t testing.TB, text string) *scenarios.Lab {
	t.Helper()
	list, err := scenarios.Load("f.yaml", "f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

func TestAllowedFindings(t *testing.T) {
	l := mustLoad(t, "allow: [vip-in-no-network, client-has-no-route]\n"+spoil(t, "tcp 10.0.0.100:80", "tcp 10.9.0.100:80"))
	const want = "f.yaml:12:5: the virtual IP 10.9.0.100 of web is in no network, and no route leads to it [vip-in-no-network]\n" +
		"f.yaml:12:5: client has no route to the virtual IP 10.9.0.100 of web [client-has-no-route]"
	if got := l.Findings.Error(); got != want {
		t.Errorf("findings\n%s\nwant\n%s", got, want)
	}
	for _, code := range scenarios.Codes() {
		if scenarios.Explain(code) == "" {
			t.Errorf("no explanation for %s", code)
		}
	}
	// What only a step's change brings about is found, too, and can be allowed.
	change := spoil(t, "request: {to: web, count: 4}", "change: {virtual_services: {web: {vip: {directors: none}}}}")
	if _, err := scenarios.Load("f.yaml", "f", []byte(change)); err == nil || !strings.Contains(err.Error(), "[vip-not-carried]") {
		t.Errorf("a step takes the virtual IP away: %v", err)
	}
	if l := mustLoad(t, "allow: [vip-not-carried]\n"+change); len(l.Findings) != 1 {
		t.Errorf("findings %v", l.Findings)
	}
}

// A director without the virtual IP has no route to everywhere by it.
func TestNoVIPIsNoRoute(t *testing.T) {
	text := "allow: [vip-not-carried]\n" + spoil(t, "vip: {directors: eth0/32,", "vip: {directors: none,")
	text = strings.Replace(text, "forwarding: dr", "forwarding: tun", 1)
	text = strings.Replace(text, "lan: 10.0.0.0/24", "lan: 10.0.0.0/24\n  far: 10.7.0.0/24", 1)
	text = strings.Replace(text, "web2: {links: {eth0: lan 10.0.0.3/24}", "web2: {links: {eth0: far 10.7.0.3/24}", 1)
	_, err := scenarios.Load("f.yaml", "f", []byte(text))
	if err == nil || !strings.Contains(err.Error(), "director director has no route to real server web2 at 10.7.0.3 [real-server-unreachable]") {
		t.Errorf("%v", err)
	}
}

func TestLoadSeveral(t *testing.T) {
	two := good + "---\n" + strings.Replace(good, "title: A lab", "title: Another\nname: b", 1)
	list, err := scenarios.Load("f.yaml", "chapter", []byte(two))
	if err != nil {
		t.Fatal(err)
	}
	if list[0].Name != "chapter/1" || list[1].Name != "chapter/b" {
		t.Errorf("names %s and %s", list[0].Name, list[1].Name)
	}
	same := strings.Replace(good, "title: A lab", "title: A lab\nname: b", 1)
	_, err = scenarios.Load("f.yaml", "chapter", []byte(same+"---\n"+same))
	if err == nil || !strings.Contains(err.Error(), "a second lab is called chapter/b; the first is at f.yaml:1:1") {
		t.Error(err)
	}
}

func TestCheckName(t *testing.T) {
	for _, ok := range []string{"a", "dr/arptables", "a_b-c", "0", "a/b/c/d"} {
		if err := scenarios.CheckName(ok); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "/", "a/", "/a", "a//b", "..", "a/../b", "A", "a b", "a\nb", "a.b", "-a", "a/b/c/d/e", strings.Repeat("a", 64), "a;b", "$(a)"} {
		if scenarios.CheckName(bad) == nil {
			t.Errorf("%q may be a lab's name", bad)
		}
	}
}

// many is a lab of n nodes on one network.
func many(n int) string {
	var b strings.Builder
	b.WriteString("title: many\nnetworks: {lan: 10.0.0.0/16}\nnodes:\n")
	for i := range n {
		fmt.Fprintf(&b, "  real-server-%d: {links: {eth0: lan 10.0.%d.%d/16}}\n", i, i/250, i%250+1)
	}
	return b.String()
}

func TestBridgePorts(t *testing.T) {
	mustLoad(t, many(1023))
	_, err := scenarios.Load("f.yaml", "f", []byte(many(1024)))
	const want = "f.yaml:1027:30: network lan has more than 1023 links, the most that a Linux bridge takes; use a second network"
	if err == nil || err.Error() != want {
		t.Errorf("1024 links: %v, want %s", err, want)
	}
}

// A thousand real servers are a large lab, not a slow one.
func TestLoadOfAThousand(t *testing.T) {
	var servers, nodes strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&nodes, "  rs%d: {links: {eth0: lan 10.0.%d.%d/16}, serve: [http]}\n", i, i/250+1, i%250+1)
		fmt.Fprintf(&servers, "rs%d, ", i)
	}
	text, _, _ := strings.Cut(good, "steps:")
	text = strings.NewReplacer("/24", "/16", "[web1, web2]", "["+servers.String()+"web1]", "virtual_services:", nodes.String()+"virtual_services:").Replace(text)
	start := time.Now()
	list, err := scenarios.Load("f.yaml", "f", []byte(text))
	if err != nil {
		t.Fatal(strings.SplitN(err.Error(), "\n", 2)[0])
	}
	p, err := list[0].Plan()
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	t.Logf("%d ops in %s", len(p.Setup), took)
	if took > 5*time.Second {
		t.Errorf("loading and planning took %s", took)
	}
}

// Plans of the same lab may be made at once: the engine, check and plan do.
func TestPlanAtOnce(t *testing.T) {
	l := mustLoad(t, good)
	done := make(chan error)
	for range 4 {
		go func() { _, err := l.Plan(); done <- err }()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A step may leave a role out from there on, also one whose settings were pinned
// below it: those are what is left then.
func TestMutate(t *testing.T) {
	l := mustLoad(t, spoil(t, "request: {to: web, count: 4}", "mutate: {omit: arp-announce}"))
	p, err := l.Plan()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, o := range p.Steps[0].Do[0].Ops {
		lines = append(lines, o.Shell(topology.Dialect{})...)
	}
	const want = "ip netns exec web2 sysctl -qw net.ipv4.conf.all.arp_announce=0\nip netns exec web1 sysctl -qw net.ipv4.conf.all.arp_announce=0"
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestPlanOmit(t *testing.T) {
	l := mustLoad(t, good)
	p, err := l.Plan("arp-ignore")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range p.Setup {
		if o.About().Role == "arp-ignore" {
			t.Errorf("%s is there", o.About().Key)
		}
	}
	if _, err := l.Plan("no-such"); err == nil || !strings.HasPrefix(err.Error(), `f.yaml:1:1: no op of f plays the role "no-such"; its roles are network, node, `) {
		t.Error(err)
	}
}

// FuzzLoad: no file makes Load or Plan panic; every error tells the file; a lab
// that loads has a plan; and no text of a file begins a line of a script of its
// own.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(good))
	for _, l := range labs.All() {
		f.Add(l.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			t.Skip() // size is tested elsewhere
		}
		list, err := scenarios.Load("f.yaml", "f", data)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "f.yaml:") {
					t.Errorf("an error without its file: %q", line)
				}
			}
			return
		}
		for _, l := range list {
			p, err := l.Plan()
			if err != nil {
				t.Fatalf("it loads and cannot be planned: %v", err)
			}
			if p.Script(topology.Dialect{Arptables: "arptables"}) == "" {
				t.Error("no script")
			}
			all := p.Setup
			for _, s := range p.Steps {
				for _, a := range s.Do {
					all = append(all, a.Ops...)
					_ = a.Words()
				}
			}
			for _, o := range all {
				for _, line := range o.Shell(topology.Dialect{Arptables: "arptables"}) {
					if strings.ContainsAny(line, "\n\r\x00") {
						t.Errorf("%s: a line break in %q", o.About().Key, line)
					}
				}
				if m := o.About(); m.Role == "" || m.Key.Node == "" || m.Why == "" && m.Key.Kind != "" {
					t.Errorf("%s has role %q and reason %q", m.Key, m.Role, m.Why)
				}
			}
		}
	})
}

func TestLoadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "My_Lab.yaml")
	if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := scenarios.LoadFile(path)
	if err != nil || list[0].Name != "my_lab" || list[0].Pos.File != path {
		t.Errorf("%v, %v", list, err)
	}
}

// TestIPv6Later: a kernel must have ipv6 from the beginning for a lab to which
// only a step brings it.
func TestIPv6Later(t *testing.T) {
	if mustLoad(t, good).NeedsIPv6() {
		t.Error("a lab of IPv4 needs IPv6")
	}
	later := mustLoad(t, spoil(t, "  do:\n", "  do:\n  - change: {networks: {lan: [10.0.0.0/24, \"fd00::/64\"]}}\n"))
	if later.UsesIPv6() || !later.NeedsIPv6() {
		t.Errorf("uses IPv6: %t, needs it: %t; want false, true", later.UsesIPv6(), later.NeedsIPv6())
	}
}

// TestAllErrorsAtOnce: what cannot be decoded does not hide names that lead
// nowhere, nor is it complained of a second time.
func TestAllErrorsAtOnce(t *testing.T) {
	const lab = `title: bad
networks: {lan: 10.0.0.0/24}
nodes:
  client: {links: {eth0: lna 10.0.0.250/24}}
  web1:   {links: {eth0: lan 10.0.0.2/24}, serve: [htpp]}
virtual_services:
  web: {address: nonsense, directors: [directr], forwarding: drr, arp_suppression: none, real_servers: [{wieght: 1}]}
`
	const want = `f.yaml:4:26: unknown network "lna", did you mean "lan"? Allowed: lan
f.yaml:5:52: unknown service "htpp", did you mean "http"? Allowed: dns, ftp, http, keepalived, nfs, sctp, smtp, tcp, udp
f.yaml:7:8: unknown node "directr"; Allowed: client, web1
f.yaml:7:18: wanted PROTOCOL ADDRESS:PORT such as "tcp 10.0.0.100:80", or "fwmark 1", found "nonsense"
f.yaml:7:62: unknown forwarding method "drr", did you mean "dr"? Allowed: dr, tun, nat, fullnat
f.yaml:7:105: key "node" is missing
f.yaml:7:106: unknown key "wieght", did you mean "weight"? Allowed: node, weight, address, port, forwarding, upper_threshold, lower_threshold`
	_, err := scenarios.Load("f.yaml", "f", []byte(lab))
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
