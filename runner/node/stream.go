package node

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// quiet is how long those that a program left behind are waited for, all in
	// all, before its output is taken to be at its end.
	quiet = 200 * time.Millisecond
	// afterwards is how much of an output is read when its program has ended,
	// in bytes, which is more than a pipe or a terminal holds: a daemon that
	// writes without a pause has no end.
	afterwards = 1 << 20
)

// errUnused says that nobody has the terminal open, but its program has not ended:
// it may be about to, and would be hung up upon by closing our end, or may open
// the terminal anew, which is looked for every unusedPause.
var errUnused = errors.New("nobody has the terminal open")

const unusedPause = 20 * time.Millisecond

// past is a deadline that is over.
var past = time.Unix(1, 0)

// output is what a program writes.
type output struct {
	file     *os.File
	terminal bool
	ended    <-chan struct{} // the program's
	noted    bool            // it is the one that waits for a note
	note     string          // for the end of the output; set before ended is closed

	mu     sync.Mutex    // guards what follows
	late   int           // bytes read since
	waited time.Duration // in reads since
	over   bool
	closed sync.Once
}

// Read implements io.Reader.
func (o *output) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.over {
		n, err := o.read(p)
		for errors.Is(err, errUnused) {
			select {
			case <-o.ended:
			case <-time.After(unusedPause):
			}
			n, err = o.read(p)
		}
		if n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
		o.over = true
	}
	if !o.noted {
		return 0, io.EOF
	}
	<-o.ended
	n := copy(p, o.note)
	o.note = o.note[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// read is 0 bytes and no error at the end.
func (o *output) read(p []byte) (int, error) {
	after := o.after()
	if after {
		if o.late >= afterwards || o.waited >= quiet {
			o.leave()
			return 0, nil
		}
		_ = o.file.SetReadDeadline(time.Now().Add(quiet - o.waited))
	}
	var start time.Time
	if after { // to ask for the time takes a guest as long as a small read
		start = time.Now()
	}
	n, err := o.file.Read(p)
	if after {
		o.late += n
		o.waited += time.Since(start)
	}
	switch {
	case n > 0:
		return n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		o.leave()
		return 0, nil
	case errors.Is(err, unix.EIO) && !after: // nobody has the terminal open
		return 0, errUnused
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, unix.EIO):
		o.close()
		return 0, nil
	}
	return 0, err
}

func (o *output) after() bool {
	select {
	case <-o.ended:
		return true
	default:
		return false
	}
}

// hurry bounds a read that is under way when the program ends.
func (o *output) hurry() { _ = o.file.SetReadDeadline(time.Now().Add(quiet)) }

// leave lets those go that the program left behind. On a terminal it hangs up,
// as sshd does. What writes into a pipe would die of that at its next word,
// so there somebody listens on until they have all ended, or have been killed
// with the node.
func (o *output) leave() {
	if o.terminal {
		o.close()
		return
	}
	_ = o.file.SetReadDeadline(time.Time{})
	go func() {
		_, _ = io.Copy(io.Discard, o.file)
		o.close()
	}()
}

func (o *output) close() { o.closed.Do(func() { o.file.Close() }) }

// pipe is a pipe whose ends are closed in every process that is started.
func pipe() (r, w int, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, os.NewSyscallError("pipe2", err)
	}
	// A user may be at the end of what pipes may hold (pipe(7)); a smaller one
	// works as well, with more turns.
	_, _ = unix.FcntlInt(uintptr(ends[0]), unix.F_SETPIPE_SZ, pipeBytes)
	return ends[0], ends[1], nil
}

// pipeBytes is what a program's pipe holds: more than by itself, since each turn
// between writer and reader is dear in a guest.
const pipeBytes = 1 << 20

// ours makes a file of the end of a pipe that stays here. The other end must not
// be os.Pipe's: that makes both ends such that do not block, and few programs
// know what to do with those.
func ours(fd int) *os.File {
	_ = unix.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), "pipe")
}
