package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/filter"
	"github.com/lvslab/lvslab/topology/netns"
)

// linkType turns the answer to RTM_NEWLINK into a trial's.
func linkType(kind string, err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return &absentError{what: fmt.Sprintf("it knows no links of type %s", kind)}
	}
	return fmt.Errorf("making a link of type %s: %w", kind, err)
}

func tryVeth(n *netns.Namespace) error {
	err := n.Netlink().LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "probe0", TxQLen: -1}, PeerName: "probe1"})
	if err != nil {
		return linkType("veth", err)
	}
	for _, name := range []string{"probe0", "probe1"} {
		if err := isType(n, name, "veth"); err != nil {
			return err
		}
	}
	return nil
}

func tryBridge(n *netns.Namespace) error {
	err := n.Netlink().LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "probe0", TxQLen: -1}})
	if err != nil {
		return linkType("bridge", err)
	}
	return isType(n, "probe0", "bridge")
}

func isType(n *netns.Namespace, name, kind string) error {
	l, err := n.Netlink().LinkByName(name)
	if err != nil {
		return fmt.Errorf("reading back a link of type %s: %w", kind, err)
	}
	if l.Type() != kind {
		return fmt.Errorf("the kernel made a link of type %s where %s was asked for", l.Type(), kind)
	}
	return nil
}

// tryNetem delays the loopback device, the one that is there without any other
// feature.
func tryNetem(n *netns.Namespace) error {
	lo, err := n.Netlink().LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding the loopback device: %w", err)
	}
	q := netlink.NewNetem(
		netlink.QdiscAttrs{LinkIndex: lo.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(1, 0)},
		netlink.NetemQdiscAttrs{Latency: uint32(time.Millisecond.Microseconds())})
	err = n.Netlink().QdiscAdd(q)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return &absentError{what: "it knows no queueing discipline netem"}
	}
	if err != nil {
		return fmt.Errorf("adding a queueing discipline netem: %w", err)
	}
	qdiscs, err := n.Netlink().QdiscList(lo)
	if err != nil {
		return fmt.Errorf("reading back a queueing discipline: %w", err)
	}
	if !slices.ContainsFunc(qdiscs, func(q netlink.Qdisc) bool { return q.Type() == "netem" }) {
		return errors.New("the kernel took a queueing discipline netem and does not have it")
	}
	return nil
}

// fallbackTunnels says in which namespaces tunl0 and its like appear by
// themselves: 0 in all, 1 in the first only, 2 in none
// (Documentation/admin-guide/sysctl/net.rst).
const fallbackTunnels = "/proc/sys/net/core/fb_tunnels_only_for_init_net"

// tryTunnel looks whether tunl0 is there. (Asking by ioctl, as ifconfig does,
// would load ipip.)
func tryTunnel(n *netns.Namespace) error {
	_, err := n.Netlink().LinkByName("tunl0")
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		if v, err := os.ReadFile(fallbackTunnels); err == nil {
			if v := strings.TrimSpace(string(v)); v != "0" {
				return &absentError{
					what: fmt.Sprintf("new namespaces get no tunl0 while net.core.fb_tunnels_only_for_init_net is %s", v),
					fix:  "sudo sysctl net.core.fb_tunnels_only_for_init_net=0 && sudo modprobe ipip",
				}
			}
		}
		return &absentError{what: "a new namespace has no tunl0"}
	}
	if err != nil {
		return fmt.Errorf("looking for tunl0: %w", err)
	}
	return isType(n, "tunl0", "ipip")
}

// tryOverlay lays a tmpfs over / at a place that only the thread sees, and
// writes a file.
func tryOverlay(n *netns.Namespace) error {
	const base = "/tmp" // any folder that every machine has
	refused := func(what string, err error) error {
		if errors.Is(err, unix.ENODEV) {
			return &absentError{what: fmt.Sprintf("%s: %v", what, err)}
		}
		// EINVAL: such a root cannot be a lower layer, or not in a user namespace
		// that may not take its mounts apart.
		for _, no := range []error{unix.EINVAL, unix.EPERM, unix.EACCES} {
			if errors.Is(err, no) {
				return &absentError{what: fmt.Sprintf("%s: %v", what, err), denied: true}
			}
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	// A thread that is thrown away, and its mounts with it.
	return n.Thread(func() error {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return refused("making a mount namespace", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return refused("making mounts private", err)
		}
		if err := unix.Mount("lvslab", base, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, "mode=700,size=1m"); err != nil {
			return refused("mounting a tmpfs", err)
		}
		for _, d := range []string{"/upper", "/work", "/tree"} {
			if err := os.Mkdir(base+d, 0o700); err != nil {
				return err
			}
		}
		options := fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", base, base)
		if err := unix.Mount("lvslab", base+"/tree", "overlay", unix.MS_NODEV|unix.MS_NOSUID, options); err != nil {
			return refused("mounting an overlay of /", err)
		}
		const name = "/lvslab-probe"
		if err := os.WriteFile(base+"/tree"+name, nil, 0o600); err != nil {
			return refused("writing to an overlay of /", err)
		}
		if _, err := os.Lstat(base + "/upper" + name); err != nil {
			return fmt.Errorf("a file written to an overlay is not in its upper layer: %w", err)
		}
		return nil
	})
}

// gateARP says whether filter.Detect loads nothing. It asks nf_tables first, and
// arp_tables if that will not do.
func gateARP(s *system) (a Answer, safe bool) {
	// To open its socket loads nfnetlink, whatever comes after.
	modules := []string{"nf_tables", "nfnetlink"}
	if major, minor, ok := parseRelease(s.release); !ok || major < 5 || major == 5 && minor < 17 {
		modules = append(modules, "nft_counter") // a part of nf_tables since then
	}
	for _, m := range modules {
		// A module that does not exist cannot be loaded.
		if a, safe := s.mayTry(m); !safe && s.presence(m) != lacking {
			return a, false
		}
	}
	if s.presence("arp_tables") != present {
		return Answer{}, true // it is only ever loaded by hand
	}
	for _, m := range filter.LegacyModules() {
		if a, safe := s.mayTry(m); !safe && s.presence(m) != lacking {
			// Asked by itself, nf_tables may do, and then arp_tables is left alone.
			err := inScratch(trial{run: func(n *netns.Namespace) error { return n.Do(tryNFT) }})
			return a, err == nil
		}
	}
	return Answer{}, true
}

// noARP is the answer where nf_tables was asked, if it is there, and said no, and
// then arp_tables did.
func noARP(s *system, what string) Answer {
	a := Answer{Verdict: No, Why: what}
	if s.static {
		a.Why = "this kernel was built with neither nf_tables for arp nor arp_tables with mangle, and without loadable modules"
		return a
	}
	for _, m := range filter.LegacyModules() {
		if p := s.presence(m); (p == unloaded || p == unsure) && !s.sealed {
			a.Why = fmt.Sprintf("nf_tables takes no ARP rules here, and the module %s is not loaded", m)
			a.Fix = "sudo modprobe -a " + strings.Join(filter.LegacyModules(), " ")
			break
		}
	}
	return a
}

// tryNFT writes rules and reads them back, by nf_tables alone.
func tryNFT() error { return filter.NFTables.Replace(exampleRules()) }

func tryARP(n *netns.Namespace) error {
	return n.Do(func() error {
		_, err := filter.Detect() // which writes a rule
		if errors.Is(err, filter.ErrNoBackend) {
			return &absentError{what: err.Error()}
		}
		return err
	})
}

// exampleRules are what hides a virtual IP on a real server; the addresses are
// for documentation (RFC 5737).
func exampleRules() []filter.ArpRule {
	vip := netip.MustParseAddr("192.0.2.100")
	return []filter.ArpRule{
		{Chain: filter.Input, Target: filter.Drop, Dst: netip.PrefixFrom(vip, 32)},
		{Chain: filter.Output, Target: filter.Mangle, Src: netip.PrefixFrom(vip, 32), MangleIPSrc: netip.MustParseAddr("192.0.2.2")},
	}
}
