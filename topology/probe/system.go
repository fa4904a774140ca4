package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology"
)

// root is where the kernel's files are looked for; a test has others.
type root struct {
	dir     string // before /proc, /sys, /lib; empty for the machine's own
	release string // empty to ask the kernel
}

func (r root) read(name string) ([]byte, error) { return os.ReadFile(r.dir + name) }

func (r root) has(name string) bool {
	_, err := os.Stat(r.dir + name)
	return err == nil
}

// system is what the kernel's own lists say about its modules.
type system struct {
	root root
	// release is what uname -r prints.
	release string
	// static kernels have no loadable modules at all; sealed ones load no more
	// (kernel.modules_disabled).
	static, sealed bool
	// autoload: the kernel may load modules by itself.
	autoload bool
	// userns: this process is in a user namespace other than the machine's first.
	userns bool

	loaded map[string]moduleState // nil if unknown
	// builtin and files are nil where the kernel's folder below /lib/modules is
	// not to be seen, as in most containers.
	builtin, files map[string]bool
	filesystems    map[string]bool
	// modulesDir is the folder that they are from, or where it should be.
	modulesDir string
	// ubuntu keeps some of its modules in a package of their own.
	ubuntu bool
}

// modulesDirs are where distributions keep the modules of a release.
var modulesDirs = [...]string{"/lib/modules", "/usr/lib/modules", "/run/booted-system/kernel-modules/lib/modules"}

func readSystem(r root) *system {
	s := &system{root: r, release: r.release, autoload: true, userns: inUserNamespace()}
	if s.release == "" {
		var uts unix.Utsname
		if unix.Uname(&uts) == nil {
			s.release = unix.ByteSliceToString(uts.Release[:])
		}
	}
	s.readLoaded()
	if data, err := r.read("/proc/filesystems"); err == nil {
		s.filesystems = parseFilesystems(data)
	}
	s.modulesDir = filepath.Join(modulesDirs[0], s.release)
	for _, dir := range modulesDirs {
		dir = filepath.Join(dir, s.release)
		builtin, err := r.read(dir + "/modules.builtin")
		if err != nil {
			continue
		}
		s.modulesDir, s.builtin = dir, parsePaths(builtin)
		if dep, err := r.read(dir + "/modules.dep"); err == nil {
			s.files = parsePaths(dep)
		}
		break
	}
	if data, err := r.read("/etc/os-release"); err == nil {
		s.ubuntu = strings.Contains("\n"+string(data), "\nID=ubuntu\n")
	}
	return s
}

// readLoaded reads what is loaded, and whether the kernel can load more.
func (s *system) readLoaded() {
	// Without a whole /proc (proc(5), subset=pid) a missing file says nothing.
	if !s.root.has("/proc/sys/kernel/ostype") {
		return
	}
	data, err := s.root.read("/proc/modules")
	if errors.Is(err, fs.ErrNotExist) {
		s.static, s.autoload = true, false
		return
	}
	if err == nil {
		// What cannot be understood is as good as unreadable: nil, unknown.
		s.loaded, _ = parseLoaded(data)
	}
	if v, err := s.root.read("/proc/sys/kernel/modules_disabled"); err == nil && strings.TrimSpace(string(v)) == "1" {
		s.sealed, s.autoload = true, false
	}
	// An empty path turns autoloading off (Documentation/admin-guide/sysctl/kernel.rst).
	// That the program is not there proves nothing: the kernel starts it in the
	// machine's own mount namespace, which in a container is not ours. Nor does
	// it matter whether we have CAP_SYS_MODULE.
	v, err := s.root.read("/proc/sys/kernel/modprobe")
	if errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(v)) == "" {
		s.autoload = false
	}
}

// presence is what the lists say about one module.
type presence int

const (
	// unsure: it is not loaded, and whether it is built in is not to be seen.
	unsure presence = iota
	present
	// unloaded: its file is there.
	unloaded
	// lacking: the kernel has no such module.
	lacking
)

func (s *system) presence(module string) presence {
	if s.static {
		// Only trying tells, and is safe.
		return unsure
	}
	switch s.loaded[module] {
	case live:
		return present
	case loading, unloading:
		return unloaded
	}
	// Of a module that is built in, this folder is there only if it has
	// parameters or a version.
	if s.builtin[module] || s.filesystems[module] || s.loaded != nil && s.root.has("/sys/module/"+module) {
		return present
	}
	switch {
	case s.loaded == nil || s.builtin == nil:
		return unsure
	case s.files[module]:
		return unloaded
	case s.files == nil:
		// Not built in; the file may be there.
		return unloaded
	}
	return lacking
}

// mayTry says whether a trial that would need the module can be made without
// loading it, and if not, the answer in its place.
func (s *system) mayTry(module string) (a Answer, safe bool) {
	p := s.presence(module)
	if p == present || p != lacking && !s.autoload {
		return Answer{}, true
	}
	if p == unsure {
		return Answer{
			Why: fmt.Sprintf("the module %s does not seem to be loaded, and without %s/modules.builtin it cannot be told whether it is built in; to try could load it",
				module, s.modulesDir),
			Fix: "sudo modprobe " + module,
		}, false
	}
	return s.lacks(module, ""), false
}

// lacks is the answer no, for a kernel without a module; seen is what a trial
// showed, for where the lists say nothing.
func (s *system) lacks(module, seen string) Answer {
	a := Answer{Verdict: No}
	switch p := s.presence(module); {
	case s.static:
		a.Why = fmt.Sprintf("this kernel was built without %s, and without loadable modules", module)
	case p == lacking:
		a.Why = fmt.Sprintf("the kernel %s has no module %s", s.release, module)
		if s.ubuntu && !s.sealed {
			a.Why += ", which Ubuntu may keep in a package of its own"
			a.Fix = fmt.Sprintf("sudo apt-get install linux-modules-extra-%s && sudo modprobe %s", s.release, module)
		}
	case p == present:
		a.Why = fmt.Sprintf("the module %s is there", module)
	case s.sealed:
		a.Why = fmt.Sprintf("the module %s is not loaded, and this kernel loads no more until it is booted again (kernel.modules_disabled=1)", module)
	default:
		a.Why = fmt.Sprintf("the module %s is not loaded", module)
		a.Fix = "sudo modprobe " + module
	}
	if seen != "" && (s.static || s.presence(module) == present) {
		a.Why += ": " + seen
	}
	return a
}

// listed answers for a feature that cannot be tried, by its module's name.
func (s *system) listed(f topology.Feature) Answer {
	a := Answer{Feature: f}
	switch p := s.presence(string(f)); {
	case p == present:
		a.Verdict, a.Why = Yes, fmt.Sprintf("the module %s is loaded or built in; there is no trial for it", f)
	case s.static:
		a.Why = fmt.Sprintf("there is no trial for %s, and a kernel without loadable modules does not list those that are built in", f)
	case p == unsure:
		a, _ = s.mayTry(string(f))
		if a.Why == "" {
			a.Why = fmt.Sprintf("the module %s does not seem to be loaded, and there is no trial for it", f)
		}
		a.Feature = f
	default:
		a = s.lacks(string(f), "")
		a.Feature = f
	}
	return a
}
