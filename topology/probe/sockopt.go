package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/netns"
)

// firstUserNamespace is the inode of the machine's first user namespace
// (PROC_USER_INIT_INO in linux/proc_ns.h).
const firstUserNamespace = 0xEFFFFFFD

// inUserNamespace reports whether this process is in a user namespace other
// than the machine's first.
func inUserNamespace() bool {
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/user", &st) == nil && st.Ino != firstUserNamespace
}

// What a probe needs of IPVS's older interface, socket options at level SOL_IP,
// which take orders in a user namespace, too (linux/ip_vs.h).
const (
	soSetAdd      = 64 + 1024 + 64 + 2 // IP_VS_SO_SET_ADD
	soGetInfo     = 64 + 1024 + 64 + 1 // IP_VS_SO_GET_INFO
	soGetService  = 64 + 1024 + 64 + 3 // IP_VS_SO_GET_SERVICE
	sizeofService = 44                 // struct ip_vs_service_user
	sizeofInfo    = 12                 // struct ip_vs_getinfo
	sizeofEntry   = 104                // struct ip_vs_service_entry
)

// sockopt hands an argument to a socket option of IPVS, on the calling thread's
// namespace. An option that gets has its answer in arg.
func sockopt(option int, arg []byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	defer unix.Close(fd)
	if option == soSetAdd {
		return unix.SetsockoptString(fd, unix.SOL_IP, option, string(arg))
	}
	size := uint32(len(arg)) //nolint:gosec // a hundred bytes
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_IP, uintptr(option),
		uintptr(unsafe.Pointer(&arg[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// tryOld asks IPVS for its version by the older interface.
func tryOld() error {
	return ordered("asking IPVS for its version", sockopt(soGetInfo, make([]byte, sizeofInfo)))
}

// tryOld adds the service by the older interface, and reads it back.
func (s service) tryOld() error {
	if s.engine != "" {
		return &absentError{what: "IPVS takes persistence engines only from root of the machine (CAP_NET_ADMIN in the initial user namespace)", denied: true}
	}
	user := make([]byte, sizeofService)
	binary.NativeEndian.PutUint16(user, unix.IPPROTO_TCP)
	copy(user[4:], []byte{192, 0, 2, 100}) // for documentation (RFC 5737)
	binary.BigEndian.PutUint16(user[8:], 5060)
	copy(user[16:31], s.scheduler)
	copy(user[40:], []byte{255, 255, 255, 255})
	err := sockopt(soSetAdd, user)
	if errors.Is(err, unix.ENOENT) {
		return &absentError{what: fmt.Sprintf("IPVS knows no %s", s)}
	}
	if err != nil {
		return ordered("adding a virtual service", err)
	}
	entry := make([]byte, sizeofEntry)
	copy(entry, user[:16]) // which service
	if err := sockopt(soGetService, entry); err != nil {
		return fmt.Errorf("reading a virtual service back: %w", err)
	}
	if got := unix.ByteSliceToString(entry[16:32]); got != s.scheduler {
		return fmt.Errorf("IPVS took a service with the %s and shows it with %q", s, got)
	}
	return nil
}

// netlinkOnly are the features of IPVS that only its generic-netlink interface
// takes, which takes orders from root of the machine alone.
func netlinkOnly(f topology.Feature) (what string, ok bool) {
	switch f {
	case "ip_vs-ipv6":
		return "IPv6", true
	case "ip_vs-gue":
		return "GUE tunnels", true
	case "ip_vs-gre":
		return "GRE tunnels", true
	case "ip_vs-sync":
		return "the particulars of a sync daemon", true
	case "ip_vs-ipvsadm":
		return "orders of ipvsadm(8), which speaks generic netlink,", true
	}
	return "", false
}

// netlinkTrial is the way to find out about one of netlinkOnly.
func netlinkTrial(what string) trial {
	return trial{
		module: "ip_vs", harmless: true, unprivileged: findIPVS, yes: "IPVS takes orders of root",
		run: func(n *netns.Namespace) error {
			return n.Do(func() error {
				id, err := genlFamilyID()
				if err != nil {
					return err
				}
				_, err = ask(id, cmdGetInfo, 0)
				if errors.Is(err, unix.EPERM) {
					return &absentError{what: fmt.Sprintf("IPVS takes %s only from root of the machine (CAP_NET_ADMIN in the initial user namespace)", what), denied: true}
				}
				return ordered("asking IPVS for its version", err)
			})
		},
	}
}

// sysctlTrial is the way to find out about a setting, which is a feature of its
// own where some kernels hide it from user namespaces.
func sysctlTrial(key string) trial {
	module := ""
	switch {
	case strings.HasPrefix(key, "net.ipv4.vs."):
		module = "ip_vs"
	case strings.HasPrefix(key, "net.netfilter.nf_conntrack"):
		module = "nf_conntrack"
	}
	return trial{
		module: module, harmless: true, yes: "a scratch namespace has it",
		run: func(n *netns.Namespace) error {
			return n.Do(func() error {
				fd, err := unix.Open("/proc/sys/"+strings.ReplaceAll(key, ".", "/"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
				switch {
				case err == nil:
					return unix.Close(fd)
				case errors.Is(err, unix.ENOENT):
					return &absentError{what: "a new namespace has no setting of that name"}
				case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.EROFS):
					return &absentError{what: "it cannot be set here: " + err.Error()}
				}
				return err
			})
		},
		no: func(s *system, what string) Answer {
			missing := module != "" && s.presence(module) != present
			if s.static {
				var absent *absentError
				missing = module == "ip_vs" && errors.As(findIPVS(), &absent)
			}
			if missing {
				return s.lacks(module, what)
			}
			if s.userns {
				what += "; the kernel hides some settings from user namespaces"
			}
			return Answer{Verdict: No, Why: what}
		},
	}
}
