package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/lvslab/lvslab/runner/live"
)

// stream is a pcapng file of three packets, of which seven more were lost.
func stream(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	in := pcapgo.NgInterface{Name: "web1:eth0", LinkType: layers.LinkTypeEthernet}
	ng, err := pcapgo.NewNgWriterInterface(&b, in, pcapgo.DefaultNgWriterOptions)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		data := make([]byte, 60+i)
		if err := ng.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: len(data), Length: len(data)}, data); err != nil {
			t.Fatal(err)
		}
	}
	for _, lost := range []uint64{2, 7} {
		if err := ng.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{LastUpdate: time.Unix(2, 0), PacketsReceived: 3 + lost, PacketsDropped: lost}); err != nil {
			t.Fatal(err)
		}
	}
	if err := ng.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// However a stream comes in pieces, what is passed on ends with a whole block.
func TestTally(t *testing.T) {
	data := stream(t)
	for piece := 1; piece < len(data); piece += 7 {
		var got bytes.Buffer
		tally := &tally{w: &got}
		for at := 0; at < len(data); at += piece {
			if _, err := tally.Write(data[at:min(at+piece, len(data))]); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got.Bytes(), data) || tally.packets != 3 || tally.lostAll() != 7 {
			t.Fatalf("in pieces of %d: %d of %d bytes, %d packets, %d lost", piece, got.Len(), len(data), tally.packets, tally.lostAll())
		}
	}
	var got bytes.Buffer
	half := &tally{w: &got}
	if _, err := half.Write(data[:len(data)-5]); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(&got, pcapgo.DefaultNgReaderOptions)
	for err == nil {
		_, _, err = r.ReadPacketData()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("a stream that was cut off is read until %v", err)
	}
	if _, err := (&tally{w: io.Discard}).Write([]byte("this is no capture")); err == nil {
		t.Error("any text will do")
	}
}

// capturer is a lab that writes what it has, and then waits for its end.
type capturer struct {
	live.Lab
	data []byte
	err  error
}

func (c capturer) Capture(ctx context.Context, _ live.Capture, w io.Writer) error {
	if len(c.data) > 0 {
		if _, err := w.Write(c.data); err != nil {
			return err
		}
	}
	if c.err != nil {
		return c.err
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestCaptureEnds(t *testing.T) {
	for name, c := range map[string]struct {
		lab  capturer
		file string
		want string // of standard error
		err  string
		left bool
	}{
		"by Ctrl-C":     {capturer{data: stream(t)}, "a.pcapng", "3 packets, and 7 more that were lost: the reader was too slow\n", "", true},
		"by a mistake":  {capturer{err: errors.New("unknown node")}, "b.pcapng", "", "unknown node", false},
		"by a lab gone": {capturer{data: stream(t)[:len(stream(t))-3], err: live.ErrGone}, "c.pcapng", "3 packets, and 2 more that were lost: the reader was too slow\n", "the lab is gone", true},
	} {
		t.Run(name, func(t *testing.T) {
			var errs bytes.Buffer
			a := &app{out: &outlet{w: io.Discard, full: func() {}}, err: &errs}
			ctx, cancel := context.WithCancelCause(t.Context())
			if c.lab.err == nil {
				time.AfterFunc(10*time.Millisecond, func() { cancel(errInterrupted) })
			}
			defer cancel(nil)
			file := filepath.Join(t.TempDir(), c.file)
			err := a.capture(ctx, c.lab, live.Capture{}, file)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, want %q", err, c.err)
			}
			if errs.String() != c.want {
				t.Errorf("said %q, want %q", errs.String(), c.want)
			}
			if _, err := os.Stat(file); (err == nil) != c.left {
				t.Errorf("the file: %v", err)
			}
		})
	}
}
