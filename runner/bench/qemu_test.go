package bench

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/qemu"
)

// BenchmarkSnapshot compares the start of a guest in QEMU, up to its first word,
// from a snapshot with the boot of the same guest. Both have their processor
// emulated.
func BenchmarkSnapshot(b *testing.B) {
	const what = "a guest in QEMU from a snapshot, against its boot"
	k, err := kernel.QEMU.Find(os.Getenv)
	if _, perr := exec.LookPath(qemu.Program); err != nil || perr != nil {
		skip(b, what, errors.Join(err, perr).Error())
	}
	dir := b.TempDir()
	lvslab := filepath.Join(dir, "lvslab")
	build(b, lvslab, "github.com/lvslab/lvslab/cmd/lvslab")
	start := func(fresh bool) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			var log strings.Builder
			begin := time.Now()
			s, err := qemu.Boot(b.Context(), qemu.Config{Kernel: k, Self: lvslab, Cache: dir, KVM: qemu.KVMNever, NoSnapshot: fresh, Log: &log})
			took := time.Since(begin)
			if err != nil {
				return 0, err
			}
			s.Close()
			if strings.Contains(log.String(), "no snapshot") || strings.Contains(log.String(), "does not start") {
				return 0, errors.New(log.String())
			}
			return took, nil
		}
	}
	s := inTurns(b, pairs(7), start(false), start(true))
	b.ReportMetric(s.ratio(), "x-boot")
	b.ReportMetric(float64(median(s.ours).Milliseconds()), "ms-snapshot")
	b.ReportMetric(float64(median(s.theirs).Milliseconds()), "ms-boot")
	results.add(what, s, s.ratio(), "<= 0.5")
}
