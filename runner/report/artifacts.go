package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/lvslab/lvslab/runner/wire"
)

// ArtifactOptions say what Artifacts keeps and where.
type ArtifactOptions struct {
	// Dir is the folder, which is made where it is not there.
	Dir string
	// Files are the lab files of the run.
	Files []wire.File
	// Flags are those of lvslab run that the run needs to be the same run.
	Flags []string
}

// Artifacts keeps what a person wants of labs that failed or are broken, and of
// no others:
//
//	DIR/index.txt                 the labs and their folders, and if there is none, that
//	DIR/LAB/report.txt            the whole report, the guest's console in it
//	DIR/LAB/events.json           the same as events, for lvslab report
//	DIR/LAB/NAME.yaml             the lab file, to be run again
//	DIR/LAB/01-STEP.pcapng        the packets of each step, given Captured events
//	DIR/LAB/01-STEP-TITLE.txt     a piece of its evidence: a table, a list of counters
//
// LAB and STEP are the names' small letters, digits and underscores, with dashes
// for all else; a name that comes twice gets a number. What an earlier run has
// left in DIR is written over where it has the same name, and else left alone.
//
// Packets wait for their lab's verdict in files without names. What cannot be
// written does not end the run; Close returns the first error.
func Artifacts(o ArtifactOptions) (Sink, error) {
	if err := os.MkdirAll(o.Dir, 0o777); err != nil {
		return nil, fmt.Errorf("making the folder for artifacts: %w", err)
	}
	root, err := os.OpenRoot(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening the folder for artifacts: %w", err)
	}
	s := &artifactSink{opts: o, root: root, labs: make(map[string]*kept), used: make(map[string]bool)}
	// A folder that takes no files is told of now.
	if err := s.write("index.txt", []byte("the run has not ended\n")); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return s, nil
}

type artifactSink struct {
	opts ArtifactOptions

	mu    sync.Mutex
	root  *os.Root
	begun *wire.Event      // the last RunStarted
	labs  map[string]*kept // those without a verdict
	order []string         // their names, as they came
	used  map[string]bool  // names in Dir
	index []string
	err   error
}

// kept is what is known of a lab until it has a verdict.
type kept struct {
	events   []wire.Event
	captures []*keptCapture
}

// keptCapture is a file of packets that has no name.
type keptCapture struct {
	of      wire.Capture
	f       *os.File
	missing string
}

func (k *kept) drop() error {
	var errs []error
	for _, c := range k.captures {
		errs = append(errs, c.f.Close())
	}
	k.captures, k.events = nil, nil
	return errors.Join(errs...)
}

func (s *artifactSink) Event(e wire.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.Kind {
	case wire.RunStarted:
		s.begun = &e
	case wire.LabStarted:
		// A lab that starts again forgets its first try.
		s.fail(s.lab(e.Lab).drop())
		fallthrough
	case wire.StepFinished:
		k := s.lab(e.Lab)
		k.events = append(k.events, e)
	case wire.Log:
		if k := s.labs[e.Lab]; k != nil && len(k.events) < maxLog {
			k.events = append(k.events, e)
		}
	case wire.Captured:
		if e.Capture != nil {
			s.fail(s.packets(s.lab(e.Lab), e))
		}
	case wire.LabFinished:
		s.finished(e)
	}
}

func (s *artifactSink) fail(err error) {
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("artifacts: %w", err)
	}
}

func (s *artifactSink) lab(name string) *kept {
	k := s.labs[name]
	if k == nil {
		k = &kept{}
		s.labs[name] = k
		s.order = append(s.order, name)
	}
	return k
}

// packets keeps a piece of a capture.
func (s *artifactSink) packets(k *kept, e wire.Event) error {
	i := slices.IndexFunc(k.captures, func(c *keptCapture) bool { return c.of.Step == e.Capture.Step })
	if i < 0 {
		f, err := os.CreateTemp(s.opts.Dir, ".packets-*")
		if err != nil {
			return err
		}
		if err := os.Remove(f.Name()); err != nil {
			return errors.Join(err, f.Close())
		}
		k.captures = append(k.captures, &keptCapture{of: *e.Capture, f: f})
		i = len(k.captures) - 1
	}
	c := k.captures[i]
	if e.Message != "" {
		c.missing = e.Message
	}
	_, err := c.f.WriteAt(e.Capture.Data, e.Capture.Offset)
	return err
}

// finished keeps a lab for good, or forgets it.
func (s *artifactSink) finished(e wire.Event) {
	k := s.lab(e.Lab)
	delete(s.labs, e.Lab)
	s.order = slices.DeleteFunc(s.order, func(n string) bool { return n == e.Lab })
	if v := wire.Worst(wire.Pass, e.Verdict); !met(v) {
		k.events = append(k.events, e)
		dir := s.unused(path.Join(plainParts(e.Lab)...), "")
		name := inline(e.Lab)
		if e.Backend != "" { // one of several that the lab was run on
			name += " [" + inline(e.Backend) + "]"
		}
		s.index = append(s.index, fmt.Sprintf("%-7s %s  in %s", words[v], name, dir))
		s.fail(s.keep(dir, k, e))
	}
	s.fail(k.drop())
}

// keep writes a lab's folder.
func (s *artifactSink) keep(dir string, k *kept, e wire.Event) error {
	if err := s.root.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	again := "the run's own lab file is not known"
	var errs []error
	if f := s.fileOf(e.Lab, k); f != nil {
		name := plainName(strings.TrimSuffix(path.Base(f.Name), ".yaml"), 63)
		if name == "" {
			name = "lab"
		}
		name += ".yaml"
		errs = append(errs, s.write(path.Join(dir, name), f.Data))
		again = "lvslab run"
		for _, flag := range s.opts.Flags {
			again += " " + shellWord(flag)
		}
		again += " " + name
	}
	for _, c := range k.captures {
		errs = append(errs, s.capture(s.unused(path.Join(dir, stepFile(c.of.Step, c.of.Name)), ".pcapng"), c))
	}
	for i := range k.events {
		if st := k.events[i].Step; st != nil {
			errs = append(errs, s.evidence(dir, st))
		}
	}
	all := s.whole(k.events, e)
	var text, events bytes.Buffer
	replay(Text(&text, TextOptions{Verbose: true, Rerun: func([]string) string { return again }}), all)
	for _, c := range k.captures {
		if c.missing != "" {
			fmt.Fprintf(&text, "\nThe packets of step %d are not whole: %s\n", c.of.Step, inline(c.missing))
		}
	}
	replay(JSON(&events), all)
	errs = append(errs, s.write(path.Join(dir, "report.txt"), text.Bytes()), s.write(path.Join(dir, "events.json"), events.Bytes()))
	return errors.Join(errs...)
}

// whole makes a lab's events those of a run of it alone.
func (s *artifactSink) whole(events []wire.Event, last wire.Event) []wire.Event {
	var all []wire.Event
	if s.begun != nil {
		begun := *s.begun
		begun.Shard = nil
		all = append(all, begun)
	}
	var counts wire.Counts
	counts.Add(last.Verdict)
	return append(append(all, events...), wire.Event{
		Version: wire.Version, Kind: wire.RunFinished, Time: last.Time, Verdict: last.Verdict, Seconds: last.Seconds, Counts: &counts,
	})
}

// replay gives a sink events, and closes it. What it writes to takes everything.
func replay(s Sink, events []wire.Event) {
	for _, e := range events {
		s.Event(e)
	}
	_ = s.Close()
}

// evidence writes the pieces of a step's evidence, each once.
func (s *artifactSink) evidence(dir string, st *wire.Step) error {
	var errs []error
	seen := make(map[wire.Evidence]bool)
	for _, r := range st.Results {
		for _, ev := range r.Evidence {
			if seen[ev] {
				continue
			}
			seen[ev] = true
			name := stepFile(st.Index, st.Name) + "-" + plainName(ev.Title, 60)
			body := strings.Join(lines(ev.Text), "\n") + "\n"
			errs = append(errs, s.write(s.unused(path.Join(dir, strings.TrimSuffix(name, "-")), ".txt"), []byte(inline(ev.Title)+"\n\n"+body)))
		}
	}
	return errors.Join(errs...)
}

func (s *artifactSink) capture(name string, c *keptCapture) error {
	if _, err := c.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	f, err := s.root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, c.f)
	return errors.Join(err, f.Close())
}

func (s *artifactSink) write(name string, data []byte) error {
	return s.root.WriteFile(filepath.FromSlash(name), data, 0o666)
}

// unused is a name in Dir that this run has not used: with a number, if need be.
func (s *artifactSink) unused(name, ending string) string {
	if name == "" {
		name = "lab"
	}
	try := name + ending
	for i := 2; s.used[try]; i++ {
		try = fmt.Sprintf("%s-%d%s", name, i, ending)
	}
	s.used[try] = true
	return try
}

// fileOf is the lab file that holds a lab: that of its place, or else of its
// name.
func (s *artifactSink) fileOf(lab string, k *kept) *wire.File {
	for i := range k.events {
		e := &k.events[i]
		if e.Kind != wire.LabStarted || e.Pos == nil {
			continue
		}
		if at := slices.IndexFunc(s.opts.Files, func(f wire.File) bool { return f.Path == e.Pos.File }); at >= 0 {
			return &s.opts.Files[at]
		}
	}
	best := -1
	for i, f := range s.opts.Files {
		if (lab == f.Name || strings.HasPrefix(lab, f.Name+"/")) && (best < 0 || len(f.Name) > len(s.opts.Files[best].Name)) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	return &s.opts.Files[best]
}

func (s *artifactSink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Clone(s.order) {
		s.finished(wire.Event{Version: wire.Version, Kind: wire.LabFinished, Lab: name, Verdict: wire.Broken, Message: noVerdict})
	}
	index := "No lab of the run failed or was broken; nothing is kept.\n"
	if len(s.index) > 0 {
		index = strings.Join(s.index, "\n") + "\n"
	}
	s.fail(s.write("index.txt", []byte(index)))
	return errors.Join(s.err, s.root.Close())
}
