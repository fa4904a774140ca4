package kernel

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestImagePackage(t *testing.T) {
	for depends, want := range map[string]string{
		"linux-image-6.1.0-56-amd64 (= 6.1.192-2)\n":                    "linux-image-6.1.0-56-amd64",
		"foo (>= 1), linux-image-6.12.9+deb13-amd64 | other":            "linux-image-6.12.9+deb13-amd64",
		"linux-image-../../x (= 1), linux-image-6.1.0-1-amd64-unsigned": "linux-image-6.1.0-1-amd64-unsigned",
		"":                "",
		"linux-base, x|y": "",
	} {
		got, err := imagePackage(depends)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", depends, got, err)
		}
	}
}

func TestMirrorOf(t *testing.T) {
	lines := "main bookworm-security http://deb.debian.org/debian-security/\nstable bookworm https://other.example/linux/debian/\nmain bookworm http://ftp.example/debian/\n"
	if got := mirrorOf(lines, "bookworm"); got != "http://ftp.example/debian/" {
		t.Errorf("%q", got)
	}
	for _, codename := range []string{"", "trixie", "bookworm-security"} {
		if got := mirrorOf(lines, codename); got != "" {
			t.Errorf("%s: %q", codename, got)
		}
	}
}

func TestWanted(t *testing.T) {
	for name, want := range map[string]string{
		"./boot/vmlinuz-6.1.0":                                        "boot/vmlinuz",
		"./boot/System.map-6.1.0":                                     "",
		"./lib/modules/6.1.0/modules.builtin":                         "lib/modules/6.1.0/modules.builtin",
		"./usr/lib/modules/6.9/kernel/net/netfilter/ipvs/ip_vs.ko.xz": "lib/modules/6.9/kernel/net/netfilter/ipvs/ip_vs.ko.xz",
		"./lib/modules/6.1.0/kernel/drivers/net/veth.ko":              "lib/modules/6.1.0/kernel/drivers/net/veth.ko",
		"./lib/modules/6.1.0/kernel/drivers/net/ethernet/e1000.ko":    "",
		"./lib/modules/6.1.0/kernel/sound/a.ko":                       "",
		"./lib/modules/../../../etc/passwd":                           "",
		"/etc/passwd":                                                 "",
	} {
		if got := wanted(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// bzImage is an image with this payload, as boot.rst has it.
func bzImage(payload []byte) []byte {
	image := make([]byte, 5*512+16)
	image[0x1f1] = 4
	copy(image[0x202:], "HdrS")
	binary.LittleEndian.PutUint32(image[0x248:], 16)
	binary.LittleEndian.PutUint32(image[0x24c:], uint32(len(payload)+4))
	return append(append(image, payload...), 0, 0, 0, 0)
}

func TestPayload(t *testing.T) {
	got, err := payloadOf(bzImage([]byte("kernel")))
	if err != nil || string(got) != "kernel" {
		t.Errorf("%q, %v", got, err)
	}
	for name, image := range map[string][]byte{"empty": nil, "elf": bytes.Repeat([]byte{1}, 4096), "cut": bzImage([]byte("kernel"))[:2580]} {
		if _, err := payloadOf(image); err == nil {
			t.Errorf("%s: taken for a bzImage", name)
		}
	}
}

func FuzzPayload(f *testing.F) {
	f.Add(bzImage([]byte("kernel")))
	f.Add([]byte("HdrS"))
	f.Fuzz(func(t *testing.T, image []byte) {
		if got, err := payloadOf(image); err == nil && (len(got) == 0 || len(got) > len(image)) {
			t.Fatalf("%d bytes of %d", len(got), len(image))
		}
	})
}

// TestDecompress has the real dpkg-deb decompress what the real programs made.
func TestDecompress(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip(err)
	}
	want := strings.Repeat("some text that is no archive\n", 1000)
	forms := make(map[string][]byte)
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, _ = w.Write([]byte(want))
	_ = w.Close()
	forms["gz"] = gz.Bytes()
	for _, tool := range []string{"xz", "zstd"} {
		cmd := exec.Command(tool, "-c")
		cmd.Stdin = strings.NewReader(want)
		if out, err := cmd.Output(); err == nil {
			forms[tool] = out
		}
	}
	for name, data := range forms {
		a := apt{dir: t.TempDir()}
		path := filepath.Join(a.dir, "out")
		if err := a.decompress(t.Context(), data, path); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if err := a.decompress(t.Context(), data[:len(data)/2], path); err == nil {
			t.Errorf("%s: half of it is no error", name)
		}
	}
	a := apt{dir: t.TempDir()}
	if err := a.decompress(t.Context(), []byte("plain"), filepath.Join(a.dir, "out")); err == nil || !strings.Contains(err.Error(), "70 6c 61 69 6e") {
		t.Errorf("%v", err)
	}
}

func TestModulesDep(t *testing.T) {
	info := func(path, text string) modinfo {
		m := parseModinfo(strings.ReplaceAll(text, " ; ", "\x00"))
		m.name, m.path = ModuleName(path), path
		return m
	}
	got := modulesDep([]modinfo{
		info("net/ip-vs.ko", "depends=libcrc32c,nf-conntrack ; license=GPL"),
		info("net/nf_conntrack.ko", "depends=libcrc32c"),
		info("lib/libcrc32c.ko", "depends= ; softdep=pre: crc32c post: zlib"),
		info("crypto/crc32c_intel.ko", "alias=crc32c"),
		info("crypto/crc32c_generic.ko", "alias=crc32c ; alias=crypto-crc32c"),
		info("net/hw.ko", "depends=not_kept"),
		info("net/hw2.ko", "depends=hw"),
		info("a.ko", "softdep=pre: b"),
		info("b.ko", "softdep=pre: a"),
		info("c.ko", "depends=d"),
		info("d.ko", "depends=c"),
	})
	want := `a.ko: b.ko
b.ko:
crypto/crc32c_generic.ko:
crypto/crc32c_intel.ko:
lib/libcrc32c.ko: crypto/crc32c_generic.ko
net/ip-vs.ko: lib/libcrc32c.ko net/nf_conntrack.ko
net/nf_conntrack.ko: lib/libcrc32c.ko
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	m, err := ParseModules([]byte(got), nil)
	if err != nil {
		t.Fatal(err)
	}
	order, err := m.Order("ip_vs")
	if err != nil || len(order) != 4 || order[0].Name != "crc32c_generic" || order[3].Name != "ip_vs" {
		t.Errorf("%v, %v", order, err)
	}
}

func FuzzParseModinfo(f *testing.F) {
	f.Add("depends=a,b\x00softdep=pre: c post: d\x00alias=x\x00name=m\x00")
	f.Add("softdep=pre:\x00=\x00depends=,,-")
	f.Fuzz(func(t *testing.T, text string) {
		m := parseModinfo(text)
		m.path, m.name = "m.ko", "m"
		if _, err := ParseModules([]byte(modulesDep([]modinfo{m})), nil); err != nil {
			t.Fatal(err)
		}
	})
}

// TestGenericKernel looks at what Install made of the real package, where it
// has: the modules load in an order that holds all they need.
func TestGenericKernel(t *testing.T) {
	k, err := QEMU.Find(os.Getenv)
	if err != nil {
		if os.Getenv("LVSLAB_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if err := Verify(k); err != nil {
		t.Error(err)
	}
	m, err := k.ReadModules()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"9p", "9pnet_virtio", "virtio_pci", "virtio_console", "ip_vs", "ip_vs_mh", "ipip", "veth", "bridge", "overlay", "nf_tables", "xt_ipvs", "nft_compat", "sch_netem", "sctp", "fou", "ip6_tunnel", "nfs", "nfsv3", "arp_tables"} {
		if _, err := m.Order(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m.Has("e1000e") {
		t.Error("drivers of hardware were kept")
	}
}
