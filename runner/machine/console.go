package machine

import (
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// consoleKept is how much of a console's end is kept, in bytes.
const consoleKept = 64 << 10

// consoleShown is how much of it an error shows, in lines.
const consoleShown = 40

// ring keeps the end of what is written to it.
type ring struct {
	mu   sync.Mutex
	buf  []byte
	max  int
	full chan struct{}
}

func newRing(size int) *ring { return &ring{max: size, full: make(chan struct{})} }

// fill reads r to its end and closes it.
func (r *ring) fill(f *os.File) {
	defer close(r.full)
	_, _ = io.Copy(r, f)
	_ = f.Close()
}

// wait waits for the end of fill. A helper of the kernel's that is still dying
// may hold the pipe open, so it does not wait for ever.
func (r *ring) wait() {
	select {
	case <-r.full:
	case <-time.After(time.Second):
	}
}

func (r *ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf = append(r.buf, p...)
	if over := len(r.buf) - r.max; over > 0 {
		r.buf = append(r.buf[:0], r.buf[over:]...)
	}
	return len(p), nil
}

// text is all that is kept, without what a terminal would act upon.
func (r *ring) text() string {
	r.mu.Lock()
	text := string(r.buf)
	r.mu.Unlock()
	return strings.Map(func(c rune) rune {
		if c == '\n' || c == '\t' || c >= ' ' && c != 0x7f {
			return c
		}
		return -1
	}, strings.ToValidUTF8(text, "?"))
}

// tail is the last lines of those that tell something.
func (r *ring) tail() string {
	var lines []string
	stack := false
	for line := range strings.Lines(r.text()) {
		line = strings.TrimRight(line, "\n")
		switch trimmed := strings.TrimSpace(line); trimmed {
		case "Stack:":
			stack = true
		case "Call Trace:":
			stack = false
		}
		if !stack && !chatter(line) {
			lines = append(lines, line)
		}
	}
	if n := len(lines) - consoleShown; n > 0 {
		lines = lines[n:]
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// chatter reports whether a line says nothing: what a healthy boot prints, and
// the frames of a call trace that the kernel itself calls doubtful.
func chatter(line string) bool {
	for _, sign := range []string{"SELinux: ", "mmapper_init - find_iomem failed", "Failed to initialize ubd device", "check_one_sigio failed", "is not on tmpfs", ">] ? ", "]  ? "} {
		if strings.Contains(line, sign) {
			return true
		}
	}
	return false
}
