package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/probe"
)

func needRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const why = "running labs in this kernel needs root"
	if os.Getenv("LVSLAB_REQUIRE") == "1" {
		tb.Fatal(why + ", and LVSLAB_REQUIRE=1 is set")
	}
	tb.Skip(why)
}

// told is a backend that is given its answers.
func told(answers ...probe.Answer) *Backend {
	return &Backend{features: func(_ context.Context, want []topology.Feature) []probe.Answer {
		var got []probe.Answer
		for _, f := range want {
			i := slices.IndexFunc(answers, func(a probe.Answer) bool { return a.Feature == f })
			if i < 0 {
				got = append(got, probe.Answer{Feature: f, Verdict: probe.Yes, Why: "so be it"})
				continue
			}
			got = append(got, answers[i])
		}
		return got
	}}
}

func TestCan(t *testing.T) {
	noRR := probe.Answer{Feature: "ip_vs_rr", Verdict: probe.No, Why: "the module ip_vs_rr is not loaded", Fix: "sudo modprobe ip_vs_rr"}
	noIPIP := probe.Answer{Feature: "ipip", Verdict: probe.No, Why: "the module ipip is not loaded", Fix: "sudo modprobe ipip"}
	noRoot := probe.Answer{Feature: "netns", Verdict: probe.No, Why: "making network namespaces needs root"}
	maybe := probe.Answer{Feature: "veth", Why: "who knows", Fix: "sudo modprobe veth"}
	for _, tt := range []struct {
		name    string
		b       *Backend
		verdict runner.Verdict
		why     string
		fix     []string
	}{
		{"all there", told(), runner.Yes, "this kernel has all that is needed", nil},
		{"one missing", told(noRR), runner.No, "ip_vs_rr: the module ip_vs_rr is not loaded", []string{"sudo modprobe ip_vs_rr"}},
		{
			"two missing, one unknown", told(noRR, noIPIP, maybe), runner.No,
			"ip_vs_rr: the module ip_vs_rr is not loaded; ipip: the module ipip is not loaded",
			[]string{"sudo modprobe ip_vs_rr", "sudo modprobe ipip"},
		},
		{"one unknown", told(maybe), runner.Unknown, "veth: who knows", []string{"sudo modprobe veth"}},
		{
			"not root", told(noRoot, maybe), runner.No,
			"making network namespaces needs root; run lvslab as root, or take --kernel uml",
			[]string{"sudo lvslab run --kernel host"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := tt.b.Can(t.Context(), []topology.Feature{"veth", "ip_vs_rr", "ipip", "veth"})
			if a.Verdict != tt.verdict || a.Why != tt.why || !slices.Equal(a.Fix, tt.fix) {
				t.Errorf("got %+v", a)
			}
		})
	}
	if _, err := told(noRoot).Boot(t.Context()); err == nil || !strings.Contains(err.Error(), "--kernel uml") {
		t.Errorf("Boot: %v", err)
	}
}

// TestCanStops: what cannot be mended makes the slow trial needless.
func TestCanStops(t *testing.T) {
	needs := []topology.Feature{"veth", probe.ARP, "ip_vs"}
	noARP := probe.Answer{Feature: probe.ARP, Verdict: probe.No, Why: "no rules"}
	for _, tt := range []struct{ fix, want string }{
		{"", "ip_vs: none"},
		{"sudo modprobe ip_vs", "ip_vs: none; arp-rules: no rules"},
	} {
		a := told(noARP, probe.Answer{Feature: "ip_vs", Verdict: probe.No, Why: "none", Fix: tt.fix}).Can(t.Context(), needs)
		if a.Verdict != runner.No || a.Why != tt.want {
			t.Errorf("fix %q: %+v", tt.fix, a)
		}
	}
	if !slices.Equal(needs, []topology.Feature{"veth", probe.ARP, "ip_vs"}) {
		t.Errorf("the caller's list is now %v", needs)
	}
}

func TestEnsure(t *testing.T) {
	var mu sync.Mutex
	asked := make(map[topology.Feature]int)
	b := told(
		probe.Answer{Feature: "ipip", Verdict: probe.No, Why: "not loaded"},
		probe.Answer{Feature: "veth", Why: "who knows", Fix: "sudo modprobe veth"},
	)
	answer := b.features
	b.features = func(ctx context.Context, want []topology.Feature) []probe.Answer {
		mu.Lock()
		defer mu.Unlock()
		for _, f := range want {
			asked[f]++
		}
		return answer(ctx, want)
	}
	rs, err := b.Boot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := rs.(*session)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			missing, err := s.known.Missing(t.Context(), []topology.Feature{"bridge", "ipip", "bridge"})
			if err != nil || !slices.Equal(missing, []topology.Feature{"ipip"}) {
				t.Errorf("missing %v, error %v", missing, err)
			}
		})
	}
	wg.Wait()
	if asked["bridge"] != 1 || asked["ipip"] != 1 {
		t.Errorf("asked %v", asked)
	}
	for range 2 {
		_, err = s.known.Missing(t.Context(), []topology.Feature{"ipip", "veth"})
		if err == nil || !strings.Contains(err.Error(), "veth: who knows; try sudo modprobe veth") {
			t.Errorf("unknown: %v", err)
		}
	}
	if asked["veth"] != 2 {
		t.Errorf("what could not be told is asked again; asked %v", asked)
	}
}

const lab = `title: two nodes
networks: {lan: 10.0.0.0/24}
nodes:
  one: {links: {eth0: lan 10.0.0.1/24}}
  two: {links: {eth0: lan 10.0.0.2/24}}
steps:
- name: they hear each other
  do: [ping: {from: one, to: two}]
`

// needs are those of a whole lab of the tutorial.
var needs = []topology.Feature{"bridge", "veth", "ip_vs", "ip_vs_rr", "ipip"}

func jobOf(text string) wire.Job {
	return wire.Job{Version: wire.Version, Labs: []string{"lab"}, Files: []wire.File{{Path: "lab.yaml", Name: "lab", Data: []byte(text)}}}
}

func TestRun(t *testing.T) {
	needRoot(t)
	b := New()
	if b.Name() != "host" {
		t.Errorf("name %q", b.Name())
	}
	a := b.Can(t.Context(), []topology.Feature{"bridge", "veth"})
	if a.Verdict != runner.Yes {
		t.Skipf("%+v", a)
	}
	s, err := b.Boot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(s.Kernel(), "Linux ") {
		t.Errorf("kernel %q", s.Kernel())
	}
	run := func(text string) (wire.Event, error) {
		var mu sync.Mutex
		var last wire.Event
		err := s.Run(t.Context(), jobOf(text), func(e wire.Event) {
			mu.Lock()
			defer mu.Unlock()
			last = e
		})
		return last, err
	}
	if e, err := run(lab); err != nil || e.Kind != wire.LabFinished || e.Verdict != wire.Pass {
		t.Errorf("%v %+v", err, e)
	}
	if b.Can(t.Context(), []topology.Feature{"ipip"}).Verdict == runner.No {
		e, err := run(strings.Replace(lab, "one: {", "one: {devices: {tunl0: {up: true}}, ", 1))
		if err != nil || e.Verdict != wire.Skip || !strings.Contains(e.Message, "ipip") {
			t.Errorf("a lab for another kernel: %v %+v", err, e)
		}
	}
	var big strings.Builder
	big.WriteString("title: too big\nnetworks:\n")
	for i := range 50 { // a bridge takes 1023 links
		fmt.Fprintf(&big, "  lan%d: 10.%d.0.0/16\n", i, i)
	}
	big.WriteString("nodes:\n")
	for i := range 9999 {
		fmt.Fprintf(&big, "  n%d: {links: {eth0: lan%d 10.%d.%d.%d/16}}\n", i, i/200, i/200, i%200, 1+i%200)
	}
	big.WriteString("steps: [{name: x, do: [ping: {from: n0, to: n1}]}]\n")
	if e, err := run(big.String()); err != nil || e.Verdict != wire.Broken || !strings.Contains(e.Message, "no room") {
		t.Errorf("a lab that is too big: %v %.300q", err, e.Message)
	}
	if err := s.Run(t.Context(), wire.Job{}, func(wire.Event) {}); err == nil {
		t.Error("a job of no version was taken")
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if _, err := run(lab); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestCloseEndsJobs(t *testing.T) {
	needRoot(t)
	s, err := New().Boot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	over := make(chan wire.Event, 1)
	go func() {
		var last wire.Event
		var mu sync.Mutex
		once := sync.OnceFunc(func() { close(started) })
		long := strings.Replace(lab, "ping: {from: one, to: two}", "run: {node: one, command: sleep 60}", 1)
		_ = s.Run(context.Background(), jobOf(long), func(e wire.Event) {
			mu.Lock()
			defer mu.Unlock()
			last = e
			once()
		})
		over <- last
	}()
	<-started
	begin := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	select {
	case e := <-over:
		if e.Kind != wire.LabFinished || e.Verdict == wire.Pass {
			t.Errorf("last event %+v", e)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the job goes on")
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("Close took %s", took)
	}
}
