package engine

import (
	"bufio"
	"context"
	"fmt"

	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology/capture"
)

// chunkSize is how much of a file one event carries, in bytes. It is far below
// wire.MaxEvent, so that the events of other labs need not wait long.
const chunkSize = 256 << 10

// record sends the packets of a step as a pcapng file, in pieces. What keeps it
// from being whole is told in its last piece and changes no verdict.
func (r *labRun) record(ctx context.Context, i int, s *scenarios.Step) {
	w := &recorder{emit: r.emit, lab: r.lab.Name, step: i + 1, name: s.Name}
	bctx, cancel := context.WithTimeout(ctx, r.env.barrierWait())
	err := r.env.barrier(bctx, true)
	cancel()
	if err != nil {
		w.say("packets may be missing: %v", err)
	}
	list, lost, err := r.env.interfaces()
	if err != nil {
		w.say("packets are missing: %v", err)
	}
	if lost > 0 {
		for _, in := range list {
			if in.Lost > 0 {
				w.say("%s lost %d packets beside the %d kept", in.Name, in.Lost, len(in.Packets))
			}
		}
	}
	if len(list) == 0 {
		w.say("the lab has no link to capture")
	} else {
		buffered := bufio.NewWriterSize(w, chunkSize)
		err = capture.WritePcapng(buffered, fmt.Sprintf("%s, step %d: %s", r.lab.Name, i+1, s.Name), list)
		if err == nil {
			err = buffered.Flush()
		}
		if err != nil {
			w.say("%v", err)
		}
	}
	w.end(lost)
}

// recorder turns a file into events.
type recorder struct {
	emit    func(wire.Event)
	lab     string
	step    int
	name    string
	offset  int64
	message string
}

func (w *recorder) say(format string, args ...any) {
	if w.message != "" {
		w.message += "; "
	}
	w.message += fmt.Sprintf(format, args...)
}

// Write sends one piece, or several when p is large.
func (w *recorder) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), chunkSize)
		w.emit(wire.Event{Kind: wire.Captured, Lab: w.lab, Capture: &wire.Capture{
			Step: w.step, Name: w.name, Offset: w.offset, Data: rest[:n:n],
		}})
		w.offset += int64(n)
		rest = rest[n:]
	}
	return len(p), nil
}

func (w *recorder) end(lost uint64) {
	w.emit(wire.Event{Kind: wire.Captured, Lab: w.lab, Message: w.message, Capture: &wire.Capture{
		Step: w.step, Name: w.name, Offset: w.offset, Last: true, Lost: lost,
	}})
}
