package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/vishvananda/netlink"

	"github.com/lvslab/lvslab/runner/node"
	"github.com/lvslab/lvslab/runner/node/serve"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/netns"
)

// world is the running nodes of one lab. It lives no longer than the lab.
type world struct {
	mu    sync.Mutex
	nodes map[string]*liveNode
}

func newWorld() *world { return &world{nodes: make(map[string]*liveNode)} }

// liveNode is one node: its namespace, its files, its daemons.
type liveNode struct {
	*netns.Namespace
	name  string
	files *node.Files

	mu      sync.Mutex
	daemons map[string]serve.Daemon
	// started is what each of them was started as.
	started map[string]topology.Daemon
}

var _ topology.Node = (*liveNode)(nil)

// AddNode implements topology.World.
func (w *world) AddNode(ctx context.Context, name string) (topology.Node, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.nodes[name]; ok {
		return nil, fmt.Errorf("node %s is there already", name)
	}
	ns, err := netns.New(name)
	if err != nil {
		return nil, err
	}
	n := &liveNode{Namespace: ns, name: name, files: node.NewFiles(name, ns), daemons: make(map[string]serve.Daemon), started: make(map[string]topology.Daemon)}
	w.nodes[name] = n
	return n, nil
}

// RemoveNode implements topology.World.
func (w *world) RemoveNode(name string) error {
	w.mu.Lock()
	n, ok := w.nodes[name]
	delete(w.nodes, name)
	w.mu.Unlock()
	if !ok {
		return nil
	}
	return n.close()
}

// Node implements topology.World.
func (w *world) Node(name string) (topology.Node, error) { return w.live(name) }

func (w *world) live(name string) (*liveNode, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, ok := w.nodes[name]
	if !ok {
		return nil, fmt.Errorf("node %s is not there", name)
	}
	return n, nil
}

// close ends all nodes at once: to let a namespace go takes the kernel
// milliseconds, and together they take hardly longer than one.
func (w *world) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var wg sync.WaitGroup
	errs := make([]error, len(w.nodes))
	i := 0
	for _, n := range w.nodes {
		at := i
		i++
		wg.Go(func() { errs[at] = n.close() })
	}
	wg.Wait()
	clear(w.nodes)
	return errors.Join(errs...)
}

func (n *liveNode) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, d := range n.daemons {
		errs = append(errs, d.Close())
	}
	clear(n.daemons)
	errs = append(errs, n.files.Close(), n.Namespace.Close()) //nolint:staticcheck // the namespace, not the node
	return errors.Join(errs...)
}

// Name implements topology.Node.
func (n *liveNode) Name() string { return n.name }

// Netlink implements topology.Node.
func (n *liveNode) Netlink() *netlink.Handle { return n.Namespace.Netlink() }

// NsFd implements topology.Node.
func (n *liveNode) NsFd() int { return n.Fd() }

// StartDaemon implements topology.Node.
func (n *liveNode) StartDaemon(ctx context.Context, d topology.Daemon) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if old, ok := n.daemons[d.Name]; ok {
		if n.started[d.Name].Shell(n.name, true) == d.Shell(n.name, true) {
			return nil
		}
		// A change made it another one, with another folder to serve.
		delete(n.daemons, d.Name)
		if err := old.Close(); err != nil {
			return err
		}
	}
	var running serve.Daemon
	var err error
	if d.Command != "" {
		running, err = node.StartDaemon(ctx, n.files, n.Namespace, d)
	} else {
		running, err = serve.Start(n.Namespace, n.name, n.files, d)
	}
	if err != nil {
		return err
	}
	n.daemons[d.Name], n.started[d.Name] = running, d
	return nil
}

// StopDaemon implements topology.Node.
func (n *liveNode) StopDaemon(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	d, ok := n.daemons[name]
	if !ok {
		return nil
	}
	delete(n.daemons, name)
	return d.Close()
}

// WriteFile implements topology.Node.
func (n *liveNode) WriteFile(name string, content []byte) error {
	return n.files.WriteFile(name, content, 0o644)
}

// RemoveFile implements topology.Node.
func (n *liveNode) RemoveFile(name string) error {
	if err := n.files.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Mount implements topology.Node.
func (n *liveNode) Mount(ctx context.Context, m topology.Mount) error { return n.files.Mount(ctx, m) }

// Unmount implements topology.Node.
func (n *liveNode) Unmount(at string) error { return n.files.Unmount(at) }
