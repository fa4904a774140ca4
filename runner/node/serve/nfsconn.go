package serve

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// nonblock keeps the opening of a FIFO from waiting for its other end.
const nonblock = unix.O_NONBLOCK | unix.O_NOCTTY

// maxRecord bounds a request, in bytes: the kernel's client writes 1 MiB at most
// (NFS_MAX_FILE_IO_SIZE in include/linux/nfs_xdr.h), and a header before it.
const maxRecord = 1<<20 + 4<<10

// wholeRecord is how much of a record is handed over at one stroke, at least.
// The library takes a file handle out of its buffer, of as many bytes, by a
// single read and does not look at how much it got.
const wholeRecord = 4 << 10

// nfsListener hands out connections that read record by record, and that the
// daemon can cut.
type nfsListener struct {
	net.Listener
	daemon *nfsDaemon
}

func (l nfsListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &nfsConn{Conn: conn, daemon: l.daemon}
	l.daemon.mu.Lock()
	defer l.daemon.mu.Unlock()
	if l.daemon.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	l.daemon.open[c] = struct{}{}
	return c, nil
}

// nfsConn reads one record of RPC's at a time (RFC 5531, 11), so that no read
// gives the end of one and the beginning of the next.
type nfsConn struct {
	net.Conn
	daemon *nfsDaemon
	// head is what was read of the record and not yet handed over, left how
	// much of it is still to be read.
	head []byte
	left int
}

func (c *nfsConn) Read(p []byte) (int, error) {
	if len(c.head) == 0 && c.left == 0 {
		if err := c.next(); err != nil {
			// The library closes a connection only that ends between two
			// requests.
			c.daemon.drop(c)
			return 0, err
		}
	}
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	if err != nil {
		c.daemon.drop(c)
	}
	return n, err
}

// next reads the mark of a record and its beginning.
func (c *nfsConn) next() error {
	var mark [4]byte
	if _, err := io.ReadFull(c.Conn, mark[:]); err != nil {
		return err
	}
	size := int(binary.BigEndian.Uint32(mark[:]) &^ (1 << 31))
	if size > maxRecord {
		return fmt.Errorf("a request of %d bytes, more than %d", size, maxRecord)
	}
	c.head = append(mark[:], make([]byte, min(size, wholeRecord-len(mark)))...)
	if _, err := io.ReadFull(c.Conn, c.head[len(mark):]); err != nil {
		return err
	}
	c.left = size - (len(c.head) - len(mark))
	return nil
}

func (d *nfsDaemon) drop(c *nfsConn) {
	d.mu.Lock()
	delete(d.open, c)
	d.mu.Unlock()
	_ = c.Close() // who sent this is gone, or makes no sense
}
