package ipvs

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setService makes the rule's service of its options.
func (r *rule) setService(first word, opts []given) *ruleError {
	i := slices.IndexFunc(opts, func(g given) bool { return g.group == "virtual service" })
	if i < 0 {
		return first.errorf("-%c needs a virtual service: -t, -u, --sctp-service or -f", r.cmd)
	}
	r.service1 = opts[i].word
	s := &r.service
	var err error
	switch opts[i].long {
	case "fwmark-service":
		s.FWMark, err = parseMark(r.service1.text)
		if hasLong(opts, "ipv6") {
			s.Family = IPv6
		}
	case "tcp-service":
		s.Protocol = TCP
	case "udp-service":
		s.Protocol = UDP
	case "sctp-service":
		s.Protocol = SCTP
	}
	if s.Protocol != 0 {
		s.Addr, _, err = parseAddrPort(r.service1.text, s.Protocol)
	}
	if err != nil {
		return r.service1.errorf("%v", err)
	}
	for j, g := range opts {
		// ipvsadm reads the mask by the family that it knows by then, and forgets
		// it when it learns of another (run).
		if g.group == "netmask" && s.AddrFamily() == IPv6 && j < familyIndex(opts) {
			return g.errorf("the netmask (-M) must come after what makes the service IPv6")
		}
		if err := s.set(g); err != nil {
			return g.errorf("%v", err)
		}
	}
	return r.checkService()
}

// familyIndex is the place of the option that says the service's family.
func familyIndex(opts []given) int {
	if i := slices.IndexFunc(opts, func(g given) bool { return g.group == "ipv6" }); i >= 0 {
		return i
	}
	return slices.IndexFunc(opts, func(g given) bool { return g.group == "virtual service" })
}

// checkService checks the service as a whole. Only -A and -E say how it is
// set; the others just name it.
func (r *rule) checkService() *ruleError {
	s := r.service
	if !strings.ContainsRune(setCmds, r.cmd) && s.FWMark == 0 {
		if err := plainAddr(s.Addr.Addr()); err != nil {
			return r.service1.errorf("%v", err)
		}
		return nil
	}
	if err := s.invalid(); strings.ContainsRune(setCmds, r.cmd) && err != nil {
		return r.service1.errorf("%v", err)
	}
	r.service = s.Normal()
	return nil
}

// set gives the service one option.
func (s *Service) set(g given) (err error) {
	switch g.group {
	case "scheduler":
		s.Scheduler = g.text
		if g.text == "" {
			err = errors.New("no name of a scheduler")
		}
	case "persistence":
		s.Timeout = DefaultPersistence
		if g.hasArg {
			var n int
			n, err = parseNumber("persistence", g.text, 1, int(MaxPersistence/time.Second))
			s.Timeout = time.Duration(n) * time.Second
		}
	case "netmask":
		s.Netmask, err = parseNetmask(g.text, s.AddrFamily())
	case "persistence engine":
		s.PE = g.text
	case "one-packet scheduling":
		s.OnePacket = true
	case "scheduler flags":
		// An empty name between two commas is nothing to ipvsadm.
		s.Flags = slices.DeleteFunc(strings.Split(g.text, ","), func(f string) bool { return f == "" })
		if len(s.Flags) == 0 && g.text != "" { // commas alone make ipvsadm crash (run)
			err = fmt.Errorf("no scheduler flag in %.40q; allowed: %s", g.text, flagList())
		}
	}
	return err
}

// setServer makes the rule's real server of its options.
func (r *rule) setServer(first word, opts []given) *ruleError {
	i := slices.IndexFunc(opts, func(g given) bool { return g.group == "real server" })
	if i < 0 {
		return first.errorf("-%c needs a real server: -r", r.cmd)
	}
	r.server1 = opts[i].word
	d := &r.server
	addr, hasPort, err := parseAddrPort(r.server1.text, r.service.Protocol)
	if err != nil {
		return r.server1.errorf("%v", err)
	}
	if !hasPort {
		addr = netip.AddrPortFrom(addr.Addr(), r.service.Addr.Port())
	}
	d.Addr, d.Weight = addr, 1
	for _, g := range opts {
		if err := d.set(g); err != nil {
			return g.errorf("%v", err)
		}
	}
	if r.cmd == 'd' {
		if err := plainAddr(addr.Addr()); err != nil {
			return r.server1.errorf("%v", err)
		}
		return nil
	}
	if err := d.invalid(r.service); err != nil {
		return r.server1.errorf("%v", err)
	}
	if err := checkTunnelOptions(*d, opts); err != nil {
		return err
	}
	if !hasPort && d.Forward == NAT && r.service.FWMark == 0 && i < familyIndex(opts) {
		return r.server1.errorf("a real server without a port must come after the service whose port it takes; ipvsadm would give it port 0")
	}
	r.named = d.Addr
	*d = d.For(r.service)
	return nil
}

// checkTunnelOptions refuses options that say what is so by default of what has
// no such property.
func checkTunnelOptions(d Destination, opts []given) *ruleError {
	for _, g := range opts {
		switch {
		case !strings.HasPrefix(g.long, "tun-"):
		case d.Forward != TUN:
			return g.errorf("tunnel options need tunnelling (-i)")
		case g.long == "tun-nocsum" && d.TunType == IPIP:
			return g.errorf("an ipip tunnel has no checksum")
		}
	}
	return nil
}

// set gives the real server one option.
func (d *Destination) set(g given) (err error) {
	switch g.long {
	case "ipip":
		d.Forward = TUN
	case "masquerading":
		d.Forward = NAT
	case "weight":
		d.Weight, err = parseNumber("weight", g.text, 0, MaxWeight)
	case "u-threshold":
		d.Upper, err = parseThreshold(g.text)
	case "l-threshold":
		d.Lower, err = parseThreshold(g.text)
	case "tun-type":
		types := []TunType{IPIP, GUE, GRE}
		i := slices.IndexFunc(types, func(t TunType) bool { return t.String() == g.text })
		if i < 0 {
			return fmt.Errorf("unknown tunnel type %.40q; allowed: ipip, gue, gre", g.text)
		}
		d.TunType = types[i]
	case "tun-port":
		var n int
		n, err = parseNumber("tunnel port", g.text, 1, math.MaxUint16)
		d.TunPort = uint16(n) //nolint:gosec // in range, as just checked
	case "tun-csum":
		d.TunFlags = Checksum
	case "tun-remcsum":
		d.TunFlags = RemoteChecksum
	}
	return err
}

func hasLong(opts []given, long string) bool {
	return slices.ContainsFunc(opts, func(g given) bool { return g.long == long })
}

func parseThreshold(text string) (uint32, error) {
	n, err := parseNumber("threshold", text, 0, MaxThreshold)
	return uint32(n), err //nolint:gosec // in range, as just checked
}

// parseNumber reads a decimal number as ipvsadm does, leading zeros and a plus
// sign included.
func parseNumber(what, text string, low, high int) (int, error) {
	n, err := strconv.Atoi(text)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%s %.40q is not a number", what, text)
	case err != nil || n < low || n > high:
		return 0, fmt.Errorf("%s %.40s is out of range, %d to %d", what, text, low, high)
	}
	return n, nil
}

// parseMark reads a firewall mark, above 0. ipvsadm -S prints marks from 2^31
// on as negative numbers; those are read as what they were.
func parseMark(text string) (uint32, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("firewall mark %.40q is not a number", text)
	case err == nil && n < 0 && n >= math.MinInt32, err == nil && n > 0 && n <= math.MaxUint32:
		return uint32(n), nil //nolint:gosec // in range, or meant to wrap
	}
	return 0, fmt.Errorf("firewall mark %.40s is out of range, 1 to %d", text, uint32(math.MaxUint32))
}

// parseAddrPort reads HOST[:PORT]. An IPv6 address with a port stands in
// brackets. Without a port, hasPort is false and the port 0.
func parseAddrPort(text string, p Protocol) (ap netip.AddrPort, hasPort bool, err error) {
	host, port := text, ""
	switch {
	case strings.HasPrefix(text, "["):
		var tail string
		host, tail, hasPort = strings.Cut(text[1:], "]")
		if !hasPort {
			return ap, false, fmt.Errorf("%.60q lacks its closing bracket", text)
		}
		port, hasPort = strings.CutPrefix(tail, ":")
		if !hasPort {
			return ap, false, fmt.Errorf("%.60q: a colon and a port must follow the bracket; without a port leave the brackets out", text)
		}
	case strings.Count(text, ":") == 1:
		host, port, hasPort = strings.Cut(text, ":")
	}
	addr, err := parseHost(host)
	if err != nil {
		return ap, false, err
	}
	if strings.HasPrefix(text, "[") && !addr.Is6() {
		return ap, false, fmt.Errorf("%.60q: brackets are for IPv6 addresses", text)
	}
	if !hasPort {
		return netip.AddrPortFrom(addr, 0), false, nil
	}
	n, err := parsePort(port, p)
	return netip.AddrPortFrom(addr, n), true, err
}

func parseHost(host string) (netip.Addr, error) {
	if host == "localhost" {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return addr, fmt.Errorf("%.60q is no IP address; names are not looked up, so save with `ipvsadm -S -n`", host)
	}
	return addr, plainAddr(addr)
}

// parsePort reads a port by number, or by its name in the system's list of
// services.
func parsePort(text string, p Protocol) (uint16, error) {
	n, err := parseNumber("port", text, 0, math.MaxUint16)
	switch {
	case text == "":
		return 0, errors.New("a colon, and no port after it")
	case err == nil:
		return uint16(n), nil //nolint:gosec // in range, as just checked
	case strings.Trim(text, "+-0123456789") == "":
		return 0, err
	}
	network := p.String()
	if p == 0 {
		network = "tcp"
	}
	if n = lookupPort(network, text); n == 0 {
		return 0, fmt.Errorf("port %.40q is neither a number nor a %s service of this system", text, network)
	}
	return uint16(n), nil //nolint:gosec // LookupPort answers ports
}

// parseNetmask reads -M: dotted for IPv4, a prefix length for IPv6.
func parseNetmask(text string, f Family) (int, error) {
	if f == IPv6 {
		return parseNumber("IPv6 netmask", text, 1, f.bits())
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || !addr.Is4() {
		return 0, fmt.Errorf("netmask %.40q is not dotted, as in 255.255.255.0", text)
	}
	ones, bits := net.IPMask(addr.AsSlice()).Size()
	switch {
	case bits == 0:
		return 0, fmt.Errorf("netmask %s is no prefix: ones after zeros", text)
	case ones == 0:
		return 0, errors.New("netmask 0.0.0.0 takes all clients for one; leave -M out for each by itself")
	}
	return ones, nil
}
