// Package serve holds the servers that a node runs in lvslab's own process. A
// server's sockets are made inside the node's network namespace and belong to
// it for ever; the goroutines that serve them run anywhere.
//
// A new service is one file and one line in the table of services.
package serve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/netns"
)

// Daemon is a running server.
type Daemon interface {
	// Close stops it and returns when its sockets are closed and its goroutines
	// have ended. Connections that are open are cut. Calling it again does
	// nothing.
	Close() error
}

// service starts one server for node on the listeners, which it then owns.
type service func(node string, listeners []net.Listener) Daemon

// services is the table of what a node can serve, by the name in a lab file.
func services() map[string]service {
	return map[string]service{
		"http": serveHTTP,
	}
}

// Services are the names that topology.Daemon.Service may have, sorted.
func Services() []string {
	return slices.Sorted(maps.Keys(services()))
}

// Start runs d in a node until its Close. It listens at every address of the
// node, IPv6 included where the kernel has it, and on no other node's.
func Start(ns *netns.Namespace, node string, d topology.Daemon) (Daemon, error) {
	start, ok := services()[d.Service]
	if !ok {
		return nil, fmt.Errorf("node %s: unknown service %q (known: %s)", node, d.Service, strings.Join(Services(), ", "))
	}
	if d.Port == 0 {
		return nil, fmt.Errorf("node %s: service %s wants a port of 1 to 65535", node, d.Service)
	}
	listeners, err := listenAll(ns, d.Port)
	if err != nil {
		hint := ""
		if errors.Is(err, unix.EADDRINUSE) {
			hint = " (another server of this node has the port; see ss -ltn there)"
		}
		return nil, fmt.Errorf("node %s: start %s on port %d: %w%s", node, d.Service, d.Port, err, hint)
	}
	return start(node, listeners), nil
}

// listenAll listens at 0.0.0.0 and at [::]. Two sockets, and not one for both:
// package net decides once per process, in whatever namespace it happens to be,
// whether one can serve both, and lets nodes without IPv6 decide for the others.
func listenAll(ns *netns.Namespace, port uint16) ([]net.Listener, error) {
	var all []net.Listener
	for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		l, err := ns.Listen(context.Background(), "tcp", netip.AddrPortFrom(any, port))
		if err != nil {
			if any.Is6() && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
				break // a kernel without the ipv6 module
			}
			for _, l := range all {
				l.Close()
			}
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}
