package importer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/scenarios/importer/config"
)

// files makes files in a folder of their own, which becomes the working one.
func files(t *testing.T, texts map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range texts {
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	files(t, map[string]string{
		"empty":    "",
		"blank":    " \n\t\r\n",
		"comments": "# nothing\n\n# more\n",
		"binary":   "-A -f 1\n-a -f 1 -r 10.0.0.2\x00\n",
		"latin1":   "# caf\xe9\n-A -f 1\n",
		"cut":      "# caf\xc3",
		"bom":      "\ufeff-A -f 1\n",
		"utf16":    "\xff\xfe-\x00A\x00",
		"listing":  "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n",
		"prose":    "\nhello, world\n",
		"lab":      "# mine\ntitle: two servers\n",
		"document": "---\ntitle: two servers\n",
		"report":   "TAP version 14\n",
		"script":   "#!/bin/sh\nVIP=10.0.0.1\nipvsadm -A -t $VIP:80\n",
		"variable": "VIP=10.0.0.1\n",
		"sudo":     "# as root\nsudo ipvsadm -C\n",
		"rules":    "-A -f 1\n",
		"big":      "",
	})
	if err := os.Truncate("big", 50<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("folder", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo("pipe", 0o666); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"empty":     "empty: is empty; wanted ipvsadm rules or a keepalived.conf",
		"blank":     "blank: is empty; wanted ipvsadm rules or a keepalived.conf",
		"comments":  "comments: holds nothing but comments; wanted ipvsadm rules or a keepalived.conf",
		"binary":    "binary:2:20: a NUL byte, at offset 27: this is no text file",
		"latin1":    "latin1:1:6: byte 0xe9, at offset 5, is not valid UTF-8; save the file as UTF-8",
		"cut":       "cut:1:6: byte 0xc3, at offset 5, is not valid UTF-8; save the file as UTF-8",
		"bom":       "bom:1:1: begins with a byte order mark (EF BB BF), which ipvsadm and keepalived take for a part of the first word; save it without one",
		"utf16":     "utf16: is UTF-16, which neither ipvsadm nor keepalived reads; save it as UTF-8",
		"listing":   "listing:1: this is a table as ipvsadm -L shows it, which leaves out half of it; save it with ipvsadm -S -n",
		"prose":     `prose:2: "hello, world" begins neither an ipvsadm rule (-A, -a, ipvsadm -A) nor a block of a keepalived.conf (virtual_server ADDRESS PORT {); say what the file is with --as ipvsadm or --as keepalived`,
		"lab":       "lab:2: this is a lab, and not a director's configuration; run it with lvslab run, or hold a configuration against it with lvslab test FILE --against LAB.yaml",
		"document":  "document:1: this is a lab, and not a director's configuration; run it with lvslab run, or hold a configuration against it with lvslab test FILE --against LAB.yaml",
		"report":    "report:1: this is a report of lvslab's, and not a configuration; a file to write it to stands behind a =: --json=FILE, --tap=FILE",
		"script":    `script:2: "VIP=10.0.0.1" is of a shell script, and an import runs nothing; run the script, and save what it made with ipvsadm -S -n`,
		"variable":  `variable:1: "VIP=10.0.0.1" is of a shell script, and an import runs nothing; run the script, and save what it made with ipvsadm -S -n`,
		"sudo":      `sudo:2: "sudo ipvsadm -C" is of a shell script, and an import runs nothing; run the script, and save what it made with ipvsadm -S -n`,
		"rule":      `rule: no such file; did you mean "rules"?`,
		"none/here": "none/here: no such file",
		"big":       "big: is larger than 8 MiB; that is no configuration",
		"folder":    "folder: is a folder, wanted a file",
		"pipe":      "pipe: is a named pipe, wanted a file",
		"/dev/zero": "/dev/zero: is a device, wanted a file",
	} {
		if _, err := Read(path, ReadOptions{}); err == nil || err.Error() != want {
			t.Errorf("%v\nwanted\n%s", err, want)
		}
	}
	if _, err := Read("rules", ReadOptions{As: "nginx"}); err == nil || !strings.HasPrefix(err.Error(), `rules: unknown kind "nginx"; Allowed: ipvsadm, keepalived`) {
		t.Errorf("an unknown kind: %v", err)
	}
}

// TestReadEndless: what has no end is not read to it.
func TestReadEndless(t *testing.T) {
	endless, err := os.Open("/dev/zero")
	if err != nil {
		t.Skip(err)
	}
	defer endless.Close()
	if _, err := Read(Stdin, ReadOptions{Stdin: endless}); err == nil || err.Error() != "stdin: is larger than 8 MiB; that is no configuration" {
		t.Errorf("/dev/zero: %v", err)
	}
}

// TestReadLinks: what a link, or standard input, keeps from being included is
// told, even where a wildcard might have matched nothing.
func TestReadLinks(t *testing.T) {
	const service = "virtual_server 10.0.0.100 80 {\n protocol TCP\n lb_algo rr\n lb_kind DR\n real_server 10.0.0.2 80 {\n }\n}\n"
	files(t, map[string]string{"outside/x.conf": service, "conf/inside/x.conf": service})
	const link = "a link leads out of the configuration's folder, and an import reads nothing outside it; copy the file there"
	for name, target := range map[string]string{"conf/linked": "../outside", "conf/one.conf": "../outside/x.conf", "conf/fine": "inside"} {
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	for include, want := range map[string]string{
		"include linked/x.conf": "conf/k.conf:1:1: include linked/x.conf: " + link,
		"include linked/*.conf": "conf/k.conf:1:1: include linked/*.conf: " + link,
		"include l*/x.conf":     "conf/k.conf:1:1: include l*/x.conf: linked: " + link,
		"include l*/*.conf":     "conf/k.conf:1:1: include l*/*.conf: linked: " + link,
		"include o*.conf":       "conf/k.conf:1:1: include one.conf: " + link,
		"include fine/*.conf":   "",
		"include none/*.conf":   "conf/k.conf: has no virtual_server with real servers; there is nothing to balance",
	} {
		if err := os.WriteFile("conf/k.conf", []byte(include+"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		_, err := Read("conf/k.conf", ReadOptions{})
		if err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("%s: %v\nwanted %s", include, err, want)
		}
	}
	want := "stdin:1:1: include conf.d/*.conf: standard input has no folder to include from"
	if _, err := Read(Stdin, ReadOptions{Stdin: strings.NewReader("include conf.d/*.conf\n" + service)}); err == nil || err.Error() != want {
		t.Errorf("%v\nwanted %s", err, want)
	}
}

func TestKindOf(t *testing.T) {
	for text, want := range map[string]config.Kind{
		"-A -t 10.0.0.1:80":                            config.IPVSAdm,
		"# c\n\n  ipvsadm -A -t 10.0.0.1:80":           config.IPVSAdm,
		"ipvsadm\t-C":                                  config.IPVSAdm,
		"/sbin/ipvsadm -C":                             config.IPVSAdm,
		"--add-service -f 1":                           config.IPVSAdm,
		"! keepalived\n":                               config.Keepalived,
		"# c\n! c\nglobal_defs {\n":                    config.Keepalived,
		"global_defs\n{\n":                             config.Keepalived,
		"virtual_server 10.0.0.1 80 {":                 config.Keepalived,
		"virtual_server fwmark 1":                      config.Keepalived,
		"include conf.d/*.conf":                        config.Keepalived,
		"$VIP=10.0.0.1":                                config.Keepalived,
		"@main virtual_server 10.0.0.1 80 {":           config.Keepalived,
		"~SEQ(x, 1, 4) virtual_server 10.0.0.$x 80 {":  config.Keepalived,
		"vrrp_isntance VI_1 {":                         config.Keepalived,
		"# a\r\n\r\nvirtual_server_group G\r\n{\r\n":   config.Keepalived,
		"virtual_server 10.0.0.1 80 { # web\n lb_algo": config.Keepalived,
	} {
		if got, err := kindOf("f", []byte(text), ""); got != want {
			t.Errorf("%q: %q, %v; wanted %q", text, got, err, want)
		}
	}
	if got, err := kindOf("f", []byte("hello"), config.Keepalived); got != config.Keepalived || err != nil {
		t.Errorf("what a person says: %q, %v", got, err)
	}
}
