package keeper

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// viaFolder calls f with a name for the folder's socket that is short enough for
// an address, whatever the folder's own name is (unix(7): 107 bytes).
func (f *folder) viaFolder(do func(path string) error) error {
	dir, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(filepath.Join(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), socketFile))
}

// listen makes the socket, for the folder's owner alone.
func (f *folder) listen() (l *net.UnixListener, err error) {
	err = f.viaFolder(func(path string) error {
		if l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err != nil {
			return err
		}
		l.SetUnlinkOnClose(false) // the folder goes as a whole
		return os.Chmod(path, 0o600)
	})
	return l, err
}

// dial connects to the keeper.
func (f *folder) dial(ctx context.Context) (conn net.Conn, err error) {
	err = f.viaFolder(func(path string) error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "unix", path)
		return err
	})
	return conn, err
}

// mine reports whether the process at the other end is of this user, or root's:
// a second door behind the folder's mode.
func mine(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return err == nil && credErr == nil && (int(cred.Uid) == os.Geteuid() || cred.Uid == 0)
}
