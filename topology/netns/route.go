package netns

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Message is one request of route netlink (rtnetlink(7)) without its header.
type Message struct {
	// Type and Flags are the header's: RTM_*, NLM_F_*. NLM_F_REQUEST and
	// NLM_F_ACK are added.
	Type, Flags uint16
	// Data is what follows the header.
	Data []byte
}

// Route sends one request that answers with an acknowledgement alone, and
// returns the kernel's errno. It takes two system calls on whatever thread it is
// called, which is what a lab of a thousand nodes, and a kernel where each call
// is dear, ask for; Netlink can do more.
func (n *Namespace) Route(m Message) error {
	n.routeMu.Lock()
	defer n.routeMu.Unlock()
	if n.route < 0 {
		return n.errorf("%w", ErrClosed)
	}
	n.routeSeq++
	b := make([]byte, 0, unix.SizeofNlMsghdr+len(m.Data))
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.SizeofNlMsghdr+len(m.Data)))
	b = binary.NativeEndian.AppendUint16(b, m.Type)
	b = binary.NativeEndian.AppendUint16(b, m.Flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = binary.NativeEndian.AppendUint32(b, n.routeSeq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, m.Data...)
	if err := eintr(func() error {
		_, err := unix.Write(n.route, b)
		return err
	}); err != nil {
		return n.errorf("route netlink: send: %w", err)
	}
	// The kernel carries a request out before the sender returns, so the answer
	// is there: an nlmsgerr, an errno in front of the request's header.
	var answer [512]byte
	for {
		var got int
		if err := eintr(func() (err error) {
			got, err = unix.Read(n.route, answer[:])
			return err
		}); err != nil {
			return n.errorf("route netlink: receive: %w", err)
		}
		if got < unix.SizeofNlMsghdr+4 {
			return n.errorf("route netlink: an answer of %d bytes", got)
		}
		if binary.NativeEndian.Uint32(answer[8:]) != n.routeSeq || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
			continue // of a request that was given up
		}
		if errno := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); errno != 0 {
			return unix.Errno(-errno)
		}
		return nil
	}
}

// Index is the number of a device, as if_nametoindex(3) finds it. A device that
// is not there is ENODEV.
func (n *Namespace) Index(device string) (int, error) {
	n.routeMu.Lock()
	defer n.routeMu.Unlock()
	if n.route < 0 {
		return 0, n.errorf("%w", ErrClosed)
	}
	req, err := unix.NewIfreq(device)
	if err != nil {
		return 0, fmt.Errorf("%q cannot be the name of a device", device)
	}
	// Any socket will do; it asks in the namespace that it was made in.
	if err := unix.IoctlIfreq(n.route, unix.SIOCGIFINDEX, req); err != nil {
		return 0, err
	}
	return int(int32(req.Uint32())), nil
}

// openRoute opens the socket of Route on the calling thread's namespace.
func openRoute() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, err
	}
	timeout := unix.NsecToTimeval(NetlinkTimeout.Nanoseconds())
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	if err == nil {
		// Connected to nothing but the kernel, port 0.
		err = unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func eintr(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// Attributes builds the attributes of a Message, each padded to four bytes
// (netlink(7), struct nlattr). The zero value is empty.
type Attributes struct{ buf []byte }

// Link begins with a struct ifinfomsg: a device by number, 0 for one to be
// made, and those of its flags that change.
func Link(index int, flags, change uint32) Attributes {
	m := unix.IfInfomsg{Family: unix.AF_UNSPEC, Index: int32(index), Flags: flags, Change: change}
	return Attributes{append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&m)), unix.SizeofIfInfomsg)...)}
}

// Bytes appends an attribute.
func (a *Attributes) Bytes(kind uint16, value []byte) {
	a.buf = binary.NativeEndian.AppendUint16(a.buf, uint16(unix.SizeofNlAttr+len(value)))
	a.buf = binary.NativeEndian.AppendUint16(a.buf, kind)
	a.buf = append(a.buf, value...)
	a.buf = append(a.buf, make([]byte, -len(a.buf)&3)...)
}

// String appends a text with its end.
func (a *Attributes) String(kind uint16, value string) { a.Bytes(kind, append([]byte(value), 0)) }

// Uint32 appends a number.
func (a *Attributes) Uint32(kind uint16, value uint32) {
	a.Bytes(kind, binary.NativeEndian.AppendUint32(nil, value))
}

// Nest appends attributes inside one; with a header in front where inner began
// with one.
func (a *Attributes) Nest(kind uint16, inner Attributes) { a.Bytes(kind, inner.buf) }

// Data is what was built.
func (a *Attributes) Data() []byte { return a.buf }
