package live

import (
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Gauges are what a process takes.
type Gauges struct {
	Goroutines  int `json:"goroutines"`
	Descriptors int `json:"descriptors"`
	Threads     int `json:"threads"`
	// Memory is what is resident, in bytes.
	Memory int64 `json:"memory"`
}

// Measure is what this process takes, 0 for what cannot be told.
func Measure() Gauges {
	g := Gauges{Goroutines: runtime.NumGoroutine()}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		g.Descriptors = len(fds) - 1 // but for the one that this took
	}
	status, _ := os.ReadFile("/proc/self/status") // empty where there is none
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		switch {
		case err != nil:
		case f[0] == "VmRSS:":
			g.Memory = n << 10 // proc_pid_status(5): in kB
		case f[0] == "Threads:":
			g.Threads = int(n)
		}
	}
	return g
}
