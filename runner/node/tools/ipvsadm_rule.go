package tools

import (
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/lvslab/lvslab/scenarios/ipvs"
)

// ipvsRule is a command line of ipvsadm, read.
type ipvsRule struct {
	command ipvsCommand
	groups  map[string]bool // the options that were given
	names   *names

	service  ipvs.Service
	server   ipvs.Destination
	port     bool // the real server's port was given
	daemon   ipvs.SyncDaemon
	timeouts ipvs.Timeouts
}

// usage is the error of a command line that does not begin with a command.
func usage() error {
	return fail(255, "Try `ipvsadm -h' or 'ipvsadm --help' for more information.")
}

// parseIPVSRule reads a command line. The error is an *exit.
func parseIPVSRule(n *names, args []string) (*ipvsRule, error) {
	given, words, bad := parsePopt(ipvsOptions(), args)
	if len(given) == 0 {
		return nil, usage()
	}
	r := &ipvsRule{groups: map[string]bool{}, names: n}
	var ok bool
	if r.command, ok = isCommand(given[0]); !ok {
		return nil, usage()
	}
	r.server.Weight = 1
	if err := r.begin(given[0]); err != nil {
		return nil, err
	}
	if r.command == "h" || r.command == "v" {
		return r, nil
	}
	for _, g := range given[1:] {
		if _, second := isCommand(g); second {
			return nil, fail(2, "invalid option `%s'", g.title())
		}
		if err := r.admit(g); err != nil {
			return nil, err
		}
		if err := r.set(g); err != nil {
			return nil, err
		}
	}
	if bad != nil {
		return nil, fail(255, "%v", bad)
	}
	if r.command == cmdSet {
		if words, bad := r.setTimeouts(words); bad != nil {
			return nil, bad
		} else if len(words) > 0 {
			return nil, fail(2, "unexpected argument %s", words[0])
		}
	} else if len(words) > 0 {
		return nil, fail(2, "unexpected argument %s", words[0])
	}
	if err := checkTakes(r.command, r.groups); err != nil {
		return nil, err
	}
	return r, r.finish()
}

// begin takes the command's own argument.
func (r *ipvsRule) begin(g poptGiven) error {
	if r.command != cmdStartDaemon && r.command != cmdStopDaemon {
		return nil
	}
	switch g.value {
	case "master":
		r.daemon.State = ipvs.SyncMaster
	case "backup":
		r.daemon.State = ipvs.SyncBackup
	default:
		if r.command == cmdStopDaemon {
			return fail(2, "illegal start_daemon specified")
		}
		return fail(2, "illegal start-daemon parameter specified")
	}
	return nil
}

// admit notes that an option was given.
func (r *ipvsRule) admit(g poptGiven) error {
	group := ipvsGroup(g.long)
	if group == "ipv6" || group == "sort" {
		return nil
	}
	if r.groups[group] {
		return fail(2, "multiple '%s' options specified", group)
	}
	r.groups[group] = true
	return nil
}

// set gives the rule one option.
func (r *ipvsRule) set(g poptGiven) error {
	switch group := ipvsGroup(g.long); group {
	case "service-address", "ipv6", "scheduler", "persistent", "netmask", "ops", "pe", "sched-flags":
		return r.setService(g)
	case "mcast-interface", "syncid", "sync-maxlen", "mcast-group", "mcast-port", "mcast-ttl":
		return r.setDaemon(g)
	default:
		return r.setServer(g)
	}
}

func (r *ipvsRule) setService(g poptGiven) error {
	s := &r.service
	switch g.long {
	case "tcp-service", "udp-service", "sctp-service":
		s.Protocol = map[string]ipvs.Protocol{"tcp-service": ipvs.TCP, "udp-service": ipvs.UDP, "sctp-service": ipvs.SCTP}[g.long]
		var ok bool
		if s.Addr, _, ok = r.addrPort(g.value); !ok {
			return fail(2, "illegal virtual server address[:port] specified")
		}
	case "fwmark-service":
		n, err := strconv.ParseInt(g.value, 10, 64)
		if err != nil || n <= 0 || n > math.MaxUint32 {
			return fail(2, "invalid fwmark value `%s' specified", g.value)
		}
		s.FWMark = uint32(n)
	case "ipv6":
		if s.FWMark == 0 {
			return fail(2, "-6 used before -f\n") // the empty line is ipvsadm's
		}
		s.Family = ipvs.IPv6
	case "scheduler":
		s.Scheduler = g.value
	case "persistent":
		s.Timeout = ipvs.DefaultPersistence
		if g.has {
			n, ok := number(g.value, 1, int(ipvs.MaxPersistence/time.Second))
			if !ok {
				return fail(2, "invalid timeout value `%s' specified", g.value)
			}
			s.Timeout = time.Duration(n) * time.Second
		}
	case "netmask":
		return r.setNetmask(g.value)
	case "ops":
		s.OnePacket = true
	case "pe":
		s.PE = g.value
	case "sched-flags":
		return r.setFlags(g.value)
	}
	return nil
}

func (r *ipvsRule) setNetmask(text string) error {
	if r.service.AddrFamily() == ipvs.IPv6 && (r.service.FWMark != 0 || r.service.Addr.IsValid()) {
		n, ok := number(text, 1, 128)
		if !ok {
			return fail(2, "illegal ipv6 netmask specified")
		}
		r.service.Netmask = n
		return nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return fail(2, "illegal virtual server persistent mask specified")
	}
	ones, bits := net.IPMask(a.AsSlice()).Size()
	if bits == 0 || ones == 0 {
		return fail(2, "lvslab's ipvsadm takes netmasks that are prefixes, as in 255.255.255.0; not %s", text)
	}
	r.service.Netmask = ones
	return nil
}

func (r *ipvsRule) setFlags(text string) error {
	known := map[string]string{
		"sh-fallback": "sh", "sh-port": "sh", "mh-fallback": "mh", "mh-port": "mh", "flag-1": "", "flag-2": "", "flag-3": "",
	}
	for f := range strings.SplitSeq(text, ",") {
		if f == "" {
			continue
		}
		owner, ok := known[f]
		if !ok {
			return fail(2, "invalid scheduler flag `%s'", f)
		}
		if owner != "" && r.service.Scheduler != owner {
			return fail(2, "incompatible scheduler flag `%s'", f)
		}
		r.service.Flags = append(r.service.Flags, f)
	}
	return nil
}

func (r *ipvsRule) setServer(g poptGiven) error {
	d := &r.server
	threshold := func(what string) (uint32, error) {
		n, ok := number(g.value, 0, ipvs.MaxThreshold)
		if !ok {
			return 0, fail(2, "illegal %s specified", what)
		}
		return uint32(n), nil
	}
	var err error
	switch g.long {
	case "real-server":
		var ok bool
		if d.Addr, r.port, ok = r.addrPort(g.value); !ok {
			return fail(2, "illegal real server address[:port] specified")
		}
	case "ipip":
		d.Forward = ipvs.TUN
	case "masquerading":
		d.Forward = ipvs.NAT
	case "weight":
		n, ok := number(g.value, 0, ipvs.MaxWeight)
		if !ok {
			return fail(2, "illegal weight specified")
		}
		d.Weight = n
	case "u-threshold":
		d.Upper, err = threshold("u_threshold")
	case "l-threshold":
		d.Lower, err = threshold("l_threshold")
	case "tun-type":
		types := map[string]ipvs.TunType{"ipip": ipvs.IPIP, "gue": ipvs.GUE, "gre": ipvs.GRE}
		t, ok := types[g.value]
		if !ok {
			return fail(2, "illegal tunnel type specified")
		}
		d.TunType = t
	case "tun-port":
		n, ok := number(g.value, 1, math.MaxUint16)
		if !ok {
			return fail(2, "illegal tunnel port specified")
		}
		d.TunPort = uint16(n)
	case "tun-csum":
		d.TunFlags = ipvs.Checksum
	case "tun-remcsum":
		d.TunFlags = ipvs.RemoteChecksum
	}
	return err
}

func (r *ipvsRule) setDaemon(g poptGiven) error {
	d := &r.daemon
	bounded := func(what string, low, high int) (int, error) {
		n, ok := number(g.value, low, high)
		if !ok {
			return 0, fail(2, "illegal %s specified", what)
		}
		return n, nil
	}
	var n int
	var err error
	switch g.long {
	case "mcast-interface":
		d.Interface = g.value
	case "syncid":
		n, err = bounded("syncid", 0, 255)
		d.SyncID = uint8(n)
	case "sync-maxlen":
		d.MaxLength, err = bounded("sync-maxlen", 1, ipvs.MaxSyncLength)
	case "mcast-port":
		n, err = bounded("mcast-port", 1, math.MaxUint16)
		d.Port = uint16(n)
	case "mcast-ttl":
		n, err = bounded("mcast-ttl", 1, 255)
		d.TTL = uint8(n)
	case "mcast-group":
		if d.Group, err = netip.ParseAddr(g.value); err != nil || !d.Group.IsMulticast() {
			family := "IPv4"
			if strings.Contains(g.value, ":") {
				family = "IPv6"
			}
			return fail(2, "invalid %s mcast-group `%s'", family, g.value)
		}
	}
	return err
}

// setTimeouts reads the three numbers of --set and returns what follows them.
func (r *ipvsRule) setTimeouts(words []string) ([]string, error) {
	for i, to := range []*time.Duration{&r.timeouts.TCP, &r.timeouts.TCPFin, &r.timeouts.UDP} {
		if i >= len(words) {
			return nil, fail(2, "--set option requires 3 timeout values")
		}
		n, ok := number(words[i], 0, int(ipvs.MaxTimeout/time.Second))
		if !ok {
			return nil, fail(2, "invalid timeout value `%s' specified", words[i])
		}
		*to = time.Duration(n) * time.Second
	}
	return words[3:], nil
}

// finish checks the rule as a whole and writes its defaults out.
func (r *ipvsRule) finish() error {
	s, d := &r.service, &r.server
	switch r.command {
	case "A", "E":
		if s.FWMark == 0 && s.Addr.Port() == 0 && !s.Persistent() {
			return fail(2, "Zero port specified for non-persistent service")
		}
		if s.OnePacket && s.FWMark == 0 && s.Protocol != ipvs.UDP {
			return fail(2, "One-Packet Scheduling is only for UDP virtual services")
		}
		*s = s.Normal()
	case "a", "e", "d":
		if !r.port {
			d.Addr = netip.AddrPortFrom(d.Addr.Addr(), s.Addr.Port())
		}
		v6 := s.AddrFamily() == ipvs.IPv6
		if r.command != "d" && v6 != d.Addr.Addr().Is6() && d.Forward != ipvs.TUN {
			return fail(2, "Different address family is allowed only for tunneling servers")
		}
		return r.checkTunnel()
	case "L":
		return r.checkList()
	}
	return nil
}

func (r *ipvsRule) checkTunnel() error {
	d := r.server
	for _, o := range []string{"tun-type", "tun-port", "tun-nocsum", "tun-csum", "tun-remcsum"} {
		if !r.groups[o] {
			continue
		}
		if d.Forward != ipvs.TUN {
			return fail(2, "Tunnel options conflict with forward method")
		}
		illegal := d.TunType == ipvs.IPIP && o != "tun-type" || d.TunType == ipvs.GRE && (o == "tun-port" || o == "tun-remcsum")
		if illegal {
			return fail(2, "Illegal '%s' option with the '%s' tunnel type", o, d.TunType)
		}
	}
	if d.Forward == ipvs.TUN && d.TunType == ipvs.GUE && d.TunPort == 0 {
		return fail(2, "You need to supply the 'tun-port' option for the 'gue' tunnel type")
	}
	return nil
}

// checkList finds columns for what has none.
func (r *ipvsRule) checkList() error {
	g := r.groups
	special := g["connection"] || g["timeout"] || g["daemon"]
	columns := g["stats"] || g["rate"] || g["thresholds"] || g["persistent-conn"] && !g["connection"]
	if special && columns {
		return fail(2, "options conflicts in the list command")
	}
	return nil
}

// addrPort reads HOST[:PORT] with names.
func (r *ipvsRule) addrPort(text string) (ap netip.AddrPort, hasPort, ok bool) {
	host, port := text, ""
	if inner, found := strings.CutPrefix(text, "["); found {
		var tail string
		if host, tail, ok = strings.Cut(inner, "]"); !ok {
			return ap, false, false
		}
		if port, hasPort = strings.CutPrefix(tail, ":"); !hasPort && tail != "" {
			return ap, false, false
		}
	} else if strings.Count(text, ":") == 1 {
		host, port, hasPort = strings.Cut(text, ":")
	}
	a, ok := r.names.host(host)
	if !ok || a.Zone() != "" {
		return ap, false, false
	}
	if !hasPort {
		return netip.AddrPortFrom(a, 0), false, true
	}
	protocol := "tcp"
	if r.service.Protocol != 0 {
		protocol = r.service.Protocol.String()
	}
	p, ok := r.names.port(port, protocol)
	return netip.AddrPortFrom(a, p), true, ok
}

// number reads a decimal number within bounds.
func number(text string, low, high int) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= low && n <= high
}
