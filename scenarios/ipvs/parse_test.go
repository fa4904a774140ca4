package ipvs

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func compareOptions() cmp.Options {
	return cmp.Options{
		cmpopts.EquateEmpty(),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	}
}

func mustParse(t testing.TB, text string) Table {
	t.Helper()
	table, err := ParseRules("rules", text)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func readTestdata(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What ipvsadm 1.31 printed for one table, on Linux 6.1: with numbers, with
// names, and as a list. All three must be one table here as well.
func TestRealIpvsadm(t *testing.T) {
	saved := readTestdata(t, "ipvsadm-1.31.save")
	table := mustParse(t, saved)
	if diff := cmp.Diff(saved, FormatRules(table)); diff != "" {
		t.Errorf("FormatRules differs from ipvsadm -S -n (-ipvsadm +lvslab):\n%s", diff)
	}
	if diff := cmp.Diff(readTestdata(t, "ipvsadm-1.31.list"), FormatList(table)); diff != "" {
		t.Errorf("FormatList differs from ipvsadm -L -n (-ipvsadm +lvslab):\n%s", diff)
	}
	named := mustParse(t, readTestdata(t, "ipvsadm-1.31.save-names"))
	if diff := table.Diff(named); len(diff) > 0 {
		t.Errorf("ipvsadm -S reads as another table than -S -n:\n%s", strings.Join(diff, "\n"))
	}
}

func TestParseRules(t *testing.T) {
	web := Service{Protocol: TCP, Addr: netip.MustParseAddrPort("172.25.12.100:80"), Scheduler: "rr"}
	with := func(s Service, set func(*Service)) Table {
		set(&s)
		return Table{{Service: s}}
	}
	server := func(d Destination) Table { return Table{{Service: web, Destinations: []Destination{d}}} }
	rip := netip.MustParseAddrPort("172.25.12.2:80")
	const add = "-A -t 172.25.12.100:80 -s rr\n"
	tests := map[string]struct {
		text string
		want Table
	}{
		"nothing":                {"", nil},
		"comments":               {"# one\n\n#two\n \t\n", nil},
		"plain":                  {add, Table{{Service: web}}},
		"word before":            {"ipvsadm " + add, Table{{Service: web}}},
		"indented, CRLF":         {"  -A\t-t 172.25.12.100:80 -s rr\r\n", Table{{Service: web}}},
		"bundled":                {"-At 172.25.12.100:80 -srr", Table{{Service: web}}},
		"glued":                  {"-A -t172.25.12.100:80 -s=rr", Table{{Service: web}}},
		"long":                   {"--add-service --tcp-service=172.25.12.100:80 --scheduler rr", Table{{Service: web}}},
		"any order":              {"-A -s rr -t 172.25.12.100:80", Table{{Service: web}}},
		"named port":             {"-A -t 172.25.12.100:http -s rr", Table{{Service: web}}},
		"leading zeros":          {"-A -t 172.25.12.100:0080 -s rr", Table{{Service: web}}},
		"default scheduler":      {"-A -t 172.25.12.100:80", with(web, func(s *Service) { s.Scheduler = "wlc" })},
		"persistent":             {"-A -t 172.25.12.100:80 -p -s rr", with(web, func(s *Service) { s.Timeout = 6 * time.Minute })},
		"persistent, last":       {"-A -t 172.25.12.100:80 -s rr -p", with(web, func(s *Service) { s.Timeout = 6 * time.Minute })},
		"persistent, glued":      {"-A -t 172.25.12.100:80 -s rr -p30", with(web, func(s *Service) { s.Timeout = 30 * time.Second })},
		"mask of one client":     {add[:len(add)-1] + " -p 30 -M 255.255.255.255", with(web, func(s *Service) { s.Timeout = 30 * time.Second })},
		"mask":                   {add[:len(add)-1] + " -M 255.255.240.0 -p 30", with(web, func(s *Service) { s.Timeout = 30 * time.Second; s.Netmask = 20 })},
		"mask, unused":           {add[:len(add)-1] + " -M 255.255.240.0", Table{{Service: web}}},
		"every port":             {"-A -t 172.25.12.100 -s rr -p", with(web, func(s *Service) { s.Addr = netip.AddrPortFrom(s.Addr.Addr(), 0); s.Timeout = 6 * time.Minute })},
		"bare IPv6":              {"-A -t 2001:db8::5:80 -s rr -p", Table{{Service: Service{Protocol: TCP, Family: IPv6, Addr: netip.MustParseAddrPort("[2001:db8::5:80]:0"), Scheduler: "rr", Timeout: 6 * time.Minute}}}},
		"bundled flags":          {"-A -u 172.25.12.100:80 -osrr", with(web, func(s *Service) { s.Protocol = UDP; s.OnePacket = true })},
		"flags in order":         {"-A -t 172.25.12.100:80 -b sh-port,,flag-1 -s sh", with(web, func(s *Service) { s.Scheduler = "sh"; s.Flags = []string{"sh-fallback", "sh-port"} })},
		"mark":                   {"-A -f 1 -6 -s rr", Table{{Service: Service{FWMark: 1, Family: IPv6, Scheduler: "rr"}}}},
		"mark as ipvsadm has it": {"-A -f -1 -s rr", Table{{Service: Service{FWMark: 1<<32 - 1, Scheduler: "rr"}}}},
		"edit resets":            {add + "-E -t 172.25.12.100:80", with(web, func(s *Service) { s.Scheduler = "wlc" })},
		"delete":                 {add + "-D -t 172.25.12.100:80", nil},
		"clear":                  {add + "-C", nil},

		"server":                   {add + "-a -t 172.25.12.100:80 -r 172.25.12.2", server(Destination{Addr: rip, Weight: 1})},
		"server port is forced":    {add + "-a -t 172.25.12.100:80 -r 172.25.12.2:81 -i", server(Destination{Addr: rip, Weight: 1, Forward: TUN})},
		"server port is kept":      {add + "-a -t 172.25.12.100:80 -r 172.25.12.2:81 -m", server(Destination{Addr: netip.MustParseAddrPort("172.25.12.2:81"), Weight: 1, Forward: NAT})},
		"server edited":            {add + "-a -t 172.25.12.100:80 -r 172.25.12.2 -w 7 -m\n-e -t 172.25.12.100:80 -r 172.25.12.2:81 -i", server(Destination{Addr: rip, Weight: 1, Forward: TUN})},
		"server deleted":           {add + "-a -t 172.25.12.100:80 -r 172.25.12.2\n-d -t 172.25.12.100:80 -r 172.25.12.2", Table{{Service: web}}},
		"thresholds":               {add + "-a -t 172.25.12.100:80 -r 172.25.12.2 -x 10 -y 5 -w 0", server(Destination{Addr: rip, Upper: 10, Lower: 5})},
		"gue":                      {add + "-a -t 172.25.12.100:80 -r 172.25.12.2 --tun-type gue -i --tun-port 6080 --tun-remcsum", server(Destination{Addr: rip, Weight: 1, Forward: TUN, TunType: GUE, TunPort: 6080, TunFlags: RemoteChecksum})},
		"mark keeps server's port": {"-A -f 1 -s rr\n-a -f 1 -r 172.25.12.2:80", Table{{Service: Service{FWMark: 1, Scheduler: "rr"}, Destinations: []Destination{{Addr: rip, Weight: 1}}}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := mustParse(t, tt.text)
			if diff := cmp.Diff(tt.want, got, compareOptions()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestParseRulesErrors(t *testing.T) {
	const add = "-A -t 172.25.12.100:80 -s rr"
	const server = "-a -t 172.25.12.100:80 -r 172.25.12.2"
	tests := []struct{ text, pos, want string }{
		{add + " # web", "1:30", "a comment must be a line of its own"},
		{"  # web", "1:3", "a rule begins with its command"},
		{add + " extra", "1:30", `unexpected argument "extra"`},
		{add + "\n" + add, "2:7", "there is a virtual service tcp 172.25.12.100:80 already"},
		{"-t 172.25.12.100:80 -A", "1:1", "a rule begins with its command"},
		{"-A", "1:1", "needs a virtual service"},
		{"-A -t", "1:4", "-t needs an argument"},
		{"-A -t 172.25.12.100", "1:7", "needs persistence"},
		{"-A -t 172.25.12.100:70000", "1:7", "port 70000 is out of range, 0 to 65535"},
		{"-A -t 172.25.12.100:", "1:7", "a colon, and no port after it"},
		{"-A -t 172.25.12.100:nosuch", "1:7", "neither a number nor a tcp service"},
		{"-A -t web.example:80", "1:7", "names are not looked up"},
		{"-A -t 172.025.012.100:80", "1:7", "is no IP address"},
		{"-A -t [172.25.12.100]:80", "1:7", "brackets are for IPv6"},
		{"-A -t [2001:db8::1:80", "1:7", "closing bracket"},
		{"-A -t [2001:db8::1]80", "1:7", "colon and a port"},
		{"-A -t [::ffff:10.0.0.1]:80", "1:7", "IPv6 clothes"},
		{"-A -t [fe80::1%eth0]:80", "1:7", "zone"},
		{"-A -f 0", "1:7", "out of range, 1 to 4294967295"},
		{"-A -f 0x10", "1:7", "not a number"},
		{"-A -f 4294967296", "1:7", "out of range"},
		{"-A -6 -f 1", "1:4", "-6 must come after -f"},
		{add + " -6", "1:30", "-6 must come after -f"},
		{add + " -s wlc", "1:30", "a second scheduler"},
		{add + " -u 1.2.3.4:80", "1:30", "a second virtual service"},
		{add + " -w 3", "1:30", "-w does not go with the command -A"},
		{add + " -E", "1:30", "a second command"},
		{add + " --sched rr", "1:30", "did you mean"},
		{add + " -z", "1:30", `unknown option "-z"`},
		{add + " -p 0", "1:33", "out of range, 1 to 2678400"},
		{add + " -p 2678401", "1:33", "out of range"},
		{add + " -p 30x", "1:33", "not a number"},
		{add + " -p -M 0.0.0.0", "1:36", "takes all clients for one"},
		{add + " -p -M 24", "1:36", "not dotted"},
		{add + " -p -M 255.0.255.0", "1:36", "no prefix"},
		{"-A -t [2001:db8::1]:80 -p -M 129", "1:30", "out of range, 1 to 128"},
		{add + " -o", "1:7", "for UDP alone"},
		{add + " --ops=yes", "1:30", "takes no argument"},
		{add + " -b sh-port", "1:7", "belongs to the scheduler sh"},
		{add + " -b ,", "1:33", "no scheduler flag"},
		{"-A -M 64 -t [2001:db8::1]:80 -p", "1:7", "must come after"},
		{"-A -f 1 -M 64 -6 -p", "1:12", "must come after"},
		{"-A -t [2001:db8::1] -p", "1:7", "must follow the bracket"},
		{add + "\n" + server + " --tun-type ipip", "2:50", "need tunnelling"},
		{add + "\n" + server + " -i --tun-nocsum", "2:42", "no checksum"},
		{add + "\n-a -r 172.25.12.2 -t 172.25.12.100:80 -m", "2:7", "port 0"},
		{add + " -b flag-9", "1:7", "unknown scheduler flag"},
		{"-A -t 172.25.12.100:80 -s averyveryverylong", "1:7", "longer than 15"},
		{`-A -t 172.25.12.100:80 -s "rr"`, "1:7", "cannot be the name"},
		{"-E -t 172.25.12.100:80", "1:7", "add it before with -A"},
		{"-L -n", "1:1", "-L lists; it is no part of a table"},
		{"--set 1 2 3", "1:1", "--set sets timeouts"},
		{"--start-daemon master", "1:1", "synchronisation daemon"},
		{"-C x", "1:4", "unexpected argument"},
		{server, "1:7", "there is no virtual service"},
		{add + "\n-a -t 172.25.12.100:80", "2:1", "needs a real server"},
		{add + "\n" + server + "\n" + server, "3:27", "already"},
		{add + "\n-d -t 172.25.12.100:80 -r 172.25.12.2", "2:27", "has no real server"},
		{add + "\n" + server + " -g -i", "2:42", "a second forwarding method"},
		{add + "\n" + server + " -w 2147483648", "2:42", "weight 2147483648 is out of range, 0 to 2147483647"},
		{add + "\n" + server + " -w -1", "2:42", "out of range"},
		{add + "\n" + server + " -x 5 -y 10", "2:27", "lower threshold 10 is above the upper one, 5"},
		{add + "\n" + server + " -i --tun-type gue", "2:27", "needs its port"},
		{add + "\n" + server + " -i --tun-port 99", "2:27", "for gue alone"},
		{add + "\n" + server + " --tun-type gre", "2:27", "need tunnelling"},
		{add + "\n" + server + " -i --tun-type vxlan", "2:53", "unknown tunnel type"},
		{add + "\n" + server + " -i --tun-type gue --tun-port 6 --tun-csum --tun-remcsum", "2:81", "a second tunnel checksum"},
		{add + "\n-a -t 172.25.12.100:80 -r 224.0.0.1", "2:27", "one machine's"},
		{add + "\n-a -t 172.25.12.100:80 -r 2001:db8::1 -m", "2:27", "needs tunnelling"},
	}
	for _, tt := range tests {
		got, err := ParseRules("rules", tt.text)
		if err == nil {
			t.Errorf("%q: no error", tt.text)
			continue
		}
		if got != nil {
			t.Errorf("%q: a table in spite of the error", tt.text)
		}
		if msg := err.Error(); !strings.HasPrefix(msg, "rules:"+tt.pos+": ") || !strings.Contains(msg, tt.want) {
			t.Errorf("%q:\n got %s\nwant rules:%s: …%s…", tt.text, msg, tt.pos, tt.want)
		}
	}
}

// One run tells all the mistakes of a file.
func TestParseRulesAllErrors(t *testing.T) {
	_, err := ParseRules("r", "-A -t x:80\n-A -t 1.2.3.4:80\n-q\n")
	if got := strings.Count(fmt.Sprint(err), "\n") + 1; got != 2 {
		t.Errorf("%d errors, wanted 2:\n%v", got, err)
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add(readTestdata(f, "ipvsadm-1.31.save"))
	f.Add(readTestdata(f, "ipvsadm-1.31.save-names"))
	f.Add("-At 1.2.3.4:80 -srr\n-at 1.2.3.4:80 -r1.2.3.5 -x 5 -y 2\n-C\n-A -f -1 -6 -p -M 64")
	f.Add("ipvsadm --add-service --udp-service=[::1]:53 --ops --sched-flags flag-1,flag-2 --pe sip -p=7")
	f.Add(readTestdata(f, "differ.lines"))
	f.Add("# c\n-A -t 1:80 # x\n-\n--\n-A -")
	f.Fuzz(func(t *testing.T, text string) {
		table, err := ParseRules("fuzz", text)
		if err != nil {
			if table != nil {
				t.Fatal("a table in spite of an error")
			}
			return
		}
		if err := table.Validate(); err != nil {
			t.Fatalf("parsed, and not valid: %v", err)
		}
		checkRoundTrip(t, table)
	})
}

// checkRoundTrip: what is written reads as what it was.
func checkRoundTrip(t *testing.T, table Table) {
	t.Helper()
	again, err := ParseRules("commands", FormatCommands(table))
	if err != nil {
		t.Fatalf("FormatCommands wrote what ParseRules refuses: %v", err)
	}
	if diff := cmp.Diff(table, again, compareOptions()); diff != "" {
		t.Fatalf("FormatCommands and back (-was +is):\n%s", diff)
	}
	saved := FormatRules(table)
	again, err = ParseRules("rules", saved)
	if err != nil {
		t.Fatalf("FormatRules wrote what ParseRules refuses: %v", err)
	}
	if diff := again.Diff(withoutThresholds(table)); len(diff) > 0 {
		t.Fatalf("FormatRules and back:\n%s", strings.Join(diff, "\n"))
	}
	if FormatRules(again) != saved {
		t.Fatal("FormatRules of what it wrote is another text")
	}
}

// withoutThresholds is t as ipvsadm saves it.
func withoutThresholds(t Table) Table {
	t = t.Clone()
	for i := range t {
		for j := range t[i].Destinations {
			t[i].Destinations[j].Upper, t[i].Destinations[j].Lower = 0, 0
		}
	}
	return t
}
