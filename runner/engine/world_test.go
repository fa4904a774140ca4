package engine_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
)

// A daemon that does not come up keeps nobody from looking at the lab.
func TestLookWhileDaemonStarts(t *testing.T) {
	l := liveLab(t, twoMachines)
	slow := twoMachines + "  three: {links: {eth0: lan 10.7.0.3/24}, serve: [{service: http, command: touch /tmp/began; sleep 600}]}\n"
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough of it")
	applied := make(chan error, 1)
	go func() {
		_, err := l.Apply(ctx, live.Apply{File: wire.File{Path: "lab.yaml", Name: "lab", Data: []byte(slow)}, Lab: "lab"})
		applied <- err
	}()
	for began := false; !began; time.Sleep(time.Millisecond) {
		select {
		case err := <-applied:
			t.Fatalf("Apply: %v", err)
		default:
		}
		exit, err := l.Exec(t.Context(), live.Exec{Node: "three", Args: []string{"test", "-e", "/tmp/began"}}, live.Streams{})
		began = err == nil && exit.Code == 0
	}
	if _, err := l.Status(t.Context()); err != nil {
		t.Errorf("Status: %v", err)
	}
	if err := l.Logs(t.Context(), live.Logs{}, t.Output()); err != nil {
		t.Errorf("Logs: %v", err)
	}
	select {
	case err := <-applied:
		t.Errorf("who looked waited for Apply, which ended with %v", err)
	default:
	}
	cancel(why)
	if err := <-applied; !errors.Is(err, why) {
		t.Errorf("Apply: %v", err)
	}
}
