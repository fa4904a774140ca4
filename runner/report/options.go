package report

import (
	"os"

	"golang.org/x/term"
)

// TextOptions say how Text writes. The zero value is a quiet report for a file:
// no colour, no progress line, no limit of width.
type TextOptions struct {
	// Labs are the names of the labs to run, in the order in which they are
	// reported. Labs that are not named follow in the order in which they
	// start.
	Labs []string
	// Verbose shows the steps of passing labs too, what was done, and the
	// lines of the log; and it bounds evidence at 1000 lines instead of 40.
	Verbose bool
	// Terminal says that somebody looks at it: there is a progress line, and
	// lines are fitted to Width.
	Terminal bool
	// Color uses the terminal's colours.
	Color bool
	// Width is the terminal's, in columns; 0 means 80. It is of no use
	// without Terminal.
	Width int
	// Resize, when there is one, is asked for Width before every line of
	// progress, since a line that wraps cannot be erased. 0 means Width.
	Resize func() int
	// Commands says that GitHub's runner reads along, which takes some lines of
	// a step's output for commands: none of this report is to be one.
	Commands bool
	// Rerun is the command that runs the named labs again; nil means
	// "lvslab run" and their names.
	Rerun func(labs []string) string
}

// Detect sets Terminal, Color, Width and Resize as they suit w: a terminal gets
// them, unless TERM is empty or "dumb"; a NO_COLOR that is not empty turns the
// colours off (https://no-color.org). It sets Commands where GITHUB_ACTIONS is
// true. getenv is os.Getenv outside of tests.
func Detect(w *os.File, getenv func(string) string) TextOptions {
	fd := int(w.Fd())
	o := detect(term.IsTerminal(fd), func() int {
		columns, _, err := term.GetSize(fd)
		if err != nil {
			return 0
		}
		return columns
	}, getenv)
	o.Commands = getenv("GITHUB_ACTIONS") == "true"
	return o
}

func detect(terminal bool, size func() int, getenv func(string) string) TextOptions {
	if t := getenv("TERM"); !terminal || t == "" || t == "dumb" {
		return TextOptions{}
	}
	return TextOptions{
		Terminal: true,
		Color:    getenv("NO_COLOR") == "",
		Width:    size(),
		Resize:   size,
	}
}

// columns is the width to fit lines to; 0 means no limit.
func (o *TextOptions) columns() int {
	if !o.Terminal {
		return 0
	}
	if o.Resize != nil {
		if w := o.Resize(); w > 0 {
			return w
		}
	}
	if o.Width > 0 {
		return o.Width
	}
	return 80
}

// style is a set of SGR attributes (ECMA-48 8.3.117). Plain constants do: the
// report uses the 16 colours that every terminal's owner has chosen.
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	green  style = "32"
	yellow style = "33"
	red    style = "1;31"
	purple style = "1;35"
)

func (o *TextOptions) paint(s style, text string) string {
	if !o.Color || s == plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}
