package capture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/netns"
)

// Tap is a device that Stream listens at.
type Tap struct {
	// Name is how the stream calls it (the option if_name): "web1:eth0".
	Name string
	// Device is its name in the node's namespace.
	Device string
	// Namespace is the node's as it is now, nil while the node is switched
	// off. It is asked again and again.
	Namespace func() *netns.Namespace
}

// StreamOptions say what Stream does. The zero value streams everything until
// its context ends.
type StreamOptions struct {
	// Comment, if there is one, becomes the section's.
	Comment string
	// Count ends the stream after as many packets; 0 means never.
	Count uint64
	// Limit bounds what the kernel queues for a slow reader, in bytes, for all
	// taps together; 0 means DefaultLimit, and a tap has minTapLimit at least.
	// What does not fit is lost, and counted.
	Limit int
	// SnapLen is how many bytes of a packet are passed on; 0 means
	// DefaultSnapLen.
	SnapLen int
	// NoOffloads is that of Options.
	NoOffloads bool
}

// StreamStats are what a stream was, in packets.
type StreamStats struct {
	// Packets were written, Lost did not fit into Limit.
	Packets, Lost uint64
}

const (
	// minTapLimit is the least that the kernel queues for a tap, in bytes.
	minTapLimit = 256 << 10
	// batch bounds how many packets of one device are taken in one go, so that
	// a device that never rests keeps no other waiting.
	batch = 256
	// lookAgain is how often devices are looked for that went away, or whose
	// node was switched off: a socket that stays open would keep its
	// namespace.
	lookAgain = 100 * time.Millisecond
	// tellLost is how often losses are written into a stream that goes on.
	tellLost = time.Second
)

// Stream writes what passes the taps as pcapng, each packet as soon as it was
// seen: packets of one device in their order, those of several in that of their
// times within a batch. The header with all its interfaces is written at once.
// It returns when ctx ends or Count packets were written, both of which are no
// error, or when w fails. At the end, and while packets are lost, it writes the
// interfaces' statistics.
//
// Nothing is kept here: while w does not take more, the kernel's queues fill,
// and then packets are lost. A device that goes away takes nothing from the
// others, and is listened to again when it is back. A tap that is there at the
// beginning and cannot be listened at is an error.
func Stream(ctx context.Context, w io.Writer, taps []Tap, opts StreamOptions) (StreamStats, error) {
	s := &stream{opts: opts}
	if s.opts.SnapLen <= 0 {
		s.opts.SnapLen = DefaultSnapLen
	}
	limit := cmp.Or(max(opts.Limit, 0), DefaultLimit)
	s.buf, s.oob = make([]byte, s.opts.SnapLen), make([]byte, unix.CmsgSpace(16))
	defer s.close()
	for _, tap := range taps {
		t := &openTap{Tap: tap, limit: max(limit/len(taps), minTapLimit), fd: -1, hardware: unix.ARPHRD_ETHER}
		s.taps = append(s.taps, t)
		if err := t.open(s.opts); err != nil {
			return s.stats(), err
		}
		t.declared = t.hardware
	}
	var err error
	if s.out, err = newNgStream(w, opts.Comment, s.taps); err != nil {
		return s.stats(), err
	}
	if err = s.run(ctx); err == nil {
		err = s.finish()
	}
	return s.stats(), err
}

// stream is one Stream.
type stream struct {
	opts     StreamOptions
	taps     []*openTap
	out      *ngStream
	buf, oob []byte
	packets  uint64
	told     time.Time // when losses were written last
}

func (s *stream) stats() StreamStats {
	st := StreamStats{Packets: s.packets}
	for _, t := range s.taps {
		st.Lost += t.lost
	}
	return st
}

// close closes all at once: each close waits for the kernel.
func (s *stream) close() {
	var wg sync.WaitGroup
	for _, t := range s.taps {
		wg.Go(t.close)
	}
	wg.Wait()
}

// done reports whether all that was asked for is written.
func (s *stream) done() bool { return s.opts.Count > 0 && s.packets >= s.opts.Count }

// run passes packets on until there is a reason to end.
func (s *stream) run(ctx context.Context) error {
	w := waker{fd: -1}
	if err := w.open(ctx); err != nil {
		return err
	}
	defer w.close()
	looked := time.Now()
	for {
		more, err := s.pass()
		if err != nil || s.done() {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(looked) >= lookAgain {
			looked = time.Now()
			if err := s.lookAgain(); err != nil {
				return err
			}
		}
		if more {
			continue
		}
		polled := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
		for _, t := range s.taps {
			if t.fd >= 0 {
				polled = append(polled, unix.PollFd{Fd: int32(t.fd), Events: unix.POLLIN})
			}
		}
		wait := unix.NsecToTimespec(int64(lookAgain))
		if _, err := unix.Ppoll(polled, &wait, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("capture: poll: %w", err)
		}
	}
}

// pass takes what is queued, a batch of each device, and writes it. more says
// that there may be more already.
func (s *stream) pass() (more bool, err error) {
	type packet struct {
		Packet
		tap int
	}
	var list []packet
	for i, t := range s.taps {
		n := t.take(s.buf, s.oob, func(p Packet) { list = append(list, packet{p, i}) })
		more = more || n == batch
	}
	slices.SortStableFunc(list, func(a, b packet) int { return a.Time.Compare(b.Time) })
	for _, p := range list {
		if s.done() {
			break
		}
		if err := s.out.packet(p.tap, p.Packet); err != nil {
			return false, err
		}
		s.packets++
		s.taps[p.tap].written++
	}
	if err := s.tellLosses(); err != nil || len(list) == 0 {
		return more, err
	}
	return more, s.out.flush()
}

// tellLosses writes the statistics of interfaces that lost packets, now and then.
func (s *stream) tellLosses() error {
	if time.Since(s.told) < tellLost {
		return nil
	}
	s.told = time.Now()
	for i, t := range s.taps {
		t.countLost()
		if t.lost == t.toldLost {
			continue
		}
		t.toldLost = t.lost
		if err := s.out.statistics(i, t); err != nil {
			return err
		}
		if err := s.out.flush(); err != nil {
			return err
		}
	}
	return nil
}

// finish writes what is queued still, a batch of it, and the statistics.
func (s *stream) finish() error {
	if !s.done() {
		if _, err := s.pass(); err != nil {
			return err
		}
	}
	for i, t := range s.taps {
		t.countLost()
		if err := s.out.statistics(i, t); err != nil {
			return err
		}
	}
	return s.out.flush()
}

// lookAgain follows the devices: those that went away are let go, those that are
// back are listened to.
func (s *stream) lookAgain() error {
	for _, t := range s.taps {
		if t.fd >= 0 && t.there() {
			continue
		}
		t.close()
		// What cannot be opened now is looked for the next time.
		_ = t.open(s.opts)
	}
	return nil
}
