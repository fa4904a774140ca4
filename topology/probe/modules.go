package probe

import (
	"bytes"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// moduleState is the fifth word of a line of /proc/modules (print_modules and
// m_show in kernel/module/procfs.c).
type moduleState string

const (
	live      moduleState = "Live"
	loading   moduleState = "Loading"
	unloading moduleState = "Unloading"
)

// parseLoaded reads /proc/modules: "ip_vs 172032 2 ip_vs_rr, Live 0x0".
func parseLoaded(data []byte) (map[string]moduleState, error) {
	loaded := make(map[string]moduleState)
	n := 0
	for line := range bytes.Lines(data) {
		n++
		words := strings.Fields(string(line))
		if len(words) == 0 {
			continue
		}
		if len(words) < 5 {
			return nil, fmt.Errorf("/proc/modules:%d: %q has %d words, not name, size, users, their names, state, …", n, line, len(words))
		}
		if _, err := strconv.ParseUint(words[1], 10, 64); err != nil {
			return nil, fmt.Errorf("/proc/modules:%d: the size %q is no number", n, words[1])
		}
		switch state := moduleState(words[4]); state {
		case live, loading, unloading:
			loaded[moduleName(words[0])] = state
		default:
			return nil, fmt.Errorf("/proc/modules:%d: the state %q is none of %s, %s, %s", n, words[4], live, loading, unloading)
		}
	}
	return loaded, nil
}

// parsePaths reads the names of modules from modules.builtin (a path a line) or
// modules.dep (modules.dep(5): a path, a colon, the paths it depends on).
func parsePaths(data []byte) map[string]bool {
	names := make(map[string]bool)
	for line := range bytes.Lines(data) {
		file, _, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
		if file == "" || file[0] == '#' {
			continue
		}
		if name := moduleName(file); name != "" {
			names[name] = true
		}
	}
	return names
}

// parseFilesystems reads /proc/filesystems: "nodev\toverlay".
func parseFilesystems(data []byte) map[string]bool {
	names := make(map[string]bool)
	for line := range bytes.Lines(data) {
		if _, name, ok := strings.Cut(strings.TrimRight(string(line), "\n"), "\t"); ok && name != "" {
			names[name] = true
		}
	}
	return names
}

// moduleName is the kernel's name for a module's file, with underscores:
// "kernel/net/ipv4/ip-x.ko.zst" is "ip_x".
func moduleName(file string) string {
	base := path.Base(file)
	if base == "." || base == "/" {
		return ""
	}
	name, _, _ := strings.Cut(base, ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// parseRelease is the major and minor number of a kernel's release,
// "5.15.0-105-generic".
func parseRelease(release string) (major, minor int, ok bool) {
	first, rest, found := strings.Cut(release, ".")
	if !found {
		return 0, 0, false
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	major, err := strconv.Atoi(first)
	if err != nil || major < 0 {
		return 0, 0, false
	}
	minor, err = strconv.Atoi(rest[:end])
	return major, minor, err == nil
}
