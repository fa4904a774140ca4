package serve

import (
	"net"
	"testing"
)

// A process that is being started holds a copy of every socket for a while.
func TestPortIsFreeDespiteCopies(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	copied, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	addr := l.Addr().String()
	if err := (streamSocket{l, new(gate)}).Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp4", addr); err == nil {
		c.Close()
		t.Error("the copy still listens")
	}
	again, err := net.Listen("tcp4", addr)
	if err != nil {
		t.Fatalf("the copy still has the port: %v", err)
	}
	again.Close()
}
