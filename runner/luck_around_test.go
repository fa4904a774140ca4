package runner_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ofNoUse runs with places that are of no use to a guest: where namespaces are
// allowed a guest needs none of them.
func ofNoUse(t *testing.T, s *stage, _ string) {
	passed(t, finish(t, s.cmd("run", "dr/arptables")))
	passed(t, finish(t, s.nobody("run", "dr/arptables")))
	s.clean(t)
}

// bareOfNoUse runs where a guest needs such a place and there is none, and then
// where TMPDIR names a better one.
func bareOfNoUse(t *testing.T, s *stage, why string) {
	refused(t, finish(t, s.nobody("run", "dr/arptables")), 3, "TMPDIR", "/dev/shm", why)
	s.clean(t)
	better := stageDir + "/tests/better"
	if err := os.Mkdir(better, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(better, 0o777); err != nil {
		t.Fatal(err)
	}
	cmd := s.nobody("run", "dr/arptables")
	setenv(cmd, "TMPDIR", better)
	passed(t, finish(t, cmd))
	if left, _ := os.ReadDir(better); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	s.clean(t)
}

// fullDisk has TMPDIR, and only that, full to the last byte.
func fullDisk(t *testing.T, s *stage) {
	full := stageDir + "/full"
	fill := filepath.Join(full, "fill")
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("it is not full")
	}
	s.before = s.present()
	for _, home := range []string{"", full} {
		cmd := s.nobody("run", "dr/arptables")
		setenv(cmd, "TMPDIR", full)
		if home != "" {
			setenv(cmd, "HOME", home)
			setenv(cmd, "XDG_RUNTIME_DIR", home)
		}
		passed(t, finish(t, cmd))
		s.clean(t)
	}
	out, err := os.OpenFile(filepath.Join(full, "out"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		// The report itself finds no room.
		defer os.Remove(out.Name())
		cmd := s.nobody("run", "dr/arptables")
		var errs strings.Builder
		cmd.Stdout, cmd.Stderr = out, &errs
		_ = cmd.Run()
		if cmd.ProcessState.ExitCode() != 3 || !strings.Contains(errs.String(), "no space left") {
			t.Errorf("exit %d: %s", cmd.ProcessState.ExitCode(), errs.String())
		}
		_ = out.Close()
		_ = os.Remove(out.Name())
	}
	s.clean(t)
}

// oddSurroundings are those that programs seldom meet.
func oddSurroundings(t *testing.T, s *stage) {
	for _, c := range []struct {
		name, script string
		// Words of the message where it cannot work; none where it must.
		refused []string
	}{
		{"no home", "unset HOME", nil},
		{"no environment at all", "unset HOME PATH XDG_RUNTIME_DIR TMPDIR", nil},
		{"a home that is not there", "HOME=/no/such/place XDG_RUNTIME_DIR=/no/such TMPDIR=relative", nil},
		{"stdin closed", "exec <&-", nil},
		{"64 files", "ulimit -n 64", nil},
		{"16 files", "ulimit -n 16", []string{"too many open files", "ulimit -n"}},
		{"ignored signals", "trap '' PIPE CHLD HUP", nil},
		{"a strict umask", "umask 0077", nil},
		{"no ptrace", "", []string{"ptrace is blocked here", "seccomp"}},
		{"no proc", "mount", []string{"mount -t proc"}},
		{"a home that is read-only", "mount", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := s.nobody("run", "dr/arptables")
			switch c.name {
			case "no ptrace":
				// The test binary's folder is not for everybody, nor on the stage.
				data, err := os.ReadFile("/proc/self/exe")
				if err == nil {
					err = os.WriteFile(stageDir+"/noptrace", data, 0o755)
				}
				if err != nil {
					t.Fatal(err)
				}
				cmd.Env = append(cmd.Env, stageSeccomp+"=1")
				cmd.Args = append([]string{"noptrace", s.program}, cmd.Args[1:]...)
				cmd.Path = stageDir + "/noptrace"
				defer os.Remove(cmd.Path)
			case "no proc", "a home that is read-only":
				if s.denied {
					t.Skip("mount namespaces are denied here")
				}
				// As root, who may mount.
				script := "mount -t tmpfs none /proc"
				if c.name != "no proc" {
					script = "mount -t tmpfs -o ro none " + stageDir + "/home && HOME=" + stageDir + "/home"
				}
				cmd = through(s.cmd("run", "dr/arptables"), script)
				cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWNS
			default:
				through(cmd, c.script)
			}
			e := finish(t, cmd)
			if c.refused != nil {
				refused(t, e, 3, c.refused...)
			} else {
				passed(t, e)
			}
			t.Logf("%v: %s", e.took, e)
			s.clean(t)
		})
	}
}

// noKernel has kernels that are none.
func noKernel(t *testing.T, s *stage) {
	truncated := stageDir + "/truncated"
	image, err := os.ReadFile(s.kernel.Image)
	if err == nil {
		err = os.WriteFile(truncated, image[:len(image)/2], 0o755)
	}
	notAll := stageDir + "/tests/not-all"
	if err == nil {
		err = os.MkdirAll(notAll, 0o755)
	}
	if err == nil {
		err = os.WriteFile(notAll+"/modules.dep", nil, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, image, modules string
		words                []string
	}{
		{"false", "/bin/false", s.kernel.Modules, []string{"did not boot (exit status 1)", "lvslab kernel list"}},
		{"true", "/bin/true", s.kernel.Modules, []string{"did not boot (exit status 0)"}},
		{"missing", "/nonexistent", s.kernel.Modules, []string{"LVSLAB_UML=/nonexistent", "no such file"}},
		{"folder", "/usr", s.kernel.Modules, []string{"LVSLAB_UML=/usr", "not a program"}},
		{"no program", "/etc/passwd", s.kernel.Modules, []string{"LVSLAB_UML=/etc/passwd", "not a program"}},
		{"truncated", truncated, s.kernel.Modules, []string{"did not boot", "lvslab doctor"}},
		{"no modules", s.kernel.Image, "/usr", []string{"modules.dep", "LVSLAB_UML_MODULES"}},
		{"not all modules", s.kernel.Image, notAll, []string{"lacks"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := s.cmd("run", "dr/arptables", "--strict")
			setenv(cmd, "LVSLAB_UML", c.image)
			setenv(cmd, "LVSLAB_UML_MODULES", c.modules)
			e := finish(t, cmd)
			want := 3
			if c.name == "not all modules" {
				want = 1 // a skip, strictly
			}
			refused(t, e, want, c.words...)
			t.Logf("%v: %s", e.took, e)
			s.clean(t)
		})
	}
	cmd := s.cmd("run", "dr/arptables")
	setenv(cmd, "LVSLAB_UML", "")
	setenv(cmd, "HOME", "")
	if e := finish(t, cmd); e.exit != 0 { // a kernel of the system's own is as good
		refused(t, e, 3, "lvslab kernel install")
	}
	s.clean(t)
}

// hostUntouched compares what a machine has before and after.
func hostUntouched(t *testing.T, s *stage) {
	furnish(t)
	before := machine(t)
	links, addrs, routes := make(chan netlink.LinkUpdate, 100), make(chan netlink.AddrUpdate, 100), make(chan netlink.RouteUpdate, 100)
	neighs := make(chan netlink.NeighUpdate, 100)
	done := make(chan struct{})
	defer close(done)
	for _, err := range []error{
		netlink.LinkSubscribe(links, done), netlink.AddrSubscribe(addrs, done),
		netlink.RouteSubscribe(routes, done), netlink.NeighSubscribe(neighs, done),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ping := s.lab(t, "ping", pingLab)
	for _, args := range [][]string{
		{"run", "--kernel", "uml", "dr/arptables", "tun/from-dr"},
		{"run", "--kernel", "host", ping},
		{"doctor"},
	} {
		e := finish(t, s.cmd(args...))
		if e.exit != 0 {
			t.Errorf("%v: exit %d:\n%s", args, e.exit, e)
		}
		after := machine(t)
		for what, was := range before {
			if is := after[what]; is != was {
				t.Errorf("%v changed this machine's %s:\n%s\nis now\n%s", args, what, was, is)
			}
		}
		// Not even for a moment.
		for quiet := false; !quiet; {
			select {
			case u := <-links:
				t.Errorf("%v: link %s came or went", args, u.Attrs().Name)
			case u := <-addrs:
				t.Errorf("%v: address %v", args, u.LinkAddress)
			case u := <-routes:
				t.Errorf("%v: route %v", args, u.Route)
			case u := <-neighs:
				t.Errorf("%v: neighbour %v", args, u.Neigh)
			default:
				quiet = true
			}
		}
	}
}

// TestHostUntouched does the same in the machine's own namespaces, where the
// settings are that all namespaces share.
func TestHostUntouched(t *testing.T) {
	if raceEnabled {
		t.Skip("lvslab itself is built without -race, and nothing else is looked at here")
	}
	k := luckKernel(t)
	program := buildLvslab(t)
	ping := filepath.Join(t.TempDir(), "ping.yaml")
	if err := os.WriteFile(ping, []byte(pingLab), 0o644); err != nil {
		t.Fatal(err)
	}
	before := machine(t)
	for _, args := range [][]string{{"run", "--kernel", "uml", "dr/arptables", "tun/from-dr"}, {"run", "--kernel", "host", ping}} {
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "LVSLAB_UML="+k.Image, "LVSLAB_UML_MODULES="+k.Modules)
		if e := finish(t, cmd); e.exit != 0 && !strings.Contains(e.String(), "no kernel here can run this") {
			t.Errorf("%v: exit %d:\n%s", args, e.exit, e)
		}
		after := machine(t)
		for what, was := range before {
			if is := after[what]; is != was {
				t.Errorf("%v changed this machine's %s:\n%s\nis now\n%s", args, what, was, is)
			}
		}
	}
}

// furnish gives the stage's network what a machine has.
func furnish(t *testing.T) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	eth := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}}
	if err == nil {
		err = netlink.LinkAdd(eth)
	}
	if err != nil {
		t.Fatal(err)
	}
	// IPv6 would go on configuring itself while lvslab runs.
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", []byte("1"), 0)
	// The very addresses that the labs use.
	addr, _ := netlink.ParseAddr("172.25.12.77/24")
	to, _ := netlink.ParseIPNet("10.9.0.0/16")
	for _, err := range []error{
		netlink.AddrAdd(eth, addr), netlink.LinkSetUp(eth),
		netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Index, Dst: to, Scope: unix.RT_SCOPE_LINK}),
		netlink.NeighAdd(&netlink.Neigh{LinkIndex: eth.Index, IP: addr.IP.To4().Mask(addr.Mask), State: unix.NUD_PERMANENT, HardwareAddr: []byte{2, 0, 0, 0, 0, 1}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if nft, err := exec.LookPath("nft"); err == nil {
		const rules = "table ip mine { chain in { type filter hook input priority 0; ip saddr 10.1.1.1 drop; }; }\n" +
			"table arp mine { chain in { type filter hook input priority 0; arp saddr ip 10.1.1.1 drop; }; }\n"
		cmd := exec.Command(nft, "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Logf("nft: %v: %s", err, out)
		}
	}
}

// machine is what a machine has, for people.
func machine(t *testing.T) map[string]string {
	t.Helper()
	got := make(map[string]string)
	list := func(what string, v any, err error) {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		got[what] = fmt.Sprint(v)
	}
	links, err := netlink.LinkList()
	var b strings.Builder
	for _, l := range links {
		a := l.Attrs()
		fmt.Fprintf(&b, "%d %s %s %s %v mtu %d master %d\n", a.Index, a.Name, l.Type(), a.HardwareAddr, a.Flags, a.MTU, a.MasterIndex)
	}
	list("links", b.String(), err)
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	list("addresses", addrs, err)
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	list("routes", routes, err)
	rules, err := netlink.RuleList(netlink.FAMILY_ALL)
	list("routing rules", rules, err)
	neighs, err := netlink.NeighList(0, netlink.FAMILY_ALL)
	b.Reset()
	for _, n := range neighs {
		if n.State&unix.NUD_PERMANENT != 0 { // others come and go by themselves
			fmt.Fprintf(&b, "%d %s %s\n", n.LinkIndex, n.IP, n.HardwareAddr)
		}
	}
	list("neighbours", b.String(), err)
	for _, file := range []string{"/proc/modules", "/proc/self/mountinfo", "/proc/self/net/ip_vs"} {
		data, err := os.ReadFile(file)
		if err == nil {
			got[file] = string(data)
		}
	}
	for _, tool := range []string{"nft list ruleset", "iptables-save", "ip6tables-save", "arptables-save", "arptables-legacy-save", "ipvsadm -Sn"} {
		words := strings.Fields(tool)
		if path, err := exec.LookPath(words[0]); err == nil {
			out, _ := exec.Command(path, words[1:]...).CombinedOutput()
			for line := range strings.Lines(string(out)) {
				if !strings.HasPrefix(line, "#") { // these have the time
					got[tool] += line
				}
			}
		}
	}
	sysctls := 0
	err = filepath.WalkDir("/proc/sys/net", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if data, err := os.ReadFile(path); err == nil {
				got[path] = string(data)
				sysctls++
			}
		}
		return nil
	})
	if err != nil || sysctls < 100 {
		t.Errorf("%d sysctls: %v", sysctls, err)
	}
	// It counts by itself.
	delete(got, "/proc/sys/net/netfilter/nf_conntrack_count")
	return got
}
