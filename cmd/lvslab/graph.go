package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/runner/draw"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/topology/source"
)

func (a *app) graphCmd() *cobra.Command {
	format, file := formatText, ""
	c := &cobra.Command{
		Use:   "graph LAB",
		Short: "Draw a lab that is up, as text, Mermaid, DOT or SVG",
		Long: `Graph draws a lab as it stands: its networks and nodes, their addresses and MACs,
which of them are virtual IPs, the directors' tables with the weights that they
have now, and what is broken on purpose.

Mermaid is what GitHub and GitLab draw in Markdown, DOT is for Graphviz
(dot -Tpng), and SVG is for a browser; it needs nothing else.`,
		Example: `  lvslab graph dr/arptables
  lvslab graph dr/arptables --format svg -o lab.svg
  lvslab graph dr/arptables --format dot | dot -Tpng >lab.png`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains(draw.Formats(), format) {
				return usageError{errors.New("--format: " + source.Unknown("format", format, draw.Formats()))}
			}
			in, err := a.inspection(c.Context(), args[0])
			if err != nil {
				return err
			}
			if file == "" || file == "-" {
				return draw.Draw(a.out, in, format)
			}
			var b bytes.Buffer
			if err := draw.Draw(&b, in, format); err != nil {
				return err
			}
			return os.WriteFile(file, b.Bytes(), 0o644) //nolint:gosec // a picture, as any that a program writes
		},
		ValidArgsFunction: completeLab,
	}
	f := c.Flags()
	f.StringVar(&format, "format", format, strings.Join(draw.Formats(), ", "))
	f.StringVarP(&file, "output", "o", "", "write to a `file` instead of standard output")
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(draw.Formats(), cobra.ShellCompDirectiveNoFileComp))
	return c
}

// completeLab offers the labs that are up, for a verb that takes one and no node.
func completeLab(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return completeLiving(c, args, word)
}

// inspection is all that there is to see of a lab that is up.
func (a *app) inspection(ctx context.Context, name string) (*live.Inspection, error) {
	conn, err := a.connect(ctx, name)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.Lab.Inspect(ctx)
}
