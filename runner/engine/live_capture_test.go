package engine_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/lvslab/lvslab/runner/engine"
	"github.com/lvslab/lvslab/runner/live"
)

// growing is a buffer that one goroutine writes and another looks at.
type growing struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (g *growing) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.buf.Write(p)
}

func (g *growing) bytes() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return bytes.Clone(g.buf.Bytes())
}

// await polls until f is true.
func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// packets counts those of a stream by interface.
func packets(t *testing.T, data []byte) map[string]int {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(data), pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	n := make(map[string]int)
	for {
		_, ci, err := r.ReadPacketData()
		if err != nil {
			return n
		}
		in, err := r.Interface(ci.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		n[in.Name]++
	}
}

// capturing runs a capture until the returned function is called, which returns
// its error.
func capturing(t *testing.T, l *engine.Live, w io.Writer, links ...string) (end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Capture(ctx, live.Capture{Links: links}, w) }()
	return func() error { cancel(); return <-done }
}

func ping(t *testing.T, l *engine.Live, from, to string) {
	t.Helper()
	if out, err := l.InNode(t, from, "ping", "-c1", "-W20", to); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// Two captures, of the same link too, see packets while they go on; the header
// comes before any.
func TestCaptureLive(t *testing.T) {
	l := liveLab(t, twoNetworks)
	var all, one growing
	endAll := capturing(t, l, &all)
	endOne := capturing(t, l, &one, "client:eth0", "web:lo")
	await(t, "the headers", func() bool { return len(all.bytes()) > 0 && len(one.bytes()) > 0 })
	ping(t, l, "client", "10.6.0.2")
	await(t, "the packets", func() bool {
		n := packets(t, all.bytes())
		return n["client:eth0"] >= 4 && n["web:eth0"] >= 2 && n["router:eth0"] >= 4 && packets(t, one.bytes())["client:eth0"] >= 4
	})
	for _, end := range []func() error{endAll, endOne} {
		if err := end(); err != nil {
			t.Error(err)
		}
	}
	file := filepath.Join(t.TempDir(), "all.pcapng")
	if err := os.WriteFile(file, all.bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"tcpdump", "tshark"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Log(err)
			continue
		}
		out, err := exec.Command(tool, "-n", "-r", file).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "10.6.0.2") {
			t.Errorf("%s: %v\n%s", tool, err, out)
		}
	}
}

func TestCaptureCount(t *testing.T) {
	l := liveLab(t, twoNetworks)
	var got growing
	done := make(chan error, 1)
	go func() { done <- l.Capture(t.Context(), live.Capture{Links: []string{"client"}, Count: 3}, &got) }()
	await(t, "the header", func() bool { return len(got.bytes()) > 0 })
	ping(t, l, "client", "10.6.0.2")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := packets(t, got.bytes()); n["client:eth0"] != 3 {
		t.Errorf("%v", n)
	}
}

// A node that is switched off ends neither the capture nor itself later for it.
func TestCaptureWhileANodeGoes(t *testing.T) {
	l := liveLab(t, twoNetworks)
	var got growing
	end := capturing(t, l, &got)
	await(t, "the header", func() bool { return len(got.bytes()) > 0 })
	if err := l.RemoveNode("web"); err != nil {
		t.Fatal(err)
	}
	ping(t, l, "client", "10.5.0.1")
	await(t, "the packets", func() bool { return packets(t, got.bytes())["client:eth0"] >= 4 })
	if err := end(); err != nil {
		t.Error(err)
	}
}

func TestCaptureUnknown(t *testing.T) {
	l := liveLab(t, twoNetworks)
	for word, want := range map[string]string{
		"clent": `did you mean "client"`, "client:eht0": `did you mean "eth0"`, ":eth0": "unknown node",
	} {
		err := l.Capture(t.Context(), live.Capture{Links: []string{word}}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", word, err, want)
		}
	}
}

// A writer that fails ends the capture with what it said.
func TestCaptureWriterFails(t *testing.T) {
	l := liveLab(t, twoNetworks)
	r, w := io.Pipe()
	_ = r.Close()
	if err := l.Capture(t.Context(), live.Capture{}, w); err == nil || !strings.Contains(err.Error(), "closed pipe") {
		t.Errorf("%v", err)
	}
}
