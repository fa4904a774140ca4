package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology/source"
)

func (a *app) listCmd() *cobra.Command {
	var format *formatFlag
	var verbose bool
	c := &cobra.Command{
		Use:   "list [CHAPTER|LAB]...",
		Short: "Name the labs that come with lvslab",
		Example: `  lvslab list                   all of them, a chapter after the other
  lvslab list dr -v             one chapter, with what its labs are about`,
		RunE: func(_ *cobra.Command, args []string) error {
			chapters, err := shippedChapters(args)
			if err != nil {
				return err
			}
			if *format == formatJSON {
				return a.printJSON(struct {
					Version  int             `json:"version"`
					Chapters []listedChapter `json:"chapters"`
				}{jsonVersion, chapters})
			}
			a.printChapters(chapters, verbose)
			return nil
		},
	}
	format = addFormat(c.Flags(), "text or json")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "tell what each lab is about")
	return c
}

type listedChapter struct {
	Name string      `json:"name"`
	Labs []listedLab `json:"labs"`
}

type listedLab struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	About string `json:"about,omitempty"`
	Steps int    `json:"steps"`
	// Combinations is how many labs the matrix of the file makes, 0 where it
	// has none; Name and Title are then what they have in common.
	Combinations int `json:"combinations,omitempty"`
}

// listed are labs as they are listed: a matrix is one line.
func listed(labs []*scenarios.Lab) []listedLab {
	var out []listedLab
	at := make(map[string]int)
	for _, l := range labs {
		e := listedLab{Name: l.Name, Title: l.Title, About: l.About, Steps: len(l.Steps)}
		if m := l.Matrix; m != nil {
			if i, again := at[m.Of]; again {
				out[i].Combinations++
				continue
			}
			at[m.Of] = len(out)
			e.Name, e.Title, e.Combinations = m.Of, m.Title, 1
		}
		out = append(out, e)
	}
	return out
}

// line is a lab's title, with the number of labs that it stands for.
func (l listedLab) line() string {
	if l.Combinations == 0 {
		return visible(l.Title)
	}
	// "${scheduler}" stands for one in each combination, and here for the word.
	title := strings.NewReplacer("${", "", "}", "").Replace(l.Title)
	return fmt.Sprintf("%s (%d combinations)", visible(title), l.Combinations)
}

// shippedChapters are the chapters that hold labs, or what the words pick of
// them.
func shippedChapters(words []string) ([]listedChapter, error) {
	s := newSelection()
	if len(words) == 0 {
		s.addShipped(labs.All())
	}
	for _, w := range words {
		found := labs.Find(strings.Trim(w, "/"))
		if len(found) == 0 {
			return nil, usageError{noChapter(w)}
		}
		s.addShipped(found)
	}
	c, err := s.load()
	if err != nil {
		return nil, err
	}
	chapters := []listedChapter{}
	for _, name := range labs.Chapters() {
		chapter := listedChapter{Name: name}
		for _, l := range listed(c.labs) {
			if strings.HasPrefix(l.Name, name+"/") {
				chapter.Labs = append(chapter.Labs, l)
			}
		}
		if len(chapter.Labs) > 0 {
			chapters = append(chapters, chapter)
		}
	}
	return chapters, nil
}

// noChapter tells of a word that is neither a chapter nor a lab, with the
// nearest one, or the chapters: all labs would fill the screen.
func noChapter(word string) error {
	known := labs.Chapters()
	for _, f := range labs.All() {
		known = append(known, f.Name)
	}
	if n := source.Nearest(word, known); n != "" {
		return fmt.Errorf("unknown chapter or lab %q, did you mean %q?", word, n)
	}
	return errors.New(source.Unknown("chapter or lab", word, labs.Chapters()))
}

func (a *app) printChapters(chapters []listedChapter, verbose bool) {
	width := 0
	for _, c := range chapters {
		for _, l := range c.Labs {
			width = max(width, widest(l.Name))
		}
	}
	for i, c := range chapters {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		fmt.Fprintln(a.out, c.Name)
		for j, l := range c.Labs {
			if verbose && j > 0 {
				fmt.Fprintln(a.out)
			}
			fmt.Fprintf(a.out, "  %s  %s\n", pad(l.Name, width), l.line())
			if verbose {
				for line := range strings.Lines(strings.TrimSpace(l.About)) {
					fmt.Fprintln(a.out, strings.TrimRight("      "+visible(strings.TrimRight(line, "\n")), " "))
				}
			}
		}
	}
}
