package labs

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lvslab/lvslab/scenarios"
)

func TestIndex(t *testing.T) {
	disk, err := onDisk()
	if err != nil {
		t.Fatal(err)
	}
	var index []string
	for _, f := range All() {
		index = append(index, f.Name)
		if f.Path != "labs/"+f.Name+".yaml" || len(f.Data) == 0 {
			t.Errorf("%s: path %s, %d bytes", f.Name, f.Path, len(f.Data))
		}
	}
	for _, name := range disk {
		if !slices.Contains(index, name) {
			t.Errorf("labs/%s.yaml is in no chapter's index; add it in labs.go, where a learner should meet it", name)
		}
	}
	for i, name := range index {
		if !slices.Contains(disk, name) {
			t.Errorf("the index names %s, but there is no labs/%s.yaml", name, name)
		}
		if slices.Contains(index[:i], name) {
			t.Errorf("the index names %s twice", name)
		}
	}
}

func TestFind(t *testing.T) {
	for name, want := range map[string]int{
		"dr/arptables": 1, "selftest": 3, "": 0, "d": 0, "dr/": 0, "dr/arp": 0, "dr/arptables/": 0, "../labs/dr/arptables": 0,
	} {
		if got := len(Find(name)); got != want {
			t.Errorf("Find(%q) finds %d labs, want %d", name, got, want)
		}
	}
	for _, c := range Chapters() {
		if len(Find(c)) == 0 {
			t.Errorf("chapter %s has no labs", c)
		}
	}
}

// load loads every shipped lab.
func load(t *testing.T) []*scenarios.Lab {
	t.Helper()
	var all []*scenarios.Lab
	for _, f := range All() {
		list, err := scenarios.Load(f.Path, f.Name, f.Data)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, list...)
	}
	return all
}

func TestLabsAreFitToRead(t *testing.T) {
	titles := make(map[string]string)
	for _, l := range load(t) {
		if n := utf8.RuneCountInString(l.Title); n > 100 {
			t.Errorf("%s: the title has %d characters, at most 100 fit a line", l.Name, n)
		}
		if other, twice := titles[l.Title]; twice {
			t.Errorf("%s has the title of %s", l.Name, other)
		}
		titles[l.Title] = l.Name
		if len(strings.Fields(l.About)) < 20 {
			t.Errorf("%s: about says next to nothing", l.Name)
		}
		for line := range strings.SplitSeq(l.About, "\n") {
			if utf8.RuneCountInString(line) > 80 {
				t.Errorf("%s: a line of about is longer than a terminal is wide: %q", l.Name, line)
			}
		}
		if len(l.Steps) == 0 {
			t.Errorf("%s has no steps", l.Name)
		}
		names := make(map[string]bool)
		for i, s := range l.Steps {
			if len(s.Expect) == 0 {
				t.Errorf("%s: step %d, %q, expects nothing", l.Name, i+1, s.Name)
			}
			if names[s.Name] {
				t.Errorf("%s: two steps are called %q", l.Name, s.Name)
			}
			names[s.Name] = true
			if strings.HasSuffix(s.Name, ".") || strings.Contains(s.Name, "\n") {
				t.Errorf("%s: step name %q", l.Name, s.Name)
			}
		}
	}
}

// Two plans of one lab are the same, so that what `plan` prints is what `run`
// does.
func TestPlansAreTheSameEveryTime(t *testing.T) {
	second := load(t)
	for i, l := range load(t) {
		again := second[i]
		a, err := l.Plan()
		if err != nil {
			t.Fatal(err)
		}
		b, err := again.Plan()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := lines(b.Setup), lines(a.Setup); !slices.Equal(got, want) {
			t.Errorf("%s: two plans differ", l.Name)
		}
		for j := range a.Steps {
			for k, act := range a.Steps[j].Do {
				if !slices.Equal(lines(act.Ops), lines(b.Steps[j].Do[k].Ops)) {
					t.Errorf("%s: step %d differs in two plans", l.Name, j+1)
				}
			}
		}
	}
}
