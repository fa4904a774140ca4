package line_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/line"
)

// patience bounds what takes no time unless it hangs.
const patience = time.Minute

var (
	host  = line.Options{Send: line.ToGuest, Receive: line.ToHost}
	guest = line.Options{Send: line.ToHost, Receive: line.ToGuest}
)

// streams are two kinds of streams: one without any buffer, and one with that of
// a kernel.
var streams = map[string]func(t *testing.T) (io.ReadWriteCloser, io.ReadWriteCloser){
	"pipe": func(*testing.T) (io.ReadWriteCloser, io.ReadWriteCloser) { return net.Pipe() },
	"socketpair": func(t *testing.T) (io.ReadWriteCloser, io.ReadWriteCloser) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		return os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
	},
}

func eachStream(t *testing.T, f func(t *testing.T, a, b io.ReadWriteCloser)) {
	for name, make := range streams {
		t.Run(name, func(t *testing.T) {
			a, b := make(t)
			f(t, a, b)
		})
	}
}

// ends makes both ends of a line, which end with the test.
func ends(t *testing.T, a, b io.ReadWriteCloser, of, other line.Options) (*line.Conn, *line.Conn) {
	x, y := line.New(a, of), line.New(b, other)
	for _, c := range []*line.Conn{x, y} {
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	return x, y
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// Both sides send at once all that they have, and what comes out is what went
// in, whatever the pieces.
func TestBothFlood(t *testing.T) {
	eachStream(t, func(t *testing.T, a, b io.ReadWriteCloser) {
		h, g := ends(t, a, b, host, guest)
		down, up := random(300<<10), random(8<<20)
		var wg sync.WaitGroup
		send := func(c *line.Conn, p []byte, piece int) {
			wg.Go(func() {
				for len(p) > 0 {
					n, err := c.Write(p[:min(piece, len(p))])
					if err != nil {
						t.Errorf("writing: %v", err)
						return
					}
					p = p[n:]
				}
			})
		}
		receive := func(c *line.Conn, want []byte) {
			wg.Go(func() {
				got := make([]byte, len(want))
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
					t.Errorf("read %d bytes: the same: %t, error %v", len(want), bytes.Equal(got, want), err)
				}
			})
		}
		send(h, down, 5000)
		send(g, up, 100<<10)
		receive(h, up)
		receive(g, down)
		wg.Wait()
	})
}

// Each side writes all it has before it reads anything, as far as the windows
// let it; the one that is done first reads, and both come to their end.
func TestWriteBeforeRead(t *testing.T) {
	eachStream(t, func(t *testing.T, a, b io.ReadWriteCloser) {
		h, g := ends(t, a, b, host, guest)
		var wg sync.WaitGroup
		for _, s := range []struct {
			c         *line.Conn
			out, into int
		}{{h, 500 << 10, 700 << 10}, {g, 700 << 10, 500 << 10}} {
			wg.Go(func() {
				if _, err := s.c.Write(random(s.out)); err != nil {
					t.Errorf("writing %d bytes: %v", s.out, err)
				}
				if n, err := io.CopyN(io.Discard, s.c, int64(s.into)); err != nil {
					t.Errorf("read %d bytes: %v", n, err)
				}
			})
		}
		wg.Wait()
	})
}

// With a reader that does not read, the other direction goes on for as long as
// one likes.
func TestSlowReader(t *testing.T) {
	eachStream(t, func(t *testing.T, a, b io.ReadWriteCloser) {
		h, g := ends(t, a, b, host, guest)
		stuck := make(chan error, 1)
		go func() {
			_, err := h.Write(random(100 << 10))
			stuck <- err
		}()
		data := random(20 << 20)
		go func() { _, _ = g.Write(data) }()
		got := make([]byte, len(data))
		if _, err := io.ReadFull(h, got); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("towards the host: the same: %t, error %v", bytes.Equal(got, data), err)
		}
		select {
		case err := <-stuck:
			t.Fatalf("100 KiB went to somebody who does not read (%v)", err)
		default:
		}
		if _, err := io.CopyN(io.Discard, g, 100<<10); err != nil {
			t.Fatal(err)
		}
		if err := <-stuck; err != nil {
			t.Error(err)
		}
	})
}

// counter is the guest's end of a stream, as User-Mode Linux has it: it counts
// what was written towards it and not read.
type counter struct {
	io.ReadWriteCloser
	mu     sync.Mutex
	queue  []byte
	most   int
	more   chan struct{}
	closed chan struct{}
	once   sync.Once
}

// Write takes what the host sends, and never blocks.
func (c *counter) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.queue = append(c.queue, p...)
	c.most = max(c.most, len(c.queue))
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

// guestSide is what the guest sees of a counter.
type guestSide struct {
	io.ReadWriteCloser
	c *counter
	// step lets one read through.
	step <-chan struct{}
}

func (g guestSide) Read(p []byte) (int, error) {
	for {
		if _, ok := <-g.step; !ok {
			return 0, io.EOF
		}
		g.c.mu.Lock()
		n := copy(p, g.c.queue)
		g.c.queue = g.c.queue[n:]
		g.c.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		select {
		case <-g.c.more:
		case <-g.c.closed:
			return 0, io.EOF
		}
	}
}

// A guest whose kernel is slow to read, while the host has much to say and a
// flood to give credit for, never has more than the window unread.
func TestNeverMoreThanTheWindow(t *testing.T) {
	a, b := net.Pipe()
	c := &counter{ReadWriteCloser: a, more: make(chan struct{}, 1), closed: make(chan struct{})}
	step := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(step)
		for i := 0; ; i++ {
			if i%16 == 0 { // what is to pile up must find the time to
				time.Sleep(100 * time.Microsecond)
			}
			select {
			case step <- struct{}{}:
			case <-done:
				return
			}
		}
	}()
	o := host
	o.Beat = time.Millisecond
	h, g := ends(t, c, guestSide{b, c, step}, o, guest)
	t.Cleanup(func() {
		c.once.Do(func() { close(c.closed) })
		close(done)
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := h.Write(random(200 << 10)); err != nil {
			t.Errorf("to the guest: %v", err)
		}
	})
	wg.Go(func() {
		if _, err := g.Write(random(16 << 20)); err != nil {
			t.Errorf("from the guest: %v", err)
		}
	})
	wg.Go(func() { _, _ = io.CopyN(io.Discard, h, 16<<20) })
	wg.Go(func() {
		if _, err := io.CopyN(io.Discard, g, 200<<10); err != nil {
			t.Errorf("in the guest: %v", err)
		}
	})
	wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most > line.ToGuest || c.most < line.ToGuest/4 {
		t.Errorf("at most %d bytes were unread, wanted some and at most %d", c.most, line.ToGuest)
	}
}

// A line that is cut says so behind what came over it before.
func TestCut(t *testing.T) {
	for name, tt := range map[string]struct {
		sent string
		read string
		want error
	}{
		"between frames":        {"d\x00\x00\x02ab", "ab", io.EOF},
		"within a frame":        {"d\x00\x00\x05abc", "abc", io.ErrUnexpectedEOF},
		"within a header":       {"d\x00\x00\x01ad\x00", "a", io.ErrUnexpectedEOF},
		"before all":            {"", "", io.EOF},
		"garbage":               {"d\x00\x00\x01aoops: what is this\n", "a", line.ErrGarbage},
		"a little garbage":      {"{}", "", line.ErrGarbage},
		"an empty frame":        {"d\x00\x00\x00", "", line.ErrGarbage},
		"a frame too long":      {"d\x00\x80\x01", "", line.ErrGarbage},
		"credit for nothing":    {"c\x00\x00\x01", "", line.ErrGarbage},
		"no credit":             {"c\x00\x00\x00", "", line.ErrGarbage},
		"a beat with something": {"b\x00\x00\x01", "", line.ErrGarbage},
	} {
		t.Run(name, func(t *testing.T) {
			eachStream(t, func(t *testing.T, a, b io.ReadWriteCloser) {
				c := line.New(a, host)
				defer c.Close()
				go func() {
					_, _ = io.WriteString(b, tt.sent)
					b.Close()
				}()
				got, err := io.ReadAll(c)
				if err == nil {
					err = io.EOF
				}
				if string(got) != tt.read || !errors.Is(err, tt.want) {
					t.Errorf("read %q and %v, want %q and %v", got, err, tt.read, tt.want)
				}
				if strings.Contains(tt.sent, "oops") && !strings.Contains(err.Error(), "oops: what is this") {
					t.Errorf("does not quote: %v", err)
				}
				<-c.Done()
				if !errors.Is(c.Err(), tt.want) {
					t.Errorf("Err is %v", c.Err())
				}
				if _, err := c.Write([]byte("x")); err == nil || errors.Is(err, io.EOF) {
					t.Errorf("writing then: %v", err)
				}
			})
		})
	}
}

// What was written before Close arrives, and then the end.
func TestClose(t *testing.T) {
	eachStream(t, func(t *testing.T, a, b io.ReadWriteCloser) {
		h, g := ends(t, a, b, host, guest)
		sent := random(600 << 10)
		written := make(chan error, 1)
		go func() {
			_, err := g.Write(sent)
			written <- errors.Join(err, g.Close())
		}()
		got, err := io.ReadAll(h)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes, the same: %t, error %v", len(got), bytes.Equal(got, sent), err)
		}
		if err := <-written; err != nil {
			t.Error(err)
		}
		for name, f := range map[string]func([]byte) (int, error){"read": g.Read, "write": g.Write} {
			if _, err := f(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s after Close: %v", name, err)
			}
		}
	})
}

// Close ends what waits.
func TestCloseWakes(t *testing.T) {
	a, b := net.Pipe()
	h, _ := ends(t, a, b, host, guest)
	waiting := make(chan error, 2)
	go func() {
		_, err := h.Read(make([]byte, 1))
		waiting <- err
	}()
	go func() {
		_, err := h.Write(make([]byte, 1<<20))
		waiting <- err
	}()
	time.AfterFunc(10*time.Millisecond, func() { h.Close() })
	for range 2 {
		if err := <-waiting; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
}

// Somebody who sends more than was agreed is found out.
func TestTooMuch(t *testing.T) {
	a, b := net.Pipe()
	c := line.New(a, guest) // takes 2048 bytes, and nobody reads them
	defer c.Close()
	big := guest
	big.Receive = line.ToHost
	f := line.New(b, big)
	defer f.Close()
	go func() { _, _ = f.Write(make([]byte, 3000)) }()
	select {
	case <-c.Done():
	case <-time.After(patience):
		t.Fatal("3000 bytes into a window of 2048 are no error")
	}
	if !strings.Contains(c.Err().Error(), "at most 2048") {
		t.Errorf("got %v", c.Err())
	}
}

func TestDeadlines(t *testing.T) {
	a, b := net.Pipe()
	h, g := ends(t, a, b, host, guest)
	past := time.Now().Add(-time.Second)
	h.SetReadDeadline(past)
	h.SetWriteDeadline(past)
	if _, err := h.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	if _, err := h.Write(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	h.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if n, err := h.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n > line.ToGuest {
		t.Errorf("wrote %d bytes: %v", n, err)
	}
	if _, err := h.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	// The line is as good as before.
	h.SetDeadline(time.Time{})
	go func() { _, _ = g.Write([]byte("still there")) }()
	got := make([]byte, 11)
	if _, err := io.ReadFull(h, got); err != nil || string(got) != "still there" {
		t.Errorf("%q, %v", got, err)
	}
}

// A line is silent when nothing comes, and not while beats do.
func TestSilence(t *testing.T) {
	o, beats := host, guest
	o.Silence, beats.Beat = 4*time.Second, 20*time.Millisecond
	a, b := net.Pipe()
	h, g := ends(t, a, b, o, beats)
	select {
	case <-h.Done():
		t.Fatalf("ended with beats: %v", h.Err())
	case <-time.After(5 * time.Second):
	}
	g.Close()
	<-h.Done()

	o.Silence = 400 * time.Millisecond
	a, b = net.Pipe()
	defer b.Close()
	h = line.New(a, o)
	defer h.Close()
	go func() { _, _ = io.Copy(io.Discard, b) }()
	_, err := h.Read(make([]byte, 1))
	if !errors.Is(err, line.ErrSilent) || !strings.Contains(err.Error(), "400ms") {
		t.Errorf("got %v", err)
	}
}

func TestWindows(t *testing.T) {
	for _, w := range []int{0, line.MinWindow - 1, line.MaxWindow + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a window of %d is none of this package", w)
				}
			}()
			line.New(nil, line.Options{Send: w, Receive: line.ToHost})
		}()
	}
	// The least windows work, too.
	a, b := net.Pipe()
	o := line.Options{Send: line.MinWindow, Receive: line.MinWindow}
	x, y := ends(t, a, b, o, o)
	go func() { _, _ = x.Write(random(50 << 10)) }()
	go func() { _, _ = y.Write(random(50 << 10)) }()
	for _, c := range []*line.Conn{x, y} {
		if _, err := io.CopyN(io.Discard, c, 50<<10); err != nil {
			t.Error(err)
		}
	}
}
