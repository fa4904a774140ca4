package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/kernel/scratch"
)

const (
	// tmpPrefix begins the names of folders that are being filled. They begin
	// with a dot: List passes over them.
	tmpPrefix = ".install-"
	// RoomNeeded is what Install wants free: the package, unpacked, and the
	// lists of packages, with some to spare, in bytes.
	RoomNeeded = 400 << 20
)

// Install is UML.Install.
func Install(ctx context.Context, env Env, progress io.Writer) (Kernel, error) {
	return UML.Install(ctx, env, progress)
}

// Install fetches Debian's kernel of this kind into the user's cache, with the
// machine's own apt sources and without root, and verifies what it got. What
// it does goes to progress, a line each. A version that is there already is
// verified and kept. Nothing is seen of an install that did not finish, and
// several at once do not meet.
func (kd Kind) Install(ctx context.Context, env Env, progress io.Writer) (Kernel, error) {
	return kd.InstallWhich(ctx, env, "", progress)
}

// InstallWhich is Install for one of several kernels, of which the package sources
// may have some: the newest whose release or package version begins with which, as
// Choose has it. Empty, and "debian", is the newest that Debian has for this
// machine's release. The error is a *NotOfferedError where they have none that is
// so.
func (kd Kind) InstallWhich(ctx context.Context, env Env, which string, progress io.Writer) (Kernel, error) {
	err := CheckWord(kd, which)
	if err == nil && strings.Contains(which, "/") {
		err = errPath
	}
	if err != nil {
		return Kernel{}, err
	}
	if which == Debian {
		which = ""
	}
	k, err := kd.install(ctx, env, which, progress)
	if err != nil {
		return Kernel{}, fmt.Errorf("installing a guest kernel: %w; %s", err, kd.otherWays())
	}
	return k, nil
}

// tools makes sure of the programs that fetch and unpack packages. apt-cache comes
// with apt-get.
func tools() error {
	for _, tool := range []string{"apt-get", "dpkg", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("this machine has no %s, which fetches and unpacks it", tool)
		}
	}
	return nil
}

func (kd Kind) install(ctx context.Context, env Env, which string, progress io.Writer) (Kernel, error) {
	if err := tools(); err != nil {
		return Kernel{}, err
	}
	cache, err := kd.CacheDir(env)
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
	fetch := fetchUML
	if kd == QEMU {
		fetch = fetchGeneric
	}
	tree := filepath.Join(tmp.Path, "tree")
	version, err := fetch(ctx, tmp.Path, tree, which, progress)
	if err != nil {
		return Kernel{}, err
	}
	final := filepath.Join(cache, version)
	if err := kd.place(tree, final, tmp.Path); err != nil {
		return Kernel{}, err
	}
	k, _, err := kd.openCached(final)
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
	if free := int64(st.Bavail) * st.Bsize; free < RoomNeeded {
		return fmt.Errorf("%s has %d MB free and it takes %d: free some, or set XDG_CACHE_HOME to a place with more", dir, free>>20, RoomNeeded>>20)
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

// seal takes what no guest needs out of the modules, and writes the manifest
// last.
func (kd Kind) seal(tree, version, image, modules string) error {
	k, err := kd.locate(image, modules, FromCache)
	if err != nil {
		return fmt.Errorf("the package %s %s is not as expected: %w", kd.pkg(), version, err)
	}
	if err := stripModules(k.Modules); err != nil {
		return fmt.Errorf("taking the debug sections out of the modules: %w", err)
	}
	m := manifest{Version: manifestVersion, Name: kd, Release: k.Release, Package: version, Installed: time.Now().UTC().Truncate(time.Second)}
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
func (kd Kind) place(tree, final, trash string) error {
	for try := range 3 {
		err := os.Rename(tree, final)
		if err == nil || (!errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST)) {
			return err
		}
		if k, _, err := kd.openCached(final); err == nil && Verify(k) == nil {
			return nil
		}
		err = os.Rename(final, filepath.Join(trash, fmt.Sprintf("damaged-%d", try)))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("%s is replaced over and over by somebody else", final)
}
