package qemu

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// snapshotVersion is raised when a guest before its stage is another one though
// nothing that the key names has changed.
const snapshotVersion = 1

// key names all that a snapshot depends on, by content: the kernel, the modules of
// its stage, this program, QEMU, and how it is started.
func (b *booting) key(sums *sums) (string, error) {
	order, err := stageOrder(b.Kernel)
	if err != nil {
		return "", err
	}
	files := []string{b.Kernel.Image, b.Self, b.Program}
	for _, m := range order {
		files = append(files, filepath.Join(b.Kernel.Modules, m.Path))
	}
	h := sha256.New()
	nameless := *b
	nameless.Kernel.Image = "" // its content counts
	fmt.Fprintf(h, "%d\n%q\n", snapshotVersion, nameless.arguments(nil))
	for _, f := range files {
		sum, err := sums.of(f)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s\n", sum)
	}
	if b.accel == accelKVM {
		// The processor is the machine's, and so is what the kernel made of it.
		fmt.Fprintf(h, "%s\n%s\n", hostRelease(), processor())
	}
	return hex.EncodeToString(h.Sum(nil))[:32], nil
}

// hostRelease is what `uname -r` says on this machine.
func hostRelease() string {
	var uts unix.Utsname
	if unix.Uname(&uts) != nil {
		return ""
	}
	return unix.ByteSliceToString(uts.Release[:])
}

// processor is what /proc/cpuinfo says of the first one's kind.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "model name", "stepping", "microcode", "flags":
			b.WriteString(line)
		case "":
			return b.String()
		}
	}
	return b.String()
}

// sums remembers the SHA-256 of files by what stat(2) tells of them: to read the
// 100 MB of a kernel and of this program at each start would take longer than to
// start.
type sums struct {
	path  string
	known map[string]sumOf
	dirty bool
}

// sumsKept bounds how many are remembered.
const sumsKept = 64

type sumOf struct {
	// ID is the file's device, inode, size, and times of change in nanoseconds.
	ID  string `json:"id"`
	Sum string `json:"sum"`
}

// readSums reads what is remembered. What cannot be read is read anew.
func readSums(path string) *sums {
	s := &sums{path: path}
	if data, err := os.ReadFile(path); err == nil {
		_ = json.Unmarshal(data, &s.known)
	}
	if s.known == nil || len(s.known) > sumsKept {
		s.known = make(map[string]sumOf)
	}
	return s
}

// of is the SHA-256 of a file.
func (s *sums) of(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("%s: stat tells too little", path)
	}
	id := fmt.Sprintf("%d:%d:%d:%d:%d", st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
	if k, ok := s.known[path]; ok && k.ID == id {
		return k.Sum, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	sum := hex.EncodeToString(h.Sum(nil))
	s.known[path] = sumOf{id, sum}
	s.dirty = true
	return sum, nil
}

// write keeps what is new. That it cannot is no matter: it is a cache.
func (s *sums) write() {
	if !s.dirty {
		return
	}
	if data, err := json.Marshal(s.known); err == nil && os.MkdirAll(filepath.Dir(s.path), 0o700) == nil {
		_ = os.WriteFile(s.path, data, 0o600)
	}
}
