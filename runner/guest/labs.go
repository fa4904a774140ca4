package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/lvslab/lvslab/runner/engine"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/node"
	"github.com/lvslab/lvslab/runner/node/tools"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
	"github.com/lvslab/lvslab/topology/probe"
)

// Enter belongs at the top of main, or of TestMain, of any program that runs
// labs: lvslab starts that very program anew as a guest's init, as the helper
// that starts a guest, and as the first process of a node's command. In each of
// these roles Enter never returns; otherwise it returns at once.
func Enter() {
	entered.Store(true)
	tools.Enter()
	askedToLoad()
	node.Main()
	Become(Jobs{Run: runLabs, Up: UpLab})
}

var entered atomic.Bool

// Entered reports whether Enter has been called, so that a library that starts
// guests can say that it was forgotten. Without it the program, started anew as a
// guest's init, would do its own work there.
func Entered() bool { return entered.Load() }

// runLabs runs a job's labs in the guest's kernel, loading the modules that
// each lab needs.
func runLabs(ctx context.Context, job wire.Job, load func(modules ...string) error, emit func(wire.Event)) error {
	host, err := hostOf(job, load)
	if err != nil {
		return err
	}
	return engine.Run(ctx, host, job, emit)
}

// UpLab is an Up that brings labs up in the guest's kernel.
func UpLab(ctx context.Context, job wire.Job, load func(modules ...string) error) (live.Lab, error) {
	host, err := hostOf(job, load)
	if err != nil {
		return nil, err
	}
	lab, err := engine.Up(ctx, host, job)
	if err != nil {
		return nil, err
	}
	return lab, nil
}

// hostOf makes this guest the place for a job's labs.
func hostOf(job wire.Job, load func(modules ...string) error) (engine.Host, error) {
	if job.HostileInit {
		if err := hostile(); err != nil {
			return engine.Host{}, err
		}
	}
	// moby/ipvs runs modprobe once, which a guest has no use for: it loads
	// modules by itself, and a process costs 20 ms here. Commands of nodes get
	// a PATH of their own.
	if err := os.Setenv("PATH", "/nowhere"); err != nil {
		return engine.Host{}, err
	}
	l := &features{load: load, had: make(map[topology.Feature]bool)}
	return engine.Host{Ensure: l.ensure, Room: room, Load: l.one}, nil
}

// room is the guest's. What mends the lack of it on a machine of one's own does
// not in a guest, which nobody can log in to.
func room(nodes int) error {
	err := probe.Room(nodes)
	var none *probe.RoomError
	if errors.As(err, &none) {
		none.Fix = "fewer nodes, or a machine's own kernel: --kernel host"
	}
	return err
}

// features turns what labs need into modules, each asked for once.
type features struct {
	mu   sync.Mutex
	load func(modules ...string) error
	had  map[topology.Feature]bool
}

func (l *features) ensure(_ context.Context, needs []topology.Feature) ([]topology.Feature, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var missing []topology.Feature
	for _, f := range needs {
		got, asked := l.had[f]
		if !asked {
			var err error
			if got, err = l.get(f); err != nil {
				return nil, err
			}
			l.had[f] = got
		}
		if !got {
			missing = append(missing, f)
		}
	}
	return missing, nil
}

// one loads a module by its name.
func (l *features) one(_ context.Context, module string) (known bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err = l.load(module)
	var unknown *kernel.UnknownModuleError
	if errors.As(err, &unknown) {
		return false, nil
	}
	return true, err
}

// get loads the first of a feature's alternatives that the kernel has; false if
// it has none.
func (l *features) get(f topology.Feature) (bool, error) {
	for _, modules := range Modules(f) {
		err := l.load(modules...)
		var unknown *kernel.UnknownModuleError
		switch {
		case err == nil:
			return true, nil
		case !errors.As(err, &unknown):
			return false, fmt.Errorf("loading %s into the guest: %w", f, err)
		}
	}
	return false, nil
}

// Modules are the modules behind a feature, in alternatives, the best first: a
// kernel has the feature if it has all the modules of one.
func Modules(f topology.Feature) [][]string {
	if alternatives, ok := filter.IPModules(f); ok {
		return alternatives
	}
	if f == filter.Feature {
		return arpModules()
	}
	return [][]string{modulesOf(f)}
}

// arpModules are both ways to filter ARP, where a kernel has both: it must not
// come by the better one when another lab asks for it, midway. nft_fib_ipv4 is
// in kernels whose nf_tables knows families of addresses, as arp is one; that of
// User-Mode Linux knows none.
func arpModules() [][]string {
	nft := []string{"nf_tables", "nft_fib_ipv4"}
	return [][]string{append(slices.Clone(nft), filter.LegacyModules()...), filter.LegacyModules(), nft}
}

// modulesOf are the modules behind a feature. Most features are called as
// their module is.
func modulesOf(f topology.Feature) []string {
	switch {
	case f == "ip_vs-ipv6":
		return []string{"ip_vs", "ipv6"}
	case strings.HasPrefix(string(f), "ip_vs-"): // what IPVS does for root alone
		return []string{"ip_vs"}
	case strings.HasPrefix(string(f), "net."), f == probe.Users:
		return nil // of a setting another feature stands for the module that brings it
	}
	if f == "sctp" {
		// To listen is to make cookies, by a transform that the kernel asks for
		// by name (net/sctp/socket.c, sctp_listen_start).
		return []string{"sctp", "hmac"}
	}
	return []string{string(f)}
}

// hostile sets what new namespaces inherit to values that spoil a lab which
// does not pin its own: a test's way to show that each pin is needed.
func hostile() error {
	for key, value := range map[string]string{
		"ip_forward": "1", "conf/*/rp_filter": "1", "conf/*/arp_ignore": "8", "conf/*/arp_announce": "2",
		"conf/*/arp_filter": "1", "conf/*/proxy_arp": "1",
	} {
		for _, dev := range []string{"all", "default"} {
			path := "/proc/sys/net/ipv4/" + strings.ReplaceAll(key, "*", dev)
			if err := os.WriteFile(path, []byte(value), 0); err != nil {
				return fmt.Errorf("hostile sysctl: %w", err)
			}
		}
	}
	return nil
}
