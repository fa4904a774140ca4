package report

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology/source"
)

// GitHubOptions say where GitHub's runner is told of a run.
type GitHubOptions struct {
	// Commands takes the annotations: the standard output or the standard error
	// of a step, both of which the runner reads.
	Commands io.Writer
	// Summary is the file that the job's summary is appended to, the
	// environment's GITHUB_STEP_SUMMARY; none if empty.
	Summary string
	// Workspace is GITHUB_WORKSPACE, to which the annotations' files are
	// relative, and Dir the folder that the run's files are relative to.
	Workspace, Dir string
	// Labs are the names of the labs to run, in the order in which they are
	// reported.
	Labs []string
}

// mostAnnotations is how many annotations of each kind GitHub shows of a step;
// it drops the others in silence.
// https://docs.github.com/en/rest/checks/runs#annotation-limits and
// https://github.com/orgs/community/discussions/26680.
const mostAnnotations = 10

// GitHub tells a workflow of GitHub Actions, when it is closed, what did not
// pass: an annotation for each expectation that was not met, each lab that is
// broken, each that was skipped (a notice), at the lab's line or that of the file
// that it was imported from; and the job's summary in Markdown.
// https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
func GitHub(o GitHubOptions) Sink {
	return &githubSink{opts: o, out: output{w: o.Commands}, ledger: newLedger(o.Labs)}
}

// GitHubErrors tells a workflow of GitHub Actions of mistakes in files, for which
// there was no run: an annotation for each.
func GitHubErrors(o GitHubOptions, mistakes source.List) {
	s := &githubSink{opts: o, out: output{w: o.Commands}}
	all := make([]annotation, len(mistakes))
	for i, m := range mistakes {
		all[i] = s.at(m.Pos, nil)
		all[i].title, all[i].message = "lvslab", strings.Join(lines(m.Msg), "\n")
	}
	var b strings.Builder
	s.write(&b, "error", all)
	s.out.write([]byte(b.String())) // where that cannot be written, nothing else can
}

type githubSink struct {
	*ledger
	mu   sync.Mutex
	opts GitHubOptions
	out  output
}

func (s *githubSink) Event(e wire.Event) { s.event(e) }

func (s *githubSink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
	var errs, notices []annotation
	for _, m := range s.trouble {
		errs = append(errs, annotation{title: "lvslab", message: strings.Join(lines(m), "\n")})
	}
	for _, r := range s.records {
		switch r.verdict {
		case wire.Pass:
		case wire.Skip:
			notices = append(notices, s.lab(r, "skipped"))
		default:
			errs = append(errs, s.missed(r)...)
		}
	}
	var b strings.Builder
	s.write(&b, "error", errs)
	s.write(&b, "notice", notices)
	s.out.write([]byte(b.String()))
	if s.out.err != nil {
		return s.out.err
	}
	return s.summarise()
}

// annotation is a message at a place.
type annotation struct {
	file           string
	line           int
	title, message string
}

// missed are the annotations of a lab that failed or is broken: one at least.
func (s *githubSink) missed(r *record) []annotation {
	var out []annotation
	for i := range r.steps {
		e := &r.steps[i]
		if met(e.Verdict) {
			continue
		}
		said := false
		for _, res := range e.Step.Results {
			if met(res.Verdict) {
				continue
			}
			said = true
			a := s.at(placeIn(r, e, res))
			a.title = fmt.Sprintf("%s: step %s", inline(s.label(r)), stepName(e.Step))
			a.message = strings.Join(append(append([]string{checkIn(r, e, res)},
				labelled("wanted ", res.Wanted)...), labelled("seen ", res.Seen)...), "\n")
			out = append(out, a)
		}
		if why := append(lines(e.Step.Error), lines(otherThan(e.Message, e.Step.Error))...); len(why) > 0 || !said {
			a := s.at(placeIn(r, e, wire.Result{}))
			a.title = fmt.Sprintf("%s: step %s is %s", inline(s.label(r)), stepName(e.Step), wire.Worst(wire.Pass, e.Verdict))
			a.message = strings.Join(bounded(why, evidenceLines), "\n")
			out = append(out, a)
		}
	}
	if len(out) == 0 || len(r.messages) > 0 {
		out = append(out, s.lab(r, string(r.verdict)))
	}
	return out
}

// lab is the annotation of a lab as a whole.
func (s *githubSink) lab(r *record, word string) annotation {
	var a annotation
	if r.pos != nil {
		a = s.at(*r.pos, r.from)
	}
	a.title = inline(s.label(r)) + " is " + word
	if word == string(wire.Fail) {
		a.title = inline(s.label(r)) + " failed"
	}
	for _, m := range reasons(r) {
		a.message += strings.Join(bounded(lines(m), evidenceLines), "\n") + "\n"
	}
	a.message = strings.TrimSuffix(a.message, "\n")
	return a
}

// at places an annotation: what a lab file was imported from is what somebody has
// changed. A place that is in no lab file is in such a configuration itself, and
// the other one in an older state of it.
func (s *githubSink) at(pos source.Pos, origin *source.Pos) annotation {
	if ext := filepath.Ext(pos.File); origin != nil && origin.IsValid() && (pos.File == "" || ext == ".yaml" || ext == ".yml") {
		pos = *origin
	}
	return annotation{file: s.relative(pos.File), line: pos.Line}
}

// relative is a file as GitHub names it, from the workspace. One outside of it
// keeps its name, and is shown without its text.
func (s *githubSink) relative(file string) string {
	if file == "" || s.opts.Workspace == "" {
		return file
	}
	full := file
	if !filepath.IsAbs(full) {
		full = filepath.Join(s.opts.Dir, full)
	}
	rel, err := filepath.Rel(s.opts.Workspace, full)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return file
	}
	return filepath.ToSlash(rel)
}

// write writes at most as many annotations as are shown, the last of which says
// how many there are more.
func (s *githubSink) write(b *strings.Builder, kind string, all []annotation) {
	shown := all
	if more := len(all) - mostAnnotations; more > 0 {
		shown = all[:mostAnnotations-1]
		defer func() {
			a := annotation{title: "lvslab", message: fmt.Sprintf("%d more are in the step's log: GitHub shows %d of a step", more+1, mostAnnotations)}
			b.WriteString(a.command(kind))
		}()
	}
	for _, a := range shown {
		b.WriteString(a.command(kind))
	}
}

// command is the annotation as a line for the runner.
func (a annotation) command(kind string) string {
	var props []string
	if a.file != "" {
		props = append(props, "file="+escapeProperty(inline(a.file)))
		if a.line > 0 {
			props = append(props, fmt.Sprintf("line=%d", a.line))
		}
	}
	props = append(props, "title="+escapeProperty(a.title))
	return "::" + kind + " " + strings.Join(props, ",") + "::" + escapeData(a.message) + "\n"
}

// escapeData and escapeProperty are those of the runner's own toolkit:
// https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts
func escapeData(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

func escapeProperty(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(s)
}

// summarise appends to the job's summary.
func (s *githubSink) summarise() error {
	if s.opts.Summary == "" {
		return nil
	}
	f, err := os.OpenFile(s.opts.Summary, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return fmt.Errorf("the job's summary: %w", err)
	}
	room := int64(mostSummary)
	if info, err := f.Stat(); err == nil {
		room -= info.Size()
	}
	_, err = f.WriteString(s.markdown(int(max(room, 0))))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("the job's summary: %w", err)
	}
	return nil
}
