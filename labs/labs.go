// Package labs holds the labs that ship with lvslab, a folder a chapter. A lab
// is named by its path without the ending: "dr/arptables".
package labs

import (
	"embed"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/runner/wire"
)

//go:embed */*.yaml
var files embed.FS

// All are the files of all shipped labs: chapters in the order in which a
// learner takes them, labs in the order of their chapter's index.
func All() []wire.File {
	var all []wire.File
	for _, chapter := range chapters() {
		for _, lab := range chapter.labs {
			name := chapter.name + "/" + lab
			data, err := files.ReadFile(name + ".yaml")
			if err != nil {
				panic("labs: the index names a lab that is not there: " + err.Error())
			}
			all = append(all, wire.File{Path: path.Join("labs", name+".yaml"), Name: name, Data: data})
		}
	}
	return all
}

// Chapters are the names of the chapters, in their order.
func Chapters() []string {
	var names []string
	for _, c := range chapters() {
		names = append(names, c.name)
	}
	return names
}

// Find are the labs that a name stands for: one lab, or the labs of a chapter.
func Find(name string) []wire.File {
	return slices.DeleteFunc(All(), func(f wire.File) bool {
		return f.Name != name && !strings.HasPrefix(f.Name, name+"/")
	})
}

type chapter struct {
	name string
	labs []string
}

// chapters is the index.
func chapters() []chapter {
	return []chapter{
		{"tutorial", []string{"machines"}},
		{"dr", []string{"arp-race", "arptables", "sysctl", "half-suppressed", "as-printed", "save-restore", "behind-router"}},
		{"tun", []string{"from-dr", "arp-race", "rp-filter", "prefix-24", "across-networks", "mtu"}},
		{"nat", []string{"two-networks", "ip-forward", "no-return-route", "client-inside"}},
		{"fullnat", []string{"same-network", "routed", "conntrack-off", "nf-tables"}},
		{"ipv6", []string{"dr", "tun", "nat", "tunnel-v4-service"}},
		{"schedulers", []string{"rr", "wrr", "lc", "wlc", "sed", "nq", "lblc", "lblcr", "dh", "sh", "mh", "flags", "fo", "ovf", "twos"}},
		{"protocols", []string{"udp", "one-packet", "one-packet-nat", "sctp", "tcp-and-udp", "several-services"}},
		{"persistence", []string{"timeout", "expires", "netmask", "quiescent-template", "port-zero", "fwmark"}},
		{"operation", []string{
			"weights-under-load", "drain", "remove-server", "thresholds", "lower-threshold", "fwmark", "conn-reuse", "sloppy-tcp", "cache-bypass", "sync",
			"rules-text", "ipvsadm", "zero",
		}},
		{"wire", []string{"hooks", "cost"}},
		{"services", []string{"web", "busybox", "nginx", "mail", "ftp", "dns"}},
		{"storage", []string{"three-layers", "attribute-cache"}},
		{"faults", []string{
			"answers-arp", "no-arp-announce", "arptables-input-only", "arp-ignore-director", "vip-not-local", "no-service",
			"no-vip", "no-vip-forwarding", "bound-to-rip", "lo-prefix-24", "behind-router",
			"tunnel-down", "rp-filter", "tunl0-prefix-24", "mtu",
			"no-ip-forward", "no-gateway", "client-inside", "snat-no-conntrack", "ct-invalid-drop",
			"all-weights-zero", "over-threshold", "persistence-hides-rr", "client-is-director", "client-is-real-server",
		}},
		{"selftest", []string{"dr", "nat", "tun"}},
		{"matrix", []string{"all"}},
	}
}

// onDisk are the names of the files that are embedded, for the index's test.
func onDisk() ([]string, error) {
	var names []string
	matches, err := fs.Glob(files, "*/*.yaml")
	for _, m := range matches {
		names = append(names, strings.TrimSuffix(m, ".yaml"))
	}
	return names, err
}

//go:embed lab.schema.json
var schema []byte

// Schema is the JSON Schema of lab files, which an editor completes and checks
// them by. It is made by package schema.
func Schema() []byte { return schema }
