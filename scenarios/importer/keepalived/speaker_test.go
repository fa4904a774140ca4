package keepalived_test

import (
	"fmt"
	"strings"
	"testing"
)

// Two instances with one number on one device are told, where keepalived refuses
// them (each case run with keepalived 2.2.7 -t).
func TestSameRouter(t *testing.T) {
	const peer = "unicast_src_ip 10.0.0.5\nunicast_peer {\n10.0.0.6\n}\n"
	instance := func(name, device, id, more, address string) string {
		return fmt.Sprintf("vrrp_instance %s {\ninterface %s\nvirtual_router_id %s\n%svirtual_ipaddress {\n%s\n}\n}\n", name, device, id, more, address)
	}
	for _, c := range []struct {
		name, second string
		told         bool
	}{
		{"same", instance("B", "eth0", "51", "", "10.0.0.101/24"), true},
		{"by virtual MACs", instance("B", "eth0", "51", "use_vmac\n", "10.0.0.101"), true},
		{"another number", instance("B", "eth0", "52", "", "10.0.0.101/24"), false},
		{"another device", instance("B", "eth1", "51", "", "10.0.0.101/24"), false},
		{"another family", instance("B", "eth0", "51", "", "2001:db8::1/64"), false},
		{"to single machines", instance("B", "eth0", "51", peer, "10.0.0.101/24"), false},
	} {
		cfg, err := parse(good + instance("A", "eth0", "51", "", "10.0.0.100/24") + c.second)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var notes []string
		for _, n := range cfg.Notes {
			notes = append(notes, n.String())
		}
		const want = `k.conf:17:1: warning: vrrp_instance "B" has virtual_router_id 51 on "eth0", as vrrp_instance "A" has (line 10); keepalived refuses to run with both`
		if all := strings.Join(notes, "\n"); strings.Contains(all, want) != c.told || !c.told && strings.Contains(all, "refuses") {
			t.Errorf("%s: told should be %v, found\n%s", c.name, c.told, all)
		}
	}
}
