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
//
// It must get its turn while hundreds of processes fight for the CPU. So it has
// a thread of its own, with a real-time priority where that is allowed, and
// sleeps in the kernel: a timer of package time would wait for another thread.
func watch(w *reporter, limit int) {
	// On one CPU, as in User-Mode Linux, Go would let one thread run at a time,
	// and hand over from one that waits in the kernel by a third.
	runtime.GOMAXPROCS(4)
	ready := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		count(w, limit, func() { close(ready) })
	}()
	<-ready
}

func count(w *reporter, limit int, ready func()) {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20)
	}
	proc, err := unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		w.end(report{Err: fmt.Sprintf("open /proc: %v", err)})
	}
	buf := make([]byte, 4<<10)
	ready()
	for {
		// Pdeathsig has a gap: a program that is killed after it started us and
		// before we asked for the signal sends none, and package syscall's look
		// at the parent's id finds 0 here either way. The pipe has no gap.
		fds := []unix.PollFd{{Fd: reportFd}}
		if n, err := unix.Poll(fds, int(processCheck.Milliseconds())); err == nil && n > 0 {
			w.end(report{Err: "nobody reads the report"})
		}
		if moreProcesses(proc, buf, limit) {
			w.end(report{Err: fmt.Sprintf("it was killed: more than %d processes at once", limit)})
		}
	}
}

// moreProcesses says whether /proc has more than limit folders whose names are
// numbers; proc is /proc opened, buf is room to read into. It stops counting
// there: a list that grows as fast as it is read has no end.
func moreProcesses(proc int, buf []byte, limit int) bool {
	if _, err := unix.Seek(proc, 0, unix.SEEK_SET); err != nil {
		return false
	}
	count := 0
	var names []string
	for count <= limit {
		n, err := unix.Getdents(proc, buf)
		if err != nil || n <= 0 {
			return false
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names[:0])
		for _, name := range names {
			if name[0] >= '1' && name[0] <= '9' {
				count++
			}
		}
	}
	return true
}
