package tools

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Kinds of requests.
const (
	// Modprobe loads a module, or with Remove takes it away, for the node.
	Modprobe = "modprobe"
	// Unit does with the unit Name what Verb says.
	Unit = "unit"
)

// Request is what a program in a node asks for.
type Request struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Verb   string `json:"verb,omitempty"`
	Remove bool   `json:"remove,omitempty"`
}

// Answer is what became of it.
type Answer struct {
	// Out and Err are what the program prints, Exit is its exit status.
	Out  string `json:"out,omitempty"`
	Err  string `json:"err,omitempty"`
	Exit int    `json:"exit"`
}

// controlPath is node.ControlPath, which this package does not see.
const controlPath = "/run/lvslab/control"

const (
	// askTimeout bounds one request; the longest is the start of a daemon.
	askTimeout = 30 * time.Second
	// maxRequest bounds what is read of a request or an answer, in bytes.
	maxRequest = 1 << 20
)

// ask asks the lab's keeper.
func ask(r Request) (Answer, error) {
	conn, err := net.DialTimeout("unix", controlPath, askTimeout)
	if err != nil {
		return Answer{}, fmt.Errorf("asking lvslab, which keeps this lab: %w", err)
	}
	defer conn.Close()
	var a Answer
	if err = conn.SetDeadline(time.Now().Add(askTimeout)); err == nil {
		err = json.NewEncoder(conn).Encode(r)
	}
	if err == nil {
		err = json.NewDecoder(io.LimitReader(conn, maxRequest)).Decode(&a)
	}
	if err != nil {
		return a, fmt.Errorf("asking lvslab, which keeps this lab: %w", err)
	}
	return a, nil
}

// pass asks and prints the answer.
func (c *call) pass(r Request) int {
	a, err := ask(r)
	if err != nil {
		c.errorf("%s: %v\n", c.name, err)
		return 1
	}
	c.errorf("%s", a.Err)
	c.printf("%s", a.Out)
	return a.Exit
}

// acceptPause is how long to wait after a connection that could not be taken.
const acceptPause = 100 * time.Millisecond

// Serve answers requests by do until the listener is closed. Requests are
// answered beside one another.
func Serve(l net.Listener, do func(Request) Answer) {
	for {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			time.Sleep(acceptPause) // out of descriptors: some will be free again
			continue
		}
		go func() {
			defer conn.Close()
			var r Request
			// A program that is killed meanwhile has no use for its answer.
			if conn.SetDeadline(time.Now().Add(askTimeout)) != nil ||
				json.NewDecoder(io.LimitReader(conn, maxRequest)).Decode(&r) != nil {
				return
			}
			_ = json.NewEncoder(conn).Encode(do(r))
		}()
	}
}
