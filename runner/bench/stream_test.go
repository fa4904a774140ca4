package bench

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/runner/wire"
)

const (
	// streamPiece is what is written at once, and what a pipe holds.
	streamPiece = 64 << 10
	// streamPieces are 100 MB of them.
	streamPieces = 1526
)

const streamLab = `title: a node
networks: {lan: 10.0.0.0/24}
nodes: {one: {links: {eth0: lan 10.0.0.1/24}}}
`

// BenchmarkStream takes 100 MB out of a guest: what a program in a node of a lab
// writes, as exec brings it, against the same bytes that the init of another
// guest writes to its serial line and that are read off the line's other end.
// Without LVSLAB_UML, or a kernel installed, it is left out.
func BenchmarkStream(b *testing.B) {
	const what = "100 MB out of a guest: exec / bare line"
	k, err := kernel.Find(os.Getenv)
	if err != nil {
		skip(b, what, err.Error())
	}
	s, err := (&uml.Backend{Config: uml.Config{Kernel: k}, Env: os.Getenv, Modules: guest.Modules}).Boot(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	lab, err := s.Up(b.Context(), wire.Job{
		Version: wire.Version, Labs: []string{"lab"}, Files: []wire.File{{Path: "lab.yaml", Name: "lab", Data: []byte(streamLab)}},
	})
	if err != nil {
		b.Fatal(err)
	}
	bare, err := startBareLine(b, k.Image)
	if err != nil {
		b.Fatal(err)
	}
	for range b.N {
		r := inTurns(b, pairs(10), func() (time.Duration, error) { return streamOut(b, lab) }, bare.stream)
		// A ratio of speeds, as the goal is said: the other way round.
		speed := 1 / r.ratio()
		b.ReportMetric(speed, "of-the-bare-line's-speed")
		results.add(what+" (of its speed)", r, speed, ">= 0.5")
	}
}

// streamOut has a program in a node write.
func streamOut(b *testing.B, lab live.Lab) (time.Duration, error) {
	var n counter
	begin := time.Now()
	exit, err := lab.Exec(b.Context(), live.Exec{
		Node: "one", Args: []string{"dd", "if=/dev/zero", fmt.Sprintf("bs=%d", streamPiece), fmt.Sprintf("count=%d", streamPieces), "status=none"},
	}, live.Streams{Stdout: &n, Stderr: io.Discard})
	took := time.Since(begin)
	if err == nil && (exit.Code != 0 || n != streamPiece*streamPieces) {
		err = fmt.Errorf("dd ended with %+v after %d bytes", exit, n)
	}
	return took, err
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// bareLine is a guest with nothing but a program that writes to its line.
type bareLine struct{ line *os.File }

// bareLineArg makes the test binary the init of a bareLine. It stands on the
// kernel's command line, too.
const bareLineArg = "lvslab-bench-bare-line"

// startBareLine boots a kernel as package uml does, but for the folder and the
// isolation. It ends with its line, which ends with the benchmark.
func startBareLine(b *testing.B, image string) (*bareLine, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// The kernel takes no long paths for its sockets.
	dir, err := os.MkdirTemp("/tmp", "b-")
	if err != nil {
		return nil, err
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	line, theirs := os.NewFile(uintptr(fds[0]), "line"), os.NewFile(uintptr(fds[1]), "line")
	defer theirs.Close()
	console, err := os.Create(filepath.Join(dir, "console"))
	if err != nil {
		return nil, err
	}
	defer console.Close()
	cmd := exec.Command(image,
		"mem=128M", "rootfstype=hostfs", "rootflags=/", "ro", "devtmpfs.mount=0", "init="+self,
		"con=null", "con0=null,fd:1", "ssl=null", "ssl0=fd:3,fd:3", "uml_dir="+dir+"/", "umid=uml",
		"quiet", "lpj=18390000", "initcall_blacklist=raid6_select_algo", "pty.legacy_count=0", "GOMAXPROCS=1", "--", bareLineArg)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = console, console
	cmd.ExtraFiles = []*os.File{theirs}
	started := make(chan error)
	go func() {
		// The thread, and what it forks, is on one CPU; it ends here.
		runtime.LockOSThread()
		var cpus unix.CPUSet
		err := unix.SchedGetaffinity(0, &cpus)
		for cpu := 0; err == nil && cpus.Count() > 1; cpu++ {
			cpus.Clear(cpu)
		}
		if err == nil {
			err = unix.SchedSetaffinity(0, &cpus)
		}
		const noRandomAddresses = 0x0040000 // ADDR_NO_RANDOMIZE, personality(2)
		_, _, _ = unix.RawSyscall(unix.SYS_PERSONALITY, noRandomAddresses, 0, 0)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	b.Cleanup(func() {
		_ = line.Close()
		_ = cmd.Wait()
	})
	l := &bareLine{line}
	// The line echoes until the guest has made it raw.
	if _, err := io.ReadFull(line, make([]byte, 1)); err != nil {
		shown, _ := os.ReadFile(console.Name())
		return nil, fmt.Errorf("the bare guest: %w; its console showed:\n%s", err, shown)
	}
	return l, nil
}

// stream asks for the bytes and reads them.
func (l *bareLine) stream() (time.Duration, error) {
	begin := time.Now()
	if _, err := l.line.Write([]byte{'\n'}); err != nil {
		return 0, err
	}
	n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{io.LimitReader(l.line, streamPiece*streamPieces)}, make([]byte, streamPiece))
	if err == nil && n < streamPiece*streamPieces {
		err = io.ErrUnexpectedEOF
	}
	return time.Since(begin), err
}

// bareLineInit is the life of a bareLine's init; elsewhere it returns at once.
func bareLineInit() {
	if os.Getpid() != 1 || len(os.Args) < 2 || os.Args[1] != bareLineArg {
		return
	}
	if err := writeBareLine(); err != nil {
		fmt.Fprintln(os.Stderr, "bare line:", err)
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func writeBareLine() error {
	if err := unix.Mount("dev", "/dev", "devtmpfs", 0, ""); err != nil {
		return err
	}
	fd, err := unix.Open("/dev/ttyS0", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return err
	}
	line := os.NewFile(uintptr(fd), "line")
	if _, err := line.Write([]byte("r")); err != nil {
		return err
	}
	piece := make([]byte, streamPiece)
	for {
		if _, err := io.ReadFull(line, piece[:1]); err != nil {
			return err
		}
		piece[0] = 0
		for range streamPieces {
			if _, err := line.Write(piece); err != nil {
				return err
			}
		}
	}
}
