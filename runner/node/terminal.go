package node

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The size of a terminal that has none.
const (
	defaultRows = 24
	defaultCols = 80
)

// openTerminal makes a new terminal among those of the tree at root. The slave
// is the program's end.
func openTerminal(root *os.File, rows, cols uint16) (master *os.File, slave int, err error) {
	// Opened such that it does not block, so that reading it has deadlines.
	master, err = openIn(root, "/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		hint := ""
		if errors.Is(err, unix.ENOSPC) {
			hint = fmt.Sprintf(" (a node has %d at most, and the machine has a bound, too: kernel.pty.max)", terminals)
		}
		return nil, -1, fmt.Errorf("open a terminal (/dev/pts/ptmx): %w%s", err, hint)
	}
	err = control(master, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return os.NewSyscallError("unlock the terminal", err)
		}
		peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
		if errno != 0 {
			return os.NewSyscallError("open the terminal's other end", errno)
		}
		slave = int(peer)
		return nil
	})
	if err != nil {
		master.Close()
		return nil, -1, err
	}
	if rows == 0 {
		rows = defaultRows
	}
	if cols == 0 {
		cols = defaultCols
	}
	if err = setSize(master, rows, cols); err == nil {
		err = readUTF8(master)
	}
	if err != nil {
		master.Close()
		unix.Close(slave)
		return nil, -1, err
	}
	return master, slave, nil
}

// control runs do with the file's descriptor; File.Fd would make it block.
func control(file *os.File, do func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var did error
	if err := raw.Control(func(fd uintptr) { did = do(int(fd)) }); err != nil {
		return err
	}
	return did
}

func setSize(master *os.File, rows, cols uint16) error {
	return control(master, func(fd int) error {
		err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
		return os.NewSyscallError("set the terminal's size", err)
	})
}

// readUTF8 lets the backspace key take a whole character back. Settings of the
// master are those of the slave.
func readUTF8(master *os.File) error {
	return control(master, func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			t.Iflag |= unix.IUTF8
			err = unix.IoctlSetTermios(fd, unix.TCSETS, t)
		}
		return os.NewSyscallError("set the terminal's modes", err)
	})
}

// keyboard is a terminal's input.
type keyboard struct{ master *os.File }

// Write implements io.Writer.
func (k *keyboard) Write(p []byte) (int, error) { return k.master.Write(p) }

// Close types the end of the input, see Process.Stdin.
func (k *keyboard) Close() error {
	var key byte
	err := control(k.master, func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil && t.Lflag&unix.ICANON != 0 {
			key = t.Cc[unix.VEOF]
		}
		return err
	})
	if err == nil && key != 0 {
		_, err = k.master.Write([]byte{key})
	}
	return err
}
