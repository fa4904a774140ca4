// Package importer turns the configuration of a director, ipvsadm rules or a
// keepalived.conf, into a lab: the file that a person would have written who
// wants to see that the configuration does what it says.
//
// The way is Read (a file to a config.Config), Draft (that to a lab file, as
// text), and scenarios.Load, which takes the text as any other lab file. What
// an import had to assume is a comment in the lab and a note.
package importer

import (
	"net/netip"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// Lab is a lab file that was written for a configuration.
type Lab struct {
	// Name is the lab's, from the name of the configuration's file.
	Name string
	// Text is the lab file. Comments name the file and line that each part came
	// from, see Origins.
	Text []byte
	// Notes are all that the reader noted, and what Draft had to assume, in
	// the order of the file.
	Notes []config.Note
	// Origins are those of Text.
	Origins Origins
}

// Origins are where the lines of a lab file came from, by line, from 1. They are
// read from comments of the form "# FILE:LINE" at the end of a line.
type Origins map[int]source.Pos

// DraftOptions say what a configuration cannot. The zero value is right for most.
type DraftOptions struct {
	// Name is the lab's; "" means the name of the configuration's file.
	Name string
	// Networks are prefixes that are known, such as 10.0.0.0/22: addresses in
	// them are on one network. Others are inferred, which is an assumption.
	Networks []netip.Prefix
	// Marks say which packets carry a firewall mark; without it an address is
	// made up, which is an assumption.
	Marks map[uint32][]Probe
	// ManagedBy says who writes the directors' IPVS tables: "" means lvslab,
	// "keepalived" the real one in the director node, with the configuration's
	// own files.
	ManagedBy string
	// ConfigID is what the real keepalived is told to choose the configuration's
	// @ID lines by, so that it reads what the reader has read (ReadOptions.ID); ""
	// for a configuration without any.
	ConfigID string
	// HasProgram says whether the real keepalived will find a program of
	// MISC_CHECK, without which it leaves the check out; nil means that this is
	// not known.
	HasProgram func(path string) bool
}

// Probe is what a client connects to: "tcp 198.51.100.10:80".
type Probe struct {
	Protocol ipvs.Protocol
	Addr     netip.AddrPort
}
