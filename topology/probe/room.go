package probe

import (
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What one node of a lab takes, its namespace, its veth pair and the port at its
// network's bridge included.
const (
	// nodeBytes of memory. Measured on Linux 6.18 with a lab of 256 nodes, each
	// with an HTTP server: 370 KiB of slab, 16 KiB of stack and 60 KiB of
	// lvslab itself a node; the rest is for what its commands do.
	nodeBytes = 640 << 10
	// cpuBytes are a namespace's counters, for every CPU once more; 5 KiB were
	// measured.
	cpuBytes = 8 << 10
	// nodeFiles are file descriptors: the namespace, a route socket, a server
	// with its poller's share, and what a capture or a connection opens.
	nodeFiles = 6
	// nodeThreads are operating system threads: the resident of its namespace.
	nodeThreads = 1
)

// What lvslab itself takes, and what it leaves to the machine.
const (
	spareBytes   = 32 << 20
	spareFiles   = 128
	spareThreads = 256
)

// goThreads is the number of threads at which the Go runtime ends the program
// (runtime/debug.SetMaxThreads).
const goThreads = 10000

// limits are what this kernel and its cgroups allow. noLimit where there is
// none, or none can be seen.
type limits struct {
	neighbours int64 // net.ipv4.neigh.default.gc_thresh3
	namespaces int64 // user.max_net_namespaces
	memory     int64 // bytes that can be had
	files      int64 // RLIMIT_NOFILE
	threads    int64 // that may be had beside those that there are, by limitedBy
	limitedBy  string
	cpus       int64
}

const noLimit = -1

// RoomError says that a kernel cannot hold a lab.
type RoomError struct {
	Nodes int
	// What there is not enough of, and how much there would have to be.
	What string
	// Fix is the exact command that makes room; empty if there is none.
	Fix string
}

func (e *RoomError) Error() string {
	s := fmt.Sprintf("this kernel has no room for %d nodes: %s", e.Nodes, e.What)
	if e.Fix != "" {
		s += "; try " + e.Fix
	}
	return s
}

// Room says whether the running kernel can hold a lab with so many network
// namespaces, nodes and networks together: nil, or a *RoomError. What cannot be
// found out is not counted against it. It looks at neighbours (kernel-wide),
// memory, file descriptors, threads and namespaces, and counts one lab only:
// several at once must share.
func Room(nodes int) error { return readLimits(root{}).fit(nodes) }

// fit is Room's arithmetic.
func (l limits) fit(nodes int) error {
	n := int64(nodes)
	no := func(fix, format string, args ...any) error {
		return &RoomError{Nodes: nodes, What: fmt.Sprintf(format, args...), Fix: fix}
	}
	if n < 0 {
		return no("", "a lab has at least none")
	}
	// Beyond any machine; and nothing below overflows.
	if n > 1<<24 {
		return no("", "nobody has that many")
	}
	// Every node has at least one neighbour, and all nodes share the table.
	if l.neighbours != noLimit && n > l.neighbours {
		return no(fmt.Sprintf("sudo sysctl net.ipv4.neigh.default.gc_thresh3=%d", powerOf2(2*n)),
			"all namespaces together may have %d neighbours (net.ipv4.neigh.default.gc_thresh3), and each node needs one", l.neighbours)
	}
	if l.namespaces != noLimit && n > l.namespaces {
		return no(fmt.Sprintf("sudo sysctl user.max_net_namespaces=%d", powerOf2(2*n)),
			"there may be %d network namespaces (user.max_net_namespaces)", l.namespaces)
	}
	if need := n*(nodeBytes+l.cpus*cpuBytes) + spareBytes; l.memory != noLimit && need > l.memory {
		return no("", "they need about %d MiB of memory, and %d MiB can be had", need>>20, l.memory>>20)
	}
	if need := n*nodeFiles + spareFiles; l.files != noLimit && need > l.files {
		return no(fmt.Sprintf("ulimit -n %d", powerOf2(need)),
			"they need about %d open files, and %d are allowed (RLIMIT_NOFILE)", need, l.files)
	}
	need := n*nodeThreads + spareThreads
	if l.threads != noLimit && need > l.threads {
		return no("", "they need about %d threads, and %d can be had (%s)", need, l.threads, l.limitedBy)
	}
	if need > goThreads {
		return no("", "they need about %d threads, and a Go program has at most %d", need, goThreads)
	}
	return nil
}

// powerOf2 is the smallest power of two that is at least n.
func powerOf2(n int64) int64 {
	p := int64(1)
	for p < n {
		p *= 2
	}
	return p
}

func readLimits(r root) limits {
	l := limits{
		neighbours: r.number("/proc/sys/net/ipv4/neigh/default/gc_thresh3"),
		namespaces: r.number("/proc/sys/user/max_net_namespaces"),
		cpus:       int64(runtime.NumCPU()),
		memory:     noLimit, files: noLimit, threads: noLimit,
	}
	if data, err := r.read("/proc/meminfo"); err == nil {
		l.memory = memAvailable(data)
	}
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		// The Go runtime raises the soft limit to the hard one.
		if max := max(files.Cur, files.Max); max < 1<<62 {
			l.files = int64(max)
		}
	}
	running := max(r.threadsRunning(), 0)
	for _, name := range []string{"threads-max", "pid_max"} {
		if n := r.number("/proc/sys/kernel/" + name); n != noLimit {
			l.limitThreads(n-running, "kernel."+name)
		}
	}
	r.cgroups(&l)
	return l
}

func (l *limits) limitThreads(n int64, by string) {
	if n = max(n, 0); l.threads == noLimit || n < l.threads {
		l.threads, l.limitedBy = n, by
	}
}

// number reads a file that holds one number; noLimit for anything else ("max").
func (r root) number(name string) int64 {
	data, err := r.read(name)
	if err != nil {
		return noLimit
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil || n < 0 {
		return noLimit
	}
	return n
}

// threadsRunning is the number behind the slash in /proc/loadavg, 0 if unknown.
func (r root) threadsRunning() int64 {
	data, err := r.read("/proc/loadavg")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "/")
	word, _, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// memAvailable is that line of /proc/meminfo, in bytes.
func memAvailable(data []byte) int64 {
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) == 3 && words[0] == "MemAvailable:" && words[2] == "kB" {
			n, err := strconv.ParseInt(words[1], 10, 64)
			if err != nil || n < 0 || n > 1<<50 {
				return noLimit
			}
			return n << 10
		}
	}
	return noLimit
}

// cgroups lowers the limits to those of our control groups, in version 2
// (Documentation/admin-guide/cgroup-v2.rst): our own and all above it.
func (r root) cgroups(l *limits) {
	data, err := r.read("/proc/self/cgroup")
	if err != nil {
		return
	}
	const mount = "/sys/fs/cgroup"
	for group := cgroupPath(data); group != ""; group = path.Dir(group) {
		dir := path.Join(mount, group)
		if limit := r.number(dir + "/pids.max"); limit != noLimit {
			l.limitThreads(limit-max(r.number(dir+"/pids.current"), 0), "pids.max of the control group "+group)
		}
		if limit := r.number(dir + "/memory.max"); limit != noLimit {
			free := max(limit-max(r.number(dir+"/memory.current"), 0), 0)
			// A part of what is in use are files' pages, which it would give back.
			free += max(r.statField(dir+"/memory.stat", "inactive_file"), 0)
			if l.memory == noLimit || free < l.memory {
				l.memory = free
			}
		}
		if group == "/" {
			return
		}
	}
}

// cgroupPath is our group in the hierarchy of version 2 (cgroups(7)), whose
// line in /proc/self/cgroup begins with "0::"; empty if there is none.
func cgroupPath(data []byte) string {
	for line := range strings.Lines(string(data)) {
		if p, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "0::"); ok && path.IsAbs(p) {
			return path.Clean(p)
		}
	}
	return ""
}

func (r root) statField(name, field string) int64 {
	data, err := r.read(name)
	if errors.Is(err, os.ErrNotExist) {
		return noLimit
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, field+" "); ok {
			if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
				return n
			}
		}
	}
	return noLimit
}
