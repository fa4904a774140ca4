package topology

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// NFSPort is where an NFS server listens (RFC 1813, 2.1).
const NFSPort = 2049

// Mount describes a folder of another node that a node mounts by the kernel's
// NFSv3 client, in its own view of the files.
type Mount struct {
	// At is the folder that it covers, an absolute path.
	At string
	// Server is where both of NFSv3's programs, MOUNT and NFS, listen.
	Server netip.AddrPort
	// Path is the folder of the server, "/" for all that it exports.
	Path string
	// Options are those of nfs(5) that the lab names; all others are as nfs(5)
	// says.
	Options []string
}

// Device is what mount(8) calls the device: "10.0.0.10:/".
func (m Mount) Device() string {
	host := m.Server.Addr().String()
	if m.Server.Addr().Is6() {
		host = "[" + host + "]"
	}
	return host + ":" + m.Path
}

// options are the lab's, after those by which a server is found that has one
// port for both programs, no portmapper, and no lock manager.
func (m Mount) options() []string {
	proto := "tcp"
	if m.Server.Addr().Is6() {
		proto = "tcp6"
	}
	return append([]string{
		"vers=3", "proto=" + proto, fmt.Sprintf("port=%d", m.Server.Port()),
		"mountproto=" + proto, fmt.Sprintf("mountport=%d", m.Server.Port()), "nolock",
	}, m.Options...)
}

// Data is what mount(2) takes as data for a file system of type nfs: the text
// that mount.nfs(8) makes of the options (fs/nfs/fs_context.c).
func (m Mount) Data() string {
	return strings.Join(append(m.options(), "addr="+m.Server.Addr().String()), ",")
}

type mountOp struct {
	meta Meta
	m    Mount
	off  bool
}

// NewMount is the op that mounts a folder of another node. Its server must
// listen when the op is applied, or begin to within seconds.
func NewMount(m Meta, node string, what Mount) Op {
	m.Key = Key{node, "mount", what.At}
	m.Role = "storage-mount"
	// nfs asks modprobe for nfsv3 when it is first needed, which a guest cannot
	// do and a machine of somebody's should not.
	m.Needs = append(slices.Clone(m.Needs), "nfs", "nfsv3", "overlay")
	return mountOp{meta: m, m: what}
}

func (o mountOp) About() Meta { return o.meta }

func (o mountOp) Shell(Dialect) []string {
	in := "ip netns exec " + o.meta.Key.Node
	if o.off {
		return []string{fmt.Sprintf("%s umount -fl %s", in, Quote(o.m.At))}
	}
	return []string{fmt.Sprintf("%s mount -t nfs -o %s %s %s", in,
		Quote(strings.Join(o.m.options(), ",")), Quote(o.m.Device()), Quote(o.m.At))}
}

func (o mountOp) Apply(ctx context.Context, w World) error {
	n, err := w.Node(o.meta.Key.Node)
	if err != nil {
		return err
	}
	if o.off {
		return fail(o, n.Unmount(o.m.At))
	}
	return fail(o, n.Mount(ctx, o.m))
}

func (o mountOp) Undo() (Op, bool) {
	o.off = !o.off
	return o, true
}
