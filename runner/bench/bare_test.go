package bench

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
)

// bare makes what a plan makes by system calls alone: one thread, one pass, no
// look-ups, nothing checked that the kernel has acknowledged. It holds what the
// lab must hold, a descriptor for each namespace.
type bare struct {
	nodes [][]setting
	ends  [][]byte // requests to the switch's namespace: a pair of links
	bufs  [][]byte // requests to each node's: lo up, eth0 up, the address
}

type setting struct{ path, value string }

// elapsed is a time or an error.
type elapsed struct {
	took time.Duration
	err  error
}

func (e elapsed) unpack() (time.Duration, error) { return e.took, e.err }

// bareWork reads the sysctls off the plan, so that both make the same, and
// prepares every request but for the descriptors in them.
func bareWork(b *testing.B, plan *scenarios.Plan) *bare {
	b.Helper()
	w := new(bare)
	index := make(map[string]int)
	for _, op := range plan.Setup {
		k := op.About().Key
		switch k.Kind {
		case "network":
			continue
		case "node":
			index[k.Node] = len(w.nodes)
			w.nodes, w.ends, w.bufs = append(w.nodes, nil), append(w.ends, nil), append(w.bufs, nil)
		case "sysctl":
			line := op.Shell(topology.Dialect{})[0]
			_, after, named := strings.Cut(line, k.ID+"=")
			value, _, ok := strings.Cut(after+" ", " ")
			ok = ok && named
			path, err := topology.SysctlPath(k.ID)
			if !ok || err != nil {
				b.Fatalf("cannot read %q: %v", line, err)
			}
			i := index[k.Node]
			w.nodes[i] = append(w.nodes[i], setting{path, strings.Trim(value, "'")})
		case "link":
			w.ends[index[k.Node]] = linkRequest(plan.Lab.Name, "lan", k.Node)
		case "address":
			w.bufs[index[k.Node]] = nodeRequests(strings.TrimPrefix(k.ID, "eth0 "))
		default:
			b.Fatalf("the plan has %s, which is not made here", k)
		}
	}
	return w
}

// upAndDown ends its thread in a namespace that nobody else has.
func (w *bare) upAndDown() elapsed {
	start := time.Now()
	fds := make([]int, 0, 2*len(w.nodes)+2)
	err := w.up(&fds)
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	// The last namespace goes with the thread's leaving it.
	if e := unix.Unshare(unix.CLONE_NEWNET); err == nil {
		err = e
	}
	return elapsed{time.Since(start), err}
}

func (w *bare) up(fds *[]int) error {
	lan, err := enter(fds)
	if err != nil {
		return err
	}
	if err := write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := ask(lan.socket, bridgeRequest()); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	for i, settings := range w.nodes {
		n, err := enter(fds)
		if err != nil {
			return err
		}
		for _, s := range settings {
			if err := write(s.path, s.value); err != nil && (!errors.Is(err, unix.ENOENT) || !strings.Contains(s.path, "ipv6")) {
				return fmt.Errorf("%s: %w", s.path, err)
			}
		}
		if err := ask(lan.socket, withFd(w.ends[i], n.fd)); err != nil {
			return fmt.Errorf("link %d: %w", i, err)
		}
		if err := ask(n.socket, w.bufs[i]); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
	}
	return nil
}

type space struct{ fd, socket int }

// enter makes a namespace and a route socket in it.
func enter(fds *[]int) (space, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return space{}, err
	}
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return space{}, err
	}
	*fds = append(*fds, fd)
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return space{}, err
	}
	*fds = append(*fds, socket)
	return space{fd, socket}, nil
}

func write(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(value))
	_ = unix.Close(fd)
	return err
}

// ask sends requests, the last of which alone is acknowledged where all goes
// well.
func ask(socket int, requests []byte) error {
	if err := unix.Sendto(socket, requests, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	var answer [512]byte
	n, _, err := unix.Recvfrom(socket, answer[:], 0)
	if err != nil {
		return os.NewSyscallError("recvfrom", err)
	}
	return errnoOf(answer[:n])
}
