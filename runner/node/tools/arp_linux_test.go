package tools

import (
	"os"
	"strings"
	"testing"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const why = "making network namespaces needs root"
	if os.Getenv("LVSLAB_REQUIRE") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// Whatever is typed, this package's arp says what that of net-tools does.
func TestArpAsNetTools(t *testing.T) {
	needRoot(t)
	if os.Getenv("LVSLAB_INSIDE") == "1" {
		t.Skip("the machine's own kernel can do it, too")
	}
	if _, err := os.Stat("/usr/sbin/arp"); err != nil {
		if os.Getenv("LVSLAB_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	mine, theirs := machineOf(t, "mine"), machineOf(t, "theirs")
	for _, line := range []string{
		"-an", "", "-n", "-s 172.25.12.50 02:00:00:00:00:05", "-s 172.25.12.51 2:0:0:0:0:6 temp", "-s 9.9.9.9 02:00:00:00:00:05",
		"-s 172.25.12.52", "-an", "-a", "-n", "-e", "", "-a 172.25.12.50", "-n 172.25.12.50", "172.25.12.9", "-a 172.25.12.9",
		"-an -i eth0", "-an -i eth9", "-ni eth0", "-vn", "-d 172.25.12.50", "-d 172.25.12.50", "-d 172.25.12.99", "-d 9.9.9.9",
		"-d 172.25.12.3 -i eth9", "-i eth0 -d 172.25.12.51", "-d", "-s", "-an",
	} {
		args := append([]string{"arp"}, strings.Fields(line)...)
		got, want := ours(t, mine, "", args), realOne(t, theirs, "", args)
		if sorted(got.text) != sorted(want.text) || got.exit != want.exit {
			t.Errorf("arp %s: exit %d and\n%swanted exit %d and\n%s", line, got.exit, got.text, want.exit, want.text)
		}
	}
}
