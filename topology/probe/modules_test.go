package probe

import (
	"maps"
	"slices"
	"testing"
)

func TestParseLoaded(t *testing.T) {
	got, err := parseLoaded([]byte("ip_vs_rr 12288 0 - Live 0x0000000000000000\n" +
		"ip_vs 212992 2 ip_vs_rr, Live 0xffffffffc0a50000 (OE)\n" +
		"old 4096 - - Live 0x0\n" + // without CONFIG_MODULE_UNLOAD
		"going 4096 -1 - Unloading 0x0\n" +
		"coming 4096 1 - Loading 0x0\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]moduleState{"ip_vs_rr": live, "ip_vs": live, "old": live, "going": unloading, "coming": loading}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"ip_vs\n", "ip_vs big 0 - Live 0x0\n", "ip_vs 1 0 - Dead 0x0\n"} {
		if got, err := parseLoaded([]byte(bad)); err == nil {
			t.Errorf("%q gave %v", bad, got)
		}
	}
}

func TestParsePaths(t *testing.T) {
	got := slices.Sorted(maps.Keys(parsePaths([]byte("# comment\n\n" +
		"kernel/net/netfilter/ipvs/ip_vs.ko.xz: kernel/net/netfilter/nf_conntrack.ko.xz\n" +
		"kernel/net/802/p8022.ko:\n/abs/some-thing.ko.zst\n"))))
	if want := []string{"ip_vs", "p8022", "some_thing"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestParseFilesystems(t *testing.T) {
	got := parseFilesystems([]byte("nodev\tsysfs\n\text4\nnodev\toverlay\n"))
	if !got["overlay"] || !got["ext4"] || got["nodev"] || len(got) != 3 {
		t.Errorf("got %v", got)
	}
}

func TestParseRelease(t *testing.T) {
	for _, tt := range []struct {
		in           string
		major, minor int
		ok           bool
	}{
		{"5.15.0-105-generic", 5, 15, true},
		{"6.18.44-x", 6, 18, true},
		{"7.2", 7, 2, true},
		{"6.1+", 6, 1, true},
		{"", 0, 0, false},
		{"linux", 0, 0, false},
		{"-1.2", 0, 0, false},
	} {
		if major, minor, ok := parseRelease(tt.in); ok != tt.ok || ok && (major != tt.major || minor != tt.minor) {
			t.Errorf("%q: %d %d %v", tt.in, major, minor, ok)
		}
	}
}

func FuzzParseLoaded(f *testing.F) {
	f.Add([]byte("ip_vs_rr 12288 0 - Live 0x0000000000000000\nip_vs 212992 2 ip_vs_rr, Live 0x0 (OE)\n"))
	f.Add([]byte("x 1 - - Unloading 0x0"))
	f.Add([]byte("\n \n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		loaded, err := parseLoaded(data)
		if err != nil && loaded != nil {
			t.Error("both a list and an error")
		}
		for name, state := range loaded {
			if state != live && state != loading && state != unloading || name != moduleName(name) {
				t.Errorf("%q is %q", name, state)
			}
		}
	})
}

func FuzzParsePaths(f *testing.F) {
	f.Add([]byte("kernel/net/netfilter/ipvs/ip_vs.ko.xz: kernel/net/netfilter/nf_conntrack.ko.xz\n"))
	f.Add([]byte("kernel/drivers/net/veth.ko\n#\n/\n..\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for name := range parsePaths(data) {
			if name == "" || name != moduleName(name) {
				t.Errorf("module %q", name)
			}
		}
		parseFilesystems(data)
		parseRelease(string(data))
	})
}
