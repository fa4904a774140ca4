package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
)

// remembered is what steps may change by other ways than ops: by commands,
// services that load tables, and files that they write.
type remembered struct {
	tables map[string]*tablesBefore
	files  map[fileOf]*fileBefore
}

// tablesBefore are a node's tables.
type tablesBefore struct {
	// ipvs counts where hasIPVS says that the kernel has it.
	ipvs    ipvs.Table
	hasIPVS bool
	// arp counts where the kernel has a backend for it.
	arp     []filter.ArpRule
	backend filter.Backend
	routing *routing
}

type fileOf struct{ node, path string }

// fileBefore is a file's content; nil stands for one that was not there.
type fileBefore struct {
	data []byte
	perm fs.FileMode
}

// remember notes what steps may change so. Nodes that are not there yet go with
// what is in them.
func (l *Live) remember(ctx context.Context, steps []scenarios.Step) (*remembered, error) {
	m := &remembered{tables: make(map[string]*tablesBefore), files: make(map[fileOf]*fileBefore)}
	for i := range steps {
		for j := range steps[i].Do {
			node, tables, files := touches(&steps[i].Do[j])
			n, err := l.world.live(node)
			if err != nil {
				continue
			}
			if _, ok := m.tables[node]; tables && !ok {
				if m.tables[node], err = tablesOf(ctx, n); err != nil {
					return nil, err
				}
			}
			for _, name := range files {
				if m.files[fileOf{node, name}], err = fileNow(n, name); err != nil {
					return nil, err
				}
			}
		}
	}
	return m, nil
}

// touches says in which node an action does what no op tells of: whether it may
// change tables there, and which files.
func touches(a *scenarios.Action) (node string, tables bool, files []string) {
	switch {
	case a.Run != nil:
		return a.Run.Node, true, nil
	case a.Write != nil:
		return a.Write.Node, false, []string{a.Write.File}
	case a.Save != nil:
		return a.Save.Node, false, []string{a.Save.File}
	case a.Restore != nil:
		return a.Restore.Node, true, nil
	case a.Systemctl != nil:
		return a.Systemctl.Node, true, []string{ipvsadmFile} // a restart may save it
	}
	return "", false, nil
}

func tablesOf(ctx context.Context, n *liveNode) (*tablesBefore, error) {
	t := &tablesBefore{}
	// Asking for IPVS where it is not would have the kernel look for its module.
	if _, err := n.ProcNet("ip_vs"); err == nil {
		conn, err := ipvs.Open(n)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		if t.ipvs, err = conn.Table(ctx); err != nil {
			return nil, err
		}
		t.hasIPVS = true
	}
	err := n.Do(func() (err error) {
		if t.backend, err = filter.Detect(); err != nil {
			t.backend = ""
			return nil //nolint:nilerr // there is none that could hold rules
		}
		t.arp, err = t.backend.List()
		return err
	})
	if err == nil {
		t.routing, err = routingOf(n)
	}
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n.name, err)
	}
	return t, nil
}

func fileNow(n *liveNode, name string) (*fileBefore, error) {
	info, err := n.files.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // nil is a file that is not there
	}
	if err != nil {
		return nil, err
	}
	data, err := n.files.ReadFile(name)
	return &fileBefore{data, info.Mode().Perm()}, err
}

// without leaves out the ops on tables that are put back as a whole.
func (m *remembered) without(ops []topology.Op) []topology.Op {
	var rest []topology.Op
	for _, op := range ops {
		k := op.About().Key
		t := m.tables[k.Node]
		switch {
		case t == nil:
		case t.hasIPVS && (k.Kind == ipvs.KindService || k.Kind == ipvs.KindDestination):
			continue
		case t.backend != "" && k.Kind == filter.Kind:
			continue
		}
		rest = append(rest, op)
	}
	return rest
}

// restore puts back what was remembered.
func (m *remembered) restore(ctx context.Context, w *world) error {
	var errs []error
	for name, t := range m.tables {
		if n, err := w.live(name); err == nil {
			errs = append(errs, t.restore(ctx, n))
		}
	}
	for f, was := range m.files {
		n, err := w.live(f.node)
		if err != nil {
			continue
		}
		if was == nil {
			err = n.RemoveFile(f.path)
		} else {
			err = n.files.WriteFile(f.path, was.data, was.perm)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// restore loads tables that are not as they were: to load one ends what its
// schedulers know.
func (t *tablesBefore) restore(ctx context.Context, n *liveNode) error {
	now, err := tablesOf(ctx, n)
	if err != nil {
		return err
	}
	if t.hasIPVS && ipvs.FormatRules(now.ipvs) != ipvs.FormatRules(t.ipvs) {
		err = ipvs.Restore(ctx, n, t.ipvs)
	}
	err = errors.Join(err, now.routing.remove(n, t.routing))
	if t.backend == "" || filter.FormatSave(now.arp) == filter.FormatSave(t.arp) {
		return err
	}
	return errors.Join(err, n.Do(func() error { return t.backend.Replace(t.arp) }))
}
