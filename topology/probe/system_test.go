package probe

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/topology"
)

const testRelease = "6.1.0-9-amd64"

// debian is a machine as Debian sets it up: all in modules.
var debian = map[string]string{
	"/proc/sys/kernel/ostype":                          "Linux\n",
	"/proc/sys/kernel/modprobe":                        "/sbin/modprobe\n",
	"/proc/sys/kernel/modules_disabled":                "0\n",
	"/proc/modules":                                    "veth 1 0 - Live 0x0\nipip 1 0 - Loading 0x0\n",
	"/proc/filesystems":                                "nodev\ttmpfs\n",
	"/sys/module/bridge/parameters/x":                  "",
	"/lib/modules/" + testRelease + "/modules.builtin": "kernel/net/sched/sch_htb.ko\n",
	"/lib/modules/" + testRelease + "/modules.dep":     "kernel/net/sched/sch_netem.ko.xz:\nkernel/net/netfilter/ipvs/ip_vs_rr.ko: kernel/net/netfilter/ipvs/ip_vs.ko\nkernel/net/netfilter/ipvs/ip_vs.ko:\n",
	"/etc/os-release":                                  "NAME=x\nID=debian\n",
}

// without is files but for those below prefixes; others are added.
func machine(t *testing.T, gone []string, more map[string]string) *system {
	t.Helper()
	dir := t.TempDir()
	files := maps.Clone(debian)
	maps.DeleteFunc(files, func(name, _ string) bool {
		for _, g := range gone {
			if strings.HasPrefix(name, g) {
				return true
			}
		}
		return false
	})
	maps.Copy(files, more)
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(dir+name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return readSystem(root{dir: dir, release: testRelease})
}

// TestMayTry is the heart of the room: when a trial is safe, and what is said
// instead.
func TestMayTry(t *testing.T) {
	for _, tt := range []struct {
		name, module string
		gone         []string
		more         map[string]string
		safe         bool
		verdict      Verdict
		why, fix     string
	}{
		{name: "loaded", module: "veth", safe: true},
		{name: "built in", module: "sch_htb", safe: true},
		{name: "built in, by /sys", module: "bridge", safe: true},
		{name: "a file", module: "sch_netem", verdict: No, why: "the module sch_netem is not loaded", fix: "sudo modprobe sch_netem"},
		{name: "being loaded", module: "ipip", verdict: No, why: "the module ipip is not loaded", fix: "sudo modprobe ipip"},
		{name: "no file", module: "ip_vs_twos", verdict: No, why: "the kernel 6.1.0-9-amd64 has no module ip_vs_twos"},
		{
			name: "no file on Ubuntu", module: "sch_x", more: map[string]string{"/etc/os-release": "ID=ubuntu\n"}, verdict: No,
			why: "Ubuntu may keep", fix: "sudo apt-get install linux-modules-extra-6.1.0-9-amd64 && sudo modprobe sch_x",
		},
		{name: "a file system in use", module: "overlay", more: map[string]string{"/proc/filesystems": "nodev\toverlay\n"}, safe: true},
		{
			name: "a container", module: "sch_netem", gone: []string{"/lib"}, verdict: Unknown,
			why: "/lib/modules/6.1.0-9-amd64/modules.builtin it cannot be told", fix: "sudo modprobe sch_netem",
		},
		{name: "a container, loaded", module: "veth", gone: []string{"/lib"}, safe: true},
		{name: "no modules.dep", module: "sch_netem", gone: []string{"/lib/modules/" + testRelease + "/modules.dep"}, verdict: No, why: "not loaded", fix: "sudo modprobe sch_netem"},
		{name: "NixOS", module: "sch_netem", gone: []string{"/lib"}, verdict: No, why: "is not loaded", fix: "sudo modprobe sch_netem", more: map[string]string{
			"/run/booted-system/kernel-modules/lib/modules/" + testRelease + "/modules.builtin": "",
			"/run/booted-system/kernel-modules/lib/modules/" + testRelease + "/modules.dep":     "a/sch_netem.ko.xz:\n",
		}},
		{name: "no modules at all", module: "sch_netem", gone: []string{"/proc/modules", "/proc/sys/kernel/mod", "/lib"}, safe: true},
		{name: "no modprobe", module: "sch_netem", gone: []string{"/proc/sys/kernel/modprobe"}, safe: true},
		{name: "modprobe turned off", module: "sch_netem", more: map[string]string{"/proc/sys/kernel/modprobe": "\n"}, safe: true},
		{name: "modprobe turned off, container", module: "sch_netem", gone: []string{"/lib"}, more: map[string]string{"/proc/sys/kernel/modprobe": ""}, safe: true},
		{name: "sealed", module: "sch_netem", more: map[string]string{"/proc/sys/kernel/modules_disabled": "1\n"}, safe: true},
		// Nothing may be concluded from files that are not there for another reason.
		{name: "no /proc", module: "veth", gone: []string{"/proc"}, verdict: Unknown, why: "cannot be told", fix: "sudo modprobe veth"},
		{name: "/proc with subset=pid", module: "bridge", gone: []string{"/proc/"}, verdict: Unknown, why: "cannot be told", fix: "sudo modprobe bridge"},
		{name: "strange /proc/modules", module: "sch_netem", more: map[string]string{"/proc/modules": "???\n"}, verdict: Unknown, why: "cannot be told", fix: "sudo modprobe sch_netem"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, safe := machine(t, tt.gone, tt.more).mayTry(tt.module)
			if safe != tt.safe || a.Verdict != tt.verdict || !strings.Contains(a.Why, tt.why) || a.Fix != tt.fix {
				t.Errorf("safe %v, %+v", safe, a)
			}
		})
	}
}

// TestLacks is what is said after a trial that failed.
func TestLacks(t *testing.T) {
	const seen = "it knows no links of type veth"
	for _, tt := range []struct {
		name     string
		sys      *system
		module   string
		why, fix string
	}{
		{"static", machine(t, []string{"/proc/modules"}, nil), "veth", "this kernel was built without veth, and without loadable modules: " + seen, ""},
		{"sealed", machine(t, nil, map[string]string{"/proc/sys/kernel/modules_disabled": "1"}), "sch_netem", "loads no more until it is booted again", ""},
		{"there", machine(t, nil, nil), "veth", "the module veth is there: " + seen, ""},
		{"turned off", machine(t, nil, map[string]string{"/proc/sys/kernel/modprobe": ""}), "sch_netem", "the module sch_netem is not loaded", "sudo modprobe sch_netem"},
		{"container", machine(t, []string{"/lib"}, nil), "ip_vs", "the module ip_vs is not loaded", "sudo modprobe ip_vs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := tt.sys.lacks(tt.module, seen)
			if a.Verdict != No || !strings.Contains(a.Why, tt.why) || a.Fix != tt.fix {
				t.Errorf("got %+v", a)
			}
		})
	}
}

func TestListed(t *testing.T) {
	for _, tt := range []struct {
		name    string
		sys     *system
		feature topology.Feature
		verdict Verdict
	}{
		{"loaded", machine(t, nil, map[string]string{"/proc/modules": "ip_gre 1 0 - Live 0x0\n"}), "ip_gre", Yes},
		{"missing", machine(t, nil, nil), "ip_gre", No},
		{"static", machine(t, []string{"/proc/modules"}, nil), "ip_gre", Unknown},
		{"container", machine(t, []string{"/lib"}, nil), "ip_gre", Unknown},
		{"turned off", machine(t, []string{"/lib", "/proc/sys/kernel/modprobe"}, nil), "ip_gre", Unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := tt.sys.listed(tt.feature)
			if a.Verdict != tt.verdict || a.Why == "" || a.Feature != tt.feature {
				t.Errorf("got %+v", a)
			}
		})
	}
}

func TestGateARP(t *testing.T) {
	dep := "/lib/modules/" + testRelease + "/modules.dep"
	const nft, legacy = "a/nfnetlink.ko:\na/nf_tables.ko:\n", "a/arp_tables.ko:\na/arptable_filter.ko:\na/arpt_mangle.ko:\n"
	const loaded = "nfnetlink 1 0 - Live 0x0\nnf_tables 1 0 - Live 0x0\n"
	for _, tt := range []struct {
		name string
		more map[string]string
		safe bool
		fix  string
	}{
		{"nf_tables not loaded", map[string]string{dep: nft}, false, "sudo modprobe nf_tables"},
		{"nf_tables not loaded, arp_tables is", map[string]string{dep: nft + legacy, "/proc/modules": "nfnetlink 1 0 - Live 0\narp_tables 1 0 - Live 0\n"}, false, "sudo modprobe nf_tables"},
		{"nf_tables loaded", map[string]string{dep: nft + legacy, "/proc/modules": loaded}, true, ""},
		{"a kernel without nf_tables", map[string]string{dep: legacy}, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, safe := gateARP(machine(t, nil, tt.more))
			if safe != tt.safe || a.Fix != tt.fix {
				t.Errorf("safe %v, %+v", safe, a)
			}
		})
	}
	// Before 5.17 the counters of nf_tables were a module of their own.
	s := machine(t, nil, map[string]string{dep: nft + "a/nft_counter.ko:\n", "/proc/modules": loaded})
	s.release = "5.15.0"
	if a, safe := gateARP(s); safe || a.Fix != "sudo modprobe nft_counter" {
		t.Errorf("safe %v, %+v", safe, a)
	}
	s = machine(t, nil, map[string]string{dep: legacy})
	if a := noARP(s, "x"); a.Fix != "sudo modprobe -a arp_tables arptable_filter arpt_mangle" {
		t.Errorf("%+v", a)
	}
}
