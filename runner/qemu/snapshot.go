package qemu

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/kernel/scratch"
)

// A snapshot is a machine that has stopped at machine.StageReady: what QEMU's
// migration writes, and behind that a trailer that vouches for it. It is one file
// in the folder of snapshots, and its name is the key of all that it was made of.
const (
	snapshotFolder = "snapshots"
	snapshotEnding = ".snapshot"
	// savingPrefix begins the folders with files on their way, where the file
	// system has no files without a name.
	savingPrefix = ".saving-"
	// lockName is locked by the one that saves; a second would save the same.
	lockName = ".lock"
	// snapshotsKept is how many stay, those used last: 75 MB each.
	snapshotsKept = 6
	// snapshotRoom is what must be free on the disk for one to be made: a cache
	// does not fill a disk. In bytes.
	snapshotRoom = 1 << 30
)

// trailer is the end of a snapshot.
type trailer struct {
	Magic [8]byte
	// Size is that of what is before the trailer, in bytes; CRC its CRC-32C: what
	// is read here is damaged at the worst, and not forged.
	Size uint64
	CRC  uint32
	_    uint32
}

var snapshotMagic = [8]byte{'l', 'v', 's', 's', 'n', 'a', 'p', '1'}

// store is a folder of snapshots.
type store struct{ dir string }

func newStore(cache string) *store { return &store{filepath.Join(cache, snapshotFolder)} }

func (s *store) path(key string) string { return filepath.Join(s.dir, key+snapshotEnding) }

// open is the snapshot of a key; the error is fs.ErrNotExist where there is none.
// That its content is sound, check tells.
func (s *store) open(key string) (*os.File, trailer, error) {
	f, err := os.Open(s.path(key))
	if err != nil {
		return nil, trailer{}, err
	}
	t, err := readTrailer(f)
	if err != nil {
		_ = f.Close()
		return nil, t, fmt.Errorf("the snapshot %s: %w", s.path(key), err)
	}
	now := time.Now()
	_ = os.Chtimes(f.Name(), now, now) // the ones used last are kept
	return f, t, nil
}

func readTrailer(f *os.File) (trailer, error) {
	var t trailer
	size := int64(binary.Size(t))
	info, err := f.Stat()
	if err != nil {
		return t, err
	}
	if info.Size() < size {
		return t, fmt.Errorf("has %d bytes alone", info.Size())
	}
	if err := binary.Read(io.NewSectionReader(f, info.Size()-size, size), binary.LittleEndian, &t); err != nil {
		return t, err
	}
	if t.Magic != snapshotMagic || t.Size != uint64(info.Size()-size) {
		return t, errors.New("is damaged at its end")
	}
	return t, nil
}

// check reads all of a snapshot. It leaves the file's offset alone, at which QEMU
// reads at the same time.
func check(f *os.File, t trailer) error {
	sum, err := checksum(f, int64(t.Size))
	if err != nil {
		return err
	}
	if sum != t.CRC {
		return fmt.Errorf("the snapshot %s is damaged: its CRC-32C is %08x, saved was %08x", f.Name(), sum, t.CRC)
	}
	return nil
}

func checksum(f *os.File, size int64) (uint32, error) {
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	buf := make([]byte, 1<<20)
	_, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{io.NewSectionReader(f, 0, size)}, buf)
	return sum.Sum32(), err
}

// remove takes a snapshot away, if it still is this file.
func (s *store) remove(f *os.File) {
	mine, err := f.Stat()
	if err != nil {
		return
	}
	if named, err := os.Stat(f.Name()); err == nil && os.SameFile(mine, named) {
		_ = os.Remove(f.Name())
	}
}

// saving is a snapshot on its way. Nothing is seen of it, and nothing is left of it
// when the process dies, before keep.
type saving struct {
	f     *os.File
	store *store
	key   string
	lock  *os.File
	tmp   *scratch.Dir
}

// errBusy says that somebody else saves one.
var errBusy = errors.New("another lvslab saves one")

// save begins a snapshot.
func (s *store) save(key string) (_ *saving, err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", s.dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < snapshotRoom {
		return nil, fmt.Errorf("%s has %d MB free, and a snapshot is made where there are %d", s.dir, free>>20, snapshotRoom>>20)
	}
	n := &saving{store: s, key: key}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.lock, err = os.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(n.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errBusy
	}
	scratch.Sweep(s.dir, savingPrefix)
	// A file without a name: a process that is killed leaves none.
	n.f, err = os.OpenFile(s.dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err == nil {
		return n, nil
	}
	if n.tmp, err = scratch.New(s.dir, savingPrefix); err != nil {
		return nil, err
	}
	n.f, err = os.OpenFile(filepath.Join(n.tmp.Path, "machine"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	return n, err
}

// keep vouches for what was written and gives it its name.
func (n *saving) keep() error {
	size, err := n.f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	t := trailer{Magic: snapshotMagic, Size: uint64(size)}
	if t.CRC, err = checksum(n.f, size); err != nil {
		return err
	}
	var end bytes.Buffer
	if err := binary.Write(&end, binary.LittleEndian, t); err != nil {
		return err
	}
	if _, err := n.f.Write(end.Bytes()); err != nil {
		return err
	}
	path := n.store.path(n.key)
	if n.tmp != nil {
		err = os.Rename(n.f.Name(), path)
	} else {
		// open(2), O_TMPFILE: the way that takes no privilege.
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", n.f.Fd()), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("naming the snapshot %s: %w", path, err)
	}
	n.store.sweep(n.key)
	return nil
}

// close lets go of it, and of what was not kept.
func (n *saving) close() {
	for _, f := range []*os.File{n.f, n.lock} {
		_ = f.Close() // a nil one is an error to be ignored
	}
	if n.tmp != nil {
		_ = n.tmp.Remove()
	}
}

// sweep removes the snapshots that were used the longest ago, so that a bounded
// number is left; never that of key.
func (s *store) sweep(key string) {
	all := s.list()
	left := len(all)
	for _, k := range all {
		if left > snapshotsKept && k.path != s.path(key) && os.Remove(k.path) == nil {
			left--
		}
	}
}

type kept struct {
	path string
	size int64
	used time.Time
}

// list is all snapshots, those used the longest ago first.
func (s *store) list() []kept {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil
	}
	var all []kept
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && strings.HasSuffix(e.Name(), snapshotEnding) {
			all = append(all, kept{filepath.Join(s.dir, e.Name()), info.Size(), info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b kept) int { return cmp.Or(a.used.Compare(b.used), strings.Compare(a.path, b.path)) })
	return all
}

// Snapshots are what a cache holds of them.
type Snapshots struct {
	// Dir is their folder. To remove it is harmless: they are made anew.
	Dir string
	// Count and Bytes are how many there are, and how large all of them.
	Count int
	Bytes int64
}

// SnapshotsOf looks into lvslab's folder of the cache (kernel.Cache).
func SnapshotsOf(cache string) Snapshots {
	s := newStore(cache)
	all := Snapshots{Dir: s.dir}
	for _, k := range s.list() {
		all.Count++
		all.Bytes += k.size
	}
	return all
}
