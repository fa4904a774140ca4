package scenarios

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// Mount is a folder of another node's that a node mounts by NFSv3.
type Mount struct {
	Pos source.Pos
	// From is the node that serves it.
	From string `yaml:"from,required"`
	// Path is the folder below the one that it exports; "/", all of that, when
	// not given.
	Path string `yaml:"path"`
	// Options are those of nfs(5), each an item or several with commas between;
	// what is not said is as nfs(5) has it: hard, timeo=600, retrans=2, ac.
	Options []string `yaml:"options"`
}

// UnmarshalSource reads it and looks the options up.
func (m *Mount) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	type plain Mount
	d.Decode(n, (*plain)(m))
	m.Pos = d.Pos(n)
	if m.Path == "" {
		m.Path = "/"
	}
	if !cleanPath(m.Path) {
		d.Fail(n, "path: %q: %s", m.Path, pathRule)
	}
	var options []string
	for _, o := range m.Options {
		options = append(options, strings.Split(o, ",")...)
	}
	m.Options = options
	seen := make(map[string]string)
	for _, o := range options {
		kind, err := mountOption(o)
		if err != nil {
			d.Fail(n, "options: %v", err)
			continue
		}
		if first, twice := seen[kind]; twice {
			d.Fail(n, "options: %s comes after %s; only one of them can hold", o, first)
		}
		seen[kind] = o
	}
}

// numericOptions are the options of nfs(5) that take a number.
func numericOptions() []string {
	return []string{"timeo", "retrans", "rsize", "wsize", "acregmin", "acregmax", "acdirmin", "acdirmax", "actimeo"}
}

// plainOptions are those that take none, with what each decides.
func plainOptions() map[string]string {
	return map[string]string{
		"hard": "hard", "soft": "hard", "softerr": "hard", "ac": "ac", "noac": "ac", "cto": "cto", "nocto": "cto",
		"ro": "ro", "rw": "ro", "sync": "sync", "async": "sync", "rdirplus": "rdirplus", "nordirplus": "rdirplus",
		"acl": "acl", "noacl": "acl",
	}
}

// mountOption checks one option of nfs(5) and says what it decides.
func mountOption(o string) (kind string, err error) {
	name, value, valued := strings.Cut(o, "=")
	if kind, ok := plainOptions()[name]; ok && !valued {
		return kind, nil
	}
	if name == "lookupcache" {
		if all := []string{"all", "none", "pos", "positive"}; !slices.Contains(all, value) {
			return "", fmt.Errorf("lookupcache is all, none or pos, found %q", value)
		}
		return name, nil
	}
	known := append(numericOptions(), "lookupcache")
	for n := range plainOptions() {
		known = append(known, n)
	}
	slices.Sort(known)
	if !slices.Contains(numericOptions(), name) {
		if slices.Contains([]string{"vers", "nfsvers", "proto", "port", "mountport", "mountproto", "mountvers", "addr", "mountaddr", "lock", "nolock"}, name) {
			return "", fmt.Errorf("%s is said already: NFSv3 by TCP without locks, at the port that the node serves", name)
		}
		return "", fmt.Errorf("%s", source.Unknown("option of nfs(5)", name, known))
	}
	// timeo= and retrans= of 0 are refused by the kernel (fs/nfs/fs_context.c).
	v, err := strconv.ParseUint(value, 10, 31)
	if err != nil || v == 0 && !strings.HasPrefix(name, "ac") {
		return "", fmt.Errorf("%s needs a number, as in %s=10, found %q", name, name, o)
	}
	return name, nil
}

const pathRule = "wanted an absolute path without . and .., without a slash at its end"

// cleanPath reports whether a path is absolute, and written in the one way that
// lets two of them be compared.
func cleanPath(p string) bool {
	return strings.HasPrefix(p, "/") && path.Clean(p) == p && !strings.ContainsRune(p, 0) && len(p) < maxPath
}

// maxPath is PATH_MAX of linux/limits.h.
const maxPath = 4096

// below reports whether a path is another one, or below it.
func below(p, folder string) bool {
	return p == folder || folder == "/" || strings.HasPrefix(p, folder+"/")
}

// machineFolders are each node's own by what they hold; nothing of a lab's
// belongs there.
func machineFolders() []string { return []string{"/proc", "/sys", "/dev"} }

// checkStorage looks at a node's files and mounts.
func (l *Lab) checkStorage(errs *source.List, node string, n Node) {
	place := func(what, p string, pos source.Pos) {
		if !cleanPath(p) || p == "/" {
			errs.Add(pos, "%s: %q: %s", what, p, pathRule)
		}
		for _, f := range machineFolders() {
			if below(p, f) {
				errs.Add(pos, "%s: %q: what is in %s is the kernel's", what, p, f)
			}
		}
	}
	for _, f := range n.Files {
		place("files", f.Name, f.Pos)
		for _, m := range n.Mounts {
			if below(f.Name, m.Name) {
				errs.Add(f.Pos, "files: %s is written before %s is mounted, and would be hidden; write it on %s, or in a step", f.Name, m.Name, m.Value.From)
			}
		}
		for _, o := range n.Files {
			if o.Name != f.Name && below(o.Name, f.Name) {
				errs.Add(f.Pos, "files: %s is a file, and so cannot hold %s", f.Name, o.Name)
			}
		}
	}
	for i, m := range n.Mounts {
		place("mounts", m.Name, m.Pos)
		for _, o := range n.Mounts[:i] {
			if below(m.Name, o.Name) || below(o.Name, m.Name) {
				errs.Add(m.Pos, "mounts: %s and %s: one is below the other", o.Name, m.Name)
			}
		}
		if !l.checkNodeRef(errs, m.Value.Pos, m.Value.From) {
			continue
		}
		switch from, _ := l.Nodes.Get(m.Value.From); {
		case m.Value.From == node:
			errs.Add(m.Value.Pos, "mounts: %s would mount a folder of its own; from is another node", node)
		case len(from.nfs()) == 0:
			errs.Add(m.Value.Pos, "mounts: node %s serves no NFS; give it serve: [nfs]", m.Value.From)
		default:
			if _, err := l.storageAddress(node, m.Value.From); err != nil {
				errs.Add(m.Value.Pos, "mounts: %v", err)
			}
		}
	}
}

// nfs are the NFS servers of a node.
func (n Node) nfs() []Serve {
	return slices.DeleteFunc(slices.Clone(n.Serve), func(s Serve) bool { return s.Service != serviceNFS })
}

// serviceNFS is the service's name.
const serviceNFS = "nfs"

// storageAddress is where a node finds another one's NFS server: by an address
// on a network that both are on, or else by its first.
func (l *Lab) storageAddress(node, from string) (netip.AddrPort, error) {
	n, _ := l.Nodes.Get(node)
	f, _ := l.Nodes.Get(from)
	s := f.nfs()[0]
	if s.Address.IsValid() {
		return netip.AddrPortFrom(s.Address, s.Port), nil
	}
	for _, mine := range n.Links {
		for _, theirs := range f.Links {
			if mine.Value.Network == theirs.Value.Network && len(theirs.Value.Addresses) > 0 {
				return netip.AddrPortFrom(theirs.Value.Addresses[0].Prefix.Addr(), s.Port), nil
			}
		}
	}
	a, err := l.Resolve(from)
	return netip.AddrPortFrom(a, s.Port), err
}

// storageOps are the nodes' files, the NFS servers, and what is mounted from
// them, in the order in which one rests on the other.
func (l *Lab) storageOps() []topology.Op {
	var ops []topology.Op
	for _, e := range l.Nodes {
		for _, f := range e.Value.Files {
			ops = append(ops, topology.NewFile(topology.Meta{Why: fmt.Sprintf("%s has a file %s", e.Name, f.Name), Pos: f.Pos}, e.Name, f.Name, f.Value))
		}
	}
	for _, e := range l.Nodes {
		for _, s := range e.Value.nfs() {
			ops = append(ops, s.op(e.Name))
		}
	}
	for _, e := range l.Nodes {
		for _, m := range e.Value.Mounts {
			addr, err := l.storageAddress(e.Name, m.Value.From)
			if err != nil {
				continue // structure has said so
			}
			why := fmt.Sprintf("%s has the files of %s in %s", e.Name, m.Value.From, m.Name)
			if m.Value.Path != "/" {
				why = fmt.Sprintf("%s has the files below %s of %s in %s", e.Name, m.Value.Path, m.Value.From, m.Name)
			}
			meta := topology.Meta{Why: why, Pos: m.Pos}
			if addr.Addr().Is6() {
				meta.Needs = []topology.Feature{"ipv6"}
			}
			ops = append(ops, topology.NewMount(meta, e.Name, topology.Mount{At: m.Name, Server: addr, Path: m.Value.Path, Options: m.Value.Options}))
		}
	}
	return ops
}
