package prove

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// dump is what is to be seen of one node, by the command that tells it, in
// lines.
type dump map[string][]string

// closely says what to look at beyond what is always looked at.
type closely struct {
	// sysctls is most of the work.
	sysctls bool
	// daemons are IPVS's synchronization daemons and timeouts, which no file
	// tells of.
	daemons bool
}

// dumpAll looks at nodes by the paths of their namespaces; one that is not
// there is an empty dump.
func dumpAll(paths map[string]string, how func(node string) closely) (map[string]dump, error) {
	all := make(map[string]dump)
	for name, path := range paths {
		if _, err := os.Stat(path); err != nil {
			all[name] = dump{"": {"no such node"}}
			continue
		}
		d := make(dump)
		if err := inside(path, func() error { return d.look(how(name)) }); err != nil {
			return nil, fmt.Errorf("looking at %s: %w", name, err)
		}
		all[name] = d
	}
	return all, nil
}

// inside calls f on a thread that is in a namespace, and so are the programs
// that f starts. The thread is thrown away. (To have nsenter and sh do it costs
// as much again: a process takes User-Mode Linux 20 ms.)
func inside(path string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		done <- func() error {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				return err
			}
			return f()
		}()
	}()
	return <-done
}

// look asks the tools about the node that the thread is in. A tool is not
// started where the kernel itself says that there is nothing for it to tell.
func (d dump) look(how closely) error {
	// ip takes its commands from standard input, so that it starts once. All
	// tables are those of IPv4 and IPv6.
	ask, commands := "addr show\nlink show\nroute show table all\n", []string{"ip addr", "ip -d link", "ip route show table all"}
	if _, err := os.Stat("/sys/module/fou"); err == nil {
		ask, commands = ask+"fou show\n", append(commands, "ip fou show")
	}
	out, err := tool(ask, "ip", "-j", "-d", "-batch", "-")
	if err != nil {
		return err
	}
	answers := strings.Split(strings.TrimSpace(out), "\n")
	if len(answers) != len(commands) {
		return fmt.Errorf("ip gave %d answers to %d commands: %s", len(answers), len(commands), out)
	}
	for i, c := range commands {
		if err := d.json(c, answers[i]); err != nil {
			return err
		}
	}
	d.nameRandom()
	// noqueue and noop have no options.
	if slices.ContainsFunc(d["ip -d link"], func(l string) bool {
		return strings.Contains(l, " qdisc = ") && !strings.HasSuffix(l, "= noqueue") && !strings.HasSuffix(l, "= noop")
	}) {
		if out, err = tool("", "tc", "-j", "qdisc"); err != nil {
			return err
		}
		if err := d.json("tc qdisc", out); err != nil {
			return err
		}
	}
	// Beyond its head of three lines, ip_vs lists services.
	if table, err := os.ReadFile("/proc/thread-self/net/ip_vs"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	} else if strings.Count(string(table), "\n") > 3 {
		if out, err = tool("", "ipvsadm", "-Sn"); err != nil {
			return err
		}
		d["ipvsadm -Sn"] = strings.Split(out, "\n")
	}
	// A namespace has the table from the moment that somebody asked for it.
	if tables, err := os.ReadFile("/proc/thread-self/net/arp_tables_names"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	} else if strings.Contains(string(tables), "filter") {
		if out, err = tool("", "arptables-legacy-save"); err != nil {
			return err
		}
		d["arptables-legacy-save"] = strings.Split(out, "\n")
	}
	for _, t := range []struct{ names, tool string }{{"ip_tables_names", "iptables-legacy-save"}, {"ip6_tables_names", "ip6tables-legacy-save"}} {
		if names, err := os.ReadFile("/proc/thread-self/net/" + t.names); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		} else if len(names) == 0 {
			continue
		}
		if out, err = tool("", t.tool); err != nil {
			return err
		}
		d[t.tool] = ruleLines(out)
	}
	if how.daemons {
		if out, err = tool("", "ipvsadm", "--list", "--daemon"); err != nil {
			return err
		}
		d["ipvsadm --list --daemon"] = strings.Split(out, "\n")
		if out, err = tool("", "ipvsadm", "--list", "--timeout"); err != nil {
			return err
		}
		d["ipvsadm --list --timeout"] = strings.Split(out, "\n")
	}
	if d["who listens"], err = listening(); err != nil {
		return err
	}
	if !how.sysctls {
		return nil
	}
	d["sysctl"], err = sysctls("/proc/sys/net")
	if len(d["sysctl"]) < 200 { // there are more than that with one device
		return errors.Join(fmt.Errorf("only %d sysctls below /proc/sys/net", len(d["sysctl"])), err)
	}
	return err
}

// ruleLines are the rules of iptables-save, each after its table. Comments have
// the time in them, and policies have counted what came in the meantime.
func ruleLines(saved string) []string {
	var lines []string
	table := ""
	for line := range strings.Lines(saved) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "*"):
			table = line
		case strings.HasPrefix(line, "-"):
			lines = append(lines, table+" "+line)
		}
	}
	// Tables stand in the order in which they were first used; the order within
	// a table counts.
	slices.SortStableFunc(lines, func(a, b string) int {
		one, _, _ := strings.Cut(a, " ")
		other, _, _ := strings.Cut(b, " ")
		return strings.Compare(one, other)
	})
	return lines
}

func tool(stdin string, args ...string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		return "", fmt.Errorf("%s: %w %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}

// sysctls are all that is below a folder of /proc/sys as the thread's namespace
// has it, a line a key, in order.
func sysctls(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, e := range entries {
		path := dir + "/" + e.Name()
		if e.IsDir() {
			below, err := sysctls(path)
			if err != nil {
				return nil, err
			}
			lines = append(lines, below...)
			continue
		}
		var value string
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			var buf [4096]byte // a page is the most that a sysctl gives
			var n int
			n, err = unix.Read(fd, buf[:])
			_ = unix.Close(fd)
			value = strings.TrimSpace(string(buf[:max(n, 0)]))
		}
		if err != nil { // write-only, or not set yet (stable_secret)
			value = err.Error()
		}
		lines = append(lines, path+" = "+value)
	}
	return lines, nil
}

// json keeps what a tool tells in JSON as lines, one a value, which read well
// when they differ: "eth0 linkinfo.info_kind = veth".
func (d dump) json(command, text string) error {
	var list []map[string]any
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return fmt.Errorf("%s: %w in %.200q", command, err, text)
	}
	slices.SortStableFunc(list, func(a, b map[string]any) int {
		one, _ := a["ifname"].(string)
		other, _ := b["ifname"].(string)
		return strings.Compare(one, other) // not by the devices' numbers
	})
	var lines []string
	for _, item := range list {
		name := ""
		for _, key := range []string{"ifname", "dst", "dev", "type"} {
			if s, ok := item[key].(string); ok {
				name += s + " "
			}
		}
		lines = append(lines, flat(name, "", item)...)
	}
	d[command] = lines
	return nil
}

func flat(name, key string, v any) []string {
	var lines []string
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if _, drop := unequalKeys[k]; !drop {
				lines = append(lines, flat(name, strings.TrimPrefix(key+"."+k, "."), v[k])...)
			}
		}
	case []any:
		for i, e := range v {
			lines = append(lines, flat(name, fmt.Sprintf("%s[%d]", key, i), e)...)
		}
	default:
		lines = append(lines, fmt.Sprintf("%s%s = %v", name, key, v))
	}
	return lines
}

// nameRandom puts a device's name in the place of what an IPv6 tunnel has by
// chance: its permanent address (ip6_tnl_dev_setup in net/ipv6/ip6_tunnel.c), and
// the link-local address that the kernel makes of that (RFC 4291, appendix A).
// Routes, which stand in the order of their addresses, are sorted by their names.
func (d dump) nameRandom() {
	for _, line := range d["ip -d link"] {
		device, permanent, ok := strings.Cut(line, " permaddr = ")
		if !ok {
			continue
		}
		replace := []string{permanent, "a random address of " + device}
		if a, err := netip.ParseAddr(permanent); err == nil {
			p := a.As16()
			local := netip.AddrFrom16([16]byte{0xfe, 0x80, 8: p[0] ^ 2, 9: p[1], 10: p[2], 11: 0xff, 12: 0xfe, 13: p[3], 14: p[4], 15: p[5]})
			replace = append(replace, local.String(), "fe80::"+device)
		}
		r := strings.NewReplacer(replace...)
		for _, lines := range d {
			for i := range lines {
				lines[i] = r.Replace(lines[i])
			}
		}
	}
	slices.Sort(d["ip route show table all"])
}

// unequalKeys are the keys of ip's and tc's JSON that cannot be equal, each
// with its reason.
var unequalKeys = map[string]string{
	"ifindex":               deviceNumber,
	"link_index":            deviceNumber,
	"gc_timer":              bridgeTimer,
	"hello_timer":           bridgeTimer,
	"tcn_timer":             bridgeTimer,
	"topology_change_timer": bridgeTimer,
	"forward_delay_timer":   bridgeTimer,
	"hold_timer":            bridgeTimer,
	"message_age_timer":     bridgeTimer,
}

const deviceNumber = "the number of a device, which lvslab chooses where a kernel is faster for it"

const bridgeTimer = "a timer of the bridge: the time since it was made, or a port came up"
