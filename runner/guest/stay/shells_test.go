package stay

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner/live"
)

// answers gathers what a terminal says.
type answers struct {
	mu   sync.Mutex
	said bytes.Buffer
}

func (a *answers) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.said.Write(p)
}

func (a *answers) has(word string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return bytes.Contains(a.said.Bytes(), []byte(word))
}

// tally counts what it is given.
type tally struct{ n atomic.Int64 }

func (c *tally) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// TestTenShells has ten shells in a guest at once, of which one floods and one
// floods somebody who does not read: the others answer all the same, and the
// first one does not wait for the second.
func TestTenShells(t *testing.T) {
	s := boot(t)
	l, err := s.Up(t.Context(), jobOf(lab))
	if err != nil {
		t.Fatal(err)
	}
	nodes := []string{"client", "director", "web1", "web2"}
	var flood tally
	read := make(chan struct{}) // closed when the second flood is read at last
	var wg, floods sync.WaitGroup
	leave := make(chan struct{})
	shell := func(wg *sync.WaitGroup, i int, out io.Writer, typed io.Reader) {
		wg.Go(func() {
			e := live.Exec{Node: nodes[i%len(nodes)], TTY: true, Term: "dumb", Size: live.Size{Rows: 24, Cols: 80}}
			if _, err := l.Exec(t.Context(), e, live.Streams{Stdin: typed, Stdout: out}); err != nil {
				t.Errorf("shell %d: %v", i, err)
			}
		})
	}
	flooding := func(i int, out io.Writer) {
		r, w := io.Pipe()
		shell(&floods, i, out, r)
		floods.Go(func() {
			fmt.Fprint(w, "yes\r")
			<-leave
			fmt.Fprint(w, "\x03")
			fmt.Fprint(w, "exit\r")
		})
	}
	flooding(0, &flood)
	stuck := writer(func(p []byte) (int, error) {
		<-read
		return len(p), nil
	})
	flooding(1, stuck)
	await(t, "the flood", func() bool { return flood.n.Load() > 1<<20 })
	for i := 2; i < 10; i++ {
		r, w := io.Pipe()
		a := &answers{}
		shell(&wg, i, a, r)
		wg.Go(func() {
			for k := range 5 {
				fmt.Fprintf(w, "echo ans''wer-%d-%d\r", i, k)
				await(t, fmt.Sprintf("shell %d", i), func() bool { return a.has(fmt.Sprintf("answer-%d-%d", i, k)) })
			}
			fmt.Fprint(w, "exit\r")
		})
	}
	wg.Wait()
	before := flood.n.Load()
	await(t, "more of the flood", func() bool { return flood.n.Load() > before })
	close(read)
	close(leave)
	floods.Wait()
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// await waits for what must come to be; the time is for machines that are busy.
func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%s does not come", what)
			return
		}
	}
}
