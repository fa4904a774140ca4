// Package labtest runs labs as Go tests: a subtest for each lab, and in it one for
// each step.
//
//	func TestMain(m *testing.M) { labtest.Main(m) }
//
//	func TestLabs(t *testing.T) { labtest.Run(t, "testdata/labs") }
//
//	func TestBalancer(t *testing.T) { labtest.Import(t, "keepalived.conf") }
//
// A step that fails prints the place in the lab file, what was wanted, what the
// kernel did, and the evidence. A lab that this machine cannot run, for want of a
// kernel or of something in it, is skipped with the reason, and fails where
// LVSLAB_REQUIRE is 1: set it in CI, where a test that was not run is no success.
//
// The labs of one call share kernels, which boot once, and run beside one another
// and beside other parallel tests. Only those are run that go test -run chooses
// (-run 'TestLabs/dr/sysctl').
package labtest

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/origin"
	"github.com/lvslab/lvslab/runner/report"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/importer"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// Main is a TestMain. A package that has one of its own calls guest.Enter at its
// top instead: lvslab starts the test's program anew as the init of a guest.
func Main(m *testing.M) {
	guest.Enter()
	code := m.Run()
	self.remove()
	os.Exit(code)
}

// Option is how Run runs labs.
type Option func(*options)

type options struct {
	kernel  string
	set     []string
	omit    []topology.Role
	timeout time.Duration
}

// Kernel is the kernel to run in, a word of lvslab run --kernel: "uml", "host",
// "qemu", "qemu:debian". The default is the first of them that can.
func Kernel(word string) Option { return func(o *options) { o.kernel = word } }

// Set lays a value over each lab: "virtual_services.web.scheduler=wrr".
func Set(assignment string) Option {
	return func(o *options) { o.set = append(o.set, assignment) }
}

// Omit leaves out all that plays a role in the labs, such as "arp-announce". A lab
// without it is not run.
func Omit(role string) Option {
	return func(o *options) { o.omit = append(o.omit, topology.Role(role)) }
}

// Timeout bounds each lab, by 2 minutes if not given.
func Timeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// Run runs the labs of a path: a lab file, a folder with all lab files below it, a
// pattern of filepath.Glob, or a lab or chapter that comes with lvslab
// ("dr/sysctl"). Paths are relative to the package's folder, as the tests' are.
func Run(t *testing.T, path string, opts ...Option) {
	t.Helper()
	files, err := find(path)
	if err != nil {
		t.Fatal(err)
	}
	run(t, files, origin.Of(files).Beside, opts)
}

// RunText runs the labs of a text, as it stands in a lab file. name is theirs.
func RunText(t *testing.T, name, yaml string, opts ...Option) {
	t.Helper()
	files := []wire.File{{Path: name + ".yaml", Name: name, Data: []byte(yaml)}}
	run(t, files, origin.Of(files).Beside, opts)
}

// Import runs the lab that is made of a configuration, ipvsadm rules or a
// keepalived.conf, as lvslab test does. Failures name the configuration's lines;
// what had to be assumed about it is logged.
func Import(t *testing.T, path string, opts ...Option) {
	t.Helper()
	c, err := importer.Read(path, importer.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lab, err := importer.Draft(c, importer.DraftOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range lab.Notes {
		t.Log(safe(n.String()))
	}
	files := []wire.File{{Path: "the lab of " + path, Name: lab.Name, Data: lab.Text}}
	places := origin.Of(files)
	places.Whole(files[0].Path, source.Pos{File: path, Line: 1})
	run(t, files, places.Instead, opts)
}

// safe is somebody else's text, to be printed.
func safe(text string) string { return report.Safe(text, os.Getenv("GITHUB_ACTIONS") == "true") }

// required says that a lab which cannot be run is a failure.
func required() bool { return os.Getenv("LVSLAB_REQUIRE") == "1" }

// skip is t.Skip, or t.Fatal where labs are required to run.
func skip(t testing.TB, why string) {
	t.Helper()
	if required() {
		t.Fatalf("LVSLAB_REQUIRE is 1, and this cannot be run: %s", why)
	}
	t.Skip(why)
}

// run runs labs as subtests. places is what their events go through.
func run(t *testing.T, files []wire.File, places func(wire.Event) wire.Event, opts []Option) {
	t.Helper()
	if !guest.Entered() {
		t.Fatal("labtest: the package needs `func TestMain(m *testing.M) { labtest.Main(m) }`, or guest.Enter() at the top of the TestMain that it has: its program is started anew as the init of a guest")
	}
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	all, err := load(files, &o)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{results: make(map[string]*result), places: places}
	var chosen []string
	for _, lab := range all {
		r := &result{done: make(chan struct{})}
		s.results[lab.Name] = r
		t.Run(lab.Name, func(t *testing.T) {
			// Which labs -run has chosen is known when all are here, and t.Parallel
			// returns after that.
			chosen = append(chosen, lab.Name)
			t.Parallel()
			<-r.done
			r.tell(t)
		})
	}
	if len(chosen) == 0 {
		return
	}
	backends, err := kernels(o.kernel)
	if err != nil {
		s.end(err) // those that wait must not wait for ever
		return
	}
	// The parent's context ends when its subtests have.
	ctx := t.Context()
	over := make(chan struct{})
	t.Cleanup(func() { <-over })
	go func() {
		defer close(over)
		_, err := runner.Run(ctx, runner.Options{
			Files: files, Labs: chosen, Backends: backends, Kernel: word(o.kernel), Omit: o.omit, Timeout: o.timeout,
		}, s.event)
		s.end(err)
	}()
}

// load reads labs, and leaves out those that have not the roles to omit.
func load(files []wire.File, o *options) ([]*scenarios.Lab, error) {
	var all []*scenarios.Lab
	var errs source.List
	for i := range files {
		files[i].Set = o.set
		found, err := scenarios.Load(files[i].Path, files[i].Name, files[i].Data, o.set...)
		if err != nil {
			errs.AddError(source.Pos{File: files[i].Path}, err)
			continue
		}
		for _, l := range found {
			plays, err := plays(l, o.omit)
			errs.AddError(l.Pos, err)
			if plays {
				all = append(all, l)
			}
		}
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, runner.ErrNothingToRun
	}
	return all, nil
}

// plays reports whether a lab has all of the roles.
func plays(l *scenarios.Lab, roles []topology.Role) (bool, error) {
	if len(roles) == 0 {
		return true, nil
	}
	p, err := l.Plan()
	if err != nil {
		return false, err
	}
	has := make(map[topology.Role]bool)
	for _, r := range p.Roles {
		has[r] = true
	}
	for _, r := range roles {
		if !has[r] {
			return false, nil
		}
	}
	return true, nil
}

// session is one run on its way.
type session struct {
	places func(wire.Event) wire.Event

	mu      sync.Mutex
	results map[string]*result
}

// result is what a lab came to. It is written until done is closed, and read
// after that.
type result struct {
	done  chan struct{}
	over  bool
	steps []wire.Event
	last  wire.Event
	// err is why the run as a whole came to nothing.
	err error
}

func (s *session) event(e wire.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.results[e.Lab]
	if r == nil || r.over {
		return
	}
	e = s.places(e)
	switch e.Kind {
	case wire.LabStarted:
		r.steps = nil // a lab that starts again forgets its first try
	case wire.StepFinished:
		if e.Step != nil {
			r.steps = append(r.steps, e)
		}
	case wire.LabFinished:
		r.last, r.over = e, true
		close(r.done)
	}
}

// end gives the labs that have no verdict the run's error.
func (s *session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		err = errors.New("the run ended before this lab had a verdict")
	}
	for _, r := range s.results {
		if !r.over {
			r.over, r.err = true, err
			close(r.done)
		}
	}
}

// tell reports a lab as a test.
func (r *result) tell(t *testing.T) {
	t.Helper()
	var none *runner.NoBackendError
	switch {
	case errors.As(r.err, &none):
		skip(t, safe(r.err.Error()))
	case r.err != nil:
		if cause := context.Cause(t.Context()); cause != nil {
			t.Fatalf("not finished: %v", cause)
		}
		t.Fatal(safe(r.err.Error()))
	case r.last.Verdict == wire.Skip:
		skip(t, safe(r.last.Message))
	}
	ran, of := 0, 0
	for _, e := range r.steps {
		ran, of = max(ran, e.Step.Index), max(of, e.Step.Of)
		t.Run(stepName(e.Step), func(t *testing.T) { tellStep(t, e) })
	}
	if m := safe(r.last.Message); m != "" {
		t.Log(m)
	}
	if ran < of {
		t.Logf("of %d steps, those behind step %d were not run", of, ran)
	}
	if v := r.last.Verdict; v != wire.Pass && !t.Failed() {
		t.Errorf("the lab is %s", v)
	}
}
