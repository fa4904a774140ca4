package scenarios

import (
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/topology"
)

// TestWritten: a lab with assignments, written down, is the lab that they make.
func TestWritten(t *testing.T) {
	own := string(managedLab("", ""))
	for name, c := range map[string]struct {
		text string
		set  []string
		want string
	}{
		"rules": {
			own,
			[]string{"virtual_services.web.managed_by=rules", `nodes.director.rules="-A -t 10.0.0.100:80 -s wlc\n-a -t 10.0.0.100:80 -r 10.0.0.77:80 -g\n"`},
			"managed_by: rules",
		},
		"two documents": {
			own + "---\n" + strings.Replace(own, "title:", "name: two\ntitle:", 1),
			[]string{"virtual_services.web.scheduler=sh"},
			"scheduler: sh",
		},
		"nothing": {own, nil, "title:"},
	} {
		plans := func(text []byte, set ...string) (out []string) {
			labs, err := Load("x.yaml", "x", text, set...)
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, text)
			}
			for _, l := range labs {
				p, err := l.Plan()
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, l.Name)
				for _, op := range p.Setup {
					out = append(out, strings.Join(op.Shell(topology.Dialect{Arptables: "arptables"}), "\n"))
				}
			}
			return out
		}
		text, err := Written("x.yaml", "x", []byte(c.text), c.set...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, want := plans(text), plans([]byte(c.text), c.set...); !slices.Equal(got, want) {
			t.Errorf("%s: %q, wanted %q\n%s", name, got, want, text)
		}
		if !strings.Contains(string(text), c.want) {
			t.Errorf("%s: no %q in\n%s", name, c.want, text)
		}
	}
	if _, err := Written("x.yaml", "x", []byte(own), "nodes.web9.links=1"); err == nil {
		t.Error("an assignment to nothing passes")
	}
}
