// Package serve holds the servers that a node runs in lvslab's own process. A
// server's sockets are made inside the node's network namespace and belong to
// it for ever; the goroutines that serve them run anywhere.
//
// Every server names the node that it runs in and the peer as that node sees it,
// in whatever way its protocol has for that: a body, a greeting, a TXT record.
//
// A new service is one file and one line in the table of services.
package serve

import (
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

// host is the node that a server runs in.
type host struct {
	name string
	ns   *netns.Namespace
	d    topology.Daemon
	// files are the node's own.
	files Files
	// streams and packets are its sockets, which the server then owns: streams
	// of TCP or SCTP, packets of UDP.
	streams []net.Listener
	packets []net.PacketConn
	// gate is between the server and all of these; log is who asked it.
	gate *gate
	log  *accessLog
}

// service is how one kind of server is started.
type service struct {
	// networks are what it listens by, for netns.Namespace.
	networks []string
	start    func(h host) (Daemon, error)
}

// services is the table of what a node can serve, by the name in a lab file.
func services() map[string]service {
	return map[string]service{
		"http": {[]string{"tcp"}, serveHTTP},
		"tcp":  {[]string{"tcp"}, serveLines},
		"sctp": {[]string{"sctp"}, serveLines},
		"udp":  {[]string{"udp"}, serveUDP},
		"dns":  {[]string{"udp", "tcp"}, serveDNS},
		"smtp": {[]string{"tcp"}, serveSMTP},
		"ftp":  {[]string{"tcp"}, serveFTP},
		"nfs":  {[]string{"tcp"}, serveNFS},
	}
}

// Services are the names that topology.Daemon.Service may have, sorted.
func Services() []string {
	return slices.Sorted(maps.Keys(services()))
}

// Start runs d in a node until its Close. It listens at every address of the
// node, IPv6 included where the kernel has it, or at d.Address alone, and on no
// other node's. files are the node's own, for a service that has to do with such;
// nil for none. What it returns is a Pauser and a Logger, too.
func Start(ns *netns.Namespace, node string, files Files, d topology.Daemon) (Daemon, error) {
	s, ok := services()[d.Service]
	if !ok {
		return nil, fmt.Errorf("node %s: unknown service %q (known: %s)", node, d.Service, strings.Join(Services(), ", "))
	}
	if d.Port == 0 {
		return nil, fmt.Errorf("node %s: service %s wants a port of 1 to 65535", node, d.Service)
	}
	h := host{name: node, ns: ns, d: d, files: files, gate: &gate{}, log: &accessLog{}}
	if d.Service == "nfs" && d.Root == "" || d.Root != "" && files == nil {
		return nil, fmt.Errorf("node %s: service %s wants a folder of the node's to serve", node, d.Service)
	}
	if err := h.listen(s.networks); err != nil {
		return nil, fmt.Errorf("node %s: start %s on port %d: %w%s", node, d.Service, d.Port, err, hint(err, d))
	}
	daemon, err := s.start(h)
	if err != nil {
		h.close()
		return nil, fmt.Errorf("node %s: start %s on port %d: %w", node, d.Service, d.Port, err)
	}
	return &running{Daemon: daemon, gate: h.gate, log: h.log}, nil
}

func hint(err error, d topology.Daemon) string {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return " (another server of this node has the port; see ss -ltn there)"
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Sprintf(" (the node has no address %s)", d.Address)
	case errors.Is(err, unix.EPROTONOSUPPORT):
		return " (this kernel has no such protocol)"
	}
	return ""
}

// peerOf is the address of the other end as text, "-" where there is none.
func peerOf(a net.Addr) string {
	if ap, err := netip.ParseAddrPort(a.String()); err == nil {
		return ap.Addr().Unmap().String()
	}
	return "-"
}

// line is what every server says in its way: who answers, and whom it sees.
func (h host) line(peer net.Addr) string { return h.name + " " + peerOf(peer) + "\n" }
