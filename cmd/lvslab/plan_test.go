package main

import "testing"

func TestDialectOf(t *testing.T) {
	for release, want := range map[string]string{
		"": "arptables",
		"PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n":    "arptables-legacy",
		"ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n":           "arptables-legacy",
		"NAME=Fedora\nID=fedora\nVARIANT_ID=debian\n":         "arptables",
		"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n":      "arptables",
		"# ID=debian\nID=alpine\nHOME_URL=https://debian.org": "arptables",
	} {
		if got := dialectOf(release); got != want {
			t.Errorf("dialectOf(%q) = %s, wanted %s", release, got, want)
		}
	}
}
