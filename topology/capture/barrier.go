package capture

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/netns"
)

// barrierEtherType is "Local Experimental EtherType 1" of IEEE Std 802
// (https://www.iana.org/assignments/ieee-802-numbers). No packet filter for ARP
// or IP looks at it.
const barrierEtherType = 0x88b5

// Stations that were not heard of are asked again, first after askFirst and at
// last every askMost: a frame may be lost, on a link that loses packets or that
// came up a moment ago, and a later one proves as much.
const (
	askFirst = 10 * time.Millisecond
	askMost  = 250 * time.Millisecond
)

// Station is a device of a node that takes part in a Barrier.
type Station struct {
	Node   string
	NS     *netns.Namespace
	Device string
}

func (s Station) String() string { return s.Node + " " + s.Device }

// Barriers makes barriers and keeps its sockets open between them: to close a
// packet socket takes the kernel milliseconds. The zero value is ready. Its
// methods may be called from any goroutine; barriers are made one after the
// other.
type Barriers struct {
	mu      sync.Mutex
	sockets map[Station]packetSocket
}

// Barrier makes one barrier, see Barriers.Barrier.
func Barrier(ctx context.Context, observer Station, others []Station) error {
	var b Barriers
	return errors.Join(b.Barrier(ctx, observer, others), b.Close())
}

// Barrier returns when everything that the other stations had sent towards
// observer, or had to answer to what observer had sent before the call, has
// arrived there or will never. All stations must be on observer's own network
// (bridges between them, no routers).
//
// Observer broadcasts a frame, each other station answers it to observer, and
// Barrier waits for all the answers or the end of ctx. The frames go through
// the queueing disciplines of the devices and wait behind what is there. This
// proves nothing about a queue that is not first in, first out: netem with
// jitter or reordering, or one that sorts by flow or priority.
//
// The error names the stations that were not heard of; one whose device is
// down is named at once.
func (b *Barriers) Barrier(ctx context.Context, observer Station, others []Station) error {
	b.mu.Lock()
	defer b.mu.Unlock()

	others = slices.DeleteFunc(slices.Clone(others), func(s Station) bool {
		return s.NS == observer.NS && s.Device == observer.Device
	})
	if len(others) == 0 {
		return nil
	}
	r := round{observer: observer, others: others}
	var err error
	if r.at, err = b.socket(observer); err != nil {
		return err
	}
	for _, s := range others {
		sock, err := b.socket(s)
		if err != nil {
			return err
		}
		r.sockets = append(r.sockets, sock)
	}
	if _, err := rand.Read(r.id[:]); err != nil {
		return fmt.Errorf("barrier at %s: %w", observer, err)
	}
	if err := r.run(ctx); err != nil {
		return fmt.Errorf("barrier at %s: %w", observer, err)
	}
	return nil
}

// Close closes the sockets. Barriers may be used again afterwards.
func (b *Barriers) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Each close waits for the kernel; together they wait once.
	var wg sync.WaitGroup
	errs := make([]error, len(b.sockets))
	i := 0
	for s, sock := range b.sockets {
		at := i
		i++
		wg.Go(func() {
			if err := unix.Close(sock.fd); err != nil {
				errs[at] = fmt.Errorf("barrier: close the socket at %s: %w", s, err)
			}
		})
	}
	wg.Wait()
	b.sockets = nil
	return errors.Join(errs...)
}

// socket is the open one of a station, as long as its device is the same.
func (b *Barriers) socket(s Station) (packetSocket, error) {
	sock, ok := b.sockets[s]
	if ok {
		index, err := deviceIndex(sock.fd, s.Device)
		if err == nil && index == sock.index {
			// The address may have been changed.
			if sa, err := unix.Getsockname(sock.fd); err == nil {
				if ll, ok := sa.(*unix.SockaddrLinklayer); ok && ll.Halen == 6 {
					sock.mac = slices.Clone(net.HardwareAddr(ll.Addr[:6]))
				}
			}
		} else {
			_ = unix.Close(sock.fd)
			delete(b.sockets, s)
			ok = false
		}
	}
	if !ok {
		var err error
		sock, err = openPacketSocket(s.NS, s.Device, barrierEtherType, func(fd int) error {
			// Room for the answers of a thousand stations.
			return setReceiveBuffer(fd, 4<<20)
		})
		if err != nil {
			return sock, fmt.Errorf("barrier: %s: %w", s, err)
		}
		if b.sockets == nil {
			b.sockets = make(map[Station]packetSocket)
		}
		b.sockets[s] = sock
	}
	if len(sock.mac) != 6 {
		return sock, fmt.Errorf("barrier: %s is no Ethernet device", s)
	}
	up, err := deviceIsUp(sock.fd, s.Device)
	if err != nil {
		return sock, fmt.Errorf("barrier: %s: %w", s, err)
	}
	if !up {
		return sock, fmt.Errorf("barrier: nothing can be heard of %s: the device is down", s)
	}
	return sock, nil
}

// round is one barrier being made.
type round struct {
	observer Station
	at       packetSocket
	others   []Station
	sockets  []packetSocket
	id       [16]byte
	cpus     *processors
	// heard[i] is of others[i]: which processors' answers have come.
	heard   []map[uint16]bool
	pending []answer
}

// answer is to be sent by station index, on a processor.
type answer struct{ index, cpu uint16 }

func (r *round) run(ctx context.Context) error {
	// A virtual link hands a packet over by a queue that each processor has for
	// itself. A frame must queue behind whatever any of them still holds, so
	// one is sent from each.
	r.cpus = useProcessors()
	defer r.cpus.release()
	r.heard = make([]map[uint16]bool, len(r.others))
	for i := range r.heard {
		r.heard[i] = make(map[uint16]bool)
	}

	waker := waker{fd: -1}
	defer waker.close()
	polled := []unix.PollFd{{Fd: int32(r.at.fd), Events: unix.POLLIN}}
	for _, s := range r.sockets {
		polled = append(polled, unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN})
	}
	var asked time.Time
	var pause time.Duration
	for {
		if err := ctx.Err(); err != nil {
			return r.silent(err)
		}
		if time.Since(asked) >= pause {
			if err := r.ask(); err != nil {
				return err
			}
			asked, pause = time.Now(), max(askFirst, min(2*pause, askMost))
		}
		// Without a delay in the way everything has arrived by now, since the
		// kernel delivers while it sends.
		for i, s := range r.sockets {
			if err := r.receive(s.fd, r.others[i], i); err != nil {
				return err
			}
		}
		if err := r.sendAnswers(); err != nil {
			return err
		}
		if err := r.receive(r.at.fd, r.observer, -1); err != nil {
			return err
		}
		if r.complete() {
			return nil
		}
		if waker.fd < 0 {
			if err := waker.open(ctx); err != nil {
				return err
			}
			polled = append(polled, unix.PollFd{Fd: int32(waker.fd), Events: unix.POLLIN})
		}
		wait := unix.NsecToTimespec(int64(max(0, pause-time.Since(asked))))
		if _, err := unix.Ppoll(polled, &wait, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
	}
}

func (r *round) complete() bool {
	return !slices.ContainsFunc(r.heard, func(m map[uint16]bool) bool { return len(m) < len(r.cpus.list) })
}

// silent is the error for the stations that did not answer.
func (r *round) silent(why error) error {
	var names []string
	for i, m := range r.heard {
		if len(m) < len(r.cpus.list) {
			names = append(names, r.others[i].String())
		}
	}
	return fmt.Errorf("not heard of %s (%d of %d stations): %w", strings.Join(names, ", "), len(names), len(r.others), why)
}

func (r *round) ask() error {
	broadcast := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for _, cpu := range r.cpus.list {
		r.cpus.moveTo(cpu)
		f := frame{to: broadcast, from: r.at.mac, kind: kindAsk, id: r.id, cpu: cpu}
		if err := send(r.at, f); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

func (r *round) sendAnswers() error {
	for _, cpu := range r.cpus.list {
		for _, a := range r.pending {
			if a.cpu != cpu {
				continue
			}
			r.cpus.moveTo(cpu)
			s := r.sockets[a.index]
			f := frame{to: r.at.mac, from: s.mac, kind: kindAnswer, id: r.id, index: a.index, cpu: cpu}
			if err := send(s, f); err != nil {
				return fmt.Errorf("send the answer of %s: %w", r.others[a.index], err)
			}
		}
	}
	r.pending = r.pending[:0]
	return nil
}

// receive reads what a socket has: questions at others[index], or answers at
// the observer when index is -1.
func (r *round) receive(fd int, at Station, index int) error {
	var buf [frameLen]byte
	for {
		n, from, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
			continue // a device that went down is told once
		case err != nil:
			return fmt.Errorf("receive at %s: %w", at, err)
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		f, ok := parseFrame(buf[:n])
		if !ok || f.id != r.id {
			continue // of another lab, or late
		}
		switch {
		case index >= 0 && f.kind == kindAsk:
			a := answer{index: uint16(index), cpu: f.cpu}
			if !slices.Contains(r.pending, a) {
				r.pending = append(r.pending, a)
			}
		case index < 0 && f.kind == kindAnswer && int(f.index) < len(r.heard) && slices.Contains(r.cpus.list, f.cpu):
			r.heard[f.index][f.cpu] = true
		}
	}
}

func send(s packetSocket, f frame) error {
	to := &unix.SockaddrLinklayer{Protocol: htons(barrierEtherType), Ifindex: s.index, Halen: 6}
	copy(to.Addr[:], f.to)
	for {
		err := unix.Sendto(s.fd, f.bytes(), unix.MSG_DONTWAIT, to)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EAGAIN):
			return nil // a queue is full: lost as on a wire, and asked again
		}
		return err
	}
}

// The frame: an Ethernet header, then mark, kind, id, index, cpu, zeros.
const (
	frameLen   = 60 // the shortest that Ethernet allows, without its checksum
	frameMark  = "lvslab"
	kindAsk    = 1
	kindAnswer = 2
	kindSweep  = 3
)

type frame struct {
	to, from   net.HardwareAddr
	kind       byte
	id         [16]byte
	index, cpu uint16
}

func (f frame) bytes() []byte {
	b := make([]byte, 0, frameLen)
	b = append(b, f.to...)
	b = append(b, f.from...)
	b = binary.BigEndian.AppendUint16(b, barrierEtherType)
	b = append(b, frameMark...)
	b = append(b, f.kind)
	b = append(b, f.id[:]...)
	b = binary.BigEndian.AppendUint16(b, f.index)
	b = binary.BigEndian.AppendUint16(b, f.cpu)
	return b[:frameLen]
}

func parseFrame(b []byte) (frame, bool) {
	const head = 14 + len(frameMark)
	if len(b) < head+1+16+4 || binary.BigEndian.Uint16(b[12:]) != barrierEtherType || string(b[14:head]) != frameMark {
		return frame{}, false
	}
	f := frame{to: net.HardwareAddr(b[0:6]), from: net.HardwareAddr(b[6:12]), kind: b[head]}
	copy(f.id[:], b[head+1:])
	f.index = binary.BigEndian.Uint16(b[head+17:])
	f.cpu = binary.BigEndian.Uint16(b[head+19:])
	return f, true
}
