package report_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/runner/report"
	"github.com/lvslab/lvslab/runner/wire"
)

// heard keeps "KIND LAB" of each event.
type heard struct{ words []string }

func (h *heard) Event(e wire.Event) { h.words = append(h.words, strings.TrimSpace(e.Lab+" "+e.Kind)) }
func (h *heard) Close() error       { return nil }

func TestInOrder(t *testing.T) {
	const started, step, finished = wire.LabStarted, wire.StepFinished, wire.LabFinished
	for _, c := range []struct{ name, sent, want string }{
		{
			"as they come", "run a< a. a> b< b> c< c> end",
			"run a< a. a> b< b> c< c> end",
		},
		{
			"the first ends last", "run c< b< a< b. c> a. b> a> end",
			"run a< a. a> b< b. b> c< c> end",
		},
		{
			"the first goes by as it comes", "run b< a< a. log",
			"run a< a. log b<",
		},
		{
			"one without a verdict", "run b< b> c< c> end",
			"run b< b> c< c> end",
		},
		{
			"one that nobody named", "run z< z> b< b> a< a> c< c> end",
			"run a< a> b< b> c< c> z< z> end",
		},
		{
			"a second try", "run b< a< a. b. a< a> b> end",
			"run a< a. a< a> b< b. b> end",
		},
		{
			"a second kernel", "run b< b> a< a> c< c> run c< c> a< b< a> b> end",
			"run a< a> b< b> c< c> run a< a> b< b> c< c> end",
		},
	} {
		h := &heard{}
		s := report.InOrder([]string{"a", "b", "c"}, h)
		for word := range strings.FieldsSeq(c.sent) {
			switch word {
			case "run":
				s.Event(wire.Event{Kind: wire.RunStarted})
			case "end":
				s.Event(wire.Event{Kind: wire.RunFinished})
			case "log":
				s.Event(wire.Event{Kind: wire.Log})
			default:
				kind := map[string]string{"<": started, ".": step, ">": finished}[word[1:]]
				s.Event(wire.Event{Kind: kind, Lab: word[:1]})
			}
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		got := strings.Join(h.words, " ")
		for kind, sign := range map[string]string{started: "<", step: ".", finished: ">"} {
			got = strings.ReplaceAll(got, " "+kind, sign)
		}
		got = strings.NewReplacer(wire.RunStarted, "run", wire.RunFinished, "end").Replace(got)
		if !slices.Equal(strings.Fields(got), strings.Fields(c.want)) {
			t.Errorf("%s: %s, wanted %s", c.name, got, c.want)
		}
	}
}
