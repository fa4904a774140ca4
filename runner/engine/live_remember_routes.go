package engine

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routing is what a node's kernel routes by, by its words.
type routing struct {
	routes map[string]netlink.Route
	rules  map[string]netlink.Rule
}

// routingOf reads the routes of all tables, but for those that the kernel makes
// for addresses, and the rules that choose among the tables.
func routingOf(n *liveNode) (*routing, error) {
	r := &routing{routes: make(map[string]netlink.Route), rules: make(map[string]netlink.Rule)}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		// A table of 0 is all of them.
		routes, err := again(func() ([]netlink.Route, error) {
			return n.Netlink().RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		})
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
			return nil, fmt.Errorf("routes: %w", err)
		}
		for _, route := range routes {
			if route.Protocol != unix.RTPROT_KERNEL {
				r.routes[route.String()] = route
			}
		}
		rules, err := again(func() ([]netlink.Rule, error) { return n.Netlink().RuleList(family) })
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
			return nil, fmt.Errorf("rules of routing: %w", err)
		}
		for _, rule := range rules {
			r.rules[fmt.Sprintf("%d %s mark %d", family, rule, rule.Mark)] = rule
		}
	}
	return r, nil
}

// again asks for a dump once more where a change interrupted it.
func again[T any](dump func() ([]T, error)) (list []T, err error) {
	for range 5 {
		if list, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return list, err
}

// remove takes out what was not there before.
func (r *routing) remove(n *liveNode, before *routing) error {
	var errs []error
	for words, rule := range r.rules {
		if _, ok := before.rules[words]; !ok {
			if err := n.Netlink().RuleDel(&rule); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("node %s: ip rule del %s: %w", n.name, words, err))
			}
		}
	}
	for words, route := range r.routes {
		if _, ok := before.routes[words]; !ok {
			if err := n.Netlink().RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("node %s: ip route del %s: %w", n.name, words, err))
			}
		}
	}
	return errors.Join(errs...)
}
