package keepalived_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/importer/keepalived"
)

// FuzzParse: whatever two files hold that may include one another, they are read
// or told what is wrong with them, at a place in one of them; and what is read is a
// table that a kernel takes.
func FuzzParse(f *testing.F) {
	for _, name := range fixtures(f) {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data), "real_server 10.0.0.11 80 {\n}\n", "one")
	}
	f.Add("include a\n", good, "")
	f.Add("$A= \\\n a \\\n $A\n$A\n", "", "")
	f.Add("$A=$A$A\nx $A\n", "", "")
	f.Add("~SEQ(A,1,9) ~LST({B,C},{1,2},{$A,4}) x ${A}${B} {\n}\n", "", "")
	f.Fuzz(func(t *testing.T, text, other, id string) {
		if len(text)+len(other) > 1<<14 {
			t.Skip() // size is tested elsewhere
		}
		fsys := fstest.MapFS{"k.conf": {Data: []byte(text)}, "a": {Data: []byte(other)}, "b": {Data: []byte(good)}}
		c, err := keepalived.Parse(fsys, "k.conf", keepalived.Options{ID: id})
		if err != nil {
			for line := range strings.SplitSeq(tell(err), "\n") {
				if !strings.HasPrefix(line, "k.conf:") && !strings.HasPrefix(line, "a:") && !strings.HasPrefix(line, "b:") {
					t.Errorf("an error without its file: %q", line)
				}
			}
			return
		}
		if len(c.Services) > 200 {
			return // Validate compares each with each
		}
		if err := c.Table().Validate(); err != nil {
			t.Errorf("a table that no kernel takes: %v", err)
		}
		for _, n := range c.Notes {
			if n.Pos.Line < 1 || n.Msg == "" || n.Kind == "" {
				t.Errorf("a note without its place: %q", n)
			}
		}
		_ = dump(c)
	})
}

// Where keepalived -t ends with something else than 0, Parse has an error or a
// note to tell.
func TestWhatKeepalivedRefuses(t *testing.T) {
	for _, text := range []string{
		good[:len(good)-2], "\ufeff" + good, inVirtual("lb_algo rrr"), inVirtual("lb_kind dr"), inReal("weight -1"), inReal("weight"),
		inVirtual("persistence_timeout 0"), inVirtual("protocol ICMP"), inVirtual("bogus"), strings.Replace(good, "1 80", "1 http", 1),
		strings.Replace(good, "10.0.0.2", "2001:db8::2", 1), inVirtual("sorry_server 10.0.0.9 {\n}"), inVirtual("lb_kind TUN type gue"),
		"includew a*\n" + good, inVirtual(`virtualhost "a`), good + "}\n", inVirtual("ops"), inVirtual("sh-port"),
		good + "# " + strings.Repeat("x", 1030), inReal("TCP_CHECK"), inReal("HTTP_GET {\n}"), inVirtual("quorum 7"), inVirtual("hashed"),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(dir+"/k.conf", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		exit, out := realKeepalived(t, dir, "k.conf")
		if exit == 0 {
			t.Errorf("keepalived takes this, and is expected not to:\n%s\n%s", text, out)
		}
		c, err := parse(text)
		if err == nil && len(c.Notes) == 0 {
			t.Errorf("nothing is told of what keepalived complains about:\n%s\n%s", text, out)
		}
	}
}

// large is a configuration of n virtual servers with servers real servers each.
func large(n, servers int) string {
	var b strings.Builder
	for v := range n {
		fmt.Fprintf(&b, "virtual_server 10.1.%d.%d 80 {\n  delay_loop 6\n  lb_algo wrr\n  lb_kind DR\n  protocol TCP\n", v/250, v%250+1)
		for r := range servers {
			fmt.Fprintf(&b, "  real_server 10.%d.%d.%d 80 {\n    weight %d\n    TCP_CHECK {\n      connect_timeout 3\n    }\n  }\n", 2+v/250, v%250, r+1, r+1)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// A thousand virtual servers with ten real servers each.
func BenchmarkParse(b *testing.B) {
	fsys := fstest.MapFS{"k.conf": {Data: []byte(large(1000, 10))}}
	b.ReportAllocs()
	for b.Loop() {
		c, err := keepalived.Parse(fsys, "k.conf", keepalived.Options{})
		if err != nil || len(c.Services) != 1000 || len(c.Services[999].Servers) != 10 {
			b.Fatalf("%d services, %v", len(c.Services), err)
		}
	}
}

// What is said many times is noted once, with its first place.
func TestNotesAreFew(t *testing.T) {
	c, err := parse(large(20, 10))
	if err != nil {
		t.Fatal(err)
	}
	want := "k.conf:9:7: ignored: connect_timeout of TCP_CHECK is left out: it changes no virtual service (the first of 200)"
	if len(c.Notes) != 1 || c.Notes[0].String() != want || c.Notes[0].Kind != config.Ignored {
		t.Errorf("%v\nwant %s alone", c.Notes, want)
	}
}
