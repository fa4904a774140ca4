// Package node is what happens inside one running node of a lab: requests and
// pings that it sends, commands that it runs, files that it sees. The servers of
// a node are in package serve.
//
// Requests and pings need no program and no thread of their own: a socket made
// in the node's network namespace stays there.
//
// Commands run in namespaces of their own for processes, mounts, IPC and host
// name, inside the node's network namespace. They see the machine's files and
// may change them all, but what they change is theirs: see Files. For that the
// program starts itself anew as the first process of the command's PID
// namespace, so a program that calls Run must call Main at the top of its main
// function, and a test of one in TestMain.
//
// Programs (Start) are what a person runs there: all of a node's share one PID
// namespace, in which the program itself, started anew, is process 1, and have
// terminals of the node's own.
//
// All of it is Linux; commands need Linux 5.12 (mount_setattr) and the rights of
// root in the user namespace that owns the node's.
package node

import (
	"context"
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Result is the outcome of one request or echo in one word.
type Result string

// The results. What the kernel says is kept: an address that nobody answers ARP
// for is unreachable after about 3 s (three probes, a second apart, see
// neigh/default/mcast_solicit in ip-sysctl) and a timeout for whoever waited
// less.
const (
	OK          Result = "ok"
	Timeout     Result = "timeout"     // no answer in time, connecting or reading
	Refused     Result = "refused"     // ECONNREFUSED
	Reset       Result = "reset"       // ECONNRESET, EPIPE, ECONNABORTED
	Unreachable Result = "unreachable" // EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENONET, ENOPROTOOPT
	Failed      Result = "error"       // anything else; the Err beside it says what
)

// classify puts an error into one word by its errno.
func classify(err error) Result {
	if err == nil {
		return OK
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		switch errno {
		case unix.ETIMEDOUT:
			return Timeout
		case unix.ECONNREFUSED:
			return Refused
		case unix.ECONNRESET, unix.EPIPE, unix.ECONNABORTED:
			return Reset
		case unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENONET,
			unix.ENOPROTOOPT: // ICMP's protocol unreachable: a tunnel that the server does not know
			return Unreachable
		}
	}
	var ne net.Error
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &ne) && ne.Timeout() {
		return Timeout
	}
	return Failed
}
