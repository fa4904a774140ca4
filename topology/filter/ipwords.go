package filter

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// String is the rule as a person types it after "iptables" or "ip6tables":
// "-t nat -A POSTROUTING -m ipvs --vaddr 10.0.0.100 --vport 80 -j MASQUERADE".
func (r IPRule) String() string {
	r = r.canonicalIP()
	return strings.TrimSpace(r.tableWords() + "-A " + string(r.Chain) + " " + r.ipSpec())
}

// tableWords is "-t TABLE " but for the default one.
func (r IPRule) tableWords() string {
	if r.Table == FilterTable {
		return ""
	}
	return "-t " + string(r.Table) + " "
}

// ipSpec is the rule without its command, table and chain.
func (r IPRule) ipSpec() string {
	w := r.testWords(false)
	r.addTarget(&w, false)
	return strings.Join(w, " ")
}

// saveSpec is the same as iptables -S prints it: with every default written
// out. middle goes before the target, as -S -v puts its counters.
func (r IPRule) saveSpec(middle string) string {
	w := r.testWords(true)
	if middle != "" {
		w = append(w, middle)
	}
	r.addTarget(&w, true)
	return strings.Join(w, " ")
}

// testWords are the tests in the order of iptables -S, matches in the order in
// which lvslab writes them. save asks for the long form.
func (r IPRule) testWords(save bool) words {
	addr := prefixWords
	if save {
		addr = netip.Prefix.String
	}
	prefix := func(p netip.Prefix) string {
		if !p.IsValid() {
			return ""
		}
		return addr(p)
	}
	not := func(bit IPNegation) bool { return r.Not&bit != 0 }
	var w words
	w.add(not(IPNotSrc), "-s", prefix(r.Src))
	w.add(not(IPNotDst), "-d", prefix(r.Dst))
	w.add(not(IPNotIn), "-i", r.In)
	w.add(not(IPNotOut), "-o", r.Out)
	if r.Protocol != 0 {
		w.add(not(IPNotProtocol), "-p", r.Protocol.String())
	}
	r.addTransport(&w, save)
	if v := r.IPVS; v != (IPVSMatch{}) {
		w = append(w, "-m", "ipvs")
		if v.Property {
			w.flag(not(IPNotIPVS), "--ipvs")
		}
		if v.Proto != 0 {
			w.add(not(IPNotVProto), "--vproto", strconv.Itoa(int(v.Proto)))
		}
		if v.VAddr.IsValid() {
			w.add(not(IPNotVAddr), "--vaddr", prefixWords(v.VAddr))
		}
		if v.VPort != 0 {
			w.add(not(IPNotVPort), "--vport", strconv.Itoa(int(v.VPort)))
		}
		w.add(false, "--vdir", string(v.Dir))
		w.add(not(IPNotVMethod), "--vmethod", string(v.Method))
	}
	if r.CTState != 0 {
		match, option := "conntrack", "--ctstate"
		if r.StateWord {
			match, option = "state", "--state"
		}
		w = append(w, "-m", match)
		w.add(not(IPNotCTState), option, r.CTState.String())
	}
	if r.Mark.Mask != 0 {
		w = append(w, "-m", "mark")
		w.add(not(IPNotMark), "--mark", r.Mark.String())
	}
	return w
}

// addTransport adds the tests of a protocol's header. The protocol brings its
// match along, so that only iptables-save names it.
func (r IPRule) addTransport(w *words, save bool) {
	not := func(bit IPNegation) bool { return r.Not&bit != 0 }
	m, ok := r.transport()
	if !ok {
		return
	}
	if save {
		*w = append(*w, "-m", m)
	}
	if r.SrcPorts != (PortRange{}) {
		w.add(not(IPNotSrcPorts), "--sport", r.SrcPorts.String())
	}
	if r.DstPorts != (PortRange{}) {
		w.add(not(IPNotDstPorts), "--dport", r.DstPorts.String())
	}
	if r.TCPFlags.Mask != 0 {
		w.add(not(IPNotTCPFlags), "--tcp-flags", tcpFlagsString(r.TCPFlags.Mask)+" "+tcpFlagsString(r.TCPFlags.Set))
	}
	if r.ICMP.Valid {
		w.add(not(IPNotICMP), r.Family.icmpOption(), r.ICMP.String())
	}
}

// transport is the name of the match that looks into the protocol's header, if
// the rule has one.
func (r IPRule) transport() (string, bool) {
	switch {
	case r.ICMP.Valid && r.Family == IPv6:
		return "icmp6", true
	case r.ICMP.Valid:
		return "icmp", true
	case r.SrcPorts != PortRange{}, r.DstPorts != PortRange{}, r.TCPFlags.Mask != 0:
		return r.Protocol.String(), true
	}
	return "", false
}

func (r IPRule) addTarget(w *words, save bool) {
	w.add(false, "-j", string(r.Target))
	switch r.Target {
	case SetMark:
		if save {
			w.add(false, "--set-xmark", fmt.Sprintf("%#x/%#x", r.NewMark.Value, r.NewMark.Mask))
		} else {
			w.add(false, "--set-xmark", r.NewMark.String())
			if r.NewMark.Mask == ^uint32(0) {
				(*w)[len(*w)-2] = "--set-mark"
			}
		}
	case SNAT:
		w.add(false, "--to-source", r.To.String())
	case DNAT:
		w.add(false, "--to-destination", r.To.String())
	case TCPMSS:
		if r.MSS == ClampMSS {
			w.flag(false, "--clamp-mss-to-pmtu")
		} else {
			w.add(false, "--set-mss", strconv.Itoa(int(r.MSS)))
		}
	case Reject:
		if save || r.RejectWith != rejectNames(r.Family)[rejectDefault(r.Family)] {
			w.add(false, "--reject-with", r.RejectWith)
		}
	}
}

// flag adds an option that has no value.
func (w *words) flag(not bool, option string) {
	if not {
		*w = append(*w, "!")
	}
	*w = append(*w, option)
}

// prefixWords leaves out the length of one address.
func prefixWords(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
