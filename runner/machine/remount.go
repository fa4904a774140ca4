package machine

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// readOnlyEach does by one remount per mount what mount_setattr(2) does at
// once. A mount that lies hidden under another is out of reach by its path, for
// the guest's kernel too.
func readOnlyEach() error {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, m := range parseMounts(string(info)) {
		err := unix.Mount("", m.at, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|m.flags, "")
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%s: %w", m.at, err)
		}
	}
	return nil
}

type mount struct {
	at string
	// flags that a remount must repeat: inside a user namespace they are
	// locked, and leaving one out is refused.
	flags uintptr
}

// parseMounts reads the mount points and their own options out of a
// /proc/<pid>/mountinfo (proc(5)). Lines of another form are passed over.
func parseMounts(text string) []mount {
	var all []mount
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 6 || !strings.HasPrefix(fields[4], "/") {
			continue
		}
		m := mount{at: unescape(fields[4])}
		for option := range strings.SplitSeq(fields[5], ",") {
			switch option {
			case "nosuid":
				m.flags |= unix.MS_NOSUID
			case "nodev":
				m.flags |= unix.MS_NODEV
			case "noexec":
				m.flags |= unix.MS_NOEXEC
			case "noatime":
				m.flags |= unix.MS_NOATIME
			case "nodiratime":
				m.flags |= unix.MS_NODIRATIME
			case "relatime":
				m.flags |= unix.MS_RELATIME
			}
		}
		all = append(all, m)
	}
	return all
}

// unescape undoes the octal escapes of blanks and backslashes in mountinfo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// MountPoints are the paths at which something is mounted in this process's mount
// namespace.
func MountPoints() ([]string, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, m := range parseMounts(string(info)) {
		all = append(all, m.at)
	}
	return all, nil
}
