package machine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStage has both sides of a stage meet.
func TestStage(t *testing.T) {
	for _, kept := range []bool{false, true} {
		ends, err := pair(unix.SOCK_STREAM)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.FileConn(ends[1])
		if err != nil {
			t.Fatal(err)
		}
		_ = ends[1].Close()
		type outcome struct {
			stage Stage
			now   time.Time
			err   error
		}
		done := make(chan outcome, 1)
		go func() {
			defer conn.Close()
			var o outcome
			o.stage, o.err = ReadStage(conn, func(s Stage, now time.Time) error {
				o.now = now
				return nil
			})
			done <- o
		}()
		if kept { // it has said so before it was kept
			if err := expect(ends[0], StageReady); err != nil {
				t.Fatal(err)
			}
		}
		calls := 0
		s := Stager{Kept: kept, Ready: func(context.Context) error { calls++; return nil }}
		before := time.Now()
		if err := s.Before(t.Context(), ends[0], "/work"); err != nil {
			t.Fatal(err)
		}
		o := <-done
		if o.err != nil || o.stage.Work != "/work" || len(o.stage.Seed) != 64 || o.now.Before(before.Add(-time.Second)) || calls != 1 {
			t.Errorf("kept %v: %+v, %d calls", kept, o, calls)
		}
		_ = ends[0].Close()
	}
}

func TestStageRefused(t *testing.T) {
	ends, err := pair(unix.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	defer ends[0].Close()
	defer ends[1].Close()
	if _, err := ends[1].WriteString("something else\n"); err != nil {
		t.Fatal(err)
	}
	if err := (Stager{}).Before(t.Context(), ends[0], "/work"); err == nil || !strings.Contains(err.Error(), `said "something else\n"`) {
		t.Errorf("%v", err)
	}
	broken := errors.New("broken")
	if err := (Stager{Kept: true, Ready: func(context.Context) error { return broken }}).Before(t.Context(), ends[0], "/work"); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

type answers struct {
	io.Reader
	io.Writer
}

func FuzzReadStage(f *testing.F) {
	f.Add([]byte(`{"work":"/work","seed":"AAAA"}` + "\n1700000000000000000\n"))
	f.Add([]byte("{}\n"))
	f.Add([]byte("\n\n"))
	f.Add(bytes.Repeat([]byte{'x'}, maxStage+1))
	f.Fuzz(func(t *testing.T, said []byte) {
		stage, err := ReadStage(answers{bytes.NewReader(said), io.Discard}, func(Stage, time.Time) error { return nil })
		if err == nil && (stage.Work == "" || len(stage.Seed) == 0) {
			t.Fatalf("%+v", stage)
		}
	})
}
