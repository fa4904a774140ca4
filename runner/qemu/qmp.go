package qemu

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// monitor is a line to QEMU itself, by which the machine is written to a file,
// and set going again (QEMU Machine Protocol, docs/interop/qmp-spec.txt of
// QEMU).
type monitor struct {
	conn *net.UnixConn
	r    *bufio.Reader
	met  bool
}

// newMonitor makes a monitor, and the end of it that QEMU is to inherit.
func newMonitor() (*monitor, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("a monitor for QEMU: socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "monitor"), os.NewFile(uintptr(fds[1]), "monitor")
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("a monitor for QEMU: %w", err)
	}
	return &monitor{conn: conn.(*net.UnixConn), r: bufio.NewReader(conn)}, theirs, nil
}

func (m *monitor) close() { _ = m.conn.Close() }

// saveTime bounds a machine's way into a file, which is a matter of 0.2 seconds
// where the file is in the page cache.
const saveTime = 20 * time.Second

// save writes the machine to a file, and has it go on, whether that failed or not.
// running says whether it does. The machine is not stopped first, but by QEMU when
// nearly all of it is written: one that was stopped starts stopped, too.
func (m *monitor) save(f *os.File) (running bool, err error) {
	if err := m.conn.SetDeadline(time.Now().Add(saveTime)); err != nil {
		return true, err
	}
	err = m.migrate(f)
	if derr := m.conn.SetDeadline(time.Now().Add(saveTime)); derr != nil {
		return false, derr
	}
	if cerr := m.command("cont", nil); cerr != nil {
		return false, errors.Join(err, cerr)
	}
	return true, err
}

func (m *monitor) migrate(f *os.File) error {
	// Not faster than a disk takes it; the default is made for networks.
	const unbounded = 1 << 40
	if err := m.command("migrate-set-parameters", map[string]any{"max-bandwidth": unbounded}); err != nil {
		return err
	}
	if err := m.send("getfd", map[string]any{"fdname": "snapshot"}, int(f.Fd())); err != nil {
		return err
	}
	if err := m.command("migrate", map[string]any{"uri": "fd:snapshot"}); err != nil {
		return err
	}
	for {
		var now struct {
			Status string `json:"status"`
			Why    string `json:"error-desc"`
		}
		if err := m.ask("query-migrate", &now); err != nil {
			return err
		}
		switch now.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("QEMU could not write it: %s %s", now.Status, now.Why)
		}
		time.Sleep(5 * time.Millisecond) // its state is to be polled; the deadline is conn's
	}
}

func (m *monitor) command(name string, arguments map[string]any) error {
	return m.send(name, arguments, -1)
}

func (m *monitor) send(name string, arguments map[string]any, fd int) error {
	if err := m.meet(); err != nil {
		return err
	}
	return m.exchange(name, arguments, fd, nil)
}

func (m *monitor) ask(name string, answer any) error { return m.exchange(name, nil, -1, answer) }

// meet answers QEMU's greeting, once.
func (m *monitor) meet() error {
	if m.met {
		return nil
	}
	m.met = true
	if _, err := m.r.ReadBytes('\n'); err != nil {
		return fmt.Errorf("QEMU's monitor does not greet: %w", err)
	}
	return m.exchange("qmp_capabilities", nil, -1, nil)
}

// exchange gives a command, with a file unless fd is negative, and reads up to its
// answer: events may come before it.
func (m *monitor) exchange(name string, arguments map[string]any, fd int, answer any) error {
	request := map[string]any{"execute": name}
	if arguments != nil {
		request["arguments"] = arguments
	}
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	if _, _, err := m.conn.WriteMsgUnix(append(text, '\n'), rights, nil); err != nil {
		return fmt.Errorf("QEMU's monitor, %s: %w", name, err)
	}
	for {
		line, err := m.r.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("QEMU's monitor, %s: %w", name, err)
		}
		var got struct {
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Why string `json:"desc"`
			} `json:"error"`
		}
		switch err := json.Unmarshal(line, &got); {
		case err != nil:
			return fmt.Errorf("QEMU's monitor, %s: %w", name, err)
		case got.Error != nil:
			return fmt.Errorf("QEMU refused %s: %s", name, got.Error.Why)
		case got.Return == nil:
			continue // an event
		case answer == nil:
			return nil
		}
		return json.Unmarshal(got.Return, answer)
	}
}
