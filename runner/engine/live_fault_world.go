package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/lvslab/lvslab/runner/node"
	"github.com/lvslab/lvslab/runner/node/serve"
)

// keepFiles says of which nodes the files outlive the node itself: of those that
// are switched off, and on again.
func (w *world) keepFiles(names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keep = slices.Clone(names)
}

// newFiles are the files of a node that is made: those that it had when it was
// switched off, or new ones. The world is locked.
func (w *world) newFiles(n *liveNode) (*node.Files, error) {
	disk, ok := w.disks[n.name]
	if !ok {
		return node.NewFiles(n.name, n.Namespace), nil
	}
	delete(w.disks, n.name)
	return disk.SwitchOn(n.Namespace)
}

// switchOff ends a node, and keeps its files for when it is made again.
func (w *world) switchOff(n *liveNode) error {
	n.turn.Lock()
	defer n.turn.Unlock()
	errs := n.closeDaemons()
	disk, err := n.files.SwitchOff()
	if err == nil {
		w.mu.Lock()
		if w.disks == nil {
			w.disks = make(map[string]*node.Disk)
		}
		w.disks[n.name] = disk
		w.mu.Unlock()
	}
	return errors.Join(append(errs, err, n.Namespace.Close())...) //nolint:staticcheck // the namespace, not the node
}

// closeDisks forgets the files of nodes that are switched off. The world is
// locked.
func (w *world) closeDisks() {
	for _, d := range w.disks {
		d.Close()
	}
	clear(w.disks)
}

// closeDaemons ends the node's daemons. The caller has the node's turn.
func (n *liveNode) closeDaemons() []error {
	n.mu.Lock()
	daemons := slices.Collect(maps.Values(n.daemons))
	clear(n.daemons)
	n.mu.Unlock()
	var errs []error
	for _, d := range daemons {
		errs = append(errs, d.Close())
	}
	return errs
}

// hang stops a daemon of the node in its tracks, whichever is or will be running
// under a name, or lets it go on.
func (n *liveNode) hang(name string, on bool) error {
	n.turn.Lock()
	defer n.turn.Unlock()
	if !on {
		n.setHung(name, false)
		d, _, _ := n.daemon(name)
		if p, ok := d.(serve.Pauser); ok {
			_ = p.Resume() // one that has ended is none the worse
		}
		return nil
	}
	if err := n.pause(name); err != nil {
		return err
	}
	n.setHung(name, true)
	return nil
}

func (n *liveNode) setHung(name string, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hung == nil {
		n.hung = make(map[string]bool)
	}
	if n.hung[name] = on; !on {
		delete(n.hung, name)
	}
}

// pause stops a daemon that runs in its tracks. The caller has the node's turn.
func (n *liveNode) pause(name string) error {
	d, _, ok := n.daemon(name)
	if !ok {
		return nil // killed
	}
	p, ok := d.(serve.Pauser)
	if !ok {
		return fmt.Errorf("node %s: %s cannot be made to hang", n.name, name)
	}
	if err := p.Pause(); err != nil {
		return fmt.Errorf("node %s: make %s hang: %w", n.name, name, err)
	}
	return nil
}
