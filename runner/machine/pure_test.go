package machine

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseMounts(t *testing.T) {
	got := parseMounts("22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n" +
		`30 22 0:26 / /a\040b rw,nosuid,nodev,noexec - tmpfs tmpfs rw` + "\ngarbage\n")
	want := []mount{{"/", unix.MS_RELATIME}, {"/a b", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add("22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n")
	f.Add(`1 1 1 / /\040\134 ro`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range parseMounts(text) {
			if !strings.HasPrefix(m.at, "/") {
				t.Fatalf("mount point %q", m.at)
			}
		}
	})
}

func TestRingKeepsTheEnd(t *testing.T) {
	r := newRing(100)
	for range 50 {
		_, _ = r.Write([]byte("SELinux: chatter\nline \x1b[31m\xff\n"))
	}
	_, _ = r.Write([]byte("Stack:\n 00 11\nCall Trace:\n [<60>] ? doubt+0x0\n [<61>] sure+0x1\nlast"))
	tail := r.tail()
	if !strings.HasSuffix(tail, "Call Trace:\n [<61>] sure+0x1\nlast") || strings.ContainsAny(tail, "\x1b\xff") || len(tail) > 200 {
		t.Errorf("tail: %q", tail)
	}
}
