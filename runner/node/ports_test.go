package node

import "testing"

func TestPorts(t *testing.T) {
	var p Ports
	seen := make(map[uint16]bool)
	for range lastPort - firstPort + 1 {
		port := p.take()
		if port < firstPort || port > lastPort || seen[port] {
			t.Fatalf("port %d", port)
		}
		seen[port] = true
	}
	if port := p.take(); port != firstPort {
		t.Errorf("after the last comes %d", port)
	}
}
