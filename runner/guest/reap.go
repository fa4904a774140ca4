package guest

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reap waits for orphans for ever. It must run on the thread that started the
// process.
//
// The kernel gives an orphan to the first thread of PID 1, while a child that
// os/exec started belongs to the thread that forked it. Waiting with
// __WNOTHREAD on the first thread, which forks nothing, therefore sees the
// orphans only and steals no exit status. One case is left: when the thread
// that forked has ended since, its child too is handed to the first thread.
// Such a child is told by the pidfd that os/exec keeps of it until it is
// waited for, and is left alone.
func reap() {
	died := make(chan os.Signal, 1)
	signal.Notify(died, unix.SIGCHLD)
	for {
		var again <-chan time.Time
		for {
			pid, ok := orphan()
			if !ok {
				break
			}
			if waitedFor(pid) {
				// Its owner will wait soon, and until then hides the ones
				// behind it.
				again = time.After(50 * time.Millisecond)
				break
			}
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG|unix.WNOTHREAD, nil)
		}
		select {
		case <-died:
		case <-again:
		}
	}
}

// orphan is a dead child of this very thread, which it leaves dead.
func orphan() (pid int, ok bool) {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WNOTHREAD, nil)
	if err != nil || info.Signo == 0 {
		return 0, false
	}
	return siginfoPid(&info), true
}

// waitedFor reports whether this process holds a pidfd of the process.
func waitedFor(pid int) bool {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return false
	}
	want := fmt.Sprintf("\nPid:\t%d\n", pid)
	for _, fd := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err != nil || !strings.Contains(target, "pidfd") {
			continue
		}
		if info, err := os.ReadFile("/proc/self/fdinfo/" + fd.Name()); err == nil && strings.Contains("\n"+string(info), want) {
			return true
		}
	}
	return false
}

// siginfoPid is si_pid of a SIGCHLD (sigaction(2)): the first field after
// si_signo, si_errno, si_code and, on 64-bit machines, a word of padding.
func siginfoPid(info *unix.Siginfo) int {
	offset := uintptr(12)
	if unsafe.Sizeof(uintptr(0)) == 8 {
		offset = 16
	}
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), offset)))
}
