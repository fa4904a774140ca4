package prove

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
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

// dumpAll looks at nodes by the paths of their namespaces; one that is not
// there is an empty dump. withSysctls says whose sysctls to read; of the others
// they are left out, since to read them is most of the work.
func dumpAll(paths map[string]string, withSysctls func(node string) bool) (map[string]dump, error) {
	all := make(map[string]dump)
	for name, path := range paths {
		if _, err := os.Stat(path); err != nil {
			all[name] = dump{"": {"no such node"}}
			continue
		}
		d := make(dump)
		if err := inside(path, func() error { return d.look(withSysctls(name)) }); err != nil {
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
func (d dump) look(withSysctls bool) error {
	// ip takes its commands from standard input, so that it starts once.
	out, err := tool("addr show\nlink show\nroute show table all\n", "ip", "-j", "-d", "-batch", "-")
	if err != nil {
		return err
	}
	answers := strings.Split(strings.TrimSpace(out), "\n")
	commands := []string{"ip addr", "ip -d link", "ip route show table all"}
	if len(answers) != len(commands) {
		return fmt.Errorf("ip gave %d answers to %d commands: %s", len(answers), len(commands), out)
	}
	for i, c := range commands {
		if err := d.json(c, answers[i]); err != nil {
			return err
		}
	}
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
	if !withSysctls {
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

// unequalKeys are the keys of ip's and tc's JSON that cannot be equal, each
// with its reason. Numbers of devices and handles are not among them: they come
// out equal, since both ways make the same things in the same order.
var unequalKeys = map[string]string{
	"gc_timer":              bridgeTimer,
	"hello_timer":           bridgeTimer,
	"tcn_timer":             bridgeTimer,
	"topology_change_timer": bridgeTimer,
	"forward_delay_timer":   bridgeTimer,
	"hold_timer":            bridgeTimer,
	"message_age_timer":     bridgeTimer,
}

const bridgeTimer = "a timer of the bridge: the time since it was made, or a port came up"
