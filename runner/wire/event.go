// Package wire is what travels between lvslab outside a guest and lvslab
// inside it: one Job in, a stream of Events out, one JSON object a line, with a
// version. The same events are what `lvslab run --format json` prints.
package wire

import (
	"time"

	"github.com/lvslab/lvslab/topology/source"
)

// Version is that of Job and Event. A reader refuses any other.
const Version = 1

// Verdict is what is known about a step, a lab or a run.
type Verdict string

// The verdicts, from best to worst as Worst orders them.
const (
	// Pass: the kernel did what the lab says.
	Pass Verdict = "pass"
	// Skip: this kernel lacks something that the lab needs.
	Skip Verdict = "skip"
	// Fail: the kernel answered, and not as expected.
	Fail Verdict = "fail"
	// Broken: the lab could not be carried out, so nothing is known.
	Broken Verdict = "broken"
)

var rank = map[Verdict]int{Pass: 0, Skip: 1, Fail: 2, Broken: 3}

// Worst is the worse of two verdicts: broken outranks fail, fail outranks
// skip. An unknown verdict counts as broken.
func Worst(a, b Verdict) Verdict {
	ra, ok := rank[a]
	if !ok {
		return Broken
	}
	rb, ok := rank[b]
	if !ok {
		return Broken
	}
	if rb > ra {
		return b
	}
	return a
}

// Kinds of events, in the order in which a run sends them.
const (
	// Hello is the first word of a guest: it runs and has mounted what it
	// needs.
	Hello = "hello"
	// RunStarted says which kernel was taken and why (Message).
	RunStarted = "run_started"
	// LabStarted opens a lab.
	LabStarted = "lab_started"
	// StepFinished carries a step's verdict and its results.
	StepFinished = "step_finished"
	// Captured carries a piece of a step's packets, before its StepFinished.
	Captured = "captured"
	// LabFinished carries a lab's verdict.
	LabFinished = "lab_finished"
	// Log is a line for a person who asked for more (-v).
	Log = "log"
	// Up answers Command.Up when the lab is ready. It is the last line in both
	// directions: what follows are the frames of package line.
	Up = "up"
	// Done is a guest's final record. A guest that ends without it is broken.
	Done = "done"
	// RunFinished is the last event of a run, with its counts.
	RunFinished = "run_finished"
)

// Event is one thing that happened in a run.
type Event struct {
	Version int       `json:"version"`
	Kind    string    `json:"event"`
	Time    time.Time `json:"time"`
	// Lab is the name of the lab that the event is about.
	Lab   string `json:"lab,omitempty"`
	Title string `json:"title,omitempty"`
	// Pos is where the lab, or the step, begins.
	Pos *source.Pos `json:"pos,omitempty"`
	// From is the place in an imported file that this part of the lab was made
	// from, where it was made from one.
	From *source.Pos `json:"from,omitempty"`
	// Kernel is the release of the kernel that runs the labs.
	Kernel  string  `json:"kernel,omitempty"`
	Backend string  `json:"backend,omitempty"`
	Verdict Verdict `json:"verdict,omitempty"`
	// Seconds is how long the step, lab or run took.
	Seconds float64 `json:"seconds,omitempty"`
	Step    *Step   `json:"step,omitempty"`
	// Message is a sentence: a reason, an error, a line of a log.
	Message string `json:"message,omitempty"`
	// Counts are a run's labs. In LabFinished they are the repetitions of a lab
	// that was run several times.
	Counts *Counts `json:"counts,omitempty"`
	// Capture is a piece of a file of packets.
	Capture *Capture `json:"capture,omitempty"`
	// Shard, in RunStarted and RunFinished, says that the run is one part of
	// several that a selection of labs was split into.
	Shard *Shard `json:"shard,omitempty"`
}

// Shard is one part of several: Index of Of, from 1. A part may hold no lab.
type Shard struct {
	Index int `json:"index"`
	Of    int `json:"of"`
	// Labs is how many labs all parts together have; 0 where nobody says.
	Labs int `json:"labs,omitempty"`
}

// Capture is a piece of the pcapng file that holds a step's packets, those of
// all links of all nodes. The pieces come in order, the last one empty; its
// event's Message says what is missing from the file, if anything is.
type Capture struct {
	// Step counts from 1; Name is the step's.
	Step int    `json:"step"`
	Name string `json:"name"`
	// Offset is where in the file Data belongs, in bytes.
	Offset int64  `json:"offset"`
	Data   []byte `json:"data,omitempty"`
	Last   bool   `json:"last,omitempty"`
	// Lost is how many packets did not fit into the bounds of the captures.
	Lost uint64 `json:"lost,omitempty"`
}

// Step is a step's outcome.
type Step struct {
	// Index counts from 1; Of is the number of steps in the lab.
	Index   int      `json:"index"`
	Of      int      `json:"of"`
	Name    string   `json:"name"`
	Did     []string `json:"did,omitempty"`
	Results []Result `json:"results,omitempty"`
	// Error says why the step could not be carried out (verdict broken).
	Error string `json:"error,omitempty"`
}

// Result is what one expectation came to.
type Result struct {
	// Check names the kind: "rotation", "arp_owner".
	Check   string     `json:"check"`
	Pos     source.Pos `json:"pos"`
	Verdict Verdict    `json:"verdict"`
	Wanted  string     `json:"wanted"`
	Seen    string     `json:"seen"`
	// From is the place in an imported file that the expectation was made from.
	From *source.Pos `json:"from,omitempty"`
	// Evidence is what a person would ask for next; empty when it passed.
	Evidence []Evidence `json:"evidence,omitempty"`
}

// Evidence is a titled piece of text: a table, a list of counters, a capture.
type Evidence struct {
	Title string `json:"title"`
	Text  string `json:"text"`
}

// Counts are the labs of a run by verdict.
type Counts struct {
	Labs   int `json:"labs"`
	Pass   int `json:"pass"`
	Fail   int `json:"fail"`
	Broken int `json:"broken"`
	Skip   int `json:"skip"`
}

// Add counts one lab.
func (c *Counts) Add(v Verdict) {
	c.Labs++
	switch v {
	case Pass:
		c.Pass++
	case Fail:
		c.Fail++
	case Skip:
		c.Skip++
	default:
		c.Broken++
	}
}
