package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/lvslab/lvslab/runner/live"
)

func (a *app) captureCmd() *cobra.Command {
	var file string
	var count int
	c := &cobra.Command{
		Use:   "capture LAB [NODE[:DEVICE]]...",
		Short: "Write the packets of a lab that is up, as they pass, as pcapng",
		Long: `Capture listens at the links of a lab that is up and writes each packet as soon
as it was seen, until Ctrl-C. NODE means all links of a node, NODE:DEVICE one
device of it, which may be a tunnel or lo as well; without any, all links of the
lab are listened to. Each is an interface of its own in the stream, by its name.

Checksums and segmentation are no longer left to the devices from then on: what
is captured is what a cable would carry.

What a slow reader does not take in time is lost, and counted.`,
		Example: `  lvslab capture dr/arptables | wireshark -k -i -
  lvslab capture dr/arptables director | tshark -r -
  lvslab capture dr/arptables web1:eth0 web1:tunl0 -c 20 -w web1.pcapng`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("count") && count < 1 {
				return usageError{fmt.Errorf("--count %d: wanted 1 or more", count)}
			}
			out, toFile := a.out.file()
			if file == "-" {
				file = ""
			}
			if file == "" && toFile && term.IsTerminal(int(out.Fd())) {
				return usageError{errors.New("packets are no text for a terminal: name a file with -w, or pipe them on: lvslab capture … | tshark -r -")}
			}
			conn, err := a.connect(c.Context(), args[0])
			if err != nil {
				return err
			}
			defer conn.Close()
			a.tellStopped(c.Context(), conn.Lab, args[1:])
			ctx := c.Context()
			if file == "" && toFile {
				var stop func()
				ctx, stop = untilClosed(ctx, out)
				defer stop()
			}
			return a.capture(ctx, conn.Lab, live.Capture{Links: args[1:], Count: count}, file)
		},
		ValidArgsFunction: completeLiving,
	}
	f := c.Flags()
	f.StringVarP(&file, "write", "w", "", "write to a `file` instead of standard output")
	f.IntVarP(&count, "count", "c", 0, "end after so many packets")
	return c
}

// tellStopped says of which links nothing will come until their node is switched
// on again.
func (a *app) tellStopped(ctx context.Context, lab live.Lab, links []string) {
	s, err := lab.Status(ctx)
	if err != nil {
		return // the capture itself will tell
	}
	for _, f := range s.Faults {
		if f.Kind == live.Stop && slices.ContainsFunc(links, func(l string) bool { return l == f.Node || strings.HasPrefix(l, f.Node+":") }) {
			a.complain("%s is switched off (lvslab fault stop): waiting for it", f.Node)
		}
	}
}

// capture writes to a file, or to standard output, until ctx ends, which is how
// it ends as a rule.
func (a *app) capture(ctx context.Context, lab live.Lab, c live.Capture, file string) error {
	t := &tally{w: a.out}
	f := &lateFile{name: file}
	if file != "" {
		t.w = f
	}
	err := errors.Join(lab.Capture(ctx, c, t), f.Close())
	if a.out.err != nil {
		return nil //nolint:nilerr // the reader has seen enough
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errNobodyReads):
		return nil
	case errors.Is(cause, errInterrupted) && t.begun && t.err == nil:
		err = nil
	}
	if t.begun {
		line := plural(int(t.packets), "packet") //nolint:gosec // far fewer than 2^63
		if lost := t.lostAll(); lost > 0 {
			line += fmt.Sprintf(", and %d more that were lost: the reader was too slow", lost)
		}
		a.complain("%s", line)
	}
	return err
}

// lateFile is made when there is something to write: what was there stays where a
// capture does not come about.
type lateFile struct {
	name string
	f    *os.File
}

func (l *lateFile) Write(p []byte) (int, error) {
	if l.f == nil {
		var err error
		if l.f, err = os.Create(l.name); err != nil {
			return 0, err
		}
	}
	return l.f.Write(p)
}

func (l *lateFile) Close() error {
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}

// untilClosed is a context that ends when nobody reads a pipe any more: on a
// quiet link no write would tell. Its end has to be called for.
func untilClosed(ctx context.Context, out *os.File) (context.Context, func()) {
	const often = 250 * time.Millisecond
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			polled := []unix.PollFd{{Fd: int32(out.Fd())}} //nolint:gosec // a descriptor
			n, err := unix.Poll(polled, int(often.Milliseconds()))
			if n > 0 && polled[0].Revents&(unix.POLLERR|unix.POLLNVAL) != 0 {
				cancel(errNobodyReads)
			}
			if err != nil && !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}
