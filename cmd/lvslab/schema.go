package main

import (
	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/labs"
)

func (a *app) schemaCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of lab files, for editors",
		Long: `Schema prints the JSON Schema (draft 2020-12) that an editor completes and checks
lab files by. An editor with the YAML language server (VS Code's YAML extension,
Neovim, Emacs, Helix) takes it from a file's first line:

  # yaml-language-server: $schema=lab.schema.json

What a schema cannot know, such as names that lead nowhere, lvslab check finds.`,
		Example: `  lvslab schema > lab.schema.json`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(labs.Schema())
			return err
		},
	}
}
