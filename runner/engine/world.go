package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
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
	// keep are nodes whose files outlive them, disks the files of those that
	// are switched off.
	keep  []string
	disks map[string]*node.Disk
	// kernel, when it is not nil, is what the nodes of a living lab share.
	kernel *sharedKernel
}

func newWorld() *world { return &world{nodes: make(map[string]*liveNode)} }

// liveNode is one node: its namespace, its files, its daemons.
type liveNode struct {
	*netns.Namespace
	name  string
	files *node.Files

	// turn is held by what starts and ends daemons, or has one hang, which may
	// take seconds.
	turn sync.Mutex

	mu      sync.Mutex // guards what follows, for who looks on
	daemons map[string]serve.Daemon
	// started is what each of them was started as.
	started map[string]topology.Daemon
	// hung are those that hang on purpose, or will when they are started.
	hung map[string]bool
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
	n := &liveNode{Namespace: ns, name: name, daemons: make(map[string]serve.Daemon), started: make(map[string]topology.Daemon)}
	if n.files, err = w.newFiles(n); err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	if w.kernel != nil {
		if err := w.kernel.furnish(w, n); err != nil {
			return nil, errors.Join(err, n.close())
		}
	}
	w.nodes[name] = n
	return n, nil
}

// RemoveNode implements topology.World.
func (w *world) RemoveNode(name string) error {
	w.mu.Lock()
	n, ok := w.nodes[name]
	delete(w.nodes, name)
	off := slices.Contains(w.keep, name)
	w.mu.Unlock()
	switch {
	case !ok:
		return nil
	case off:
		return w.switchOff(n)
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
	w.closeDisks()
	return errors.Join(errs...)
}

func (n *liveNode) close() error {
	n.turn.Lock()
	defer n.turn.Unlock()
	errs := append(n.closeDaemons(), n.files.Close(), n.Namespace.Close()) //nolint:staticcheck // the namespace, not the node
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
	n.turn.Lock()
	defer n.turn.Unlock()
	if old, was, ok := n.daemon(d.Name); ok {
		if was.Shell(n.name, true) == d.Shell(n.name, true) {
			return nil
		}
		// A change made it another one, with another folder to serve.
		if err := n.stop(d.Name, old); err != nil {
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
	n.mu.Lock()
	n.daemons[d.Name], n.started[d.Name] = running, d
	hangs := n.hung[d.Name]
	n.mu.Unlock()
	if hangs {
		return n.pause(d.Name)
	}
	return nil
}

// StopDaemon implements topology.Node.
func (n *liveNode) StopDaemon(name string) error {
	n.turn.Lock()
	defer n.turn.Unlock()
	d, was, ok := n.daemon(name)
	if !ok {
		return nil
	}
	if err := n.stop(name, d); err != nil {
		return err
	}
	node.AwaitGone(n.Namespace, was)
	return nil
}

// daemon is one that runs, and what it was started as.
func (n *liveNode) daemon(name string) (serve.Daemon, topology.Daemon, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	d, ok := n.daemons[name]
	return d, n.started[name], ok
}

// stop ends a daemon. The caller has the turn.
func (n *liveNode) stop(name string, d serve.Daemon) error {
	n.mu.Lock()
	delete(n.daemons, name)
	n.mu.Unlock()
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
