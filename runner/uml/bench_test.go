package uml_test

import (
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/runner/wire"
)

// BenchmarkSession is a guest's whole life with the smallest job, on each rung.
func BenchmarkSession(b *testing.B) {
	for _, r := range []uml.Rung{uml.Root, uml.UserNS, uml.Bare} {
		b.Run(r.String(), func(b *testing.B) {
			k := testKernel(b)
			var boot, run, end time.Duration
			for b.Loop() {
				begin := time.Now()
				s, err := uml.Boot(b.Context(), uml.Config{Kernel: k, Rung: r})
				if err != nil {
					b.Fatal(err)
				}
				boot += time.Since(begin)
				begin = time.Now()
				if err := s.Run(b.Context(), wire.Job{Labs: []string{"echo hello"}}, func(wire.Event) {}); err != nil {
					b.Fatal(err)
				}
				run += time.Since(begin)
				begin = time.Now()
				s.Close()
				end += time.Since(begin)
			}
			per := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / float64(b.N) }
			b.ReportMetric(per(boot), "boot-ms/op")
			b.ReportMetric(per(run), "job-ms/op")
			b.ReportMetric(per(end), "close-ms/op")
		})
	}
}
