package ipvs

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Counters, connections and the counts of the table are there at once.
func TestGuestCounters(t *testing.T) {
	n, c := ipvsNode(t)
	ctx := t.Context()
	dns := Service{Protocol: UDP, Addr: netip.MustParseAddrPort("10.9.0.1:53"), Scheduler: "rr", Timeout: time.Minute}
	server := Destination{Addr: netip.MustParseAddrPort("10.9.0.9:53"), Forward: NAT, Weight: 1}
	if err := errors.Join(c.AddService(ctx, dns), c.AddDestination(ctx, dns, server)); err != nil {
		t.Fatal(err)
	}
	before, err := Stats(n)
	if err != nil {
		t.Fatal(err)
	}
	err = n.Do(func() error {
		conn, err := net.Dial("udp", dns.Addr.String())
		if err != nil {
			return err
		}
		_, err = conn.Write([]byte("hi"))
		return errors.Join(err, conn.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
	after, err := Stats(n)
	if err != nil {
		t.Fatal(err)
	}
	if got := after.Sub(before); got.Conns != 1 || got.InPkts != 1 || got.InBytes != 30 {
		t.Errorf("counted %+v, wanted one connection of one packet of 30 bytes", got)
	}
	conns, err := Connections(n)
	if err != nil {
		t.Fatal(err)
	}
	if len(conns) != 2 { // and the template
		t.Errorf("connections: %+v", conns)
	}
	for _, conn := range conns {
		if conn.Protocol != UDP || conn.Virtual != dns.Addr || conn.Real != server.Addr || conn.Expires < 50*time.Second {
			t.Errorf("connection %+v", conn)
		}
	}
	got, err := c.Table(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d := got[0].Destinations[0]; d.Active != 0 || d.Inactive != 1 {
		t.Errorf("%d active, %d inactive connections, wanted 0 and 1", d.Active, d.Inactive)
	}
	if diff := cmp.Diff(FormatList(got), ipvsadm(t, n, "", "-L", "-n")); diff != "" {
		t.Errorf("-lvslab +ipvsadm -L -n:\n%s", diff)
	}
}

// Nothing that another package prints may end up in a person's terminal.
func TestGuestSilence(t *testing.T) {
	if os.Getenv("LVSLAB_IPVS_SILENCE") != "" {
		ipvsNode(t)
		return
	}
	ipvsNode(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestGuestSilence$")
	cmd.Env = append(os.Environ(), "LVSLAB_IPVS_SILENCE=1", "PATH="+filepath.Join(t.TempDir(), "empty"))
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "PASS" {
		t.Errorf("opening the door, without modprobe: %v\n%s", err, out)
	}
}
