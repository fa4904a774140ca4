package live

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology/source"
)

// channelType is what every channel is opened as. On it the client sends a
// request, one line of JSON, and then what the program that it asks for shall
// read. What the server sends is what was asked for: a program's output, events,
// packets, or a result in JSON. A channel request "done" tells how it ended.
const channelType = "lab@lvslab"

// Names of channel requests; those of the client are SSH's (RFC 4254, 6.7 and
// 6.9) with JSON for payload.
const (
	doneRequest   = "done"
	resizeRequest = "window-change"
	signalRequest = "signal"
)

// maxRequest bounds the line of a request, in bytes: a lab file is in it.
const maxRequest = 64 << 20

// request is the first line on a channel.
type request struct {
	Version int             `json:"version"`
	Verb    string          `json:"verb"`
	Args    json.RawMessage `json:"args,omitempty"`
}

// The verbs.
const (
	verbExec    = "exec"
	verbStatus  = "status"
	verbInspect = "inspect"
	verbLogs    = "logs"
	verbApply   = "apply"
	verbRun     = "run"
	verbCapture = "capture"
	verbFault   = "fault"
	verbHeal    = "heal"
	verbInfo    = "info"
	verbDown    = "down"
)

// done is how what was asked for ended.
type done struct {
	Error string `json:"error,omitempty"`
	Usage bool   `json:"usage,omitempty"`
	Exit  *Exit  `json:"exit,omitempty"`
}

// maxPacket bounds what tells of the end, in bytes: package ssh sends no packet of
// more than 256 KiB, and its own words take some of that.
const maxPacket = 200 << 10

// maxDone bounds an error's text, in bytes.
const maxDone = 60 << 10

func newDone(exit *Exit, err error) []byte {
	d := done{Exit: exit}
	if err != nil {
		var list source.List
		var one *source.Error
		var asked *AskError // of a lab that is asked by way of another
		d.Usage = errors.As(err, &list) || errors.As(err, &one) || errors.As(err, &asked) && asked.Usage
		d.Error = err.Error()
		if len(d.Error) > maxDone {
			d.Error = d.Error[:maxDone] + "…"
		}
	}
	b, _ := json.Marshal(d)  // of strings and numbers
	for len(b) > maxPacket { // in JSON, a character may take six bytes
		d.Error = d.Error[:len(d.Error)/2] + "…"
		b, _ = json.Marshal(d)
	}
	return b
}

// AskError is the other end's answer that something could not be done.
type AskError struct {
	Message string
	// Usage means that what was asked for is wrong in itself: a mistake in a
	// file, or in a name.
	Usage bool
}

func (e *AskError) Error() string { return e.Message }

// ErrGone means that the connection ended before the answer came.
var ErrGone = errors.New("the lab is gone: its connection ended before the answer came")

// checkVersion says how two lvslabs of different versions come together.
func checkVersion(got int) error {
	if got == wire.Version {
		return nil
	}
	return fmt.Errorf("%w (the lab was brought up by another lvslab: take it down and up again, or use that one)", wire.CheckVersion("request", got))
}

// handshakeWait bounds the greeting of both ends. They are lvslab's own, so that
// only a machine that stands still needs long.
const handshakeWait = 20 * time.Second

// pool is crypto/rand in larger draughts. Every packet takes some for its padding,
// and each time to ask the kernel is dear in a guest.
type pool struct {
	mu   sync.Mutex
	buf  [1024]byte
	left int
}

func (r *pool) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := range p {
		if r.left == 0 {
			if _, err := rand.Read(r.buf[:]); err != nil {
				return n, err
			}
			r.left = len(r.buf)
		}
		r.left--
		p[n], r.buf[r.left] = r.buf[r.left], 0 // never twice
	}
	return len(p), nil
}

// algorithms of a connection that never leaves the machine: the cheapest that
// both ends have.
func algorithms() ssh.Config {
	return ssh.Config{
		Rand:         &pool{},
		KeyExchanges: []string{ssh.KeyExchangeCurve25519},
		Ciphers:      []string{ssh.CipherAES128GCM},
		MACs:         []string{ssh.HMACSHA256ETM},
	}
}
