package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/lvslab/lvslab/runner/machine"
)

// warmPatience bounds the start from a snapshot, which takes under a second.
const warmPatience = 20 * time.Second

// Boot starts a guest and returns when it has said its first word. ctx bounds
// the boot, not the session's life. The error is a *machine.GuestError where a
// guest was started and came to nothing.
//
// By KVM it is started where a guest has booted so; from a snapshot where one of
// the same guest is in the cache. What does not start that way starts another.
func Boot(ctx context.Context, c Config) (*machine.Session, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	switch {
	case c.KVM == KVMAlways:
		return (&booting{c, accelKVM}).boot(ctx)
	case c.KVM == KVMNever, c.Cache == "":
		return (&booting{c, accelTCG}).boot(ctx)
	}
	if s, err := c.tryKVM(ctx); s != nil || err != nil {
		return s, err
	}
	return (&booting{c, accelTCG}).boot(ctx)
}

// tryKVM boots by KVM unless it is known not to work. Neither a session nor an
// error means that the processor is to be emulated.
func (c Config) tryKVM(ctx context.Context) (*machine.Session, error) {
	if err := kvmThere(); err != nil {
		c.logf("no KVM: %v", err)
		return nil, nil
	}
	known, ok := recallKVM(c.Cache, c.Program)
	if ok && !known.Works {
		c.logf("no KVM: a guest did not boot by it at %s (%s)", known.At.Local().Format("2006-01-02 15:04"), known.Why)
		return nil, nil
	}
	try := c
	if !ok {
		// What cannot be remembered would be tried for each guest.
		if err := rememberKVM(c.Cache, c.Program, kvmAnswer{Trying: true, Why: "another lvslab tries it now"}); err != nil {
			c.logf("no KVM: whether a guest boots by it could not be remembered: %v", err)
			return nil, nil
		}
		c.logf("%s can be opened; whether a guest boots by it is tried for %v", kvmDevice, kvmPatience)
		// A boot and nothing else.
		try.BootTimeout, try.NoSnapshot = min(c.BootTimeout, kvmPatience), true
	}
	s, err := (&booting{try, accelKVM}).boot(ctx)
	var dead *machine.GuestError
	switch {
	case err == nil:
		if !ok {
			_ = rememberKVM(c.Cache, c.Program, kvmAnswer{Works: true}) // it could be a moment ago
		}
		return s, nil
	case ctx.Err() != nil || !errors.As(err, &dead):
		if !ok {
			forgetKVM(c.Cache)
		}
		return nil, err
	}
	_ = rememberKVM(c.Cache, c.Program, kvmAnswer{Why: dead.What})
	c.logf("no KVM: a guest did not boot by it: %s", dead.What)
	return nil, nil
}

// booting is a guest that is to be started, in one of the ways there are.
type booting struct {
	Config
	accel string
}

func (b *booting) boot(ctx context.Context) (*machine.Session, error) {
	if b.Cache == "" || b.NoSnapshot {
		return b.cold(ctx, nil)
	}
	snapshots := newStore(b.Cache)
	sums := readSums(filepath.Join(b.Cache, snapshotFolder, "sums.json"))
	key, err := b.key(sums)
	if err != nil {
		return nil, err
	}
	sums.write()
	if s, err := b.fromStore(ctx, snapshots, key); s != nil || err != nil {
		return s, err
	}
	n, err := snapshots.save(key)
	if err != nil {
		b.logf("no snapshot is made: %v", err)
		return b.cold(ctx, nil)
	}
	defer n.close()
	return b.cold(ctx, n)
}

// fromStore starts the guest from the snapshot of a key. Neither a session nor an
// error means that there is none that is any good.
func (b *booting) fromStore(ctx context.Context, snapshots *store, key string) (*machine.Session, error) {
	f, t, err := snapshots.open(key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		b.logf("%v; a new one is made", err)
		_ = os.Remove(snapshots.path(key))
		return nil, nil
	}
	defer f.Close()
	s, err := b.warm(ctx, f, t)
	var dead *machine.GuestError
	if err == nil || ctx.Err() != nil || !errors.As(err, &dead) {
		return s, err
	}
	b.logf("the guest does not start from the snapshot %s, a new one is made: %v", f.Name(), err)
	snapshots.remove(f)
	return nil, nil
}

// warm starts the guest from a snapshot. QEMU reads it while its content is
// checked; the guest goes on when that has come out well.
func (b *booting) warm(ctx context.Context, f *os.File, t trailer) (*machine.Session, error) {
	checked := make(chan error, 1)
	go func() { checked <- check(f, t) }()
	defer func() { checked <- <-checked }() // the file is the caller's again
	spec := b.spec(b.arguments([]string{"-incoming", fmt.Sprintf("fd:%d", firstFd)}), f)
	spec.BootTimeout = min(spec.BootTimeout, warmPatience)
	spec.Before = machine.Stager{Kept: true, Ready: func(context.Context) error {
		err := <-checked
		checked <- err
		return err
	}}.Before
	b.logf("guest: from the snapshot %s, %d MB", f.Name(), t.Size>>20)
	return machine.Boot(ctx, spec)
}

// cold boots the guest's kernel, and fills a snapshot on the way unless n is nil.
func (b *booting) cold(ctx context.Context, n *saving) (*machine.Session, error) {
	image, err := initramfs(b.Kernel, b.Self)
	if err != nil {
		return nil, err
	}
	defer image.Close()
	boot := []string{"-initrd", fmt.Sprintf("/proc/self/fd/%d", firstFd)}
	if n == nil {
		spec := b.spec(b.arguments(boot), image)
		spec.Before = machine.Stager{}.Before
		return machine.Boot(ctx, spec)
	}
	m, theirs, err := newMonitor()
	if err != nil {
		return nil, err
	}
	defer m.close()
	defer theirs.Close()
	var unsaved error
	alive := true
	spec := b.spec(b.arguments(append(boot,
		"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", firstFd+1), "-mon", "chardev=monitor,mode=control")), image, theirs)
	spec.Before = machine.Stager{Ready: func(context.Context) error {
		if alive, unsaved = m.save(n.f); !alive {
			return unsaved
		}
		return nil
	}}.Before
	s, err := machine.Boot(ctx, spec)
	switch {
	case err != nil && !alive && ctx.Err() == nil:
		b.logf("no snapshot is made, and the guest did not survive the try: %v", unsaved)
		return b.cold(ctx, nil)
	case err != nil:
		return nil, err
	}
	if unsaved == nil {
		unsaved = n.keep()
	}
	if unsaved != nil {
		b.logf("no snapshot is made: %v", unsaved)
	}
	return s, nil
}

// spec is the machine, with files that QEMU inherits from firstFd on.
func (b *booting) spec(args []string, files ...*os.File) machine.Spec {
	s := machine.Spec{
		Kind: kind, Program: b.Program, Args: args, Files: files,
		Self: b.Self, Modules: b.Kernel.Modules, Needed: []string{b.Kernel.Image},
		Room: folderRoom, WorkDir: b.WorkDir, Rung: b.Rung,
		BootTimeout: b.BootTimeout, Silence: b.Silence, Explain: explain, Log: b.Log,
	}
	if b.accel == accelKVM {
		s.Devices = []string{kvmDevice}
	}
	return s
}

func (c Config) logf(format string, args ...any) {
	if c.Log != nil {
		fmt.Fprintf(c.Log, format+"\n", args...)
	}
}
