package capture

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/netns"
)

// openTap is a tap with its socket, while its device is there.
type openTap struct {
	Tap
	limit int // bytes
	fd    int // -1 while the device is not there
	index int
	ns    *netns.Namespace
	// hardware is the kind of the device, ARPHRD_*; declared the one that the
	// stream has told.
	hardware, declared uint16
	written            uint64
	lost, toldLost     uint64
}

// open begins to listen. A device that is not there is no error.
func (t *openTap) open(opts StreamOptions) error {
	ns := t.Namespace()
	if ns == nil {
		return nil
	}
	program, err := captureFilter(nil)
	if err != nil {
		return t.errorf("%w", err)
	}
	s, err := openPacketSocket(ns, t.Device, unix.ETH_P_ALL, func(fd int) error {
		if err := attachFilter(fd, program); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
			return fmt.Errorf("ask for timestamps: %w", err)
		}
		if opts.NoOffloads {
			if err := stopOffloads(fd, t.Device); err != nil {
				return err
			}
		}
		return setReceiveBuffer(fd, t.limit)
	})
	if errors.Is(err, unix.ENODEV) || errors.Is(err, netns.ErrClosed) {
		return nil
	}
	if err != nil {
		return t.errorf("%w", err)
	}
	t.fd, t.index, t.ns, t.hardware = s.fd, s.index, ns, s.hardware
	return nil
}

// there reports whether the socket is that of the device as it is now.
func (t *openTap) there() bool {
	if t.Namespace() != t.ns {
		return false
	}
	index, err := t.ns.Index(t.Device)
	return err == nil && index == t.index
}

// close lets the device go, and keeps what was counted.
func (t *openTap) close() {
	if t.fd < 0 {
		return
	}
	t.countLost()
	_ = unix.Close(t.fd)
	t.fd, t.ns = -1, nil
}

// take calls f for at most a batch of packets that are queued, and returns how
// many they were.
func (t *openTap) take(buf, oob []byte, f func(Packet)) (n int) {
	for t.fd >= 0 && n < batch {
		length, oobn, _, from, err := unix.Recvmsg(t.fd, buf, oob, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
			continue // a device that went down is told once, and may come up again
		case err != nil:
			return n // EAGAIN; what is worse shows when the device is looked for
		}
		n++
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok || ll.Hatype != t.declared {
			continue // another kind of device than the stream has told
		}
		f(Packet{
			Time:      stamp(oob[:oobn]),
			Outgoing:  ll.Pkttype == unix.PACKET_OUTGOING,
			Hardware:  ll.Hatype,
			EtherType: ntohs(ll.Protocol),
			Length:    length,
			Data:      slices.Clone(buf[:min(length, len(buf))]),
		})
	}
	return n
}

// countLost adds what the kernel had no room for; asking sets its count to zero.
func (t *openTap) countLost() {
	if t.fd < 0 {
		return
	}
	if st, err := unix.GetsockoptTpacketStats(t.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		t.lost += uint64(st.Drops)
	}
}

func (t *openTap) errorf(format string, args ...any) error {
	return fmt.Errorf("capture on %s: "+format, append([]any{t.Name}, args...)...)
}
