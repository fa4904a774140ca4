package node

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The first arguments by which the program knows that it is to be the first
// process of a command, or that of a node.
const (
	commandArgument = "lvslab-node-command"
	initArgument    = "lvslab-node-init"
)

// Main makes this process the first one of a command in a node, or of the node's
// programs, when it was started as that, and does not return then. Otherwise it
// returns at once. It belongs at the top of main, before flags are looked at, and
// of TestMain.
func Main() {
	if len(os.Args) != 2 || os.Args[1] != commandArgument && os.Args[1] != initArgument {
		return
	}
	// Rights are given up per thread, and the command inherits this one's.
	runtime.LockOSThread()
	if os.Getpid() != 1 {
		fmt.Fprintf(os.Stderr, "%s is lvslab's own word, for commands that it runs in a node\n", os.Args[1])
		os.Exit(2)
	}
	// What we were given, and what whoever started the whole program left open,
	// is not for what runs in the node.
	if err := unix.CloseRange(specFd, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		fmt.Fprintf(os.Stderr, "close_range: %v (needs Linux 5.11)\n", err)
		os.Exit(2)
	}
	if os.Args[1] == initArgument {
		beInit()
	}
	w := &reporter{file: os.NewFile(reportFd, "report")}
	r, err := first(w)
	if err != nil {
		r.Err = err.Error()
	}
	w.end(r)
}

// reporter sends the one report of a command and ends its PID namespace, and
// with it whatever processes it left.
type reporter struct {
	once sync.Once
	file *os.File
}

func (w *reporter) end(r report) {
	w.once.Do(func() {
		// At one stroke, from here: the kernel does the same at the end of the
		// first process, but only when its other threads, which have not watch's
		// priority, have had their turn.
		_ = unix.Kill(-1, unix.SIGKILL)
		_ = json.NewEncoder(w.file).Encode(r) // it fails when nobody reads it
		syscall.Exit(0)                       // os.Exit would first write coverage, into the node's files
	})
	select {} // the other one exits
}

// first is the work of the first process.
func first(w *reporter) (report, error) {
	var s spec
	specFile := os.NewFile(specFd, "spec")
	if err := json.NewDecoder(specFile).Decode(&s); err != nil {
		return report{}, fmt.Errorf("read what to run: %w", err)
	}
	specFile.Close()
	if err := become(s.Limit); err != nil {
		return report{}, err
	}
	if err := os.Chdir(s.Dir); err != nil {
		return report{}, fmt.Errorf("working directory: %w", err)
	}
	if err := dropRights(); err != nil {
		return report{}, err
	}
	// A command may signal its init. Caught and not ignored: what is ignored
	// stays so in a child.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE, unix.SIGALRM)
	watch(w, s.Limit)

	program, err := find(s)
	if err != nil {
		return report{}, err
	}
	child, err := syscall.ForkExec(program, s.Args, &syscall.ProcAttr{
		Env: s.Env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return report{}, fmt.Errorf("start %s: %w", program, err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return report{}, os.NewSyscallError("wait4", err)
		case pid != child: // an orphan
		case status.Signaled():
			return report{Signal: int(status.Signal())}, nil
		default:
			return report{Exit: status.ExitStatus()}, nil
		}
	}
}

// become makes the working directory, the node's tree, the root, and mounts its
// /proc. The mount namespace is this command's alone: what is mounted in the view
// may come to be here, too, and never the other way round.
func become(limit int) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep the mounts to oneself: %w", err)
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("proc", "proc", "proc", flags, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	boundPids("proc", 2*limit)
	if err := mendCPUInfo("proc"); err != nil {
		return err
	}
	// What is below /proc/sys/net is the network namespace's; all else there
	// is the machine's and becomes read-only.
	const net = "proc/sys/net"
	if err := unix.Mount(net, net, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind /%s: %w", net, err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "proc", 0, &attr); err != nil {
		return fmt.Errorf("make /proc read-only: %w", err)
	}
	// pivot_root(2), "pivot_root(".", ".")": the old root comes to lie upon the
	// new one and is taken away.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let the machine's root go: %w", err)
	}
	return os.Chdir("/")
}

// kept are the rights that a command has: those of root over its own files,
// processes and network, capabilities(7). Above all it has none to mount, to
// make device nodes, to load modules, or to open files by handle.
var kept = map[uintptr]bool{
	unix.CAP_CHOWN: true, unix.CAP_DAC_OVERRIDE: true, unix.CAP_FOWNER: true, unix.CAP_FSETID: true,
	unix.CAP_KILL: true, unix.CAP_SETGID: true, unix.CAP_SETUID: true, unix.CAP_SETPCAP: true,
	unix.CAP_SETFCAP: true, unix.CAP_NET_BIND_SERVICE: true, unix.CAP_NET_BROADCAST: true,
	unix.CAP_NET_ADMIN: true, unix.CAP_NET_RAW: true, unix.CAP_IPC_LOCK: true, unix.CAP_IPC_OWNER: true,
	unix.CAP_SYS_CHROOT: true, unix.CAP_SYS_NICE: true, unix.CAP_AUDIT_WRITE: true,
}

// dropRights keeps this process's own rights and takes them from what it starts.
func dropRights() error {
	for c := uintptr(0); c <= 63; c++ {
		if kept[c] {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if err == unix.EINVAL {
			break // beyond the kernel's last one
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	// A container may hand rights down another way: by the inheritable set.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	caps[0].Inheritable, caps[1].Inheritable = 0, 0
	if err := unix.Capset(&header, &caps[0]); err != nil {
		return os.NewSyscallError("capset", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	// No core files, and 1 keeps a crash from the machine's core_pattern
	// program too, which is run for any other limit (kernel: fs/coredump.c).
	// Who is root in a user namespace alone may not raise a limit that is lower.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return os.NewSyscallError("getrlimit RLIMIT_CORE", err)
	}
	limit = unix.Rlimit{Cur: min(limit.Max, 1), Max: min(limit.Max, 1)}
	return os.NewSyscallError("setrlimit RLIMIT_CORE", unix.Setrlimit(unix.RLIMIT_CORE, &limit))
}
