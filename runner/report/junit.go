package report

import (
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"github.com/lvslab/lvslab/runner/wire"
)

// JUnit writes the report that CI services read, when it is closed: a test suite
// for each lab, a test case for each step. A lab that was skipped, or broken
// before its first step, is one test case, and so is a run that came to nothing.
// labs are the names of the labs to run, in the order in which they are
// reported; one of them without a verdict is no success.
//
// The elements and attributes are those of the schema that Jenkins checks with
// (junit-10.xsd of its xUnit plugin), and no others. It has no place for a test
// case's file, so the suite has the lab's, and each failure names its own.
func JUnit(w io.Writer, labs []string) Sink {
	return &junitSink{out: output{w: w}, ledger: newLedger(labs)}
}

type junitSink struct {
	*ledger
	mu  sync.Mutex
	out output
}

func (s *junitSink) Event(e wire.Event) { s.event(e) }

func (s *junitSink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
	all := junit.Testsuites{Name: "lvslab", Time: junitTime(s.seconds)}
	for _, r := range s.records {
		suite := s.suite(r)
		suite.ID = len(all.Suites)
		all.AddSuite(suite)
	}
	if len(s.trouble) > 0 {
		suite := junit.Testsuite{Name: "lvslab", ID: len(all.Suites), Time: junitTime(s.seconds)}
		why := junitReason(wire.Broken, s.trouble)
		why.Message = oneLine(strings.Join(s.trouble, "; "))
		suite.AddTestcase(junit.Testcase{Name: "the run", Classname: "lvslab", Time: suite.Time, Error: why})
		all.AddSuite(suite)
	}
	all.Skipped = 0 // the schema's root has no such attribute; the suites have
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	if err := all.WriteXML(&b); err != nil {
		return err
	}
	s.out.write([]byte(b.String()))
	return s.out.err
}

// suite is a lab.
func (s *junitSink) suite(r *record) junit.Testsuite {
	suite := junit.Testsuite{Name: inline(s.label(r)), Time: junitTime(r.seconds)}
	if !r.begun.IsZero() {
		suite.Timestamp = r.begun.UTC().Format("2006-01-02T15:04:05")
	}
	if p := r.pos; p != nil {
		suite.File = inline(p.File)
		suite.AddProperty("place", place(*p))
	}
	for _, p := range []struct{ name, value string }{
		{"title", r.title}, {"from", from(r.from)}, {"kernel", r.kernel}, {"backend", r.backend}, {"verdict", string(r.verdict)},
	} {
		if p.value != "" {
			suite.AddProperty(p.name, inline(p.value))
		}
	}
	ran, of, explained := 0, 0, false
	for i := range r.steps {
		e := &r.steps[i]
		suite.AddTestcase(junitStep(r, e))
		ran, of = max(ran, e.Step.Index), max(of, e.Step.Of)
		explained = explained || wire.Worst(e.Verdict, r.verdict) == e.Verdict
	}
	// What the steps do not say, the lab says itself.
	if len(r.steps) == 0 || !explained || !met(r.verdict) && len(r.messages) > 0 {
		c := junit.Testcase{Name: "the lab", Classname: inline(r.name), Time: junitTime(r.seconds)}
		junitVerdict(&c, r.verdict, junitReason(r.verdict, reasons(r)))
		suite.AddTestcase(c)
	}
	if left := leftOut(ran, of); left != "" {
		suite.AddTestcase(junit.Testcase{
			Name: left, Classname: inline(r.name), Time: junitTime(0),
			Skipped: &junit.Result{Message: "not run: the lab ended before"},
		})
	}
	return suite
}

func junitStep(r *record, e *wire.Event) junit.Testcase {
	c := junit.Testcase{Name: stepName(e.Step), Classname: inline(r.name), Time: junitTime(e.Seconds)}
	v := wire.Worst(wire.Pass, e.Verdict)
	message := missedIn(r, e)
	result := &junit.Result{Type: string(v), Data: strings.Join(account(r, e), "\n")}
	if len(message) > 0 {
		result.Message = strings.Join(message, "; ")
	}
	junitVerdict(&c, v, result)
	return c
}

func junitVerdict(c *junit.Testcase, v wire.Verdict, r *junit.Result) {
	switch v {
	case wire.Pass:
	case wire.Skip:
		c.Skipped = r
	case wire.Fail:
		c.Failure = r
	default:
		c.Error = r
	}
}

// junitReason is why something has the verdict: the first line of a message, and
// all of them below it.
func junitReason(v wire.Verdict, messages []string) *junit.Result {
	var all []string
	for _, m := range messages {
		all = append(all, lines(m)...)
	}
	r := &junit.Result{Type: string(v)}
	if len(all) > 0 {
		r.Message = all[0]
		r.Data = strings.Join(all, "\n")
	}
	return r
}

// junitTime is in seconds.
func junitTime(seconds float64) string { return strconv.FormatFloat(max(seconds, 0), 'f', 3, 64) }
