package labtest

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/host"
	"github.com/lvslab/lvslab/runner/qemu"
	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/topology/source"
)

// word is the backend's name in a word for a kernel: "qemu" of "qemu:debian".
func word(kernel string) string {
	name, _, _ := strings.Cut(kernel, ":")
	return name
}

// kernels are the kernels to choose from, the preferred first.
func kernels(kernel string) ([]runner.Backend, error) {
	u := &uml.Backend{Env: os.Getenv, Modules: guest.Modules}
	q := &qemu.Backend{Env: os.Getenv, Modules: guest.Modules}
	all := []runner.Backend{host.New(), u, q}
	name, which, _ := strings.Cut(kernel, ":")
	known := []string{runner.Auto}
	for _, b := range all {
		known = append(known, b.Name())
	}
	switch {
	case name != "" && !slices.Contains(known, name):
		return nil, errors.New(source.Unknown("kernel", name, known))
	case name == "uml":
		u.Which = which
	case name == "qemu":
		q.Which = which
	case which != "":
		return nil, fmt.Errorf("kernel %q: nothing to choose behind the colon", kernel)
	}
	if name == "host" {
		return all, nil
	}
	path, err := self.program()
	u.Config.Self, q.Config.Self = path, path
	return all, err
}

// self is the tests' program for guests to run.
var self program

// program is this very program, or another build of it where this one could not
// be the init of any guest: one with cgo or -race is not static.
type program struct {
	once sync.Once
	dir  string // to be removed
	path string
	err  error
}

// program is its path, "" for this very one.
func (p *program) program() (string, error) {
	p.once.Do(func() {
		if static() {
			return
		}
		if p.dir, p.err = os.MkdirTemp("", "labtest-"); p.err != nil {
			return
		}
		p.path = filepath.Join(p.dir, "self")
		args := []string{"test", "-c", "-o", p.path}
		if tags := buildTags(); tags != "" {
			args = append(args, "-tags", tags)
		}
		// A test runs in the folder of its package.
		cmd := exec.Command("go", append(args, ".")...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			p.err = fmt.Errorf("labtest: a guest's init must be a static program, which this test is not, and building another failed (%w); CGO_ENABLED=0 go test makes it one:\n%s", err, out)
		}
	})
	return p.path, p.err
}

func (p *program) remove() {
	if p.dir != "" {
		_ = os.RemoveAll(p.dir) // a folder in $TMPDIR
	}
}

// buildTags are those that this program was built with.
func buildTags() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "-tags" {
			return s.Value
		}
	}
	return ""
}

// static reports whether this program needs no loader. Where that cannot be told,
// it is taken as it is.
func static() bool {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return true
	}
	defer f.Close()
	return !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}
