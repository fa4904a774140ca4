package ipvs

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// meaning is what a request was about, for saying what its error number means.
type meaning struct {
	service     Service
	destination *Destination
}

// fail is err with the node, the command a person would have typed, and what
// the error number means there.
func (c *Conn) fail(rule string, err error, about meaning) error {
	if hint := about.hint(err); hint != "" {
		return fmt.Errorf("%s: ipvsadm %s: %w: %s", c.node, rule, err, hint)
	}
	return fmt.Errorf("%s: ipvsadm %s: %w", c.node, rule, err)
}

// unbelieved is the error of a change that the kernel took without a word and
// did not make.
func (c *Conn) unbelieved(rule, seen string) error {
	return fmt.Errorf("%s: ipvsadm %s: the kernel reported success, but reading back: %s", c.node, rule, seen)
}

// hint says what the error number means (net/netfilter/ipvs/ip_vs_ctl.c).
func (m meaning) hint(err error) string {
	switch errno(err) {
	case unix.EPERM:
		return "IPVS takes orders only with CAP_NET_ADMIN in the machine's first user namespace or, of fewer things, in the one that the network namespace belongs to"
	case unix.EAFNOSUPPORT:
		return "this kernel's IPVS has no IPv6"
	case unix.EPROTONOSUPPORT:
		return fmt.Sprintf("this kernel's IPVS does not balance %v", m.service.Protocol)
	case unix.ENOMEM:
		return "the kernel has no memory left"
	}
	if m.destination != nil {
		return m.destinationHint(err)
	}
	if m.service.Scheduler == "" {
		return ""
	}
	switch errno(err) {
	case unix.EEXIST:
		return "the service is there already"
	case unix.ESRCH:
		return "there is no such service"
	case unix.ENOENT:
		hint := fmt.Sprintf("the scheduler %s is not in this kernel: modprobe ip_vs_%[1]s", m.service.Scheduler)
		if m.service.PE != "" {
			hint += fmt.Sprintf("; or the persistence engine %s is not: modprobe ip_vs_pe_%[1]s", m.service.PE)
		}
		return hint
	case unix.EINVAL:
		return "the kernel finds the scheduler's flags or the netmask wrong"
	}
	return ""
}

func (m meaning) destinationHint(err error) string {
	d := m.destination
	switch errno(err) {
	case unix.EEXIST:
		return "the real server is there already"
	case unix.ESRCH:
		return "there is no such service; add it first"
	case unix.ENOENT:
		return "there is no such real server"
	case unix.ERANGE:
		return "a threshold or the weight is out of range"
	case unix.EINVAL:
		f := familyOf(d.Addr.Addr())
		if f != m.service.AddrFamily() {
			return fmt.Sprintf("the namespace has no %v address yet (give it one first), or a sync daemon runs: "+
				"its messages cannot say that a real server is of another family than its service", f)
		}
		return fmt.Sprintf("the namespace has no %v address yet (give it one first), or %v is no address of one machine",
			f, d.Addr.Addr())
	}
	return ""
}
