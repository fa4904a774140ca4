package kernel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/kernel/scratch"
)

const (
	// umlPackage is Debian's and Ubuntu's name for User-Mode Linux.
	umlPackage = "user-mode-linux"
	// tmpPrefix begins the names of folders that are being filled. They begin
	// with a dot: List passes over them.
	tmpPrefix = ".install-"
	// roomNeeded is the package, unpacked, and the lists of packages, with
	// some to spare, in bytes.
	roomNeeded = 400 << 20
)

// otherWays ends every error of Install.
const otherWays = "other ways to a kernel: as root `apt-get install " + umlPackage + "`, or LVSLAB_UML=/path/to/linux.uml"

// Install fetches Debian's User-Mode Linux into the user's cache, with the
// machine's own apt sources and without root, and verifies what it got. What
// it does goes to progress, a line each. A version that is there already is
// verified and kept. Nothing is seen of an install that did not finish, and
// several at once do not meet.
func Install(ctx context.Context, env Env, progress io.Writer) (Kernel, error) {
	k, err := install(ctx, env, progress)
	if err != nil {
		return Kernel{}, fmt.Errorf("installing a guest kernel: %w; %s", err, otherWays)
	}
	return k, nil
}

func install(ctx context.Context, env Env, progress io.Writer) (Kernel, error) {
	for _, tool := range []string{"apt-get", "dpkg", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return Kernel{}, fmt.Errorf("this machine has no %s, which fetches and unpacks it", tool)
		}
	}
	cache, err := cacheDir(env)
	if err != nil {
		return Kernel{}, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Kernel{}, err
	}
	if err := room(cache); err != nil {
		return Kernel{}, err
	}
	tmp, err := scratch.New(cache, tmpPrefix)
	if err != nil {
		return Kernel{}, err
	}
	defer func() { _ = tmp.Remove() }() // what is left is swept by the next one
	a := apt{dir: tmp.Path}
	fmt.Fprintln(progress, "reading the machine's package lists")
	if err := a.run(ctx, "update"); err != nil {
		return Kernel{}, err
	}
	fmt.Fprintln(progress, "downloading "+umlPackage)
	if err := a.run(ctx, "download", umlPackage); err != nil {
		return Kernel{}, err
	}
	debs, err := filepath.Glob(filepath.Join(tmp.Path, "*.deb"))
	if err != nil || len(debs) != 1 {
		return Kernel{}, fmt.Errorf("apt-get download left %d packages in %s, not one", len(debs), tmp.Path)
	}
	version, err := a.command(ctx, "dpkg-deb", "--field", debs[0], "Version")
	if err != nil {
		return Kernel{}, err
	}
	version = strings.TrimSpace(version)
	if err := checkVersion(version); err != nil {
		return Kernel{}, err
	}
	fmt.Fprintln(progress, "unpacking "+umlPackage+" "+version)
	tree := filepath.Join(tmp.Path, "tree")
	if _, err := a.command(ctx, "dpkg", "-x", debs[0], tree); err != nil {
		return Kernel{}, err
	}
	if err := finish(tree, version); err != nil {
		return Kernel{}, err
	}
	final := filepath.Join(cache, version)
	if err := place(tree, final, tmp.Path); err != nil {
		return Kernel{}, err
	}
	k, _, err := openCached(final)
	if err == nil {
		err = Verify(k)
	}
	if err != nil {
		return Kernel{}, err
	}
	fmt.Fprintln(progress, "installed "+k.String()+" in "+final)
	return k, nil
}

// room tells of a disk that is too full before anything is fetched.
func room(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < roomNeeded {
		return fmt.Errorf("%s has %d MB free and it takes %d: free some, or set XDG_CACHE_HOME to a place with more", dir, free>>20, roomNeeded>>20)
	}
	return nil
}

// checkVersion holds a package's version to the form of deb-version(7), which
// leaves no way out of a folder.
func checkVersion(v string) error {
	allowed := func(c rune) bool {
		return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune(".+:~-", c)
	}
	odd := strings.ContainsFunc(v, func(c rune) bool { return !allowed(c) })
	if odd || v == "" || v[0] < '0' || v[0] > '9' || len(v) > 100 {
		return fmt.Errorf("the package has the odd version %.100q", v)
	}
	return nil
}

// finish drops what no guest needs, and writes the manifest last.
func finish(tree, version string) error {
	if err := os.RemoveAll(filepath.Join(tree, "usr", "share")); err != nil {
		return err
	}
	k, err := locate(filepath.Join(tree, "usr", "bin", umlImage), filepath.Join(tree, "usr", "lib", "uml", "modules"), FromCache)
	if err != nil {
		return fmt.Errorf("the package %s %s is not as expected: %w", umlPackage, version, err)
	}
	if err := stripModules(k.Modules); err != nil {
		return fmt.Errorf("taking the debug sections out of the modules: %w", err)
	}
	m := manifest{Version: manifestVersion, Name: umlName, Release: k.Release, Package: version, Installed: time.Now().UTC().Truncate(time.Second)}
	if m.Image, err = vouch(tree, k.Image); err != nil {
		return err
	}
	if m.Modules, err = vouch(tree, filepath.Join(k.Modules, "modules.dep")); err != nil {
		return err
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(tree, manifestFile), append(data, '\n'), 0o644)
}

// place renames tree to final. Whoever comes second keeps the first one's,
// unless it is damaged, which is then moved to trash.
func place(tree, final, trash string) error {
	for try := range 3 {
		err := os.Rename(tree, final)
		if err == nil || (!errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST)) {
			return err
		}
		if k, _, err := openCached(final); err == nil && Verify(k) == nil {
			return nil
		}
		err = os.Rename(final, filepath.Join(trash, fmt.Sprintf("damaged-%d", try)))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("%s is replaced over and over by somebody else", final)
}

// apt runs programs of apt's and dpkg's with all state in one folder.
type apt struct{ dir string }

func (a apt) run(ctx context.Context, args ...string) error {
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial", "log"} {
		if err := os.MkdirAll(filepath.Join(a.dir, sub), 0o700); err != nil {
			return err
		}
	}
	_, err := a.command(ctx, "apt-get", append([]string{
		"-q", "-y",
		"-o", "Dir::State=" + filepath.Join(a.dir, "state"),
		"-o", "Dir::State::status=/var/lib/dpkg/status",
		"-o", "Dir::Cache=" + filepath.Join(a.dir, "cache"),
		"-o", "Dir::Log=" + filepath.Join(a.dir, "log"),
		// No other user to drop to, no lock of the system's to take.
		"-o", "APT::Sandbox::User=",
		"-o", "Debug::NoLocking=1",
		// Hooks are the administrator's and write where only root may.
		"-o", "APT::Update::Post-Invoke=", "-o", "APT::Update::Post-Invoke-Success=",
	}, args...)...)
	return err
}

// command runs a program to its end. Its error shows the end of what the
// program said.
func (a apt) command(ctx context.Context, name string, args ...string) (string, error) {
	// Pdeathsig counts from the thread that forks.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = a.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "TMPDIR="+a.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		said := strings.TrimSpace(errs.String())
		if said == "" {
			said = strings.TrimSpace(out.String())
		}
		if len(said) > 1000 {
			said = "…" + said[len(said)-1000:]
		}
		return "", fmt.Errorf("%s %s: %w: %s", name, args[len(args)-1], err, said)
	}
	return out.String(), nil
}
