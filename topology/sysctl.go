package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// writeSysctl writes a key in dotted form on the calling thread's namespace. A
// name part with dots in it (a VLAN device) is written with slashes, as
// sysctl(8) has it.
func writeSysctl(key, value string, missingOK bool) error {
	path, err := SysctlPath(key)
	if err != nil {
		return err
	}
	err = writeProc(path, value)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT):
		if missingOK {
			return nil
		}
		return fmt.Errorf("sysctl %s: this kernel has no such key here (no file %s)", key, path)
	}
	return fmt.Errorf("sysctl %s=%s: %w", key, value, err)
}

// writeProc is os.WriteFile by bare system calls: a plan writes dozens of keys,
// and os would try to poll each of them, which User-Mode Linux is slow at.
func writeProc(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(value))
	return errors.Join(err, unix.Close(fd))
}

// SysctlPath is the file of a net sysctl. Keys are in dotted form, or with
// slashes where a device's name has a dot. Only keys below net. belong to a
// network namespace; any other is an error, as is one that would lead out of
// /proc/sys/net.
func SysctlPath(key string) (string, error) {
	p := key
	if !strings.Contains(key, "/") {
		p = strings.ReplaceAll(key, ".", "/")
	}
	parts := strings.Split(p, "/")
	if len(parts) < 3 || parts[0] != "net" ||
		slices.ContainsFunc(parts, func(s string) bool { return strings.Trim(s, ".") == "" || strings.Trim(s, sysctlChars) != "" }) {
		return "", fmt.Errorf("sysctl %q: only keys below net. belong to a node, as in net.ipv4.conf.all.rp_filter", key)
	}
	return "/proc/sys/" + p, nil
}

// sysctlChars are those of the keys that there are, and of device names.
const sysctlChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.@"

type sysctlOp struct {
	meta       Meta
	key, value string
	pinned     string // what Undo sets; "" for no way back
}

// NewSysctl is the op that sets a net sysctl in a node. Keys are as sysctl(8)
// takes them. Undo has no way, unless Over says which value was there before.
func NewSysctl(m Meta, node, key, value string) Op {
	m.Key = Key{node, "sysctl", key}
	if m.Role == "" {
		m.Role = SysctlRole(key)
	}
	return sysctlOp{meta: m, key: key, value: value}
}

// Over is a sysctl op that takes the place of a pinned value, to which Undo
// leads back.
func Over(op Op, pinned string) Op {
	s, ok := op.(sysctlOp)
	if !ok {
		return op
	}
	s.pinned = pinned
	return s
}

// SysctlRole is the role that a key plays in a lab by its last part.
func SysctlRole(key string) Role {
	switch key[strings.LastIndexAny(key, "./")+1:] {
	case "ip_forward", "forwarding":
		return "ip-forwarding"
	case "rp_filter":
		return "reverse-path-filter"
	case "arp_ignore":
		return "arp-ignore"
	case "arp_announce":
		return "arp-announce"
	case "disable_ipv6":
		return "ipv6-off"
	case "send_redirects", "accept_redirects":
		return "redirects"
	}
	return "sysctl"
}

func (o sysctlOp) About() Meta { return o.meta }
func (o sysctlOp) optional() bool {
	// A kernel without IPv6 has no key to turn it off by, and needs none.
	return strings.HasPrefix(o.key, "net.ipv6.") && strings.HasSuffix(o.key, "disable_ipv6")
}

func (o sysctlOp) Shell(Dialect) []string {
	line := fmt.Sprintf("ip netns exec %s sysctl -qw %s", o.meta.Key.Node, Quote(o.key+"="+o.value))
	if o.optional() {
		line += " 2>/dev/null || true"
	}
	return []string{line}
}

func (o sysctlOp) Apply(ctx context.Context, w World) error { return o.ApplyAll(ctx, w, []Op{o}) }

// ApplyAll implements Batch.
func (o sysctlOp) ApplyAll(_ context.Context, w World, ops []Op) error {
	n, err := w.Node(o.meta.Key.Node)
	if err != nil {
		return err
	}
	return n.Do(func() error {
		for _, op := range ops {
			s, ok := op.(sysctlOp)
			if !ok {
				return fmt.Errorf("%s is no sysctl", op.About().Key)
			}
			if err := writeSysctl(s.key, s.value, s.optional()); err != nil {
				return fail(s, err)
			}
		}
		return nil
	})
}

func (o sysctlOp) Undo() (Op, bool) {
	if o.pinned == "" {
		return nil, false
	}
	o.value = o.pinned
	return o, true
}
