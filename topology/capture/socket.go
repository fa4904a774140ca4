package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/netns"
)

// packetSocket is a packet socket bound to one device.
type packetSocket struct {
	fd    int
	index int
	mac   net.HardwareAddr
	// hardware is the kind of the device, ARPHRD_* of linux/if_arp.h.
	hardware uint16
}

// openPacketSocket makes a packet socket in ns and binds it to a device and a
// protocol. prepare runs before it is bound, when nothing is received yet.
func openPacketSocket(ns *netns.Namespace, device string, protocol uint16, prepare func(fd int) error) (packetSocket, error) {
	s := packetSocket{fd: -1}
	err := ns.Do(func() (err error) {
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("open a packet socket: %w%s", err, socketHint(err))
		}
		return nil
	})
	if err != nil {
		return s, err
	}
	// The rest may happen on any thread: the socket knows its namespace.
	err = func() error {
		if s.index, err = deviceIndex(s.fd, device); err != nil {
			return err
		}
		if err := prepare(s.fd); err != nil {
			return err
		}
		if err := unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: htons(protocol), Ifindex: s.index}); err != nil {
			return fmt.Errorf("bind to the device: %w", err)
		}
		sa, err := unix.Getsockname(s.fd)
		if err != nil {
			return fmt.Errorf("read the device's address: %w", err)
		}
		if ll, ok := sa.(*unix.SockaddrLinklayer); ok {
			s.mac = slices.Clone(net.HardwareAddr(ll.Addr[:min(int(ll.Halen), len(ll.Addr))]))
			s.hardware = ll.Hatype
		}
		return nil
	}()
	if err != nil {
		_ = unix.Close(s.fd)
		s.fd = -1
	}
	return s, err
}

func socketHint(err error) string {
	switch {
	case errors.Is(err, unix.EPERM):
		return " (needs CAP_NET_RAW in the node's namespace)"
	case errors.Is(err, unix.EAFNOSUPPORT):
		return " (the kernel has no CONFIG_PACKET)"
	}
	return ""
}

// deviceIndex asks in the socket's own namespace.
func deviceIndex(fd int, device string) (int, error) {
	req, err := unix.NewIfreq(device)
	if err != nil {
		return 0, fmt.Errorf("%q cannot be the name of a device", device)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
		if errors.Is(err, unix.ENODEV) {
			return 0, fmt.Errorf("the node has no device %s: %w", device, err)
		}
		return 0, fmt.Errorf("look up the device: %w", err)
	}
	return int(int32(req.Uint32())), nil
}

// deviceIsUp reports whether the device has been set up.
func deviceIsUp(fd int, device string) (bool, error) {
	req, err := unix.NewIfreq(device)
	if err != nil {
		return false, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return false, err
	}
	return req.Uint16()&unix.IFF_UP != 0, nil
}

// setReceiveBuffer makes room for size bytes in the socket's queue, as the
// kernel counts them (each packet with its bookkeeping).
func setReceiveBuffer(fd, size int) error {
	// The kernel doubles what it is given, socket(7).
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size/2) == nil {
		return nil
	}
	// Without CAP_NET_ADMIN over the whole machine, up to net.core.rmem_max.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size/2); err != nil {
		return fmt.Errorf("set the receive buffer: %w", err)
	}
	return nil
}

// captureFilter takes the given protocols (none: all) but never a barrier's. It asks for the protocol that the kernel found and not for
// bytes of the packet: a tunnel's have no Ethernet header.
func captureFilter(etherTypes []uint16) ([]bpf.RawInstruction, error) {
	// Jumps of a classic filter reach 255 instructions.
	const most = 200
	if len(etherTypes) > most {
		return nil, fmt.Errorf("%d protocols to take; the most is %d", len(etherTypes), most)
	}
	program := []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtProto}}
	take, drop := bpf.RetConstant{Val: math.MaxUint32}, bpf.RetConstant{Val: 0}
	program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: barrierEtherType, SkipFalse: 1}, drop)
	for _, t := range etherTypes {
		program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(t), SkipFalse: 1}, take)
	}
	if len(etherTypes) == 0 {
		program = append(program, take)
	}
	return bpf.Assemble(append(program, drop))
}

func attachFilter(fd int, program []bpf.RawInstruction) error {
	filter := make([]unix.SockFilter, len(program))
	for i, in := range program {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: unsafe.SliceData(filter)})
	if err != nil {
		return fmt.Errorf("attach the filter: %w", err)
	}
	return nil
}

// stamp finds the kernel's time among the control messages.
func stamp(oob []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err == nil {
		for _, m := range messages {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS &&
				len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
				// The kernel writes it aligned; a copy need not rely on that.
				var ts unix.Timespec
				copy(unsafe.Slice((*byte)(unsafe.Pointer(&ts)), unsafe.Sizeof(ts)), m.Data)
				return time.Unix(ts.Unix())
			}
		}
	}
	return time.Now()
}

// htons turns a number into the network's byte order, which packet(7) wants
// for protocols.
func htons(v uint16) uint16 {
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		return v
	}
	return bits.ReverseBytes16(v)
}

func ntohs(v uint16) uint16 { return htons(v) }
