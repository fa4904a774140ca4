package node

import (
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// processCheck is how often the processes of a command are counted. A shell's
// fork bomb makes some 5,000 a second on each CPU.
const processCheck = 20 * time.Millisecond

// boundPids keeps process ids in this PID namespace below a number, where the
// kernel has such a bound for each namespace: Linux 6.14 and later. Before, the
// same file sets the machine's own and is left alone.
func boundPids(proc string, below int) {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return
	}
	var major, minor int
	n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	if n != 2 || major < 6 || major == 6 && minor < 14 {
		return
	}
	// A second fence beside watch: a kernel that does not take it is none the
	// worse.
	_ = os.WriteFile(proc+"/sys/kernel/pid_max", fmt.Appendln(nil, below), 0)
}

// watch ends the command when it has more than limit processes, or when the
// program that started it is gone. It returns when its thread is at work, which
// must be before the command's first process is.
func watch(w *reporter, limit int) {
	err := guard(reportFd, func() { w.end(report{Err: "nobody reads the report"}) }, func(t *table) {
		if t.more(limit) {
			w.end(report{Err: fmt.Sprintf("it was killed: more than %d processes at once", limit)})
		}
	})
	if err != nil {
		w.end(report{Err: err.Error()})
	}
}

// guard calls look every processCheck, and gone when nobody holds the other end
// of the descriptor alive. It returns when its thread is at work.
//
// It must get its turn while hundreds of processes fight for the CPU. So it has
// a thread of its own, with a real-time priority where that is allowed, and
// sleeps in the kernel: a timer of package time would wait for another thread.
func guard(alive int, gone func(), look func(*table)) error {
	// On one CPU, as in User-Mode Linux, Go would let one thread run at a time,
	// and hand over from one that waits in the kernel by a third.
	runtime.GOMAXPROCS(4)
	t, err := openTable()
	if err != nil {
		return err
	}
	ready := make(chan struct{})
	go func() {
		beUrgent()
		close(ready)
		for {
			// Pdeathsig has a gap: a program that is killed after it started us and
			// before we asked for the signal sends none, and package syscall's look
			// at the parent's id finds 0 here either way. The descriptor has no gap.
			fds := []unix.PollFd{{Fd: int32(alive)}}
			if n, err := unix.Poll(fds, int(processCheck.Milliseconds())); err == nil && n > 0 {
				gone()
			}
			look(t)
		}
	}()
	<-ready
	return nil
}

// beUrgent gives the goroutine a thread of its own that goes before all others.
func beUrgent() {
	runtime.LockOSThread()
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20)
	}
}

// table is the list of processes: /proc opened, and room to read it into.
type table struct {
	fd  int
	buf []byte
}

func openTable() (*table, error) {
	fd, err := unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /proc: %w", err)
	}
	return &table{fd, make([]byte, 4<<10)}, nil
}

// more says whether there are more than limit processes. It stops counting
// there: a list that grows as fast as it is read has no end.
func (t *table) more(limit int) bool {
	return len(t.list(limit)) > limit
}

// list is the processes by their ids, as they are named in /proc, until there are
// more than limit.
func (t *table) list(limit int) (pids []string) {
	if _, err := unix.Seek(t.fd, 0, unix.SEEK_SET); err != nil {
		return nil
	}
	var names []string
	for len(pids) <= limit {
		n, err := unix.Getdents(t.fd, t.buf)
		if err != nil || n <= 0 {
			break
		}
		_, _, names = unix.ParseDirent(t.buf[:n], -1, names[:0])
		for _, name := range names {
			if name[0] >= '1' && name[0] <= '9' {
				pids = append(pids, name)
			}
		}
	}
	return pids
}
