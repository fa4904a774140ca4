package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/netns"
)

const (
	// DaemonWait bounds how long a daemon may take until it listens. In a guest
	// a process takes ten times as long as elsewhere to start.
	DaemonWait = 20 * time.Second
	// daemonPoll is how often it is looked whether it listens.
	daemonPoll = 5 * time.Millisecond
	// daemonOutput is how much of a daemon's output is kept, its last bytes.
	daemonOutput = 16 << 10
)

// Daemon is a program of the machine that serves in a node.
type Daemon struct {
	stop context.CancelFunc
	done chan struct{}
	out  Output

	mu   sync.Mutex
	tail []byte

	processes daemonProcesses
}

// StartDaemon runs d.Command as Run does, in the background, and returns when the
// port is listened on, or d.Ready is there; what it wrote is part of the error when that does not
// happen within DaemonWait, or when the command ends before. Like every command
// it is gone with the Files at the latest.
func StartDaemon(ctx context.Context, f *Files, ns *netns.Namespace, d topology.Daemon) (*Daemon, error) {
	if listening(ns, d) {
		return nil, fmt.Errorf("node %s: start %s: another server of this node listens on port %d", f.name, d.Service, d.Port)
	}
	if d.Ready != "" { // one that was killed may have left it
		if err := f.Remove(d.Ready); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	life, stop := context.WithCancel(context.Background())
	p := &Daemon{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		defer p.forget()
		p.out = Run(life, f, Command{Shell: d.Command, Timeout: math.MaxInt64, Combined: true, Watch: p.note, Started: p.started})
	}()
	if err := p.await(ctx, f, ns, d); err != nil {
		_ = p.Close()
		return nil, fmt.Errorf("node %s: start %s (%s): %w%s", f.name, d.Service, d.Command, err, p.said())
	}
	return p, nil
}

// await polls until the port listens, or the file is there.
func (p *Daemon) await(ctx context.Context, f *Files, ns *netns.Namespace, d topology.Daemon) error {
	late := fmt.Errorf("port %d does not listen after %s", d.Port, DaemonWait)
	before := fmt.Sprintf("port %d listened", d.Port)
	if d.Ready != "" {
		late = fmt.Errorf("it has not written %s after %s", d.Ready, DaemonWait)
		before = "it wrote " + d.Ready
	}
	ctx, cancel := context.WithTimeoutCause(ctx, DaemonWait, late)
	defer cancel()
	tick := time.NewTicker(daemonPoll)
	defer tick.Stop()
	for !p.ready(f, ns, d) {
		select {
		case <-tick.C:
		case <-p.done:
			if p.out.Err != nil {
				return p.out.Err
			}
			return fmt.Errorf("it ended before %s: %s; a daemon must stay in the foreground", before, p.ending())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// ready reports whether a daemon can be used: its port is listened on, or else
// the file that it makes is there and it still runs.
func (p *Daemon) ready(f *Files, ns *netns.Namespace, d topology.Daemon) bool {
	if d.Ready == "" {
		return listening(ns, d)
	}
	_, err := f.Stat(d.Ready)
	return err == nil && p.Ended() == ""
}

// listening reports whether every protocol of a daemon's port has its socket, at
// whatever address. /proc tells it without a connection, which the daemon would
// notice.
func listening(ns *netns.Namespace, d topology.Daemon) bool {
	for _, protocol := range d.Protocols {
		found := false
		for _, table := range tables(protocol) {
			text, err := ns.ProcNet(table)
			found = found || err == nil && hasPort(protocol, string(text), d.Port)
		}
		if !found {
			return false
		}
	}
	return len(d.Protocols) > 0
}

// goneWait bounds AwaitGone; a process that is being started lets go of what it
// has copies of within tens of milliseconds.
const goneWait = 2 * time.Second

// AwaitGone returns when nothing has the UDP port of a daemon any more that was
// closed in ns, or after two seconds, since another may have it. A process that is
// just being started has a copy of every descriptor, and unlike that of a stream
// a socket of datagrams cannot be hung up: what is sent to it then is taken, and
// no ICMP error tells that nobody is there.
func AwaitGone(ns *netns.Namespace, d topology.Daemon) {
	if !slices.Contains(d.Protocols, "udp") {
		return
	}
	d.Protocols = []string{"udp"}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(goneWait); listening(ns, d) && time.Now().Before(until); {
		<-tick.C
	}
}

// tables are the files of /proc/net that list a protocol's sockets.
func tables(protocol string) []string {
	if protocol == "sctp" {
		return []string{"sctp/eps"}
	}
	return []string{protocol, protocol + "6"}
}

// tcpListen is TCP_LISTEN of include/net/tcp_states.h, as /proc/net/tcp has it;
// an unconnected UDP socket is in state TCP_CLOSE.
const (
	tcpListen = "0A"
	udpBound  = "07"
)

// hasPort looks a port up in such a table. Its lines are, proc(5):
//
//	sl  local_address rem_address   st …
//	 0: 00000000:0050 00000000:0000 0A …
//
// and of SCTP "ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS".
func hasPort(protocol, text string, port uint16) bool {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if protocol == "sctp" {
			if len(words) > 5 && words[5] == strconv.Itoa(int(port)) {
				return true
			}
			continue
		}
		if len(words) < 4 || words[3] != tcpListen && words[3] != udpBound || (protocol == "tcp") != (words[3] == tcpListen) {
			continue
		}
		_, hex, _ := strings.Cut(words[1], ":")
		if p, err := strconv.ParseUint(hex, 16, 16); err == nil && uint16(p) == port {
			return true
		}
	}
	return false
}

// note keeps the end of what the daemon writes.
func (p *Daemon) note(chunk []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tail = append(p.tail, chunk...)
	if over := len(p.tail) - daemonOutput; over > 0 {
		p.tail = append(p.tail[:0], p.tail[over:]...)
	}
}

// Output is the end of what the daemon wrote so far, and how it ended if it did.
func (p *Daemon) Output() string {
	p.mu.Lock()
	text := string(bytes.TrimRight(p.tail, "\n"))
	p.mu.Unlock()
	select {
	case <-p.done:
		return strings.TrimLeft(text+"\n("+p.ending()+")", "\n")
	default:
		return text
	}
}

// Ended says how the daemon ended, "" while it runs.
func (p *Daemon) Ended() string {
	select {
	case <-p.done:
		return p.ending()
	default:
		return ""
	}
}

// said is the output for the end of an error.
func (p *Daemon) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(bytes.TrimSpace(p.tail)) == 0 {
		return "; it wrote nothing"
	}
	return "; it wrote:\n" + string(bytes.TrimRight(p.tail, "\n"))
}

// ending says how the command ended; it has.
func (p *Daemon) ending() string {
	switch {
	case p.out.Err != nil:
		return "it ended: " + p.out.Err.Error()
	case p.out.Signal != "":
		return "it was ended by " + p.out.Signal
	}
	return fmt.Sprintf("it exited with %d", p.out.ExitCode)
}

// Close kills the daemon, all its processes at once, and returns when they are
// gone. Calling it again does nothing.
func (p *Daemon) Close() error {
	p.stop()
	<-p.done
	return nil
}
