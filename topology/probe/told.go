package probe

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/topology"
)

// told answers for features that the kernel lists itself, in whatever way they
// came into it: nothing is tried, and nothing is loaded. Where it does not list
// one, the module may still be there to be loaded.
func (s *system) told(f topology.Feature) (a Answer, ok bool) {
	var what string
	var found bool
	switch f {
	case Users:
		return tellUsers(s), true
	case "ipv6":
		what = "there is no /proc/net/if_inet6"
		_, err := os.Stat("/proc/self/net/if_inet6")
		found = err == nil
	case "sctp":
		what = "/proc/net/protocols has no SCTP"
		data, err := os.ReadFile("/proc/self/net/protocols")
		if err != nil {
			return Answer{}, false
		}
		found = slices.ContainsFunc(strings.Split(string(data), "\n"), func(l string) bool { return strings.HasPrefix(l, "SCTP ") })
	case "nfs", "nfsv3":
		what = "/proc/filesystems has no nfs"
		data, err := os.ReadFile("/proc/filesystems")
		if err != nil {
			return Answer{}, false
		}
		found = parseFilesystems(data)["nfs"]
		if found && f == "nfsv3" && !s.userns {
			return Answer{}, false // a module of its own, or not
		}
	default:
		return Answer{}, false
	}
	if found && s.userns && (f == "nfs" || f == "nfsv3") {
		return Answer{Feature: f, Verdict: No, Why: "in a user namespace NFS cannot be mounted (CAP_SYS_ADMIN in the initial one)"}, true
	}
	if found {
		return Answer{Feature: f, Verdict: Yes, Why: fmt.Sprintf("this kernel lists %s", f)}, true
	}
	a = s.lacks(string(f), what)
	a.Feature = f
	return a, true
}

// tellUsers counts the users that this process's user namespace has.
func tellUsers(s *system) Answer {
	data, err := s.root.read("/proc/self/uid_map")
	if err != nil {
		return Answer{Feature: Users, Why: err.Error()}
	}
	if fields := strings.Fields(string(data)); len(fields) == 3 && fields[2] == "1" {
		return Answer{Feature: Users, Verdict: No, Why: "in this user namespace there is one user, and a server of the machine's may want to become another"}
	}
	return Answer{Feature: Users, Verdict: Yes, Why: "there is more than one"}
}
