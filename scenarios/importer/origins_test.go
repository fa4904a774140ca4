package importer

import (
	"maps"
	"testing"

	"github.com/lvslab/lvslab/topology/source"
)

func TestReadOrigins(t *testing.T) {
	text := `title: "a title  # no:1"  # f.conf:1
about: |
  text  # f.conf:99
networks: {lan: 10.0.0.0/24}  # made up, so nothing:ness
# a comment alone, f.conf:98
nodes:
  it's: [plain]  # f.conf:7
  b: 'quoted # f.conf:97'
  c: x#f.conf:96
  d: [a, "b \" # f.conf:95"]  # weight  # dir/f.conf:10
  e: x  # "my rules # 2.conf":11
  f: x  # see f.conf:12
  g: x  # f.conf:0
  h: x  # "f.conf" is no origin
  i: x  # 12
  j: x  # 10.0.0.1:80
  k: x  # [fd00::1]:80
  l: x  # fd00::1
  m: x  # http://example.net:80
`
	want := Origins{
		1: {File: "f.conf", Line: 1}, 7: {File: "f.conf", Line: 7}, 10: {File: "dir/f.conf", Line: 10}, 11: {File: "my rules # 2.conf", Line: 11},
	}
	if got := ReadOrigins([]byte(text)); !maps.Equal(got, want) {
		t.Errorf("got %v, wanted %v", got, want)
	}
}

// What a page writes is read back, whatever the file's name.
func TestOriginsThereAndBack(t *testing.T) {
	for _, name := range []string{"keepalived.conf", "/etc/a b.conf", `a"b#c:d.conf`, "ä\n.conf", `c:\rules`, "a:7", "10.0.0.1", "fd00:", "file://x"} {
		p := new(page)
		p.line(1, source.Pos{File: name, Line: 12, Col: 3}, "scheduler: %s", scalar("rr # x:1"))
		if got := ReadOrigins(p.b.Bytes()); len(got) != 1 || got[1] != (source.Pos{File: name, Line: 12}) {
			t.Errorf("%q: %v of %s", name, got, p.b.String())
		}
	}
}
