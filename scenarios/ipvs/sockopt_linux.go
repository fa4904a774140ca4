package ipvs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The socket options of IPVS, at level SOL_IP (linux/ip_vs.h). Those that set
// and those that get have numbers of their own.
const (
	sockoptBase = 64 + 1024 + 64 // IP_VS_BASE_CTL

	setAdd         = sockoptBase + 2  // IP_VS_SO_SET_ADD
	setEdit        = sockoptBase + 3  // IP_VS_SO_SET_EDIT
	setDel         = sockoptBase + 4  // IP_VS_SO_SET_DEL
	setFlush       = sockoptBase + 5  // IP_VS_SO_SET_FLUSH
	setAddDest     = sockoptBase + 7  // IP_VS_SO_SET_ADDDEST
	setDelDest     = sockoptBase + 8  // IP_VS_SO_SET_DELDEST
	setEditDest    = sockoptBase + 9  // IP_VS_SO_SET_EDITDEST
	setTimeout     = sockoptBase + 10 // IP_VS_SO_SET_TIMEOUT
	setStartDaemon = sockoptBase + 11 // IP_VS_SO_SET_STARTDAEMON
	setStopDaemon  = sockoptBase + 12 // IP_VS_SO_SET_STOPDAEMON
	setZero        = sockoptBase + 15 // IP_VS_SO_SET_ZERO

	getInfo     = sockoptBase + 1 // IP_VS_SO_GET_INFO
	getServices = sockoptBase + 2 // IP_VS_SO_GET_SERVICES
	getService  = sockoptBase + 3 // IP_VS_SO_GET_SERVICE
	getDests    = sockoptBase + 4 // IP_VS_SO_GET_DESTS
	getTimeout  = sockoptBase + 6 // IP_VS_SO_GET_TIMEOUT
	getDaemon   = sockoptBase + 7 // IP_VS_SO_GET_DAEMON
)

// ErrLegacy is what the older interface of IPVS, the socket options, cannot do.
// It is all that there is outside the machine's first user namespace.
var ErrLegacy = errors.New("without root of the machine, IPVS takes IPv4 and IPIP tunnels alone, and no persistence engine; root can do it, or a guest: --kernel uml")

// sockopt is a socket whose options are IPVS's, in the namespace where it was
// opened.
type sockopt struct{ fd int }

// openSockopt opens the socket in the calling thread's namespace, and fails
// where the kernel has no IPVS.
func openSockopt() (door, error) {
	if strconv.IntSize != 64 {
		// There the kernel's structs have other holes.
		return nil, fmt.Errorf("on a machine of %d bits: %w", strconv.IntSize, ErrLegacy)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a socket for IPVS: %w", err)
	}
	o := &sockopt{fd}
	if _, _, err := o.about(); errors.Is(err, unix.ENOPROTOOPT) {
		o.close()
		return nil, ErrNoIPVS
	}
	return o, nil // what else is wrong, the first order tells
}

// close may be called more than once.
func (o *sockopt) close() {
	if o.fd >= 0 {
		_ = unix.Close(o.fd)
		o.fd = -1
	}
}

func (o *sockopt) set(option int, arg []byte) error {
	return unix.SetsockoptString(o.fd, unix.SOL_IP, option, string(arg))
}

// get hands over a buffer in which the kernel finds what is asked for, and puts
// its answer.
func (o *sockopt) get(option int, buf []byte) error {
	size := uint32(len(buf)) //nolint:gosec // some bytes for each service
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(o.fd), unix.SOL_IP, uintptr(option),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	if int(size) != len(buf) {
		return fmt.Errorf("IPVS answered %d bytes where %d were wanted", size, len(buf))
	}
	return nil
}

// about is struct ip_vs_getinfo; services is how many IPv4 ones there are.
func (o *sockopt) about() (i Info, services int, err error) {
	buf := make([]byte, sizeofInfo)
	if err := o.get(getInfo, buf); err != nil {
		return i, 0, err
	}
	r := fields{buf}
	return Info{Version: r.u32(0), TableSize: int(r.u32(4))}, int(r.u32(8)), nil
}

func (o *sockopt) info() (Info, error) {
	i, _, err := o.about()
	return i, err
}

// entries are the services with their counters. The kernel fills as many as it
// is told that there is room for, and never says how many there are: a change
// between two questions is seen by asking again.
func (o *sockopt) entries(ctx context.Context) ([]serviceEntry, error) {
	for {
		_, n, err := o.about()
		if err != nil {
			return nil, err
		}
		buf := getServicesArg(n)
		if err := o.get(getServices, buf); err != nil {
			return nil, err
		}
		list := parseServices(buf)
		_, now, err := o.about()
		if err != nil {
			return nil, err
		}
		if now == n {
			return list, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

func (o *sockopt) services(ctx context.Context) ([]Service, error) {
	list, err := o.entries(ctx)
	if err != nil {
		return nil, err
	}
	var out []Service
	for _, e := range list {
		out = append(out, e.service)
	}
	return out, nil
}

// destEntries are the real servers of a service with their counters, in the
// order in which they were added.
func (o *sockopt) destEntries(ctx context.Context, s Service) ([]DestinationTraffic, error) {
	if err := legacyService(s); err != nil {
		return nil, err
	}
	for {
		n, err := o.count(s)
		if err != nil {
			return nil, err
		}
		buf := getDestsArg(s, n)
		if err := o.get(getDests, buf); err != nil {
			return nil, err
		}
		list, err := parseDests(buf)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name(), err)
		}
		now, err := o.count(s)
		if err != nil {
			return nil, err
		}
		// A real server with an IPv6 address is counted, and not shown.
		if now == n {
			slices.Reverse(list)
			return list, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// count is the number of a service's real servers.
func (o *sockopt) count(s Service) (int, error) {
	buf := getServiceArg(s)
	if err := o.get(getService, buf); err != nil {
		return 0, err
	}
	return parseService(buf).dests, nil
}

func (o *sockopt) destinations(ctx context.Context, s Service) ([]Destination, error) {
	list, err := o.destEntries(ctx, s)
	if err != nil {
		return nil, err
	}
	out := make([]Destination, 0, len(list))
	for _, d := range list {
		out = append(out, d.Destination)
	}
	return out, nil
}

func (o *sockopt) changeService(v verb, s Service) error {
	if err := legacyService(s); err != nil {
		return err
	}
	return o.set([...]int{setAdd, setEdit, setDel}[v], serviceUser(s))
}

func (o *sockopt) changeDestination(v verb, s Service, d Destination) error {
	err := legacyService(s)
	switch {
	case err != nil:
		return err
	case familyOf(d.Addr.Addr()) != IPv4:
		return fmt.Errorf("real server %v: %w", d.Addr, ErrLegacy)
	case d.Forward == TUN && d.TunType != IPIP:
		return fmt.Errorf("a tunnel of type %v: %w", d.TunType, ErrLegacy)
	}
	return o.set([...]int{setAddDest, setEditDest, setDelDest}[v], append(serviceUser(s), destUser(d)...))
}

// legacyService says what of a service the socket options cannot say.
func legacyService(s Service) error {
	switch {
	case s.AddrFamily() != IPv4:
		return fmt.Errorf("virtual service %s: %w", s.Name(), ErrLegacy)
	case s.PE != "":
		return fmt.Errorf("persistence engine %s: %w", s.PE, ErrLegacy)
	}
	return nil
}

func (o *sockopt) flush() error { return o.set(setFlush, nil) }

func (o *sockopt) zero(s *Service) error {
	if s == nil {
		return o.set(setZero, make([]byte, sizeofService))
	}
	if err := legacyService(*s); err != nil {
		return err
	}
	return o.set(setZero, serviceUser(*s))
}

func (o *sockopt) timeouts() (Timeouts, error) {
	buf := make([]byte, sizeofTimeout)
	if err := o.get(getTimeout, buf); err != nil {
		return Timeouts{}, err
	}
	r := fields{buf}
	seconds := func(at int) time.Duration { return time.Duration(r.u32(at)) * time.Second }
	return Timeouts{TCP: seconds(0), TCPFin: seconds(4), UDP: seconds(8)}, nil
}

func (o *sockopt) setTimeouts(t Timeouts) error { return o.set(setTimeout, timeoutUser(t)) }

// daemons says nothing of a daemon's group, port, time to live and length of
// messages, which this interface does not know: they are as by default.
func (o *sockopt) daemons(context.Context) ([]SyncDaemon, error) {
	buf := make([]byte, 2*sizeofDaemon)
	if err := o.get(getDaemon, buf); err != nil {
		return nil, err
	}
	var out []SyncDaemon
	for one := range slices.Chunk(buf, sizeofDaemon) {
		if d, ok := parseDaemonUser(one); ok {
			out = append(out, d)
		}
	}
	return out, nil
}

func (o *sockopt) startDaemon(d SyncDaemon) error {
	if plainDaemon(d) {
		return o.set(setStartDaemon, daemonUser(d))
	}
	return fmt.Errorf("without root of the machine, a sync daemon is told its interface and its syncid alone: %w", ErrLegacy)
}

// plainDaemon reports whether the older interface of IPVS can say all of d: no
// more than its state, its interface and its syncid.
func plainDaemon(d SyncDaemon) bool {
	return d.Satisfies(SyncDaemon{State: d.State, Interface: d.Interface, SyncID: d.SyncID}) && d.MaxLength == 0
}

func (o *sockopt) stopDaemon(s SyncState) error {
	return o.set(setStopDaemon, daemonUser(SyncDaemon{State: s}))
}

func (o *sockopt) traffic(ctx context.Context) ([]Traffic, error) {
	list, err := o.entries(ctx)
	if err != nil {
		return nil, err
	}
	var out []Traffic
	for _, e := range list {
		t := Traffic{Service: e.service, Counters: e.counters, Rates: e.rates}
		if t.Destinations, err = o.destEntries(ctx, e.service); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}
