package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/importer"
	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

func (a *app) importCmd() *cobra.Command {
	var flags *importFlags
	var output string
	var strict bool
	c := &cobra.Command{
		Use:   "import FILE...",
		Short: "Write a lab for a director's configuration (ipvsadm rules, keepalived.conf)",
		Long: `Import reads the configuration of a director, as ipvsadm -S -n saves it or as
keepalived.conf has it, and writes a lab that proves on a real kernel what it
says: its real servers as nodes, networks worked out from the addresses, and
steps for each virtual service. Comments in the lab name the file and line that
each part came from. A FILE of - is standard input.

What it leaves out of a file, has to assume, or takes for a mistake is told on
standard error as FILE:LINE: ignored|assumed|warning: WHAT. An assumption stands
in the lab too; --network and --mark say what is known instead.

The lab goes to standard output, those of several files one after the other as
documents of one file. lvslab test runs a configuration without writing a lab.

Exit status: 0 written; 2 wrong usage, an invalid configuration, or with --strict
something assumed or doubtful; 3 it could not be written.`,
		Example: `  lvslab import /etc/keepalived/keepalived.conf > balancer.yaml
  lvslab run balancer.yaml
  ipvsadm -S -n | lvslab import - -o balancer.yaml
  lvslab import sites/*.conf -o labs/
                                a lab file each, in a folder
  lvslab import rules --network 10.0.0.0/22 --mark '1=tcp 198.51.100.10:80'
                                what the file cannot say`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			drafts, err := flags.draft(args)
			if err != nil {
				return err
			}
			doubtful := 0
			for _, d := range drafts {
				a.tellNotes(d.lab.Notes)
				for _, n := range d.lab.Notes {
					if n.Kind != config.Ignored {
						doubtful++
					}
				}
			}
			if strict && doubtful > 0 {
				return usageError{fmt.Errorf("--strict: %s assumed or doubtful; nothing was written", plural(doubtful, "thing"))}
			}
			return a.writeDrafts(drafts, output)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	flags = addImportFlags(c.Flags())
	flags.complete(c)
	c.Flags().StringVarP(&output, "output", "o", "", "write to `FILE`, or a file for each configuration into FOLDER/")
	c.Flags().BoolVar(&strict, "strict", false, "what had to be assumed, or is doubtful, is an error")
	return c
}

// draft is a configuration, as the lab that was written for it.
type draft struct {
	path string
	lab  *importer.Lab
	// loaded is the lab as it is read back.
	loaded *scenarios.Lab
}

// draft reads configurations and makes labs of them. Its error has the mistakes
// of all.
func (f *importFlags) draft(paths []string) ([]draft, error) {
	var errs source.List
	var drafts []draft
	seen := make(map[string]bool)
	for _, path := range paths {
		if seen[path] {
			return nil, usageError{fmt.Errorf("%s is named twice", path)}
		}
		seen[path] = true
		d, err := f.draftOne(path)
		if errors.Is(err, errOwnMistake) {
			return nil, err
		}
		errs.AddError(source.Pos{File: path}, err)
		drafts = append(drafts, d)
	}
	return drafts, errs.Err()
}

// errOwnMistake means that import wrote a lab that lvslab itself does not take.
var errOwnMistake = errors.New("this is a mistake of lvslab's, not of the file; please report it with the file")

func (f *importFlags) draftOne(path string) (draft, error) {
	c, err := f.read(path)
	if err != nil {
		return draft{}, err
	}
	lab, err := importer.Draft(c, f.draftOptions())
	if err != nil {
		return draft{}, err
	}
	loaded, err := scenarios.Load(lab.Name+".yaml", lab.Name, lab.Text)
	if err != nil {
		return draft{}, fmt.Errorf("%w: the lab for %s is invalid:\n%v", errOwnMistake, path, err) //nolint:errorlint // its places are of a lab that nobody has
	}
	return draft{path, lab, loaded[0]}, nil
}

// writeDrafts writes labs to standard output, a file, or a folder.
func (a *app) writeDrafts(drafts []draft, output string) error {
	if output == "" {
		_, err := a.out.Write(documents(drafts))
		return err
	}
	st, err := os.Stat(output)
	folder := err == nil && st.IsDir()
	if !folder && !strings.HasSuffix(output, string(filepath.Separator)) {
		return a.writeDraft(output, documents(drafts), drafts)
	}
	first := make(map[string]string)
	for _, d := range drafts {
		if other, twice := first[d.lab.Name]; twice {
			return usageError{fmt.Errorf("%s and %s would both be %s; import them one by one, with -o FILE", other, d.path, filepath.Join(output, d.lab.Name+".yaml"))}
		}
		first[d.lab.Name] = d.path
	}
	if err := os.MkdirAll(output, 0o777); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	for _, d := range drafts {
		if err := a.writeDraft(filepath.Join(output, d.lab.Name+".yaml"), d.lab.Text, []draft{d}); err != nil {
			return err
		}
	}
	return nil
}

// documents are labs as one file.
func documents(drafts []draft) []byte {
	var b bytes.Buffer
	for i, d := range drafts {
		if i > 0 {
			b.WriteString("---\n")
		}
		b.Write(d.lab.Text)
	}
	return b.Bytes()
}

func (a *app) writeDraft(path string, text []byte, drafts []draft) error {
	if err := os.WriteFile(path, text, 0o666); err != nil { //nolint:gosec // as any file that a program writes for a person
		return fmt.Errorf("--output: %w", err)
	}
	services, steps := 0, 0
	for _, d := range drafts {
		services += len(d.loaded.VirtualServices)
		steps += len(d.loaded.Steps)
	}
	fmt.Fprintf(a.out, "%s: %s, %s; lvslab run %s\n", visible(path), plural(services, "virtual service"), plural(steps, "step"), visible(shellWord(path)))
	return nil
}
