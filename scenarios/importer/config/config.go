// Package config holds what a director is told, whichever kind of file says it:
// the one picture in which the readers of package importer (ipvsadm rules,
// keepalived.conf) leave what they read, and from which labs are written and
// differences told.
//
// A Config is what the kernel would be told, with all defaults of its own tool
// written out, and with the place in a file of each part. What a file says
// beyond that is a Note: nothing is dropped in silence.
package config

import (
	"net/netip"
	"time"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// Kind is the kind of a file.
type Kind string

// The kinds, by the words of --as.
const (
	IPVSAdm    Kind = "ipvsadm"
	Keepalived Kind = "keepalived"
)

// Kinds are the words of --as.
func Kinds() []string { return []string{string(IPVSAdm), string(Keepalived)} }

// Config is what one file, with all that it includes, tells a director.
type Config struct {
	Kind Kind
	// Files are those that were read: the named one first, then those that it
	// includes, in the order of reading.
	Files []File
	// Services are the kernel's virtual services in the order in which their
	// tool adds them. A group or a range of keepalived's is a service for each
	// address and mark.
	Services []Service
	// Addresses are those that the director carries by the file's own word:
	// virtual_ipaddress of a vrrp_instance. ipvsadm rules have none.
	Addresses []Address
	// Instances are keepalived's vrrp_instances, for what the director needs so
	// that they can run; ipvsadm rules have none.
	Instances []Instance
	// Notes are what was ignored, assumed, or is doubtful, in the order of the
	// file.
	Notes []Note
}

// File is one file as it was read.
type File struct {
	// Name is the path as it stands in messages: as the user named it, and for
	// an included file relative to the folder of the including one.
	Name string
	Data []byte
}

// Service is one virtual service.
type Service struct {
	ipvs.Service
	Pos source.Pos
	// Group is the name of the virtual_server_group that it is of; "" for none.
	Group string
	// Parent numbers the virtual_server block that it is of, from 1; services
	// of one block have their real servers in common. In ipvsadm's rules each
	// service is its own.
	Parent int
	// Places say where parts stand that are not at Pos, by their names:
	// "scheduler", "forwarding", "persistence", "protocol", "address" (in a
	// virtual_server_group). One that is missing is a default of the tool's, and
	// an address that is missing is at Pos.
	Places map[string]source.Pos
	// Servers are its real servers in the order in which they are added.
	Servers []Server
	// Sorry is keepalived's sorry_server, which answers when all others are gone;
	// nil for none.
	Sorry *Server
	// Quorum is keepalived's: the sum of weights below which the sorry server
	// takes over; 1 by default, and 0 in ipvsadm's rules, which know none.
	Quorum int
	// VirtualHost is keepalived's virtualhost, for HTTP_GET; "" for none.
	VirtualHost string
	// DelayLoop is the time between two checks of keepalived's, its default
	// included; 0 in ipvsadm's rules.
	DelayLoop time.Duration
	// Alpha says that keepalived takes a real server for down until a checker
	// has found it up.
	Alpha bool
	// InhibitOnFailure says that keepalived sets a failed server's weight to 0
	// and does not remove it, for all servers of the service.
	InhibitOnFailure bool
}

// Place is where a part of the service stands, or else the service itself.
func (s *Service) Place(part string) source.Pos {
	if p, ok := s.Places[part]; ok {
		return p
	}
	return s.Pos
}

// Entry is the service as the kernel is told.
func (s *Service) Entry() ipvs.Entry {
	e := ipvs.Entry{Service: s.Service}
	for _, d := range s.Servers {
		e.Destinations = append(e.Destinations, d.Destination)
	}
	return e
}

// Table is all that the kernel is told, in the file's order.
func (c *Config) Table() ipvs.Table {
	t := make(ipvs.Table, len(c.Services))
	for i := range c.Services {
		t[i] = c.Services[i].Entry()
	}
	return t
}

// Server is one real server of a virtual service.
type Server struct {
	ipvs.Destination
	Pos source.Pos
	// Places are as those of a Service: "weight", "forwarding", "thresholds".
	Places map[string]source.Pos
	// Checkers are what keepalived watches it by.
	Checkers []Checker
	// InhibitOnFailure is keepalived's, for this server alone.
	InhibitOnFailure bool
}

// Place is where a part of the server stands, or else the server itself.
func (s *Server) Place(part string) source.Pos {
	if p, ok := s.Places[part]; ok {
		return p
	}
	return s.Pos
}

// Checker is one of keepalived's checkers of a real server.
type Checker struct {
	Pos source.Pos
	// Kind is its word: HTTP_GET, SSL_GET, TCP_CHECK, …
	Kind string
	// Port is what it connects to, its default (the real server's port)
	// included; 0 where it connects to none, as MISC_CHECK.
	Port uint16
	// Addr is connect_ip, where that is not the real server's address.
	Addr netip.Addr
	// Paths are those of HTTP_GET and SSL_GET. Statuses and digests are not
	// kept: Passable tells whether lvslab's own servers can meet them.
	Paths []string
	// Program is what MISC_CHECK runs, without its arguments; "" for others.
	Program string
	// Passable says that a server of lvslab's passes the check, if need be one
	// that serves the checker's own port besides. Why says why not: "HTTP_GET
	// wants a digest that only the real page has".
	Passable bool
	Why      string
	// Fails says that no server of lvslab's passes it. A check that is neither
	// passable nor fails has a result that the file does not tell.
	Fails bool
}

// Address is an address that the director carries.
type Address struct {
	Pos    source.Pos
	Prefix netip.Prefix
	// Device is that of "dev", or the vrrp_instance's interface; "" where the
	// file says none.
	Device string
	// Instance is the vrrp_instance's name.
	Instance string
}

// Instance is a vrrp_instance of keepalived's.
type Instance struct {
	Pos  source.Pos
	Name string
	// Interface is the device that it speaks VRRP on; without a name where the
	// file says none, which keepalived refuses.
	Interface Device
	// Tracked are the devices that it watches besides.
	Tracked []Device
	// Source is the address that it speaks from (unicast_src_ip, mcast_src_ip),
	// with its place; the zero Addr where that is left to keepalived.
	Source    netip.Addr
	SourcePos source.Pos
	// Peers are the other directors' addresses, of unicast_peer.
	Peers []netip.Addr
}

// Device is a network device that the file names.
type Device struct {
	Pos  source.Pos
	Name string
}

// NoteKind is what a note is about.
type NoteKind string

// The kinds of notes.
const (
	// Ignored: the file says it, and it has nothing to do with balancing, so
	// the lab leaves it out.
	Ignored NoteKind = "ignored"
	// Assumed: the file does not say it, and the lab needs it.
	Assumed NoteKind = "assumed"
	// Warning: the tool takes it, and it may well not be what is meant: an
	// unknown keyword, a duplicate real server that is dropped.
	Warning NoteKind = "warning"
)

// Note is something that a person should know about the import.
type Note struct {
	Pos  source.Pos
	Kind NoteKind
	// Msg is a sentence without its full stop.
	Msg string
}

// String is "FILE:LINE: KIND: sentence".
func (n Note) String() string {
	text := string(n.Kind) + ": " + n.Msg
	if p := n.Pos.String(); p != "" {
		return p + ": " + text
	}
	return text
}
