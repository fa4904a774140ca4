package topology

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Netem is what tc-netem(8) does to all that a node sends out of a device. The
// zero value does nothing. Percentages are of packets, from 0 to 100, and each
// packet is met by chance, whatever became of those before it.
type Netem struct {
	// Delay holds every packet back, give or take Jitter, in steps of a
	// microsecond. With a jitter packets overtake one another.
	Delay, Jitter time.Duration
	// Loss is the share that is lost, Corrupt the one in which a bit is turned
	// over, and Duplicate the one that is sent twice.
	Loss, Corrupt, Duplicate float64
	// Reorder is the share that is not held back, and so overtakes the others;
	// it takes a Delay.
	Reorder float64
}

// String is the parameters in tc's words.
func (n Netem) String() string {
	var words []string
	if n.Delay > 0 {
		words = append(words, fmt.Sprintf("delay %dus", n.Delay.Microseconds()))
		if n.Jitter > 0 {
			words = append(words, fmt.Sprintf("%dus", n.Jitter.Microseconds()))
		}
	}
	for _, share := range []struct {
		word    string
		percent float64
	}{{"loss", n.Loss}, {"duplicate", n.Duplicate}, {"reorder", n.Reorder}, {"corrupt", n.Corrupt}} {
		if share.percent > 0 {
			words = append(words, share.word+" "+strconv.FormatFloat(share.percent, 'f', -1, 64)+"%")
		}
	}
	return strings.Join(words, " ")
}

// nothing says that a packet is sent as if there were no netem.
func (n Netem) nothing() bool { return n.String() == "" }

type netemOp struct {
	meta   Meta
	device string
	netem  Netem // the zero value takes the queueing discipline away
	// afresh takes away what is there first.
	afresh bool
}

// NewDelay is the op that delays all that a node sends out of a device, by
// tc-netem(8). It is how a lab decides a race.
func NewDelay(m Meta, node, device string, d time.Duration) Op {
	m.Role = "delay"
	return NewNetem(m, node, device, Netem{Delay: d})
}

// NewNetem is the op that does n to all that a node sends out of a device. A
// device has one, so that NewDelay's is the same thing.
func NewNetem(m Meta, node, device string, n Netem) Op {
	m.Key = Key{node, "qdisc", device}
	m.Needs = []Feature{"sch_netem"}
	return netemOp{meta: m, device: device, netem: n}
}

// NetemOf is what an op does to packets; false for an op of another kind and for
// one that takes such a thing away.
func NetemOf(o Op) (Netem, bool) {
	n, ok := o.(netemOp)
	return n.netem, ok && !n.netem.nothing()
}

func (o netemOp) About() Meta { return o.meta }

func (o netemOp) Shell(Dialect) []string {
	node := o.meta.Key.Node
	del := fmt.Sprintf("tc -n %s qdisc del dev %s root", node, o.device)
	if o.netem.nothing() {
		return []string{del}
	}
	lines := []string{fmt.Sprintf("tc -n %s qdisc replace dev %s root handle 1: netem %s", node, o.device, o.netem)}
	if o.afresh {
		lines = append([]string{del}, lines...)
	}
	return lines
}

func (o netemOp) Apply(_ context.Context, w World) error {
	n, err := w.Node(o.meta.Key.Node)
	if err != nil {
		return err
	}
	dev, err := LinkByName(n, o.device)
	if err != nil {
		return fail(o, err)
	}
	attrs := netlink.QdiscAttrs{LinkIndex: dev.Attrs().Index, Parent: netlink.HANDLE_ROOT}
	if o.afresh || o.netem.nothing() {
		err = n.Netlink().QdiscDel(&netlink.GenericQdisc{QdiscAttrs: attrs})
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
			err = nil // none was there
		}
		if err != nil || o.netem.nothing() {
			return fail(o, err)
		}
	}
	attrs.Handle = netlink.MakeHandle(1, 0)
	q := netlink.NewNetem(attrs, netlink.NetemQdiscAttrs{
		Latency: uint32(o.netem.Delay.Microseconds()), Jitter: uint32(o.netem.Jitter.Microseconds()),
		Loss: float32(o.netem.Loss), Duplicate: float32(o.netem.Duplicate),
		ReorderProb: float32(o.netem.Reorder), CorruptProb: float32(o.netem.Corrupt),
	})
	return fail(o, n.Netlink().QdiscReplace(q))
}

func (o netemOp) Undo() (Op, bool) {
	o.netem, o.afresh = Netem{}, false
	return o, true
}

// From implements Changer. What is not named stays as it was where the device has
// the queueing discipline already (netem_change in net/sched/sch_netem.c): of the
// parameters here, those are the corruption and the reordering.
func (o netemOp) From(old Op) Op {
	was, ok := old.(netemOp)
	gone := was.netem.Corrupt > 0 && o.netem.Corrupt == 0 || was.netem.Reorder > 0 && o.netem.Reorder == 0
	o.afresh = ok && gone && !o.netem.nothing()
	return o
}
