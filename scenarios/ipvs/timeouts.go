package ipvs

import (
	"fmt"
	"strings"
	"time"
)

// MaxTimeout is the longest timeout of connections that the kernel takes:
// INT_MAX/HZ seconds (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_set_timeout), here
// with the highest HZ there is, 1000.
const MaxTimeout = (1<<31 - 1) / 1000 * time.Second

// Timeouts are how long the kernel remembers a connection that is silent, in
// whole seconds. In a change, 0 leaves a timeout as it is (ipvsadm(8), --set).
type Timeouts struct {
	TCP    time.Duration // established; 900 s by default
	TCPFin time.Duration // after a FIN; 120 s by default
	UDP    time.Duration // 300 s by default
}

// String is what follows --set in a command line of ipvsadm: "900 120 300".
func (t Timeouts) String() string {
	return fmt.Sprintf("%d %d %d", t.TCP/time.Second, t.TCPFin/time.Second, t.UDP/time.Second)
}

// Validate finds what no kernel would take of t.
func (t Timeouts) Validate() error {
	for _, d := range []time.Duration{t.TCP, t.TCPFin, t.UDP} {
		if d < 0 || d > MaxTimeout {
			return fmt.Errorf("a timeout of %v is out of range, 0 to %v", d, MaxTimeout)
		}
		if d%time.Second != 0 {
			return fmt.Errorf("a timeout of %v is not in whole seconds", d)
		}
	}
	return nil
}

// ParseTimeouts reads what Timeouts.String writes; the words "ipvsadm --set"
// may stand before it.
func ParseTimeouts(text string) (Timeouts, error) {
	words := strings.Fields(text)
	for _, lead := range []string{"ipvsadm", "--set"} {
		if len(words) > 0 && words[0] == lead {
			words = words[1:]
		}
	}
	var t Timeouts
	if len(words) != 3 {
		return t, fmt.Errorf("timeouts are three numbers of seconds, of TCP, of TCP after a FIN, and of UDP; found %d", len(words))
	}
	for i, to := range []*time.Duration{&t.TCP, &t.TCPFin, &t.UDP} {
		n, err := parseNumber("timeout", words[i], 0, int(MaxTimeout/time.Second))
		if err != nil {
			return Timeouts{}, err
		}
		*to = time.Duration(n) * time.Second
	}
	return t, nil
}
