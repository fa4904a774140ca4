package main

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"github.com/lvslab/lvslab/runner/uml"
)

// hint is what to try next after an error that does not say so itself: those of
// the machine rather than of a lab. It is empty if there is nothing to say.
func hint(err error) string {
	var path *fs.PathError
	var guest *uml.GuestError
	switch {
	case errors.Is(err, syscall.EMFILE):
		return "this shell allows too few open files; try: ulimit -n 1024"
	case errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EAGAIN):
		return "this machine, or its container, is out of files or processes; try again when less is running"
	case errors.As(err, &path) && strings.HasPrefix(path.Path, "/proc/"):
		return "is /proc mounted here? As root try: mount -t proc proc /proc"
	// With more behind it, What has the reason already.
	case errors.As(err, &guest) && strings.HasPrefix(guest.What, "did not boot") && !strings.Contains(guest.What, "): "):
		return "whether its kernel is sound is told by lvslab kernel list, and what boots here by lvslab doctor"
	}
	return ""
}
