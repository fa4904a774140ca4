package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// initWait bounds the time in which a node's init must have come up. In a guest
// it takes some 20 ms.
const initWait = 20 * time.Second

// What a node's init is told to do.
const (
	doStart  = "start"
	doSignal = "signal"
	doKill   = "kill"
)

// order is one message to a node's init. With doStart come the descriptors of a
// spec in a memfile and of the program's input and outputs, or its terminal; with
// doSignal that of the terminal's master, if there is one.
type order struct {
	ID     uint64 // of the program
	Do     string
	Signal int `json:",omitempty"`
}

// news is one message from a node's init. The first one, with no ID, says that it
// is up and brings its root directory, or why it is not.
type news struct {
	ID      uint64         `json:",omitempty"`
	Started bool           `json:",omitempty"`
	Missing *NotFoundError `json:",omitempty"`
	Denied  *NotExecutableError
	Err     string  `json:",omitempty"`
	Ended   *report `json:",omitempty"`
	Note    string  `json:",omitempty"` // why it was killed, with Ended
}

const (
	// maxText bounds each text in a message, in bytes, which JSON may make six
	// times as long, and maxMessage the whole.
	maxText    = 4 << 10
	maxMessage = 128 << 10
)

// programs is a node's init while there is one.
type programs struct {
	mu   sync.Mutex
	init *nodeInit
}

// nodeInit is the process that starts a node's programs: process 1 of the node.
type nodeInit struct {
	node    string
	process *os.Process
	conn    *net.UnixConn
	root    *os.File // its root directory, O_PATH
	crash   *os.File // what it said when it died
	gone    chan struct{}

	mu      sync.Mutex // guards what follows
	last    uint64
	running map[uint64]*Process
	waiting map[uint64]chan news // for whether a program was started
	err     error                // why there is nobody to ask
}

// init is the node's init, which is started when it is first asked for, and anew
// when somebody has killed it.
func (f *Files) init() (*nodeInit, error) {
	f.programs.mu.Lock()
	defer f.programs.mu.Unlock()
	if in := f.programs.init; in != nil {
		in.mu.Lock()
		err := in.err
		in.mu.Unlock()
		if err == nil {
			return in, nil
		}
		<-in.gone
	}
	in, err := f.startInit()
	if err != nil {
		return nil, fmt.Errorf("start the first process of the node: %w", err)
	}
	f.programs.init = in
	return in, nil
}

func (f *Files) startInit() (_ *nodeInit, err error) {
	v, done, err := f.use()
	if err != nil {
		return nil, err
	}
	in := &nodeInit{
		node: f.name, gone: make(chan struct{}),
		running: make(map[uint64]*Process), waiting: make(map[uint64]chan news),
	}
	if err := in.launch(v); err != nil {
		done()
		return nil, err
	}
	unhook := context.AfterFunc(f.ctx, func() { _ = in.process.Kill() }) // and the kernel all that it started
	up := make(chan news, 1)
	go func() {
		defer done()
		defer unhook()
		in.listen(up)
		// It hangs up when it dies, unless it is at odds with us.
		_ = in.process.Kill()
		_, _ = in.process.Wait()
		in.end(f.ctx.Err() != nil)
	}()
	late := time.NewTimer(initWait)
	defer late.Stop()
	select {
	case n := <-up:
		if n.Err != "" {
			err = errors.New(n.Err)
		} else if in.root == nil {
			err = errors.New("it did not hand over its root directory")
		}
	case <-in.gone:
		err = in.err
	case <-late.C:
		err = fmt.Errorf("it did not come up within %s", initWait)
	}
	if err != nil {
		_ = in.process.Kill()
		<-in.gone
		return nil, err
	}
	return in, nil
}

// launch starts the process with a connection to it.
func (in *nodeInit) launch(v *view) error {
	if err := v.share(); err != nil {
		return err
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	ourEnd, theirEnd := os.NewFile(uintptr(ends[0]), "init"), os.NewFile(uintptr(ends[1]), "init")
	defer ourEnd.Close()
	defer theirEnd.Close()
	conn, err := net.FileConn(ourEnd)
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err == nil {
		defer null.Close()
		in.crash, err = newMemfile("lvslab-init")
	}
	if err == nil {
		in.process, err = v.start([]string{"lvslab", initArgument}, &os.ProcAttr{
			Files: []*os.File{null, null, in.crash, theirEnd}, Env: noEnv,
		})
	}
	if err != nil {
		conn.Close()
		if in.crash != nil {
			in.crash.Close()
		}
		return err
	}
	in.conn = conn.(*net.UnixConn)
	return nil
}

// listen passes on what init says until it hangs up.
func (in *nodeInit) listen(up chan<- news) {
	buf, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, flags, _, err := in.conn.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			return
		}
		var said news
		if json.Unmarshal(buf[:n], &said) != nil {
			return
		}
		if said.ID == 0 {
			if fds := descriptors(oob[:oobn]); len(fds) == 1 {
				in.root = os.NewFile(uintptr(fds[0]), "root")
			}
			select {
			case up <- said:
			default: // it says so once
			}
			continue
		}
		in.hear(said)
	}
}

func (in *nodeInit) hear(said news) {
	in.mu.Lock()
	proc, answer := in.running[said.ID], in.waiting[said.ID]
	delete(in.waiting, said.ID)
	if !said.Started {
		delete(in.running, said.ID)
	}
	in.mu.Unlock()
	switch {
	case answer != nil:
		answer <- said
	case proc != nil && said.Ended != nil:
		proc.end(said.Ended.asEnded(), said.Note, nil)
	}
}

// asEnded puts the outcome into a shell's terms.
func (r report) asEnded() Ended {
	if r.Signal == 0 {
		return Ended{Code: r.Exit}
	}
	return Ended{Code: 128 + r.Signal, Signal: signalName(unix.Signal(r.Signal))}
}

// end tells all that wait that init is gone, and lets go of it.
func (in *nodeInit) end(closed bool) {
	err := errFilesClosed
	if !closed {
		err = errors.New("the first process of the node was killed, and with it all of its programs")
		if said := dyingWords(in.crash); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
	}
	in.mu.Lock()
	in.err = err
	left, waiting := in.running, in.waiting
	in.running, in.waiting = nil, nil
	in.mu.Unlock()
	for _, answer := range waiting {
		answer <- news{Err: err.Error()}
	}
	for _, proc := range left {
		proc.end(Ended{Code: 128 + int(unix.SIGKILL), Signal: "KILL"}, "", fmt.Errorf("node %s: %w", in.node, err))
	}
	in.conn.Close()
	in.crash.Close()
	if in.root != nil {
		in.root.Close()
	}
	close(in.gone)
}

// dyingWords is what a process wrote to its standard error, not all of it.
func dyingWords(f *os.File) string {
	text := make([]byte, 1000)
	n, err := f.ReadAt(text, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	return string(text[:n])
}

// start starts a program; theirs are its ends of what it reads and writes.
func (in *nodeInit) start(proc *Process, s spec, theirs []int) error {
	file, err := memfile("lvslab-program", s)
	if err != nil {
		return err
	}
	defer file.Close()
	answer := make(chan news, 1)
	in.mu.Lock()
	if in.err != nil {
		in.mu.Unlock()
		return in.err
	}
	in.last++
	proc.id = in.last
	in.running[proc.id], in.waiting[proc.id] = proc, answer
	in.mu.Unlock()
	err = in.send(order{ID: proc.id, Do: doStart}, append([]int{int(file.Fd())}, theirs...)...)
	if err != nil {
		in.mu.Lock()
		delete(in.running, proc.id)
		delete(in.waiting, proc.id)
		in.mu.Unlock()
		return err
	}
	switch said := <-answer; {
	case said.Started:
		return nil
	case said.Missing != nil:
		return said.Missing
	case said.Denied != nil:
		return said.Denied
	default:
		return errors.New(said.Err)
	}
}

// order sends one with the master of a terminal, if there is one.
func (in *nodeInit) order(o order, master *os.File) error {
	if master == nil {
		return in.send(o)
	}
	err := control(master, func(fd int) error { return in.send(o, fd) })
	if errors.Is(err, os.ErrClosed) {
		return in.send(o) // it was hung up
	}
	return err
}

func (in *nodeInit) send(o order, fds ...int) error {
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := in.conn.WriteMsgUnix(data, oob, nil); err != nil {
		return fmt.Errorf("ask the first process of the node: %w", err)
	}
	return nil
}

// descriptors are those that came along with a message.
func descriptors(oob []byte) []int {
	var all []int
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil {
			all = append(all, fds...)
		}
	}
	for _, fd := range all {
		unix.CloseOnExec(fd)
	}
	return all
}
