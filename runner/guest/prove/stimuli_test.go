package prove

import (
	"fmt"

	"github.com/lvslab/lvslab/scenarios"
)

// stimuli does those of the steps, a few of each request, whose like no script
// in this guest has done: tools must understand what they are told. What comes
// of them is for lvslab run to judge, with one exception: the servers of two
// labs are asked for their names.
func (t *trial) stimuli(p *scenarios.Plan) error {
	sh, err := write(p, func(a scenarios.Action) bool { return !a.Changes() && a.Run == nil })
	if err != nil {
		return err
	}
	for i, s := range p.Steps {
		fresh := p.Lab.Name == answering && i == 0
		for _, a := range s.Do {
			if f := formOfStimulus(a); f != "" && !t.typed[f] {
				fresh, t.typed[f] = true, true
			}
		}
		if !fresh {
			continue
		}
		out, err := sh("step", fmt.Sprint(i+1))
		if err != nil {
			return err
		}
		if p.Lab.Name == answering && i == 0 && out != "web1\nweb2\n" && out != "web2\nweb1\n" {
			return fmt.Errorf("sh lab.sh step 1: the servers answer %q, wanted them to answer in turn", out)
		}
	}
	return nil
}

// answering is a lab whose first step asks two servers that answer in turn.
const answering = "dr/arptables"

// formOfStimulus is what a script types for an action, without what only numbers
// decide; "" where it types nothing, or whatever a lab says.
func formOfStimulus(a scenarios.Action) string {
	if a.Changes() || a.Run != nil {
		return ""
	}
	r := a.Request
	if r == nil {
		return a.Kind
	}
	return fmt.Sprintf("request %s %s %s IPv6 %t many %t from several %t at once %t own address %t port %t bytes %t upload %t one socket %t hold %t background %t",
		r.Client, r.Network, r.Mode, r.Addr.Addr().Is6(), r.Count > 1, len(r.From) > 1, r.Concurrency > 1, r.Source.Addr.IsValid(), r.Source.Port > 0,
		r.Bytes > 0, r.Upload > 0, r.SameSocket, r.Hold, r.Background)
}
