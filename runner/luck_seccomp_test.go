package runner_test

import (
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// denyPtrace is what a container's seccomp profile does: ptrace(2) fails with
// EPERM for this process, and for the program that it then becomes.
func denyPtrace() int {
	const (
		seccompNumber = 0 // offset of nr in struct seccomp_data (seccomp(2))
		modeFilter    = 2 // SECCOMP_MODE_FILTER
	)
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: seccompNumber},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_PTRACE, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// A thread's filter is its own; the exec below makes it the process's. The
	// init of a program runs on one thread, and this returns to nobody.
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err == nil {
		err = unix.Prctl(unix.PR_SET_SECCOMP, modeFilter, uintptr(unsafe.Pointer(&prog)), 0, 0)
	}
	if err == nil {
		var env []string
		for _, v := range os.Environ() {
			if !strings.HasPrefix(v, stageSeccomp+"=") {
				env = append(env, v)
			}
		}
		err = unix.Exec(os.Args[1], os.Args[1:], env)
	}
	fmt.Fprintln(os.Stderr, "seccomp:", err)
	return 1
}
