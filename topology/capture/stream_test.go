package capture

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/netns"
)

func tapOf(s Station) Tap {
	return Tap{Name: s.String(), Device: s.Device, Namespace: func() *netns.Namespace { return s.NS }}
}

// slowWriter takes nothing after the header until it is let go.
type slowWriter struct {
	bytes.Buffer
	writes int
	let    chan struct{}
	stuck  chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.writes++; w.writes == 2 {
		close(w.stuck)
		<-w.let
	}
	return w.Buffer.Write(p)
}

// What a slow reader does not take is lost and told, not kept.
func TestStreamSlowReader(t *testing.T) {
	l := newLAN(t, 2)
	w := &slowWriter{let: make(chan struct{}), stuck: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	type end struct {
		stats StreamStats
		err   error
	}
	done := make(chan end, 1)
	go func() {
		stats, err := Stream(ctx, w, []Tap{tapOf(l.nodes[0])}, StreamOptions{Limit: 1})
		done <- end{stats, err}
	}()
	if err := Barrier(ctx, l.nodes[0], l.nodes); err != nil {
		t.Fatal(err) // the link has its carrier now
	}
	const sent = 2000 // each takes some 700 bytes of a queue of 256 KiB
	conn, err := l.nodes[1].NS.Dial(ctx, "udp", address(0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	flood := func() { _, _ = conn.Write([]byte("hello")) } // refused, as nobody listens
	for stuck := false; !stuck; {
		flood()
		select {
		case <-w.stuck:
			stuck = true
		case <-time.After(time.Millisecond):
		}
	}
	for range sent {
		flood()
	}
	cancel()
	close(w.let)
	e := <-done
	if e.err != nil || e.stats.Lost == 0 || e.stats.Packets == 0 {
		t.Fatalf("%+v, %v", e.stats, e.err)
	}
	r, err := pcapgo.NewNgReader(&w.Buffer, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	var n uint64
	for ; err == nil; n++ {
		_, _, err = r.ReadPacketData()
	}
	in, err := r.Interface(0)
	if err != nil || in.Statistics.PacketsDropped != e.stats.Lost || n-1 != e.stats.Packets {
		t.Errorf("the file has %d packets and tells of %+v, %v; the stream of %+v", n-1, in.Statistics, err, e.stats)
	}
}

// A device that goes away is listened to again when it is back.
func TestStreamDeviceComesBack(t *testing.T) {
	l := newLAN(t, 2)
	observer := l.nodes[0]
	var got atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	late := Station{Node: "late", NS: observer.NS, Device: "late0"}
	go func() {
		_, err := Stream(ctx, writeFunc(func(p []byte) (int, error) {
			got.Add(int64(len(p)))
			return len(p), nil
		}), []Tap{tapOf(late), tapOf(observer)}, StreamOptions{})
		done <- err
	}()
	for range 2 {
		link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: late.Device}, PeerName: "late1"}
		if err := observer.NS.Netlink().LinkAdd(link); err != nil {
			t.Fatal(err)
		}
		before := got.Load()
		for end := time.Now().Add(20 * time.Second); got.Load() == before; time.Sleep(5 * time.Millisecond) {
			upAndSend(t, late)
			if time.Now().After(end) {
				t.Fatal("nothing is heard of the device")
			}
		}
		if err := observer.NS.Netlink().LinkDel(link); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(p []byte) (int, error) { return f(p) }

// upAndSend brings a pair of devices up and sends a frame.
func upAndSend(t *testing.T, s Station) {
	t.Helper()
	for _, device := range []string{s.Device, "late1"} {
		dev, err := s.NS.Netlink().LinkByName(device)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.NS.Netlink().LinkSetUp(dev); err != nil {
			t.Fatal(err)
		}
	}
	sock, err := openPacketSocket(s.NS, s.Device, EtherTypeARP, func(int) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(sock.fd) }()
	to := &unix.SockaddrLinklayer{Protocol: htons(EtherTypeARP), Ifindex: sock.index}
	_ = unix.Sendto(sock.fd, arpFrame(time.Now(), true).Data, 0, to) // again, until it has a carrier
}
