package scenarios

import (
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/topology"
)

// storageLab is a lab with a storage node, with the lines of web1 put in.
func storageLab(web1 string) string {
	return `
title: storage
networks: {lan: 10.0.0.0/24, back: 10.0.1.0/24}
nodes:
  client: {links: {eth0: lan 10.0.0.250/24}}
  store:
    links: {eth0: back 10.0.1.10/24}
    files: {/srv/index.html: "text\n"}
    serve: [{service: nfs, port: 2050}]
  web1:
    links: {eth0: lan 10.0.0.2/24, eth1: back 10.0.1.2/24}
    serve: [{service: http, root: /srv}]
` + web1
}

func TestStorageOps(t *testing.T) {
	labs, err := Load("x.yaml", "x", []byte(storageLab("    mounts: {/srv: {from: store, path: /sub, options: [\"soft,timeo=3\", noac]}}\n")))
	if err != nil {
		t.Fatal(err)
	}
	p, err := labs[0].Plan()
	if err != nil {
		t.Fatal(err)
	}
	// In which order one rests on the other.
	want := []string{
		"mkdir -p \"$state\"/files/store/srv",
		"serve_nfs store 2050 - /srv",
		"ip netns exec web1 mount -t nfs -o vers=3,proto=tcp,port=2050,mountproto=tcp,mountport=2050,nolock,soft,timeo=3,noac 10.0.1.10:/sub /srv",
		"serve_http web1 80 - /srv",
	}
	var got []string
	for _, op := range p.Setup {
		if k := op.About().Key.Kind; k == "file" || k == "mount" || k == "daemon" {
			got = append(got, op.Shell(topology.Dialect{})[0])
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("ops\n%s\nwanted\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, f := range []topology.Feature{"nfs", "nfsv3", "overlay"} {
		if !slices.Contains(p.Needs, f) {
			t.Errorf("needs %v, not %s", p.Needs, f)
		}
	}
	for _, r := range []topology.Role{"file", "nfs-daemon", "storage-mount"} {
		if !slices.Contains(p.Roles, r) {
			t.Errorf("roles %v, not %s", p.Roles, r)
		}
	}
	if clients := labs[0].Clients(); !slices.Equal(clients, []string{"client"}) {
		t.Errorf("clients %v", clients)
	}
}

func TestStorageErrors(t *testing.T) {
	for web1, want := range map[string]string{
		"mounts: {/srv: {from: stor}}":                               `unknown node "stor"`,
		"mounts: {/srv: {from: client}}":                             "node client serves no NFS",
		"mounts: {/srv: {from: web1}}":                               "a folder of its own",
		"mounts: {srv: {from: store}}":                               `"srv": wanted an absolute path`,
		"mounts: {/: {from: store}}":                                 `"/": wanted an absolute path`,
		"mounts: {/srv/../etc: {from: store}}":                       "without . and ..",
		"mounts: {/dev/x: {from: store}}":                            "the kernel's",
		"mounts: {/srv: {from: store}, /srv/a: {from: store}}":       "one is below the other",
		"mounts: {/srv: {from: store, path: sub}}":                   `path: "sub"`,
		"mounts: {/srv: {from: store, options: [sotf]}}":             `did you mean "soft"`,
		"mounts: {/srv: {from: store, options: [timeo]}}":            "timeo needs a number",
		"mounts: {/srv: {from: store, options: [timeo=0]}}":          "timeo needs a number",
		"mounts: {/srv: {from: store, options: [soft, hard]}}":       "hard comes after soft",
		"mounts: {/srv: {from: store, options: [port=1]}}":           "port is said already",
		"mounts: {/srv: {from: store, options: [lookupcache=some]}}": "lookupcache is all, none or pos",
		"mounts: {/srv: {path: /}}":                                  `"from" is missing`,
		"mounts: {/srv: {from: store}}\n    files: {/srv/a: b}":      "would be hidden",
		"files: {a: b}":             `"a": wanted an absolute path`,
		"files: {/proc/sys/net: b}": "the kernel's",
		"files: {/a: b, /a/b: c}":   "/a is a file, and so cannot hold /a/b",
	} {
		_, err := Load("x.yaml", "x", []byte(storageLab("    "+web1+"\n")))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwanted %q", web1, err, want)
		}
	}
}

// What a change says of a mount is laid over it.
func TestStorageChange(t *testing.T) {
	const steps = `
steps:
- name: change
  do:
  - change: {nodes: {web1: {mounts: {/srv: {options: [soft]}}}}}
  - change: {nodes: {web1: {mounts: {/srv: null}}, store: {files: {/srv/index.html: null}}}}
`
	labs, err := Load("x.yaml", "x", []byte(storageLab("    mounts: {/srv: {from: store}}\n"+steps)))
	if err != nil {
		t.Fatal(err)
	}
	p, err := labs[0].Plan()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range p.Steps[0].Do {
		for _, op := range a.Ops {
			got = append(got, op.Shell(topology.Dialect{})...)
		}
	}
	want := []string{
		"ip netns exec web1 umount -fl /srv",
		"ip netns exec web1 mount -t nfs -o vers=3,proto=tcp,port=2050,mountproto=tcp,mountport=2050,nolock,soft 10.0.1.10:/ /srv",
		"ip netns exec web1 umount -fl /srv",
		`rm -f "$state"/files/store/srv/index.html`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("ops\n%s\nwanted\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
