package importer

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/scenarios/importer/config"
)

// changes are a difference's, each as one line: what of which, both states, and
// the kinds of the assertions that show it.
func changes(t *testing.T, old, new *config.Config) []string {
	t.Helper()
	d, err := Compare(old, new, DraftOptions{})
	if err != nil || d.Unknown != "" {
		t.Fatalf("%v, %s", err, d.Unknown)
	}
	var list []string
	for _, c := range d.Changes {
		line := fmt.Sprintf("%s|%s|%s", c.Service, strings.TrimSpace(c.What+" "+c.Server), c.Old.Text+" -> "+c.New.Text)
		var kinds []string
		for _, a := range c.Assertions {
			if !slices.Contains(kinds, a.Kind) {
				kinds = append(kinds, a.Kind)
			}
		}
		list = append(list, line+"|"+strings.Join(kinds, " "))
	}
	return list
}

const base = `-A -t 10.0.0.100:80 -s wrr
-a -t 10.0.0.100:80 -r 10.0.0.2:80 -g -w 2
-a -t 10.0.0.100:80 -r 10.0.0.3:80 -g -w 1
-A -t 10.0.0.101:443 -s rr
-a -t 10.0.0.101:443 -r 10.0.0.4:443 -g
-a -t 10.0.0.101:443 -r 10.0.0.5:443 -g
`

func TestCompare(t *testing.T) {
	for name, tt := range map[string]struct {
		edit []string // pairs for a strings.Replacer
		add  string
		want []string
	}{
		"nothing":       {},
		"a comment":     {add: "# more\n"},
		"the same said": {edit: []string{"-s wrr", "--scheduler=wrr"}},
		"a weight": {
			edit: []string{"-w 2", "-w 4"},
			want: []string{"tcp 10.0.0.100:80|weight 10.0.0.2:80|2 -> 4|answers table"},
		},
		"a weight that rr does not heed": {
			edit: []string{"10.0.0.4:443 -g", "10.0.0.4:443 -g -w 7"},
			want: []string{"tcp 10.0.0.101:443|weight 10.0.0.4:443|1 -> 7|table"},
		},
		"a method": {
			edit: []string{"10.0.0.3:80 -g", "10.0.0.3:80 -i"},
			want: []string{"tcp 10.0.0.100:80|forwarding method 10.0.0.3:80|dr (direct routing) -> tun (tunnelling)|path table"},
		},
		"thresholds": {
			edit: []string{"-w 2", "-w 2 -x 20000 -y 10000"},
			want: []string{"tcp 10.0.0.100:80|thresholds 10.0.0.2:80|none -> upper 20000, lower 10000|table"},
		},
		"a server that goes and one that comes": {
			edit: []string{"10.0.0.5", "10.0.0.6"},
			want: []string{
				"tcp 10.0.0.101:443|real server 10.0.0.5:443|10.0.0.5:443, dr, weight 1 -> |rotation table",
				"tcp 10.0.0.101:443|real server 10.0.0.6:443| -> 10.0.0.6:443, dr, weight 1|rotation table",
			},
		},
		"a service that moves": {
			edit: []string{"10.0.0.101:443", "10.0.0.102:443"},
			want: []string{"tcp 10.0.0.101:443|address|tcp 10.0.0.101:443 -> tcp 10.0.0.102:443|result rotation path table"},
		},
		"a port that moves, with its servers'": {
			edit: []string{":443", ":8443"},
			want: []string{"tcp 10.0.0.101:443|address|tcp 10.0.0.101:443 -> tcp 10.0.0.101:8443|result rotation path table"},
		},
		"a service more": {
			add:  "-A -u 10.0.0.100:53 -s rr\n-a -u 10.0.0.100:53 -r 10.0.0.9 -g\n",
			want: []string{"udp 10.0.0.100:53|virtual service| -> udp 10.0.0.100:53, 1 real server|result only path table"},
		},
		"a service less": {
			add:  "-D -t 10.0.0.101:443\n",
			want: []string{"tcp 10.0.0.101:443|virtual service|tcp 10.0.0.101:443, 2 real servers -> |result rotation path table"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.NewReplacer(tt.edit...).Replace(base) + tt.add
			if got := changes(t, readString(t, base), readString(t, text)); !slices.Equal(got, tt.want) {
				t.Errorf("%s\nwanted\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// TestCompareOrder: what stands elsewhere in the file is no difference, and does
// not make one look like more than it is.
func TestCompareOrder(t *testing.T) {
	lines := strings.SplitAfter(base, "\n")
	other := strings.Join([]string{lines[3], lines[5], lines[4], lines[0], lines[2], lines[1]}, "")
	if got := changes(t, readString(t, base), readString(t, other)); got != nil {
		t.Errorf("another order: %q", got)
	}
	other = strings.Replace(other, "-w 2", "-w 2 -x 20000", 1)
	want := []string{"tcp 10.0.0.100:80|thresholds 10.0.0.2:80|none -> upper 20000, lower 0|table"}
	if got := changes(t, readString(t, base), readString(t, other)); !slices.Equal(got, want) {
		t.Errorf("a threshold in another order: %q", got)
	}
	// All weights doubled are the same shares.
	other = strings.NewReplacer("-w 2", "-w 4", "-w 1", "-w 2").Replace(base)
	for _, line := range changes(t, readString(t, base), readString(t, other)) {
		if !strings.HasSuffix(line, "|table") {
			t.Errorf("the same shares: %q", line)
		}
	}
}

// TestCompareScheduler: each is told as such, and what a single real server
// cannot show, is not said to be shown.
func TestCompareScheduler(t *testing.T) {
	two := strings.Replace(base, "-s rr", "-s sh -p 60 -M 255.255.255.0", 1)
	got := changes(t, readString(t, base), readString(t, two))
	if len(got) != 2 || !strings.HasPrefix(got[0], "tcp 10.0.0.101:443|scheduler|rr -> sh|rotation") ||
		!strings.HasPrefix(got[1], "tcp 10.0.0.101:443|persistence|none -> 60 s by /24|") {
		t.Errorf("%q", got)
	}
	one := "-A -f 1 -s rr\n-a -f 1 -r 10.0.0.2\n"
	want := []string{"fwmark 1|scheduler|rr -> sh with sh-port|table"}
	if got := changes(t, readString(t, one), readString(t, strings.Replace(one, "rr", "sh -b sh-port", 1))); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestComparePlaces: each state has its own place.
func TestComparePlaces(t *testing.T) {
	d, err := Compare(readString(t, base), readString(t, "# moved down\n"+strings.Replace(base, "-w 2", "-w 3", 1)), DraftOptions{})
	if err != nil || len(d.Changes) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	if c := d.Changes[0]; c.Old.Pos.String() != "stdin:2:42" || c.New.Pos.String() != "stdin:3:42" || c.OnlyTable() {
		t.Errorf("%+v", c)
	}
}

// TestCompareUndraftable: what changes is told also where no lab can be made.
func TestCompareUndraftable(t *testing.T) {
	bad := "-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.0.0.1 -m\n"
	d, err := Compare(readString(t, bad), readString(t, strings.Replace(bad, "-m", "-m -w 2", 1)), DraftOptions{})
	if err != nil || len(d.Changes) != 1 || !strings.HasPrefix(d.Unknown, "no lab can be made of stdin: stdin:2:1: real server 10.0.0.1 of tcp 10.0.0.1:80 is the director itself") {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := Compare(nil, nil, DraftOptions{}); err == nil {
		t.Error("two of nothing are compared")
	}
}
