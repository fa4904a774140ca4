// Package capture takes packets off a link, in-process, and proves that
// packets are not there.
//
// A Capture is a packet socket (packet(7)) made inside a node's namespace and
// bound to one device. The kernel queues packets for it from before Open
// returns; Packets takes all that is queued, so that what the kernel delivered
// before the call is in the answer.
//
// That a packet is absent is not shown by waiting for a while. A Barrier sends
// frames of its own down the way that the packet would have taken; when they
// have arrived, so has everything that was sent before them.
package capture

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/netns"
)

// Defaults of Options.
const (
	DefaultLimit   = 16 << 20
	DefaultSnapLen = 256 << 10 // as tcpdump's
)

// EtherTypes that this package knows (linux/if_ether.h).
const (
	EtherTypeARP  = unix.ETH_P_ARP
	EtherTypeIPv4 = unix.ETH_P_IP
	EtherTypeIPv6 = unix.ETH_P_IPV6
)

// Options of a Capture. The zero value takes everything.
type Options struct {
	// EtherTypes are the protocols to take; none means all. The frames of a
	// Barrier are never taken.
	EtherTypes []uint16
	// Limit bounds the memory of the capture in bytes, half of it for what the
	// kernel queues and half for what is kept; 0 means DefaultLimit. What does
	// not fit is lost, the newest first, and counted.
	Limit int
	// SnapLen is how many bytes of a packet are kept; 0 means DefaultSnapLen.
	SnapLen int
	// NoOffloads turns off, for good, what a device leaves to hardware that a
	// virtual one has not: it would send packets without their checksums and
	// up to 64 KiB large, as no cable carries them, and the other end would
	// see them so. It must be off where packets are sent to be right where
	// they are captured.
	NoOffloads bool
}

// Packet is one packet as it passed the device.
type Packet struct {
	// Time is the kernel's, of when the packet was handed to the device; one
	// that waited on a busy processor may come behind others that are later.
	// In the first moments after the first Capture of a machine it may be the
	// time of reading: the kernel begins to stamp packets a little later.
	Time time.Time
	// Outgoing is true for a packet that the node sent. The kernel shows it
	// when it leaves the device's queue, after a delay by netem.
	Outgoing bool
	// Hardware is the kind of device, ARPHRD_* of linux/if_arp.h. Packets of
	// ARPHRD_ETHER and ARPHRD_LOOPBACK begin with an Ethernet header, those of
	// a tunnel with an IP header.
	Hardware uint16
	// EtherType is the packet's protocol.
	EtherType uint16
	// Length is the packet's own length in bytes, which is more than len(Data)
	// where SnapLen has cut it.
	Length int
	// Data must not be changed.
	Data []byte
}

// packetCost is what a kept packet takes in memory beside its data, in bytes.
const packetCost = 112

// Capture takes packets until it is closed. Its methods may be called from any
// goroutine.
type Capture struct {
	node, device string
	keep         int // bytes
	often        time.Duration

	mu      sync.Mutex
	fd      int // -1 when closed
	timer   *time.Timer
	pause   time.Duration
	buf     []byte
	oob     []byte
	packets []Packet
	kept    int // bytes
	lost    uint64
	seen    uint64
	err     error
}

// Open begins to take the packets of a node's device. They are taken from
// before Open returns.
func Open(ns *netns.Namespace, node, device string, opts Options) (*Capture, error) {
	limit, snap := opts.Limit, opts.SnapLen
	if limit <= 0 {
		limit = DefaultLimit
	}
	if snap <= 0 {
		snap = DefaultSnapLen
	}
	c := &Capture{
		node: node, device: device,
		keep: limit / 2,
		buf:  make([]byte, snap),
		oob:  make([]byte, unix.CmsgSpace(16)),
	}
	program, err := captureFilter(opts.EtherTypes)
	if err != nil {
		return nil, c.errorf("%w", err)
	}
	s, err := openPacketSocket(ns, device, unix.ETH_P_ALL, func(fd int) error {
		if err := attachFilter(fd, program); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
			return fmt.Errorf("ask for timestamps: %w", err)
		}
		if opts.NoOffloads {
			if err := stopOffloads(fd, device); err != nil {
				return err
			}
		}
		return setReceiveBuffer(fd, limit/2)
	})
	if err != nil {
		return nil, c.errorf("%w", err)
	}
	c.fd, c.often = s.fd, drainInterval(s.fd)
	c.pause = c.often
	c.mu.Lock() // the timer may be the faster one
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(c.pause, c.relieve)
	return c, nil
}

const usualInterval = 50 * time.Millisecond

// drainInterval is how often the kernel's queue must be emptied so that a burst
// at the speed of a virtual link fits into it.
func drainInterval(fd int) time.Duration {
	const short = 5 * time.Millisecond
	size, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err == nil && size >= 4<<20 {
		return usualInterval
	}
	return short // small, as it is without CAP_NET_ADMIN over the whole machine
}

// A capture with less than fewPackets since it was last relieved is relieved
// half as often, down to once in idleFactor times the usual interval: many labs
// capture at once, and each time costs a guest some of the most expensive things
// it does, system calls and wakings. What a queue of 8 MB holds, more than three
// thousand packets of the largest size, is far more than such a guest sends in
// that time.
const (
	fewPackets = 64
	idleFactor = 4
)

// relieve empties the kernel's queue now and then. It does not wait for
// packets: to be woken by each would slow down what is being watched.
func (c *Capture) relieve() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return
	}
	if c.drain() >= fewPackets || c.often < usualInterval {
		c.pause = c.often
	} else {
		c.pause = min(2*c.pause, idleFactor*c.often)
	}
	c.timer.Reset(c.pause)
}

// Packets is everything taken so far, in the order of delivery, including
// all that the kernel has queued when it is called. See Err for what may be
// missing.
func (c *Capture) Packets() []Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take()
	return slices.Clone(c.packets)
}

// Lost is how many packets did not fit into Limit.
func (c *Capture) Lost() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take()
	return c.lost
}

// Seen is how many packets have passed since Open, those that were lost and those
// that Forget has dropped among them.
func (c *Capture) Seen() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take()
	return c.seen
}

// Err says why Packets is not everything that passed: packets were lost, or the
// socket failed. It is nil for a complete capture.
func (c *Capture) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take()
	if c.err != nil {
		return c.err
	}
	if c.lost > 0 {
		return c.errorf("%d packets were lost beside the %d kept; take fewer protocols or raise the limit", c.lost, len(c.packets))
	}
	return nil
}

// Forget drops what was taken so far, and the count of what was lost, so that
// one capture serves one use after another.
func (c *Capture) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take()
	c.packets, c.kept, c.lost = nil, 0, 0
}

// Close ends the capture. What was taken stays readable.
func (c *Capture) Close() error {
	c.mu.Lock()
	if c.fd < 0 {
		c.mu.Unlock()
		return nil
	}
	c.take()
	fd := c.fd
	c.fd = -1
	c.buf, c.oob = nil, nil
	c.timer.Stop() // one that has fired sees that there is nothing to do
	c.mu.Unlock()

	if err := unix.Close(fd); err != nil {
		return c.errorf("close: %w", err)
	}
	return nil
}

// take is drain, with what was lost. c.mu is held.
func (c *Capture) take() {
	if c.fd < 0 {
		return
	}
	if c.drain(); c.err == nil {
		c.countLost()
	}
}

// drain takes what the kernel has queued, and tells how many packets that were.
// c.mu is held, and c is open.
func (c *Capture) drain() (packets int) {
	for c.err == nil {
		// MSG_TRUNC makes the answer the packet's length, whatever fits.
		n, oobn, _, from, err := unix.Recvmsg(c.fd, c.buf, c.oob, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return packets
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
			// The device went down, which is told once and takes nothing from
			// the queue; it may come up again.
			continue
		case err != nil:
			c.err = c.errorf("receive: %w", err)
			return packets
		}
		packets++
		c.seen++
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok {
			continue
		}
		data := c.buf[:min(n, len(c.buf))]
		if c.kept += len(data) + packetCost; c.kept > c.keep {
			c.kept -= len(data) + packetCost
			c.lost++
			continue
		}
		c.packets = append(c.packets, Packet{
			Time:      stamp(c.oob[:oobn]),
			Outgoing:  ll.Pkttype == unix.PACKET_OUTGOING,
			Hardware:  ll.Hatype,
			EtherType: ntohs(ll.Protocol),
			Length:    n,
			Data:      slices.Clone(data),
		})
	}
	return packets
}

// countLost adds what the kernel had no room for; asking sets its count to
// zero. c.mu is held.
func (c *Capture) countLost() {
	st, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		c.err = c.errorf("read PACKET_STATISTICS: %w", err)
		return
	}
	c.lost += uint64(st.Drops)
	c.seen += uint64(st.Drops)
}

func (c *Capture) errorf(format string, args ...any) error {
	return fmt.Errorf("capture on %s %s: "+format, append([]any{c.node, c.device}, args...)...)
}
