// Package probe finds out what the running kernel can do, by trying it, without
// changing the machine.
//
// Trying is done in scratch network namespaces that vanish, and what was tried
// is read back: netlink reports success for some things that did not happen.
//
// Many trials make the kernel load a module by itself (request_module in
// kernel/module/kmod.c): a link of an unknown type, a queueing discipline, a
// file system, an IPVS scheduler, even the question for a generic-netlink
// family by its name. A module is the whole machine's, and some change it at
// once: ipip puts tunl0 into the machine's own namespace. It does not matter
// who asks: the kernel runs modprobe as root on behalf of anybody, from inside
// any namespace. So a trial that could load something is made only where that
// cannot happen: its module is loaded or built in, or this kernel loads none by
// itself. Everywhere else the answer comes from the kernel's lists alone.
package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
	"github.com/lvslab/lvslab/topology/netns"
)

// Verdict is an answer to "can this kernel do it?".
type Verdict int

// The three answers: not knowing is not a no.
const (
	Unknown Verdict = iota
	Yes
	No
)

func (v Verdict) String() string {
	switch v {
	case Yes:
		return "yes"
	case No:
		return "no"
	}
	return "could not tell"
}

// The features that can be tried. Schedulers are "ip_vs_" with the scheduler's
// name ("ip_vs_rr"), persistence engines "ip_vs_pe_" with theirs. What IPVS can
// do for root of the machine alone is "ip_vs-ipv6", "ip_vs-gue", "ip_vs-gre",
// "ip_vs-sync" and "ip_vs-ipvsadm". A setting is called as sysctl(8) calls it ("net.ipv4.vs.conntrack").
// Of any other name it is only looked up whether a module of that name is there.
const (
	NetNS   topology.Feature = "netns" // may we make network namespaces at all
	Veth    topology.Feature = "veth"
	Bridge  topology.Feature = "bridge"
	Netem   topology.Feature = "sch_netem"
	IPIP    topology.Feature = "ipip"    // a fresh namespace has tunl0
	Overlay topology.Feature = "overlay" // an overlay of / may be mounted
	IPVS    topology.Feature = "ip_vs"   // it exists, and takes our orders
	ARP     topology.Feature = filter.Feature
	Users   topology.Feature = "other-users" // a process may become another user
)

// Answer says whether the kernel has a feature.
type Answer struct {
	Feature topology.Feature
	Verdict Verdict
	// Why is a clause without its full stop, whatever the verdict.
	Why string
	// Fix is the exact command that mends a No, or that would let a trial be
	// made ("sudo modprobe ip_vs_rr"); empty if no command is known to.
	Fix string
}

// Features tries the wanted features, all at once, and answers in their order. It
// takes some milliseconds. Without the privilege to make network namespaces it
// answers what can be told without; in a user namespace of one's own, what can be
// done there. Once ctx has ended, what was not tried yet
// is Unknown.
func Features(ctx context.Context, want []topology.Feature) []Answer {
	sys := readSystem(root{})
	answers := make([]Answer, len(want))
	var wg sync.WaitGroup
	for i, f := range want {
		wg.Go(func() {
			if ctx.Err() != nil {
				answers[i] = Answer{Feature: f, Why: "not tried: " + context.Cause(ctx).Error()}
				return
			}
			answers[i] = sys.answer(f)
		})
	}
	wg.Wait()
	return answers
}

// trial is the way to find out about one feature.
type trial struct {
	// module brings the feature; it is what the fix names.
	module string
	// harmless trials load nothing, whatever is not there yet. All others wait
	// for module.
	harmless bool
	// gate says more than module does about whether trying is safe; nil if
	// there is no more to say.
	gate func(*system) (a Answer, safe bool)
	// run is called with a scratch namespace. An absentError is a no, any other
	// error is "could not tell".
	run func(*netns.Namespace) error
	// unprivileged is run where no namespace can be made; nil if that would be
	// of no use. It can answer no, but not yes.
	unprivileged func() error
	// yes is Why when run succeeded.
	yes string
	// no is the answer to an absentError with what it says; nil means that the
	// module is missing.
	no func(s *system, what string) Answer
}

// absentError marks a trial's certain "no".
type absentError struct {
	what string
	// fix is the command that mends it where that is not to load the module.
	fix string
	// denied says that the kernel has it, and that it is not for us, or not here.
	denied bool
}

func (e *absentError) Error() string { return e.what }

func trialOf(f topology.Feature) (trial, bool) {
	switch f {
	case Veth:
		return trial{module: "veth", run: tryVeth, yes: "a scratch namespace took a pair"}, true
	case Bridge:
		return trial{module: "bridge", run: tryBridge, yes: "a scratch namespace took one"}, true
	case Netem:
		return trial{module: "sch_netem", run: tryNetem, yes: "a scratch namespace delayed its loopback"}, true
	case IPIP:
		return trial{module: "ipip", harmless: true, run: tryTunnel, yes: "a scratch namespace has tunl0"}, true
	case Overlay:
		return trial{module: "overlay", run: tryOverlay, yes: "a scratch mount namespace laid one over /"}, true
	case IPVS:
		return trial{
			module: "ip_vs", harmless: true, run: tryIPVS, unprivileged: findIPVS,
			yes: "it takes orders",
		}, true
	case ARP:
		return trial{module: "nf_tables", harmless: true, gate: gateARP, run: tryARP, no: noARP, yes: "a scratch namespace took rules"}, true
	}
	if t, ok := ipRuleTrial(f); ok {
		return t, true
	}
	name := string(f)
	if what, ok := netlinkOnly(f); ok {
		return netlinkTrial(what), true
	}
	if strings.HasPrefix(name, "net.") {
		return sysctlTrial(name), true
	}
	if engine, ok := strings.CutPrefix(name, "ip_vs_pe_"); ok && engine != "" {
		return trial{
			module: name, run: tryService(service{engine: engine}), unprivileged: findIPVS,
			yes: "a scratch namespace took a service with it",
		}, true
	}
	if sched, ok := strings.CutPrefix(name, "ip_vs_"); ok && sched != "" && sched != "ftp" {
		return trial{
			module: name, run: tryService(service{scheduler: sched}), unprivileged: findIPVS,
			yes: "a scratch namespace took a service with it",
		}, true
	}
	return trial{}, false
}

// answer finds out about one feature.
func (s *system) answer(f topology.Feature) Answer {
	if f == NetNS {
		return tryNetNS()
	}
	t, ok := trialOf(f)
	if !ok {
		if a, ok := s.told(f); ok {
			return a
		}
		return s.listed(f)
	}
	told := func(a Answer) Answer { a.Feature = f; return a }
	if !t.harmless {
		if a, safe := s.mayTry(t.module); !safe {
			return told(a)
		}
	}
	if t.gate != nil {
		if a, safe := t.gate(s); !safe {
			return told(a)
		}
	}
	err := inScratch(t)
	var absent *absentError
	switch {
	case err == nil:
		return Answer{Feature: f, Verdict: Yes, Why: t.yes}
	case errors.As(err, &absent):
		if absent.fix != "" || absent.denied {
			return Answer{Feature: f, Verdict: No, Why: absent.what, Fix: absent.fix}
		}
		if t.no != nil {
			return told(t.no(s, absent.what))
		}
		return told(s.lacks(t.module, absent.what))
	}
	// What the lists say for certain is better than "could not tell".
	if t.harmless {
		if a, safe := s.mayTry(t.module); !safe && a.Verdict == No {
			return told(a)
		}
	}
	return Answer{Feature: f, Why: err.Error()}
}

// inScratch runs a trial in a namespace that vanishes.
func inScratch(t trial) error {
	n, err := netns.New("lvslab-probe")
	if err != nil {
		var absent *absentError
		if t.unprivileged != nil && errors.As(t.unprivileged(), &absent) {
			return absent
		}
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("it cannot be tried without root (CAP_SYS_ADMIN): %w", unix.EPERM)
		}
		return fmt.Errorf("it could not be tried: %w", err)
	}
	err = t.run(n)
	if closeErr := n.Close(); err == nil && closeErr != nil {
		return closeErr
	}
	return err
}

// tryNetNS makes a namespace, and lets it go.
func tryNetNS() Answer {
	a := Answer{Feature: NetNS}
	n, err := netns.New("lvslab-probe")
	switch {
	case err == nil:
		a.Verdict, a.Why = Yes, "one was made"
		if err := n.Close(); err != nil {
			a.Verdict, a.Why = Unknown, err.Error()
		}
	case errors.Is(err, unix.EPERM):
		a.Verdict, a.Why = No, "making network namespaces needs root (CAP_SYS_ADMIN)"
	case errors.Is(err, unix.ENOSPC):
		a.Verdict, a.Why = No, "all network namespaces that user.max_net_namespaces allows are in use"
		a.Fix = "sudo sysctl user.max_net_namespaces=65536"
	case errors.Is(err, unix.EINVAL):
		a.Verdict, a.Why = No, "this kernel was built without network namespaces (CONFIG_NET_NS)"
	default:
		a.Why = err.Error()
	}
	return a
}
