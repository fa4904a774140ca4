package importer

import (
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/scenarios/importer/config"
)

// What no request is sent to is told, since a run of the lab would pass without a
// word.
func TestUnaskedIsTold(t *testing.T) {
	rules := "-A -u 10.0.0.100:5060 -s rr -p 60 --pe sip\n-a -u 10.0.0.100:5060 -r 10.0.0.2:5060 -g -w 1\n"
	c, err := Read(Stdin, ReadOptions{Stdin: strings.NewReader(rules)})
	if err != nil {
		t.Fatal(err)
	}
	lab, err := Draft(c, DraftOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(lab.Notes, func(n config.Note) bool {
		return n.Kind == config.Ignored && n.Pos.Line == 1 && strings.HasPrefix(n.Msg, "no request is sent to udp 10.0.0.100:5060: ")
	}) {
		t.Errorf("the notes are %v", lab.Notes)
	}
}
