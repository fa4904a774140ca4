package ipvs

import (
	"context"
	"errors"
	"testing"
	"time"

	moby "github.com/moby/ipvs"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A kernel that never answers: the call ends with its context, and the door
// stays shut.
func TestCallDeadline(t *testing.T) {
	sock, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_GENERIC)
	if err != nil {
		t.Fatal(err)
	}
	c := &Conn{node: "director", door: &netlinkDoor{&genl{handle: &nl.SocketHandle{Socket: sock}}, &moby.Handle{}}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	err = c.call(ctx, func() error {
		_, _, err := sock.Receive()
		return err
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("call: %v, wanted the deadline", err)
	}
	if took := time.Since(start); took > callTimeout/2 {
		t.Errorf("call took %v", took)
	}
	if err := c.call(t.Context(), func() error { t.Error("called on closed sockets"); return nil }); err == nil {
		t.Error("a call after that: no error")
	}
}
