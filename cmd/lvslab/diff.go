package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/scenarios/importer"
	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// exitDifferent is diff's status where there is a difference, as diff(1)'s.
const exitDifferent = 1

func (a *app) diffCmd() *cobra.Command {
	var flags *importFlags
	var format *formatFlag
	c := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Tell what changes between two configurations, and what shows it",
		Long: `Diff compares two configurations of a director, ipvsadm rules or keepalived.conf,
also one of each kind, and tells what changes in the field's words, each with
both places, and what shows it: the assertions of the old one's lab (lvslab
import OLD) that the new one's has no more. Where nothing but the director's
table shows a change, it says so. The order of services and of real servers is
no difference. A file of - is standard input. lvslab test NEW --against OLD runs
the old one's lab with the new one's table.

Exit status: 0 both tell a director the same; 1 they differ; 2 wrong usage or an
invalid configuration.`,
		Example: `  lvslab diff keepalived.conf keepalived.conf.new
  ipvsadm -S -n | lvslab diff - keepalived.conf
                                does the director do what the file says?
  lvslab diff old.rules new.rules --format json`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if args[0] == importer.Stdin && args[1] == importer.Stdin {
				return usageError{errors.New("both files are standard input, which is read once")}
			}
			var errs source.List
			var read [2]*config.Config
			for i, path := range args {
				c, err := flags.read(path)
				errs.AddError(source.Pos{File: path}, err)
				read[i] = c
			}
			if err := errs.Err(); err != nil {
				return err
			}
			for _, c := range read {
				a.tellNotes(warnings(c.Notes))
			}
			d, err := importer.Compare(read[0], read[1], flags.draftOptions())
			if err != nil {
				return err
			}
			if len(d.Changes) > 0 {
				a.exit = exitDifferent
			}
			if *format == formatJSON {
				return a.printJSON(newDiffDoc(read, d))
			}
			a.printDifference(read, d)
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) >= 2 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	flags = addImportFlags(c.Flags())
	flags.complete(c)
	format = addFormat(c.Flags(), "text or json")
	return c
}

// warnings are the notes of what is doubtful. What a file says that has nothing
// to do with balancing is no part of a comparison.
func warnings(notes []config.Note) []config.Note {
	var list []config.Note
	for _, n := range notes {
		if n.Kind == config.Warning {
			list = append(list, n)
		}
	}
	return list
}

// diffDoc is the document of --format json.
type diffDoc struct {
	Version int      `json:"version"`
	Old     diffFile `json:"old"`
	New     diffFile `json:"new"`
	*importer.Difference
}

type diffFile struct {
	File string      `json:"file"`
	Kind config.Kind `json:"kind"`
}

func newDiffDoc(read [2]*config.Config, d *importer.Difference) diffDoc {
	file := func(c *config.Config) diffFile { return diffFile{c.Files[0].Name, c.Kind} }
	if d.Changes == nil {
		d.Changes = []importer.Change{}
	}
	for i := range d.Changes {
		if d.Changes[i].Assertions == nil {
			d.Changes[i].Assertions = []importer.Assertion{}
		}
	}
	return diffDoc{jsonVersion, file(read[0]), file(read[1]), d}
}

// printDifference prints the changes, those of a service below its name.
func (a *app) printDifference(read [2]*config.Config, d *importer.Difference) {
	if len(d.Changes) == 0 {
		fmt.Fprintf(a.out, "%s and %s tell a director the same\n", visible(read[0].Files[0].Name), visible(read[1].Files[0].Name))
		return
	}
	for _, b := range changeBlocks(d) {
		if len(b.services) > 0 {
			fmt.Fprintln(a.out, visible(firstFour(b.services)))
		}
		fmt.Fprint(a.out, b.text)
	}
	if d.Unknown != "" {
		fmt.Fprintf(a.out, "which assertions tell them apart is not known: %s\n", visible(d.Unknown))
	}
}

// changeBlock is what changes of some services in the same words and places, as
// those of a group of keepalived's.
type changeBlock struct {
	services []string
	text     string
}

func changeBlocks(d *importer.Difference) []changeBlock {
	var blocks []changeBlock
	place := make(map[string]int)
	for i := 0; i < len(d.Changes); {
		service := d.Changes[i].Service
		var b strings.Builder
		for ; i < len(d.Changes) && d.Changes[i].Service == service; i++ {
			writeChange(&b, d.Changes[i], d.Unknown == "")
		}
		if j, there := place[b.String()]; there && service != "" {
			blocks[j].services = append(blocks[j].services, service)
			continue
		}
		block := changeBlock{text: b.String()}
		if service != "" {
			place[block.text] = len(blocks)
			block.services = []string{service}
		}
		blocks = append(blocks, block)
	}
	return blocks
}

// firstFour names the first four.
func firstFour(names []string) string {
	const most = 4
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// mostTells is how many assertions of one change are printed.
const mostTells = 6

// writeChange writes a change and what shows it.
func writeChange(w io.Writer, c importer.Change, known bool) {
	indent := "  "
	if c.Service == "" {
		indent = ""
	}
	fmt.Fprintf(w, "%s%s\n", indent, visible(changeText(c)))
	indent += "  "
	switch {
	case !known:
		return
	case len(c.Assertions) == 0:
		fmt.Fprintf(w, "%sno assertion of the lab shows it\n", indent)
		return
	case c.OnlyTable():
		fmt.Fprintf(w, "%sonly the director's table shows it\n", indent)
		return
	}
	for i, t := range c.Assertions {
		if i == mostTells {
			fmt.Fprintf(w, "%sand by %s more\n", indent, plural(len(c.Assertions)-i, "assertion"))
			return
		}
		if t.Kind == importer.KindTable {
			t.Text = "the director's table"
		}
		fmt.Fprintf(w, "%sshown by %s\n", indent, visible(t.Text))
	}
}

// changeText is a change in one line: what, both states, both places.
func changeText(c importer.Change) string {
	text := c.What
	switch {
	case c.What == importer.WhatServer || c.Server == "":
	default:
		text += " of " + c.Server
	}
	switch {
	case c.Old.Text == "":
		return fmt.Sprintf("%s added: %s (%s)", text, c.New.Text, c.New.Pos)
	case c.New.Text == "":
		return fmt.Sprintf("%s removed: %s (%s)", text, c.Old.Text, c.Old.Pos)
	}
	return fmt.Sprintf("%s: %s -> %s (%s -> %s)", text, c.Old.Text, c.New.Text, c.Old.Pos, c.New.Pos)
}
