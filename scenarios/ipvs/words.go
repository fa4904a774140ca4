package ipvs

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// FormatService is how a service is set, as a rule has it: "tcp 10.0.0.100:80
// -s rr -p 300".
func FormatService(s Service) string { return s.Name() + " " + serviceOptions(s) }

// FormatDestination is a real server, as a rule has it: "10.0.0.2:80 -g -w 1".
func FormatDestination(d Destination) string { return d.Addr.String() + " " + destinationOptions(d) }

// DiffService says in words how a service is set otherwise than is wanted: "the
// scheduler is wrr, wanted rr; ...". It is empty where it is not.
func DiffService(have, want Service) string {
	have, want = have.Normal(), want.Normal()
	var w differing
	w.say("the scheduler", have.Scheduler, want.Scheduler)
	w.say("the scheduler's flags are", strings.Join(have.Flags, ","), strings.Join(want.Flags, ","))
	w.say("the persistence", persistenceWord(have), persistenceWord(want))
	if have.Persistent() && want.Persistent() {
		w.say("the netmask of persistence", netmaskWord(have), netmaskWord(want))
	}
	w.say("the persistence engine", have.PE, want.PE)
	w.say("one-packet scheduling", onWord(have.OnePacket), onWord(want.OnePacket))
	return w.String()
}

// DiffDestination says in words how a real server is set otherwise than is
// wanted: "the weight of 10.0.0.2:80 is 3, wanted 1". It is empty where it is not.
func DiffDestination(have, want Destination) string {
	var w differing
	of := " of " + want.Addr.String()
	w.say("the weight"+of, fmt.Sprint(have.Weight), fmt.Sprint(want.Weight))
	w.say("the method"+of, have.Forward.String(), want.Forward.String())
	w.say("the upper threshold"+of, boundWord(have.Upper), boundWord(want.Upper))
	w.say("the lower threshold"+of, boundWord(have.Lower), boundWord(want.Lower))
	if have.Forward == TUN && want.Forward == TUN {
		w.say("the tunnel"+of, tunnelWord(have), tunnelWord(want))
	}
	return w.String()
}

// differing collects what is otherwise.
type differing []string

func (w *differing) say(what, have, want string) {
	if have == want {
		return
	}
	if !strings.HasSuffix(what, " are") {
		what += " is"
	}
	*w = append(*w, fmt.Sprintf("%s %s, wanted %s", what, cmp.Or(have, "none"), cmp.Or(want, "none")))
}

func (w differing) String() string { return strings.Join(w, "; ") }

func persistenceWord(s Service) string {
	if !s.Persistent() {
		return ""
	}
	return fmt.Sprintf("%d s", int64(s.Timeout/time.Second))
}

func netmaskWord(s Service) string {
	return fmt.Sprintf("/%d", cmp.Or(s.Netmask, s.AddrFamily().bits()))
}

func onWord(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func boundWord(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func tunnelWord(d Destination) string { return strings.TrimSpace(tunnelOptions(d, true)) }
