package ipvs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/lvslab/lvslab/topology"
)

// Stats reads what n's IPVS has counted, exact at once.
func Stats(n topology.Node) (Counters, error) {
	text, err := readProc(n, "ip_vs_stats_percpu")
	if err != nil {
		return Counters{}, err
	}
	c, err := ParseStats(text)
	if err != nil {
		return c, fmt.Errorf("%s: %w", n.Name(), err)
	}
	return c, nil
}

// Connections lists n's connections, templates of persistence included.
func Connections(n topology.Node) ([]Connection, error) {
	text, err := readProc(n, "ip_vs_conn")
	if err != nil {
		return nil, err
	}
	list, err := ParseConnections(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name(), err)
	}
	return list, nil
}

// readProc reads a file of the namespace's, on a thread in it: /proc/net is the
// process leader's.
func readProc(n topology.Node, name string) (string, error) {
	var text []byte
	err := n.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/" + name)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNoIPVS
	}
	if err != nil {
		return "", fmt.Errorf("%s: reading %s: %w", n.Name(), name, err)
	}
	return string(text), nil
}
