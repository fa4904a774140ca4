package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
)

func (a *app) applyCmd() *cobra.Command {
	var dryRun bool
	var format *formatFlag
	c := &cobra.Command{
		Use:   "apply LAB [FILE]",
		Short: "Bring a lab that is up to what its edited file says",
		Long: `Apply reads the file of a lab that is up once more (or another FILE), prints the
difference to what stands as the commands that lead there, and carries them out.
What was typed into nodes by hand is not known to it, and is left as it is.

Exit status: 0 the lab is as the file says; 2 wrong usage or an invalid lab file;
3 it could not be changed.`,
		Example: `  lvslab up my.yaml
  $EDITOR my.yaml
  lvslab apply my --dry-run     what would be done
  lvslab apply my`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			conn, err := a.connect(c.Context(), args[0])
			if err != nil {
				return err
			}
			defer conn.Close()
			file, name, err := editedFile(conn.Info, args[1:])
			if err != nil {
				return err
			}
			// The difference comes first: what goes wrong then is seen against it.
			change, err := conn.Lab.Apply(c.Context(), live.Apply{File: file, Lab: name, DryRun: true})
			if err != nil {
				return err
			}
			if *format == formatText {
				for _, line := range change.Commands {
					fmt.Fprintln(a.out, visible(line))
				}
				if len(change.Commands) == 0 {
					fmt.Fprintf(a.out, "%s is as %s says\n", visible(conn.Info.Name), visible(file.Path))
				}
			}
			if !dryRun {
				// Also where nothing in the kernel changes: steps may have.
				if change, err = conn.Lab.Apply(c.Context(), live.Apply{File: file, Lab: name}); err != nil {
					return err
				}
			}
			switch {
			case *format == formatJSON:
				return a.printJSON(changeDoc{jsonVersion, change})
			case len(change.Commands) == 0:
			case dryRun:
				fmt.Fprintf(a.out, "%s would then be as %s says; nothing was changed\n", visible(conn.Info.Name), visible(file.Path))
			default:
				fmt.Fprintf(a.out, "%s is now as %s says\n", visible(conn.Info.Name), visible(file.Path))
			}
			return nil
		},
		ValidArgsFunction: completeLiving,
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "print the difference, and change nothing")
	format = addFormat(c.Flags(), "text or json")
	return c
}

// changeDoc is a change as a document.
type changeDoc struct {
	Version int          `json:"version"`
	Change  *live.Change `json:"change"`
}

// editedFile is the lab file that a lab is to be brought to, and the name of the
// lab in it.
func editedFile(info live.Info, args []string) (wire.File, string, error) {
	path := info.File
	if len(args) > 0 {
		path = args[0]
	} else if _, err := os.Stat(path); filepath.IsAbs(path) && errors.Is(err, fs.ErrNotExist) {
		return wire.File{}, "", usageError{fmt.Errorf("lab %s came from %s, which is there no more; name another file: lvslab apply %s FILE", info.Name, path, shellWord(info.Name))}
	} else if !filepath.IsAbs(path) || err != nil {
		return wire.File{}, "", usageError{fmt.Errorf("lab %s came from %s, which is not a file that can be edited here; name one: lvslab apply %s FILE", info.Name, path, shellWord(info.Name))}
	}
	sel := pick([]string{path})
	chosen, err := sel.load()
	if err != nil {
		return wire.File{}, "", err
	}
	// The name of a lab depends on where its file was asked for.
	f := sel.files[0]
	for _, l := range chosen.labs {
		if l.Name == info.Lab {
			return f, l.Name, nil
		}
	}
	if len(sel.files) == 1 && len(chosen.labs) == 1 && chosen.labs[0].Label == "" {
		f.Name = info.Lab
		if _, err := scenarios.Load(f.Path, f.Name, f.Data); err != nil {
			return wire.File{}, "", err
		}
		return f, info.Lab, nil
	}
	return wire.File{}, "", usageError{fmt.Errorf("%s holds no lab %s", path, info.Lab)}
}
