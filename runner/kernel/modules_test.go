package kernel_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/runner/kernel"
)

const dep = `kernel/net/netfilter/ipvs/ip_vs.ko: kernel/net/netfilter/nf_conntrack.ko kernel/net/ipv4/nf_defrag-ipv4.ko kernel/lib/libcrc32c.ko
kernel/net/netfilter/ipvs/ip_vs_rr.ko: kernel/net/netfilter/ipvs/ip_vs.ko kernel/net/netfilter/nf_conntrack.ko kernel/net/ipv4/nf_defrag-ipv4.ko kernel/lib/libcrc32c.ko
kernel/net/netfilter/nf_conntrack.ko: kernel/net/ipv4/nf_defrag-ipv4.ko kernel/lib/libcrc32c.ko
kernel/net/ipv4/nf_defrag-ipv4.ko:
kernel/lib/libcrc32c.ko:
kernel/drivers/net/veth.ko.xz:

# a comment
`

const builtin = "kernel/fs/hostfs/hostfs.ko\nkernel/net/ipv4/tcp-cubic.ko\n"

func paths(order []kernel.Module) []string {
	var all []string
	for _, m := range order {
		all = append(all, m.Name)
	}
	return all
}

func TestOrder(t *testing.T) {
	m, err := kernel.ParseModules([]byte(dep), []byte(builtin))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		names []string
		want  []string
	}{
		{nil, nil},
		{[]string{"veth"}, []string{"veth"}},
		{[]string{"hostfs", "tcp_cubic"}, nil},
		{[]string{"ip-vs-rr", "ip_vs", "veth", "veth"}, []string{"libcrc32c", "nf_defrag_ipv4", "nf_conntrack", "ip_vs", "ip_vs_rr", "veth"}},
	} {
		got, err := m.Order(tt.names...)
		if err != nil || !slices.Equal(paths(got), tt.want) {
			t.Errorf("%v: %v, %v, want %v", tt.names, paths(got), err, tt.want)
		}
	}
	var unknown *kernel.UnknownModuleError
	if _, err := m.Order("veth", "no-such"); !errors.As(err, &unknown) || unknown.Name != "no_such" {
		t.Errorf("unknown module: %v", err)
	}
	if !m.Has("ip-vs") || !m.Has("hostfs") || m.Has("no-such") {
		t.Error("Has is wrong")
	}
	order, err := m.Order("veth")
	if err != nil || !order[0].Compressed() || order[0].Path != "kernel/drivers/net/veth.ko.xz" {
		t.Errorf("%+v, %v", order, err)
	}
}

func TestParseModulesRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no colon": "kernel/a.ko\n", "empty name": ": b.ko\n", "a way out": "../../etc/a.ko:\n", "absolute": "/a.ko:\n",
	} {
		if _, err := kernel.ParseModules([]byte(text), nil); err == nil || !strings.Contains(err.Error(), "modules.dep:1") {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, err := kernel.ParseModules([]byte("a.ko: b.ko\nb.ko: a.ko\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Order("a"); err == nil || !strings.Contains(err.Error(), "itself") {
		t.Errorf("a circle: %v", err)
	}
}

// TestRealModules reads those of the kernel at hand.
func TestRealModules(t *testing.T) {
	k, err := kernel.Find(os.Getenv)
	if err != nil {
		if os.Getenv("LVSLAB_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dep, err := os.ReadFile(filepath.Join(k.Modules, "modules.dep"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := kernel.ParseModules(dep, nil)
	if err != nil {
		t.Fatal(err)
	}
	order, err := m.Order("ip_vs_rr", "ipip", "veth", "bridge", "sch_netem", "arptable_filter", "arpt_mangle")
	if err != nil {
		t.Fatal(err)
	}
	for _, mod := range order {
		if _, err := os.Stat(filepath.Join(k.Modules, mod.Path)); err != nil {
			t.Error(err)
		}
	}
}

func FuzzParseModules(f *testing.F) {
	f.Add([]byte(dep), []byte(builtin), "ip_vs_rr")
	f.Add([]byte("a.ko: a.ko\n"), []byte(""), "a")
	f.Add([]byte("x/../y.ko: z\n"), []byte("\n\n/"), "")
	f.Fuzz(func(t *testing.T, dep, builtin []byte, name string) {
		m, err := kernel.ParseModules(dep, builtin)
		if err != nil {
			return
		}
		order, err := m.Order(name)
		if (err == nil) != m.Has(name) && len(order) > 0 {
			t.Fatalf("Has(%q) is %v, Order: %v, %v", name, m.Has(name), order, err)
		}
		seen := make(map[string]bool)
		for _, mod := range order {
			if seen[mod.Name] {
				t.Fatalf("%s twice in %v", mod.Name, order)
			}
			seen[mod.Name] = true
			if !filepath.IsLocal(mod.Path) {
				t.Fatalf("path %q leads out", mod.Path)
			}
		}
	})
}
