package live

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology/source"
)

// nothing is a lab to which anything may be done.
type nothing struct{}

func (nothing) Exec(_ context.Context, _ Exec, s Streams) (Exit, error) {
	_, err := io.Copy(s.Stdout, s.Stdin)
	return Exit{}, err
}
func (nothing) Status(context.Context) (*Status, error)           { return &Status{}, nil }
func (nothing) Inspect(context.Context) (*Inspection, error)      { return &Inspection{}, nil }
func (nothing) Logs(context.Context, Logs, io.Writer) error       { return nil }
func (nothing) Apply(context.Context, Apply) (*Change, error)     { return &Change{}, nil }
func (nothing) Run(context.Context, Run, func(wire.Event)) error  { return nil }
func (nothing) Capture(context.Context, Capture, io.Writer) error { return nil }
func (nothing) Fault(_ context.Context, f Fault) (*Change, error) {
	return &Change{Commands: []string{f.ID()}}, nil
}
func (nothing) Heal(context.Context, Heal) (*Change, error) { return &Change{}, nil }
func (nothing) Info() Info                                  { return Info{} }
func (nothing) Down(context.Context) error                  { return nil }

// fromMemory is a channel on which something came.
type fromMemory struct {
	ssh.Channel
	bytes.Buffer
}

func (m *fromMemory) Read(p []byte) (int, error)  { return m.Buffer.Read(p) }
func (m *fromMemory) Write(p []byte) (int, error) { return m.Buffer.Write(p) }
func (m *fromMemory) Stderr() io.ReadWriter       { return &m.Buffer }

// FuzzRequest has anything come over a channel: what cannot be answered is told
// in words, which the other end understands.
func FuzzRequest(f *testing.F) {
	for _, verb := range []string{verbExec, verbStatus, verbInspect, verbLogs, verbApply, verbRun, verbCapture, verbFault, verbHeal, verbInfo, verbDown, "none"} {
		line, err := json.Marshal(request{Version: wire.Version, Verb: verb, Args: json.RawMessage(`{"node":"web1","args":["true"]}`)})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(line, "\nits input"...))
		f.Add(line)
	}
	f.Add([]byte(`{"version":9,"verb":"exec"}` + "\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		var out fromMemory
		in := signals{resize: make(chan Size, 1), signals: make(chan string, 1)}
		exit, err := server{lab: nothing{}, keeper: nothing{}}.answer(t.Context(), bufio.NewReader(bytes.NewReader(sent)), &out, in)
		var d done
		if json.Unmarshal(newDone(exit, err), &d) != nil || (d.Error == "") != (err == nil) {
			t.Errorf("%v is told as %+v", err, d)
		}
	})
}

// FuzzDone: whatever an error says, it fits into a packet and comes out at the
// other end; and whatever the other end sends in its place does no harm.
func FuzzDone(f *testing.F) {
	f.Add("no node web9", 1)
	f.Add("\x00<\xff", 100<<10)
	f.Add(`{"error":"x","exit":{"code":1}}`, 1)
	f.Fuzz(func(t *testing.T, text string, times int) {
		var any done
		_ = json.Unmarshal([]byte(text), &any) // as a client reads what comes
		if text == "" {
			return
		}
		long := strings.Repeat(text, 1+max(0, times)%(1+(256<<10)/len(text)))
		b := newDone(nil, errors.Join(&source.Error{Msg: long}))
		var d done
		if err := json.Unmarshal(b, &d); err != nil || d.Error == "" || !d.Usage {
			t.Errorf("%d bytes come out as %+v, %v", len(long), d, err)
		}
		if len(b) > maxPacket {
			t.Errorf("an error of %d bytes takes %d", len(long), len(b))
		}
	})
}
