package ipvs

import (
	"fmt"
	"slices"
	"strings"
)

// The flags of a service that schedulers read (linux/ip_vs.h,
// IP_VS_SVC_F_SCHED1 to 3).
const (
	flagSched1 = 1 << 3
	flagSched2 = 1 << 4
	flagSched3 = 1 << 5
	flagsSched = flagSched1 | flagSched2 | flagSched3
)

// schedFlag is one flag and its name; sched is the scheduler whose name it is,
// empty for any.
type schedFlag struct {
	name, sched string
	bit         uint32
}

func schedFlags() []schedFlag {
	return []schedFlag{
		{"sh-fallback", "sh", flagSched1},
		{"sh-port", "sh", flagSched2},
		{"mh-fallback", "mh", flagSched1},
		{"mh-port", "mh", flagSched2},
		{"flag-1", "", flagSched1},
		{"flag-2", "", flagSched2},
		{"flag-3", "", flagSched3},
	}
}

// flagBits turns names of flags into the kernel's bits.
func flagBits(sched string, names []string) (uint32, error) {
	var bits uint32
	for _, name := range names {
		i := slices.IndexFunc(schedFlags(), func(f schedFlag) bool { return f.name == name })
		if i < 0 {
			return 0, fmt.Errorf("unknown scheduler flag %q; allowed: %s", name, flagList())
		}
		f := schedFlags()[i]
		if f.sched != "" && f.sched != sched {
			return 0, fmt.Errorf("flag %q belongs to the scheduler %s, not to %s", name, f.sched, sched)
		}
		bits |= f.bit
	}
	return bits, nil
}

// flagNames is the way back: the scheduler's own names where it has some. To
// such a scheduler flag-3 means nothing, and ipvsadm does not print it (run).
func flagNames(sched string, bits uint32) []string {
	owner := ""
	if slices.ContainsFunc(schedFlags(), func(f schedFlag) bool { return f.sched == sched }) {
		owner = sched
	}
	var names []string
	for _, f := range schedFlags() {
		if bits&f.bit != 0 && f.sched == owner {
			names = append(names, f.name)
		}
	}
	return names
}

func flagList() string { return strings.Join(SchedulerFlags(), ", ") }

// SchedulerFlags are the names of all flags of schedulers.
func SchedulerFlags() []string {
	var names []string
	for _, f := range schedFlags() {
		names = append(names, f.name)
	}
	return names
}
