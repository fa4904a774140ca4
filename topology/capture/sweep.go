package capture

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sweep returns when everything that any of the stations had sent to another
// before the call has arrived there, or will never, and with it what the others
// had to answer. It is a Barrier at each of them, for less: each broadcasts a
// frame behind all that it had sent and waits for those of all others, and then
// once more, for what was answered meanwhile. Stations and what it proves are as
// those of Barrier.
func (b *Barriers) Sweep(ctx context.Context, stations []Station) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(stations) < 2 {
		return nil
	}
	s := sweep{stations: stations}
	for _, at := range stations {
		sock, err := b.socket(at)
		if err != nil {
			return err
		}
		s.sockets = append(s.sockets, sock)
	}
	s.cpus = useProcessors()
	defer s.cpus.release()
	for range 2 {
		if err := s.run(ctx); err != nil {
			return fmt.Errorf("barrier: %w", err)
		}
	}
	return nil
}

// sweep is one being made.
type sweep struct {
	stations []Station
	sockets  []packetSocket
	cpus     *processors
	id       [16]byte
	// heard are, at each station, the frames of the others: by station and
	// processor. missing counts those that have not come to all.
	heard   []map[answer]bool
	missing int
}

func (s *sweep) run(ctx context.Context) error {
	if _, err := rand.Read(s.id[:]); err != nil {
		return err
	}
	s.heard = make([]map[answer]bool, len(s.stations))
	for i := range s.heard {
		s.heard[i] = make(map[answer]bool)
	}
	s.missing = len(s.stations) * (len(s.stations) - 1) * len(s.cpus.list)
	waker := waker{fd: -1}
	defer waker.close()
	var polled []unix.PollFd
	for _, sock := range s.sockets {
		polled = append(polled, unix.PollFd{Fd: int32(sock.fd), Events: unix.POLLIN})
	}
	var asked time.Time
	var pause time.Duration
	for {
		if err := ctx.Err(); err != nil {
			return s.silent(err)
		}
		if time.Since(asked) >= pause {
			if err := s.send(); err != nil {
				return err
			}
			asked, pause = time.Now(), max(askFirst, min(2*pause, askMost))
		}
		for i := range s.sockets {
			if err := s.receive(i); err != nil {
				return err
			}
		}
		if s.missing == 0 {
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

// send broadcasts the frames that have not come to all.
func (s *sweep) send() error {
	broadcast := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for _, cpu := range s.cpus.list {
		s.cpus.moveTo(cpu)
		for i, sock := range s.sockets {
			if s.heardOf(answer{uint16(i), cpu}) {
				continue
			}
			f := frame{to: broadcast, from: sock.mac, kind: kindSweep, id: s.id, index: uint16(i), cpu: cpu}
			if err := send(sock, f); err != nil {
				return fmt.Errorf("send at %s: %w", s.stations[i], err)
			}
		}
	}
	return nil
}

// heardOf reports whether a frame has come to all others.
func (s *sweep) heardOf(a answer) bool {
	for i, heard := range s.heard {
		if i != int(a.index) && !heard[a] {
			return false
		}
	}
	return true
}

// receive reads what the socket of a station has.
func (s *sweep) receive(at int) error {
	var buf [frameLen]byte
	for {
		n, from, err := unix.Recvfrom(s.sockets[at].fd, buf[:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
			continue // a device that went down is told once
		case err != nil:
			return fmt.Errorf("receive at %s: %w", s.stations[at], err)
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		f, ok := parseFrame(buf[:n])
		if !ok || f.id != s.id || f.kind != kindSweep || int(f.index) >= len(s.stations) || int(f.index) == at {
			continue // of another lab, or late
		}
		if a := (answer{f.index, f.cpu}); !s.heard[at][a] {
			s.heard[at][a] = true
			s.missing--
		}
	}
}

// silent is the error for the stations that were not heard of everywhere.
func (s *sweep) silent(why error) error {
	var names []string
	for i, at := range s.stations {
		for _, cpu := range s.cpus.list {
			if !s.heardOf(answer{uint16(i), cpu}) {
				names = append(names, at.String())
				break
			}
		}
	}
	return fmt.Errorf("not heard of %s (%d of %d stations): %w", strings.Join(names, ", "), len(names), len(s.stations), why)
}
