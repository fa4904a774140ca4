package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/importer"
	"github.com/lvslab/lvslab/scenarios/ipvs"
)

// A large director's configuration.
const (
	importServices = 1000
	importServers  = 10 // of each service
)

// BenchmarkImport measures the way from a file to a lab: Read and Draft, and
// that with scenarios.Load, which is what lvslab import and lvslab test do: every
// lab that they write is one that loads. It is compared with reading the same
// services as rules and nothing else. Beside the wall time stands the time of the
// processors, user and system, of all threads, the collector's among them: what
// else the machine does falls on it less.
func BenchmarkImport(b *testing.B) {
	rules := manyRules()
	for _, tt := range []struct{ kind, name, text string }{
		{"ipvsadm", "rules", rules},
		{"keepalived", "keepalived.conf", manyServers()},
	} {
		b.Run(tt.kind, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), tt.name)
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				b.Fatal(err)
			}
			what := fmt.Sprintf("import of %d services with %d real servers (%s)", importServices, importServices*importServers, tt.kind)
			for _, way := range []struct {
				name string
				load bool
			}{{"Read and Draft", false}, {"Read, Draft and Load", true}} {
				var used []time.Duration
				s := inTurns(b, pairs(5),
					func() (time.Duration, error) {
						wall, cpu, err := importFile(path, way.load)
						used = append(used, cpu)
						return wall, err
					},
					func() (time.Duration, error) { return parseRules(rules) })
				unit := strings.ToLower(strings.NewReplacer(" ", "-", ",", "").Replace(way.name))
				b.ReportMetric(float64(median(s.ours).Nanoseconds()), "ns-"+unit)
				b.ReportMetric(float64(median(used[1:]).Nanoseconds()), "cpu-ns-"+unit)
				b.ReportMetric(s.ratio(), "x-rules-"+unit)
				results.add(fmt.Sprintf("%s: %s (CPU %s ms), against reading its rules", what, way.name, ms(median(used[1:]))), s, s.ratio(), "first < 1000")
			}
		})
	}
}

// manyRules are the services as ipvsadm -S -n saves them.
func manyRules() string {
	var b strings.Builder
	for i := range importServices {
		service := fmt.Sprintf("-t 198.18.%d.%d:80", i/250, i%250+1)
		fmt.Fprintf(&b, "-A %s -s wrr\n", service)
		for j := range importServers {
			fmt.Fprintf(&b, "-a %s -r 10.%d.%d.%d:80 -m -w %d\n", service, i/250, i%250, j+2, j%3+1)
		}
	}
	return b.String()
}

// manyServers are the same services as keepalived has them.
func manyServers() string {
	var b strings.Builder
	b.WriteString("global_defs {\n  router_id large\n}\n")
	for i := range importServices {
		fmt.Fprintf(&b, "virtual_server 198.18.%d.%d 80 {\n  delay_loop 6\n  lb_algo wrr\n  lb_kind NAT\n  protocol TCP\n", i/250, i%250+1)
		for j := range importServers {
			fmt.Fprintf(&b, "  real_server 10.%d.%d.%d 80 {\n    weight %d\n    TCP_CHECK {\n      connect_timeout 3\n    }\n  }\n", i/250, i%250, j+2, j%3+1)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// processorTime is what this process has used of the processors, user and system.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0 // it never fails for the process itself
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func importFile(path string, load bool) (wall, cpu time.Duration, err error) {
	runtime.GC()
	start, before := time.Now(), processorTime()
	c, err := importer.Read(path, importer.ReadOptions{})
	if err != nil {
		return 0, 0, err
	}
	lab, err := importer.Draft(c, importer.DraftOptions{})
	if err != nil {
		return 0, 0, err
	}
	if load {
		if _, err := scenarios.Load(lab.Name+".yaml", lab.Name, lab.Text); err != nil {
			return 0, 0, err
		}
	}
	return time.Since(start), processorTime() - before, nil
}

func parseRules(text string) (time.Duration, error) {
	runtime.GC()
	start := time.Now()
	_, err := ipvs.ParseRules("rules", text)
	return time.Since(start), err
}
