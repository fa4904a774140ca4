package topology

import (
	"net/netip"
	"strings"
	"testing"
)

func TestMountWords(t *testing.T) {
	m := Mount{At: "/srv", Server: netip.MustParseAddrPort("10.0.0.10:2049"), Path: "/", Options: []string{"soft", "timeo=3"}}
	op := NewMount(Meta{}, "web1", m)
	undo, _ := op.Undo()
	six := m
	six.Server = netip.MustParseAddrPort("[fd00::10]:2050")
	const mount = "ip netns exec web1 mount -t nfs -o vers=3,proto=tcp,port=2049,mountproto=tcp,mountport=2049,nolock,soft,timeo=3 10.0.0.10:/ /srv"
	for _, c := range []struct {
		op   Op
		want string
	}{
		{op, mount},
		{undo, "ip netns exec web1 umount -fl /srv"},
		{NewMount(Meta{}, "web1", six), "ip netns exec web1 mount -t nfs -o vers=3,proto=tcp6,port=2050,mountproto=tcp6,mountport=2050,nolock,soft,timeo=3 '[fd00::10]:/' /srv"},
	} {
		if got := strings.Join(c.op.Shell(Dialect{}), "\n"); got != c.want {
			t.Errorf("shell\n%s\nwanted\n%s", got, c.want)
		}
	}
	if got, want := m.Data(), "vers=3,proto=tcp,port=2049,mountproto=tcp,mountport=2049,nolock,soft,timeo=3,addr=10.0.0.10"; got != want {
		t.Errorf("data %s, wanted %s", got, want)
	}
	if back, ok := undo.Undo(); !ok || !Same(back, op) {
		t.Error("the undo of an undo is another op")
	}
}

func TestFileWords(t *testing.T) {
	for content, want := range map[string]string{
		"one\ntwo\n": `printf '%s\n' 'one` + "\n" + `two' >"$state"/files/web1/srv/index.html`,
		"":           `: >"$state"/files/web1/srv/index.html`,
		"$(reboot)":  `printf %s '$(reboot)' >"$state"/files/web1/srv/index.html`,
	} {
		op := NewFile(Meta{}, "web1", "/srv/index.html", content)
		if got := op.Shell(Dialect{}); len(got) != 2 || got[1] != want {
			t.Errorf("%q: %q, wanted %q", content, got, want)
		}
		undo, _ := op.Undo()
		if got := undo.Shell(Dialect{})[0]; got != `rm -f "$state"/files/web1/srv/index.html` {
			t.Errorf("undo: %s", got)
		}
	}
	if got := NodeFile("web1", "/../../etc/../x y"); got != `"$state"/files/web1/'x y'` {
		t.Errorf("a path that leads up: %s", got)
	}
}
