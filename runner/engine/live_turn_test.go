package engine_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
)

// Who waits for steps to end waits no longer than they want to, and the lab's end
// is the steps' end, too.
func TestTurns(t *testing.T) {
	l := liveLab(t, twoMachines)
	steps := &wire.File{Path: "steps.yaml", Data: []byte("steps: [{name: long, do: [{run: {node: one, command: sleep 3600, timeout: 5m}}]}]\n")}
	began, ended := make(chan struct{}), make(chan wire.Event, 1)
	go func() {
		defer close(ended)
		err := l.Run(context.Background(), live.Run{Steps: steps}, func(e wire.Event) {
			switch e.Kind {
			case wire.LabStarted:
				close(began)
			case wire.LabFinished:
				ended <- e
			}
		})
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	select {
	case <-began:
	case <-ended:
		t.Fatal("the steps did not begin")
	}
	why := errors.New("enough of it")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	cut := live.Fault{Kind: live.Cut, Node: "one"}
	if _, err := l.Fault(ctx, cut); !errors.Is(err, why) {
		t.Errorf("Fault while steps run: %v", err)
	}
	if _, err := l.Heal(ctx, live.Heal{}); !errors.Is(err, why) {
		t.Errorf("Heal while steps run: %v", err)
	}
	if _, err := l.Apply(ctx, live.Apply{File: wire.File{Path: "lab.yaml", Name: "lab", Data: []byte(twoMachines)}, Lab: "lab"}); !errors.Is(err, why) {
		t.Errorf("Apply while steps run: %v", err)
	}
	captured := make(chan error, 1)
	listening, listens := io.Pipe()
	go func() { captured <- l.Capture(context.Background(), live.Capture{}, listens) }()
	if _, err := listening.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, listening) }()
	if err := l.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if e := <-ended; e.Verdict != wire.Broken || e.Message != "the lab is being taken down" {
		t.Errorf("the steps ended with %s, %q", e.Verdict, e.Message)
	}
	if err := <-captured; err == nil || err.Error() != "the lab is being taken down" {
		t.Errorf("the capture ended with %v", err)
	}
	listens.Close()
	if _, err := l.Fault(t.Context(), cut); err == nil || !strings.Contains(err.Error(), "taken down") {
		t.Errorf("Fault in a lab that is down: %v", err)
	}
}
