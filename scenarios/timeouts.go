package scenarios

import (
	"fmt"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// Timeouts are how long a director remembers connections that are silent.
type Timeouts struct {
	Pos      source.Pos
	Timeouts ipvs.Timeouts
}

// UnmarshalSource reads three numbers of seconds: TCP TCPFIN UDP.
func (t *Timeouts) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	t.Pos = d.Pos(n)
	text, ok := d.Scalar(n, "three numbers of seconds as of ipvsadm --set: TCP, TCP after a FIN, UDP")
	if !ok {
		return
	}
	var err error
	if t.Timeouts, err = ipvs.ParseTimeouts(text); err != nil {
		d.Fail(n, "%v", err)
	}
}

func (l *Lab) timeoutOps() []topology.Op {
	var ops []topology.Op
	for _, e := range l.Nodes {
		if t := e.Value.Timeouts; t != nil {
			ops = append(ops, ipvs.NewTimeoutsOp(e.Name, t.Timeouts,
				fmt.Sprintf("%s remembers silent connections for so many seconds: of TCP, after a FIN, of UDP", e.Name), t.Pos))
		}
	}
	return ops
}
