package assert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// output checks what the step's last command left.
type output struct {
	head
	Exit    *int   `yaml:"exit"`
	Matches string `yaml:"matches"`
	Lacks   string `yaml:"lacks"`
	re, not *regexp.Regexp
}

func decodeOutput(d *source.Decoder, n *yaml.Node, h head) Check {
	c := &output{}
	d.Decode(n, c)
	c.head = h
	var err error
	if c.re, err = regexp.Compile(c.Matches); err != nil {
		d.Fail(n, "matches: %v", err)
	}
	if c.not, err = regexp.Compile(c.Lacks); err != nil {
		d.Fail(n, "lacks: %v", err)
	}
	if c.Exit != nil && (*c.Exit < 0 || *c.Exit > 255) {
		d.Fail(n, "exit: a status is from 0 to 255, found %d", *c.Exit)
	}
	if c.Exit == nil && c.Matches == "" && c.Lacks == "" {
		d.Fail(n, "output needs exit:, matches: or lacks:")
	}
	return c
}

func (c *output) Begin(_ context.Context, env Env) (Pending, error) {
	var want []string
	if c.Exit != nil {
		want = append(want, fmt.Sprintf("the command exits with %d", *c.Exit))
	}
	if c.Matches != "" {
		want = append(want, fmt.Sprintf("its output matches /%s/", c.Matches))
	}
	if c.Lacks != "" {
		want = append(want, fmt.Sprintf("its output does not match /%s/", c.Lacks))
	}
	wanted := strings.Join(want, ", ")
	return judge(func(context.Context) (Result, bool) {
		outs := env.Outcomes().Outputs
		r := Result{Wanted: wanted}
		if len(outs) == 0 {
			r.Seen = "no command ran in this step before this expectation"
			return r, false
		}
		o := outs[len(outs)-1]
		r.Pass = o.Note == "" && (c.Exit == nil || *c.Exit == o.Exit) && c.re.MatchString(o.Text) && (c.Lacks == "" || !c.not.MatchString(o.Text))
		r.Seen = fmt.Sprintf("exit %d", o.Exit)
		if first, _, _ := strings.Cut(strings.TrimSpace(o.Text), "\n"); first != "" {
			r.Seen += ": " + first
		}
		if o.Note != "" {
			r.Seen += " (" + o.Note + ")"
		}
		if !r.Pass {
			r.Evidence = []Evidence{{o.Node + "# " + o.Command, o.Text}}
		}
		return r, false
	}), nil
}

// file checks a file of a node, as the node sees it.
type file struct {
	head
	Node    string  `yaml:"node,required"`
	Path    string  `yaml:"path,required"`
	Missing bool    `yaml:"missing"`
	Lines   *int    `yaml:"lines"`
	Is      *string `yaml:"is"`
	Matches string  `yaml:"matches"`
	re      *regexp.Regexp
}

func decodeFile(d *source.Decoder, n *yaml.Node, h head) Check {
	c := &file{}
	d.Decode(n, c)
	c.head = h
	var err error
	if c.re, err = regexp.Compile(c.Matches); err != nil {
		d.Fail(n, "matches: %v", err)
	}
	if !strings.HasPrefix(c.Path, "/") {
		d.Fail(n, "path: %q does not begin with /", c.Path)
	}
	if some := c.Lines != nil || c.Is != nil || c.Matches != ""; some == c.Missing {
		d.Fail(n, "file needs lines:, is: or matches:, or else missing: true")
	}
	return c
}

func (c *file) Refs() []Ref { return nodeRefs(c.pos, c.Node) }

func (c *file) Begin(_ context.Context, env Env) (Pending, error) {
	var wants []string
	if c.Missing {
		wants = append(wants, "does not exist")
	}
	if c.Lines != nil {
		wants = append(wants, "holds "+countLines(*c.Lines))
	}
	if c.Is != nil {
		wants = append(wants, fmt.Sprintf("holds %q", *c.Is))
	}
	if c.Matches != "" {
		wants = append(wants, fmt.Sprintf("matches /%s/", c.Matches))
	}
	want := c.Node + ":" + c.Path + " " + strings.Join(wants, " and ")
	return judge(func(context.Context) (Result, bool) {
		r := Result{Wanted: want}
		data, err := env.ReadFile(c.Node, c.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			r.Seen, r.Pass = "no such file", c.Missing
			return r, false
		case err != nil:
			return noAnswer(want, err)
		}
		s := string(data)
		lines := strings.Count(s, "\n")
		if s != "" && !strings.HasSuffix(s, "\n") {
			lines++
		}
		r.Seen = countLines(lines)
		if c.Missing {
			r.Seen = "it is there and holds " + r.Seen
		} else if s != "" && (c.Is != nil || c.Matches != "") {
			r.Seen += fmt.Sprintf(": %q", clip(s))
		}
		r.Pass = !c.Missing && (c.Lines == nil || *c.Lines == lines) && (c.Is == nil || *c.Is == s) && c.re.MatchString(s)
		if !r.Pass {
			r.Evidence = []Evidence{{c.Node + ":" + c.Path, s}}
		}
		return r, false
	}), nil
}

func countLines(n int) string {
	switch n {
	case 0:
		return "nothing"
	case 1:
		return "1 line"
	}
	return fmt.Sprintf("%d lines", n)
}

// clip keeps what a file or an answer holds from filling the screen; the
// evidence shows it whole.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
