package node

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// cpuinfoPath is the file that stands for /proc/cpuinfo in a node, where the
// kernel's own lacks something. It is beside the tree, where no command sees it.
const cpuinfoPath = base + "/cpuinfo"

// addCPUInfo makes that file. User-Mode Linux leaves out the blank line that
// ends each processor's entry elsewhere, and without it ps and top of procps
// 4.0.2 (Debian 12) end with "Unable to get system boot time".
func addCPUInfo() error {
	text, _ := os.ReadFile("/proc/cpuinfo") // where there is none, none is to be mended
	if !unended(string(text)) {
		return nil
	}
	return os.WriteFile(cpuinfoPath, append(text, '\n'), 0o444)
}

// unended says that the last processor's entry lacks the line that ends it.
func unended(cpuinfo string) bool {
	return cpuinfo != "" && !strings.HasSuffix(cpuinfo, "\n\n")
}

// mendCPUInfo puts that file over the one of proc, a mounted procfs.
func mendCPUInfo(proc string) error {
	at := proc + "/cpuinfo"
	err := unix.Mount(cpuinfoPath, at, "", unix.MS_BIND, "")
	if err == unix.ENOENT {
		return nil
	}
	if err == nil {
		err = unix.MountSetattr(unix.AT_FDCWD, at, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	}
	if err != nil {
		return fmt.Errorf("bind /proc/cpuinfo: %w", err)
	}
	return nil
}
