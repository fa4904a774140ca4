package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/netns"
)

// What a probe needs of IPVS's generic-netlink interface (linux/ip_vs.h). This
// room is below scenarios/ipvs, which speaks all of it.
const (
	genlFamily  = "IPVS" // IPVS_GENL_NAME
	genlVersion = 1      // IPVS_GENL_VERSION

	cmdNewService = 1  // IPVS_CMD_NEW_SERVICE
	cmdGetService = 4  // IPVS_CMD_GET_SERVICE
	cmdGetInfo    = 15 // IPVS_CMD_GET_INFO

	attrService = 1 // IPVS_CMD_ATTR_SERVICE

	svcFamily   = 1  // IPVS_SVC_ATTR_AF
	svcProtocol = 2  // IPVS_SVC_ATTR_PROTOCOL
	svcAddr     = 3  // IPVS_SVC_ATTR_ADDR, 16 bytes
	svcPort     = 4  // IPVS_SVC_ATTR_PORT, network order
	svcSched    = 6  // IPVS_SVC_ATTR_SCHED_NAME
	svcFlags    = 7  // IPVS_SVC_ATTR_FLAGS, flags and mask
	svcTimeout  = 8  // IPVS_SVC_ATTR_TIMEOUT, seconds
	svcNetmask  = 9  // IPVS_SVC_ATTR_NETMASK
	svcPE       = 11 // IPVS_SVC_ATTR_PE_NAME

	flagPersistent = 1 // IP_VS_SVC_F_PERSISTENT
	attrTypeMask   = 0x3fff
)

// dumpTries is how often a list is asked for again that changed while it was
// told.
const dumpTries = 10

// netlinkTimeout bounds one send or receive. It is long: a kernel that is taking
// down a thousand namespaces holds its locks for seconds.
const netlinkTimeout = 30 * time.Second

// genlFamilyID finds IPVS in the list of all families, on the calling thread's
// namespace; to ask for it by name would load it.
func genlFamilyID() (uint16, error) {
	h, err := netlink.NewHandle(unix.NETLINK_GENERIC)
	if err != nil {
		return 0, fmt.Errorf("opening a generic-netlink socket: %w", err)
	}
	defer h.Close()
	if err := h.SetSocketTimeout(netlinkTimeout); err != nil {
		return 0, fmt.Errorf("setting a generic-netlink socket's timeout: %w", err)
	}
	for range dumpTries {
		families, err := h.GenlFamilyList()
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("listing generic-netlink families: %w", err)
		}
		i := slices.IndexFunc(families, func(f *netlink.GenlFamily) bool { return f.Name == genlFamily })
		if i < 0 {
			return 0, &absentError{what: "there is no generic-netlink family IPVS"}
		}
		return families[i].ID, nil
	}
	return 0, fmt.Errorf("the list of generic-netlink families changed %d times while it was read", dumpTries)
}

// findIPVS can say that there is no IPVS, without any privilege.
func findIPVS() error {
	_, err := genlFamilyID()
	return err
}

// tryIPVS asks IPVS for its version, which it tells only those whose orders it
// takes: by the interface of those, or by the older one.
func tryIPVS(n *netns.Namespace) error {
	return n.Do(func() error {
		id, err := genlFamilyID()
		if err != nil {
			return err
		}
		_, err = ask(id, cmdGetInfo, 0)
		if errors.Is(err, unix.EPERM) {
			return tryOld()
		}
		return ordered("asking IPVS for its version", err)
	})
}

// ordered turns IPVS's answer to an order into a trial's.
func ordered(what string, err error) error {
	if errors.Is(err, unix.EPERM) {
		return &absentError{what: "IPVS takes orders only from root of the machine (CAP_NET_ADMIN in the initial user namespace)", denied: true}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func ask(family uint16, cmd uint8, flags int, data ...nl.NetlinkRequestData) ([][]byte, error) {
	req := nl.NewNetlinkRequest(int(family), flags)
	req.AddData(&nl.Genlmsg{Command: cmd, Version: genlVersion})
	for _, d := range data {
		req.AddData(d)
	}
	return req.Execute(unix.NETLINK_GENERIC, 0)
}

// service is a virtual service that needs a scheduler, or a persistence engine.
type service struct{ scheduler, engine string }

// tryService adds a virtual service in the scratch namespace and reads it back.
func tryService(s service) func(*netns.Namespace) error {
	return func(n *netns.Namespace) error {
		return n.Do(func() error {
			id, err := genlFamilyID()
			if err != nil {
				return err
			}
			_, err = ask(id, cmdNewService, unix.NLM_F_ACK, s.request())
			if errors.Is(err, unix.EPERM) {
				return s.tryOld()
			}
			if errors.Is(err, unix.ENOENT) {
				return &absentError{what: fmt.Sprintf("IPVS knows no %s", s)}
			}
			if err != nil {
				return ordered("adding a virtual service", err)
			}
			return s.readBack(id)
		})
	}
}

func (s service) String() string {
	if s.engine != "" {
		return "persistence engine " + s.engine
	}
	return "scheduler " + s.scheduler
}

// request is the attribute that describes the service. Its address is for
// documentation (RFC 5737).
func (s service) request() *nl.RtAttr {
	protocol, scheduler, flags, timeout := uint16(unix.IPPROTO_TCP), s.scheduler, uint32(0), uint32(0)
	if s.engine != "" {
		// "none" has a service do without a scheduler (since Linux 4.3).
		protocol, scheduler, flags, timeout = unix.IPPROTO_UDP, "none", flagPersistent, 60
	}
	attr := nl.NewRtAttr(attrService|unix.NLA_F_NESTED, nil)
	attr.AddRtAttr(svcFamily, nl.Uint16Attr(unix.AF_INET))
	attr.AddRtAttr(svcProtocol, nl.Uint16Attr(protocol))
	attr.AddRtAttr(svcAddr, append([]byte{192, 0, 2, 100}, make([]byte, 12)...))
	attr.AddRtAttr(svcPort, binary.BigEndian.AppendUint16(nil, 5060))
	attr.AddRtAttr(svcSched, nl.ZeroTerminated(scheduler))
	attr.AddRtAttr(svcFlags, append(nl.Uint32Attr(flags), nl.Uint32Attr(^uint32(0))...))
	attr.AddRtAttr(svcTimeout, nl.Uint32Attr(timeout))
	attr.AddRtAttr(svcNetmask, []byte{255, 255, 255, 255})
	if s.engine != "" {
		attr.AddRtAttr(svcPE, nl.ZeroTerminated(s.engine))
	}
	return attr
}

func (s service) readBack(family uint16) error {
	msgs, err := ask(family, cmdGetService, unix.NLM_F_DUMP)
	if err != nil {
		return fmt.Errorf("reading a virtual service back: %w", err)
	}
	want, at := s.scheduler, uint16(svcSched)
	if s.engine != "" {
		want, at = s.engine, svcPE
	}
	for _, m := range msgs {
		if len(m) < nl.SizeofGenlmsg {
			continue
		}
		outer, err := nl.ParseRouteAttr(m[nl.SizeofGenlmsg:])
		if err != nil {
			return fmt.Errorf("reading a virtual service back: %w", err)
		}
		for _, o := range outer {
			if o.Attr.Type&attrTypeMask != attrService {
				continue
			}
			inner, err := nl.ParseRouteAttr(o.Value)
			if err != nil {
				return fmt.Errorf("reading a virtual service back: %w", err)
			}
			for _, i := range inner {
				if i.Attr.Type&attrTypeMask == at && unix.ByteSliceToString(i.Value) == want {
					return nil
				}
			}
		}
	}
	if s.engine != "" {
		// Its name is told since Linux 4.10 only; the order was refused where it
		// is missing.
		return nil
	}
	return fmt.Errorf("IPVS took a service with the %s and does not show it", s)
}
