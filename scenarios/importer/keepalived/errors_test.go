package keepalived_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/lvslab/lvslab/scenarios/importer/keepalived"
)

// A mistake is told at its place, all mistakes of a file at once.
func TestErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "k.conf: is empty; a keepalived.conf for IPVS has virtual_server blocks"},
		{"comments alone", "# nothing\n", "k.conf: has no virtual_server with real servers; there is nothing to balance"},
		{"NUL", "a\nb\x00", "k.conf:2:2: a NUL byte: this is no text file"},
		{"BOM", "\ufeff" + good, "k.conf:1:1: begins with a byte-order mark, which keepalived takes for part of the first word; save the file as UTF-8 without it"},
		{"latin-1", "# caf\xe9\n" + good, "k.conf:1:6: byte 0xe9 is not valid UTF-8"},
		{"truncated", good[:len(good)-2], "k.conf:1:28: the { of virtual_server 10.0.0.1 80 is never closed"},
		{"one } missing", strings.Replace(good, "  }\n", "", 1) + good, "k.conf:1:28: the { of virtual_server 10.0.0.1 80 is never closed: virtual_server 10.0.0.1 80 in line 7 begins inside it"},
		{"one } too many", good + "}\n", "k.conf:8:1: a } without its {"},
		{"one { missing", strings.Replace(good, "10.0.0.2 80 {", "10.0.0.2 80", 1), "k.conf:7:1: a } without its {; real_server 10.0.0.2 80 in line 5 has none"},
		{"a { alone", "{\n}\n", "k.conf:1:1: a { that follows no keyword"},
		{"template", inReal("weight {{ weight }}"), `k.conf:6:8: "{{" is of a template; fill that in and import what comes out`},
		{"template's loop", "{% for a in b %}\n" + good, `k.conf:1:1: "{%" is of a template; fill that in and import what comes out`},
		{"host", inReal("SMTP_CHECK {\nhelo_name a\nhost\n}"), "k.conf:8:1: host has no { … } behind it"},
		{"deep", strings.Repeat("a {", 100), "k.conf:1:51: blocks nested deeper than 16"},
		{"long line", good + "# " + strings.Repeat("x", 1022), "k.conf:8: a line of 1024 bytes; keepalived reads at most 1023 as one and takes the rest for another line"},
		{"quote", inVirtual(`virtualhost "a`), "k.conf:5:13: a double quote that is not closed in its line"},
		{"command", inReal("weight $(cat /etc/weight)"), "k.conf:6:8: \"$(cat\" asks for a command's output; an import runs nothing, and keepalived has no such thing: write the value itself\nk.conf:6:8: weight: wanted a whole number from 0 to 2147483647, found \"$(cat\""},
		{"undefined", inReal("weight ${W}"), "k.conf:6:8: ${W} is not defined before this line; if another program fills it in, import what that writes"},
		{"defined in itself", "$A=x$B \n$B= $A \n" + inReal("weight $A"), "k.conf:8:1: with its definitions put in, the line is longer than the 1023 bytes that keepalived reads; is one used in itself?"},
		{"lines in themselves", "$A= \\\n a \\\n $A\n$A\n", "k.conf:4: definitions that use one another more than 32 deep; is one used in itself?"},
		{"SEQ", "~SEQ(A, 1, -1, 5) x\n" + good, `k.conf:1:1: ~SEQ(A, 1, -1, 5): the step does not lead from the first number to the last`},
		{"SEQ without end", "~SEQ(A, 1, 9999999) x\n" + good, `k.conf:1:1: ~SEQ(A, 1, 9999999): that is more than 262144 numbers`},
		{"SEQ bomb", "~SEQ(A,1,2000) ~SEQ(B,1,2000) $X=1\n" + good, `k.conf:1: unfolds to more than 262144 lines; look at its definitions, ~SEQ and ~LST`},
		{"SEQ bare", "~SEQ A\n" + good, `k.conf:1:1: ~SEQ needs its list in parentheses: ~SEQ(NAME, FIRST, STEP, LAST)`},
		{"LST", "~LST({A, B}, {1, 2, 3}) x\n" + good, `k.conf:1:1: ~LST({A, B}, {1, 2, 3}): 3 values for 2 names`},
		{"name of a port", strings.Replace(good, "1 80", "1 http", 1), `k.conf:1:25: virtual_server: wanted a port from 1 to 65535, found "http"; keepalived takes no names of services`},
		{"port", strings.Replace(good, "2 80", "2 65536", 1), `k.conf:5:24: real_server: wanted a port from 1 to 65535, found "65536"`},
		{"colon", strings.Replace(good, "2 80", "2:80", 1), `k.conf:5:15: real_server: wanted an IP address, found "10.0.0.2:80"; a blank stands before the port`},
		{"brackets", strings.Replace(good, "10.0.0.2 80", "[::1] 80", 1), `k.conf:5:15: real_server: wanted an IP address, found "[::1]"; an IPv6 address has no brackets here`},
		{"zone", strings.Replace(good, "10.0.0.2 80", "fe80::1%eth0 80", 1), `k.conf:5:15: real_server: "fe80::1%eth0" has a zone, which neither keepalived nor IPVS takes`},
		{"mapped", strings.Replace(good, "10.0.0.2 80", "::ffff:10.0.0.2 80", 1), `k.conf:5:15: real_server: "::ffff:10.0.0.2" is an IPv4 address in IPv6 clothes; write 10.0.0.2`},
		{"everybody", strings.Replace(good, "10.0.0.2 80", "0.0.0.0 80", 1), `k.conf:5:15: real_server: 0.0.0.0 is not one machine's address`},
		{"no address", "virtual_server {\n}\n", "k.conf:1:1: virtual_server needs 1 word behind it"},
		{"fwmark alone", "virtual_server fwmark {\n}\n", "k.conf:1:1: virtual_server fwmark needs a name or number behind it"},
		{"fwmark 0", "virtual_server fwmark 0 {\n}\n", `k.conf:1:23: virtual_server fwmark: wanted a whole number from 1 to 4294967295, found "0"`},
		{"weight", inReal("weight -1"), `k.conf:6:8: weight: wanted a whole number from 0 to 2147483647, found "-1"`},
		{"no weight", inReal("weight"), `k.conf:6:1: weight needs 1 word behind it`},
		{"thresholds", inReal("lthreshold 9"), `k.conf:6:1: lthreshold 9 is above uthreshold 0, and the kernel takes no such real server`},
		{"scheduler", inVirtual("lb_algo rrr"), `k.conf:5:9: unknown scheduler "rrr", did you mean "rr"? Allowed: rr, wrr, lc, wlc, lblc, sh, mh, dh, fo, ovf, lblcr, sed, nq, twos`},
		{"continued", inVirtual(`lb_algo rr\`), `k.conf:5:9: unknown scheduler "rr\\", did you mean "rr"? Allowed: rr, wrr, lc, wlc, lblc, sh, mh, dh, fo, ovf, lblcr, sed, nq, twos; a backslash continues a line in definitions alone`},
		{"method", inVirtual("lb_kind dr"), `k.conf:5:9: unknown forwarding method "dr", did you mean "DR"? Allowed: NAT, DR, TUN`},
		{"tunnel", inVirtual("lb_kind TUN type gue"), `k.conf:5:1: lb_kind: a gue tunnel needs its port: TUN type gue port 6080`},
		{"tunnel option", inVirtual("lb_kind TUN tipe gue"), `k.conf:5:13: unknown tunnel option "tipe", did you mean "type"? Allowed: type, port, nocsum, csum, remcsum`},
		{"protocol", inVirtual("protocol ICMP"), `k.conf:5:10: unknown protocol "ICMP", did you mean "TCP"? Allowed: TCP, UDP, SCTP`},
		{"persistence", inVirtual("persistence_timeout 2678401"), `k.conf:5:21: persistence_timeout: wanted a whole number from 1 to 2678400, found "2678401"`},
		{"granularity", inVirtual("persistence_granularity 24"), `k.conf:5:25: persistence_granularity of IPv4: wanted a mask such as 255.255.255.0, found "24"`},
		{"engine", inVirtual("persistence_engine sixteen-letters-"), `k.conf:5:20: persistence_engine: "sixteen-letters-" is longer than 15 letters`},
		{"family", inVirtual("ip_family inet6"), "k.conf:5:11: ip_family inet6, but virtual_server 10.0.0.1 80 is IPv4"},
		{"quorum", inVirtual("quorum 0"), `k.conf:5:8: quorum: wanted a whole number from 1 to 4294967295, found "0"`},
		{"bool", inReal("inhibit_on_failure maybe"), `k.conf:6:20: inhibit_on_failure: wanted on, true, yes or off, false, no; found "maybe"`},
		{"families", strings.Replace(good, "10.0.0.2", "2001:db8::2", 1), "k.conf:5:3: 2001:db8::2 is IPv6 and virtual_server 10.0.0.1 80 is IPv4: only TUN may mix them, and keepalived would leave the server out"},
		{"itself", strings.Replace(good, "10.0.0.2", "10.0.0.1", 1), "k.conf:5:3: real_server 10.0.0.1 is the virtual address itself; a real server needs an address of its own"},
		{"twice", good + good, "k.conf:8:1: a second virtual_server for tcp 10.0.0.1:80 (the first is in line 1); keepalived would add its real servers to the first and leave out the rest"},
		{"no group", strings.Replace(good, "10.0.0.1 80", "group web", 1), `k.conf:1:22: virtual_server_group "web" is not defined; keepalived would leave the virtual server out`},
		{"block of a line", inVirtual("sorry_server 10.0.0.9 {\n}"), "k.conf:5:23: sorry_server takes no block; keepalived would end the block around it at its }"},
		{"unknown block", inVirtual("checker {\n}"), `k.conf:5:1: unknown keyword "checker" in virtual_server; keepalived would end virtual_server at its }`},
		{"unknown root", "outer {\n" + good + "}\n" + good, `k.conf:2:1: virtual_server inside the unknown block "outer": keepalived knows no such block and takes what is in it for its own`},
		{"no block", inReal("TCP_CHECK"), "k.conf:6:1: TCP_CHECK has no { … } behind it"},
		{"connect_port", inReal("TCP_CHECK {\nconnect_port 0\n}"), `k.conf:7:14: connect_port: wanted a port from 1 to 65535, found "0"`},
		{"status", inReal("HTTP_GET {\nurl {\npath /\nstatus_code ok\n}\n}"), `k.conf:9:13: status_code: wanted a status such as 200 or a range such as 200-299, found "ok"`},
		{"address", "vrrp_instance a {\nvirtual_ipaddress {\n10.0.0.300\n}\n}\n" + good, `k.conf:3:1: wanted an address such as 10.0.0.100/24, found "10.0.0.300"`},
		{"instances", "vrrp_instance a {\n}\nvrrp_instance a {\n}\n" + good, `k.conf:3:1: a second vrrp_instance "a" (the first is in line 1)`},
		{"all at once", inVirtual("lb_algo x\nlb_kind y\n"), "k.conf:5:9: unknown scheduler \"x\"; Allowed: rr, wrr, lc, wlc, lblc, sh, mh, dh, fo, ovf, lblcr, sed, nq, twos\nk.conf:6:9: unknown forwarding method \"y\"; Allowed: NAT, DR, TUN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := parse(c.text); tell(err) != c.want {
				t.Errorf("%s\nwant\n%s", tell(err), c.want)
			}
		})
	}
}

// Ranges of a group, good ones are in testdata/group.conf.
func TestGroupErrors(t *testing.T) {
	for entry, want := range map[string]string{
		"10.0.0.5/30 80":                         `"10.0.0.5/30" is not the first address of its network; write 10.0.0.4/30`,
		"10.0.0.5/33 80":                         `wanted an address, a range or a network, found "10.0.0.5/33"`,
		"10.0.0.9-5 80":                          `the end of "10.0.0.9-5" is not after its beginning`,
		"10.0.0.9-10.0.0.5 80":                   `the end of "10.0.0.9-10.0.0.5" is before its beginning`,
		"10.0.0.9-::1 80":                        `the ends of "10.0.0.9-::1" are of two families`,
		"10.0.0.1-300 80":                        `behind the - of "10.0.0.1-300" wanted an address or the last number of an IPv4 address, 0 to 255`,
		"2001:db8::1-fffff 80":                   `behind the - of "2001:db8::1-fffff" wanted an address or the last group of an IPv6 address, 0 to ffff`,
		"10.0.1.250-10.0.2.5 80":                 `"10.0.1.250-10.0.2.5" crosses from 10.0.1.0/24 into 10.0.2.0/24; keepalived counts in the last number of an address alone, so write a line for each`,
		"10.0.0.0/23 80":                         `"10.0.0.0/23" crosses from 10.0.0.0/24 into 10.0.1.0/24; keepalived counts in the last number of an address alone, so write a line for each`,
		"2001:db8::/64 80":                       `"2001:db8::/64" has more than 65536 addresses`,
		"2001:db8::/112 80\n2001:db8:1::/112 80": `virtual_server_group "g" has more than 65536 addresses`,
		"10.0.0.1 80-90":                         `wanted a port from 1 to 65535, found "80-90"`,
		"10.0.0.1 80 {\n}":                       "",
		"fwmark 7 foo":                           "fwmark: wanted inet or inet6, found \"foo\"",
		"fwmark x":                               `fwmark: wanted a whole number from 1 to 4294967295, found "x"`,
		"fwmark":                                 "fwmark needs 1 word behind it",
		"fwmark 1\n10.0.0.1\n::1 80":             `virtual_server_group "g" has IPv4 and IPv6 addresses, so fwmark 1 needs inet or inet6 behind it`,
	} {
		_, err := parse("virtual_server_group g {\n" + entry + "\n}\n" + strings.NewReplacer("10.0.0.1 80", "group g", "DR", "TUN").Replace(good))
		if want == "" {
			want = "a virtual_server_group has one address or mark a line, and no blocks"
		}
		if got := tell(err); !strings.HasPrefix(got, "k.conf:2:") && !strings.HasPrefix(got, "k.conf:3:") || !strings.Contains(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", entry, got, want)
		}
	}
}

func TestIncludeErrors(t *testing.T) {
	for _, c := range []struct {
		name, text string
		others     []string
		want       string
	}{
		{"missing", "include a.conf\n" + good, nil, "k.conf:1:1: include a.conf: there is no such file"},
		{"nothing matches", "includea a*.conf\n" + good, nil, "k.conf:1:1: includea a*.conf: there is no such file"},
		{"one of braces", "include {a,b}\n" + good, []string{"a", "\n"}, "k.conf:1:1: include b: there is no such file"},
		{"cycle", "include a\n" + good, []string{"a", "include b", "b", "include a"}, "b:1:1: include a includes itself: a includes b includes a"},
		{"itself", "include k.conf\n" + good, nil, "k.conf:1:1: include k.conf includes itself: k.conf includes k.conf"},
		{"outside", "include ../a\n" + good, nil, "k.conf:1:1: include ../a leads out of the configuration's folder, and an import reads nothing outside it; copy the file there"},
		{"absolute", "include /srv/a\n" + good, nil, "k.conf:1:1: include /srv/a: an import reads nothing outside the configuration's folder; copy it there and include it by its name"},
		{"sly", "include /etc/keepalived/../../a\n" + good, nil, "k.conf:1:1: include /etc/keepalived/../../a: an import reads nothing outside the configuration's folder; copy it there and include it by its name"},
		{"quoted", "include \"a\"\n" + good, nil, `k.conf:1:1: include "a": keepalived takes the quotes for a part of the name; leave them out`},
		{"binary", "include a\n" + good, []string{"a", "\x7fELF\x00"}, "a:1:5: a NUL byte: this is no text file"},
		{"open", "include a\n" + good, []string{"a", "virtual_server 10.0.0.1 80 {\n"}, "a:1:28: the { of virtual_server 10.0.0.1 80 is never closed; each { of an included file must be closed in it"},
		{"a } missing", "include a\n" + good, []string{"a", strings.Replace(good, "  }\n", "", 1) + good}, "a:1:28: the { of virtual_server 10.0.0.1 80 is never closed: virtual_server 10.0.0.1 80 in line 7 begins inside it; each { of an included file must be closed in it"},
		{"a } too many", "virtual_server 10.0.0.1 80 {\ninclude a\n}\n", []string{"a", "}\n"}, "a:1: the file closes a block that began in the file which includes it; each } of an included file must have its { there"},
		{"pattern", "include [a\n" + good, nil, "k.conf:1:1: include [a: a [ that is not closed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := parse(c.text, c.others...); tell(err) != c.want {
				t.Errorf("%s\nwant\n%s", tell(err), c.want)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	deep := fstest.MapFS{}
	for i := range 50 {
		deep[fmt.Sprintf("f%d", i)] = &fstest.MapFile{Data: fmt.Appendf(nil, "include f%d\n", i+1)}
	}
	many := fstest.MapFS{"k.conf": {Data: []byte("include d/*\n")}}
	for i := range 1200 {
		many[fmt.Sprintf("d/%d", i)] = &fstest.MapFile{Data: []byte("#\n")}
	}
	for _, c := range []struct {
		fsys       fs.FS
		name, want string
	}{
		{deep, "f0", "f32:1:1: files that include one another more than 32 deep"},
		{many, "k.conf", "k.conf:1:1: more than 1000 files in all"},
		{fstest.MapFS{"k.conf": {Data: make([]byte, 50<<20)}}, "k.conf", "k.conf: larger than 8 MiB; that is no keepalived.conf"},
		{fstest.MapFS{"k.conf/a": {}}, "k.conf", "k.conf: it is a folder, wanted a keepalived.conf"},
		{fstest.MapFS{}, "k.conf", "k.conf: file does not exist"},
	} {
		if _, err := keepalived.Parse(c.fsys, c.name, keepalived.Options{}); tell(err) != c.want {
			t.Errorf("%s\nwant\n%s", tell(err), c.want)
		}
	}
}
