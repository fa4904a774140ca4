package probe

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFit(t *testing.T) {
	wide := limits{neighbours: noLimit, namespaces: noLimit, memory: noLimit, files: noLimit, threads: noLimit, cpus: 2}
	with := func(f func(*limits)) limits { l := wide; f(&l); return l }
	usual := with(func(l *limits) {
		l.neighbours, l.namespaces, l.memory, l.files, l.threads = 1024, 60000, 2<<30, 1<<20, 30000
	})
	for _, tt := range []struct {
		name      string
		l         limits
		nodes     int
		want, fix string // no want: there is room
	}{
		{"a usual lab", usual, 5, "", ""},
		{"all neighbours", usual, 1024, "", ""},
		{"a neighbour too many", usual, 1025, "1024 neighbours (net.ipv4.neigh.default.gc_thresh3)", "sudo sysctl net.ipv4.neigh.default.gc_thresh3=4096"},
		{"namespaces", with(func(l *limits) { l.namespaces = 10 }), 11, "user.max_net_namespaces", "sudo sysctl user.max_net_namespaces=32"},
		{"no memory", with(func(l *limits) { l.memory = 100 << 20 }), 1000, "100 MiB can be had", ""},
		{"memory", with(func(l *limits) { l.memory = 100 << 20 }), 90, "", ""},
		{"files", with(func(l *limits) { l.files = 1024 }), 256, "RLIMIT_NOFILE", "ulimit -n 2048"},
		{"threads", with(func(l *limits) { l.threads, l.limitedBy = 300, "kernel.pid_max" }), 256, "300 can be had (kernel.pid_max)", ""},
		{"the Go runtime", wide, 9900, "a Go program has at most 10000", ""},
		{"absurd", wide, 1 << 62, "nobody has that many", ""},
		{"negative", wide, -1, "at least none", ""},
		{"none", with(func(l *limits) { l.memory = spareBytes }), 0, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.l.fit(tt.nodes)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var room *RoomError
			if !errors.As(err, &room) || !strings.Contains(err.Error(), tt.want) || room.Fix != tt.fix || room.Nodes != tt.nodes {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestReadLimits(t *testing.T) {
	files := map[string]string{
		"/proc/sys/net/ipv4/neigh/default/gc_thresh3": "1024\n",
		"/proc/sys/user/max_net_namespaces":           "5\n",
		"/proc/sys/kernel/threads-max":                "1000\n",
		"/proc/sys/kernel/pid_max":                    "32768\n",
		"/proc/loadavg":                               "0.26 0.34 0.27 2/100 9716\n",
		"/proc/meminfo":                               "MemTotal: 9 kB\nMemAvailable:    4096 kB\n",
	}
	read := func(more map[string]string) limits {
		dir := t.TempDir()
		all := maps.Clone(files)
		maps.Copy(all, more)
		for name, text := range all {
			if err := os.MkdirAll(filepath.Dir(dir+name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(dir+name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return readLimits(root{dir: dir})
	}
	l := read(nil)
	if l.neighbours != 1024 || l.namespaces != 5 || l.threads != 900 || l.limitedBy != "kernel.threads-max" || l.memory != 4<<20 || l.files < 1 || l.cpus < 1 {
		t.Errorf("got %+v", l)
	}
	l = read(map[string]string{
		"/proc/self/cgroup":                 "4:memory:/old\n0::/a/b\n",
		"/sys/fs/cgroup/a/pids.max":         "50\n",
		"/sys/fs/cgroup/a/pids.current":     "60\n",
		"/sys/fs/cgroup/a/b/pids.max":       "max\n",
		"/sys/fs/cgroup/a/b/memory.max":     "1000000\n",
		"/sys/fs/cgroup/a/b/memory.current": "900000\n",
		"/sys/fs/cgroup/a/b/memory.stat":    "anon 5\ninactive_file 1000\n",
	})
	if l.threads != 0 || l.limitedBy != "pids.max of the control group /a" || l.memory != 101000 {
		t.Errorf("in control groups: %+v", l)
	}
	none := readLimits(root{dir: t.TempDir()})
	none.files, none.cpus = noLimit, 0
	if none != (limits{neighbours: noLimit, namespaces: noLimit, memory: noLimit, files: noLimit, threads: noLimit}) {
		t.Errorf("of nothing: %+v", none)
	}
}

func TestRoomHere(t *testing.T) {
	if err := Room(5); err != nil {
		t.Error(err)
	}
	var room *RoomError
	if err := Room(1 << 23); !errors.As(err, &room) {
		t.Errorf("got %v", err)
	}
}

func FuzzMemAvailable(f *testing.F) {
	f.Add([]byte("MemTotal: 9 kB\nMemAvailable:    4096 kB\n"))
	f.Add([]byte("MemAvailable: -4096 kB\n0::/../x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n := memAvailable(data); n != noLimit && n < 0 {
			t.Errorf("%d bytes", n)
		}
		if p := cgroupPath(data); p != "" && (p[0] != '/' || strings.Contains(p+"/", "/../")) {
			t.Errorf("control group %q", p)
		}
	})
}
