package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lvslab/lvslab/runner/node"
	"github.com/lvslab/lvslab/runner/origin"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/importer"
	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

func (a *app) testCmd() *cobra.Command {
	var f *runFlags
	var i *importFlags
	var with bool
	var old string
	c := &cobra.Command{
		Use:   "test FILE... | FILE --against OLD",
		Short: "Import a director's configuration and run its lab, in one go",
		Long: `Test makes a lab of each configuration of a director, ipvsadm rules or a
keepalived.conf, as lvslab import does, and runs it, as lvslab run does, without a
lab file on disk. The places in its report are those of the configuration.

By itself that shows whether a configuration works at all: whatever it says is
what is expected of it. With --against the machines, the clients and all that is
expected are those of another one, OLD, and only the director's table is that of
FILE, and it has no virtual IP that keepalived brought by OLD and does not by
FILE: what FILE changes makes the assertions fail that it breaks, and the report
names the line of FILE that did it and the one of OLD that it did it to. What
changes is told before the run. OLD is a configuration of either kind, such as that
of the commit before, or a lab file that lvslab import has made of one and that
is kept, perhaps edited, as the statement of what the director must do.

With --with-keepalived the real keepalived of this machine runs in the director
node, with the very same files: its own checkers and VRRP drive IPVS, and the
first step waits until its table is the one that the file says.

Exit status: 0 all passed; 1 something failed; 2 wrong usage or an invalid
configuration; 3 something is broken, or no kernel can run the lab; 130
interrupted.`,
		Example: `  lvslab test keepalived.conf   does it do what it says?
  lvslab test /etc/sysconfig/ipvsadm --junit report.xml
  lvslab test keepalived.conf --with-keepalived
                                the same, with the real keepalived
  git show HEAD~1:keepalived.conf > old.conf
  lvslab test keepalived.conf --against old.conf
                                does it still do what it did?
  lvslab import keepalived.conf -o tests/director.yaml
  lvslab test keepalived.conf --against tests/director.yaml
                                or with a lab that is kept in git`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			t := &testRun{app: a, flags: f, imported: i, with: with}
			err := f.outputs.keeps(append(slices.Clone(args), old), "the configuration itself")
			if err != nil {
				return usageError{err}
			}
			if err := f.outputs.astray(args); err != nil {
				return err
			}
			if c.Flags().Changed("against") {
				err = t.against(args, old)
			} else {
				err = t.files(args)
			}
			if err != nil {
				return err
			}
			t.work.rerun = func([]string) string { return testAgain(c.Flags(), args) }
			return a.execute(c.Context(), f, t.work)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	f = a.addRunFlags(c.Flags())
	f.complete(c)
	i = addImportFlags(c.Flags())
	i.complete(c)
	c.Flags().BoolVar(&with, "with-keepalived", false, "run the real keepalived in the director node, with the configuration's own files")
	c.Flags().StringVar(&old, "against", "", "expect what `OLD` says: an older configuration, or a lab that was imported from one (.yaml)")
	return c
}

// testRun is one call of test.
type testRun struct {
	*app
	flags    *runFlags
	imported *importFlags
	with     bool
	work     work
}

// files makes a lab of each configuration.
func (t *testRun) files(paths []string) error {
	var errs source.List
	var drafts []wire.File
	wholes := make(map[string]source.Pos)
	for _, path := range paths {
		lab, c, err := t.draft(path, drafts)
		if err != nil {
			var usage usageError
			if len(paths) == 1 || errors.As(err, &usage) {
				return err
			}
			errs.AddError(source.Pos{File: path}, err)
			continue
		}
		f := draftFile(path, lab)
		drafts = append(drafts, f)
		wholes[f.Path] = wholeOf(c)
	}
	if err := errs.Err(); err != nil {
		return err
	}
	if t.with {
		if err := keepalivedHere(); err != nil {
			return err
		}
	}
	places := origin.Of(drafts)
	for path, pos := range wholes {
		places.Whole(path, pos)
	}
	t.work.mapEvent = places.Instead
	return t.load(drafts, places)
}

// load reads the labs that are to be run.
func (t *testRun) load(files []wire.File, places *origin.Map) error {
	t.work.files = files
	for _, f := range files {
		labs, err := scenarios.Load(f.Path, f.Name, f.Data, f.Set...)
		if err != nil {
			return originErrors(places, err)
		}
		t.work.labs = append(t.work.labs, labs...)
	}
	return nil
}

// draft reads a configuration and makes a lab of it, whose name none of the
// others has.
func (t *testRun) draft(path string, others []wire.File) (*importer.Lab, *config.Config, error) {
	c, err := t.imported.read(path)
	if err != nil {
		return nil, nil, err
	}
	o := t.imported.draftOptions()
	if t.with {
		if c.Kind != config.Keepalived {
			return nil, nil, usageError{fmt.Errorf("--with-keepalived: %s are ipvsadm rules, which keepalived does not read; leave the flag out", path)}
		}
		o.ManagedBy, o.ConfigID, o.HasProgram = scenarios.ManagedByKeepalived, t.imported.id, programHere
	}
	lab, err := importer.Draft(c, o)
	if err != nil {
		return nil, nil, err
	}
	taken := func(name string) bool {
		return slices.ContainsFunc(others, func(f wire.File) bool { return f.Name == name })
	}
	if name := lab.Name; taken(name) {
		for n := 2; taken(o.Name) || o.Name == ""; n++ {
			o.Name = fmt.Sprintf("%s-%d", name, n)
		}
		if lab, err = importer.Draft(c, o); err != nil {
			return nil, nil, err
		}
	}
	t.tellNotes(lab.Notes)
	return lab, c, nil
}

// draftFile is a lab that is on no disk, as a file.
func draftFile(path string, lab *importer.Lab) wire.File {
	return wire.File{Path: "the lab of " + path, Name: lab.Name, Data: lab.Text}
}

// wholeOf is the place of a configuration as a whole.
func wholeOf(c *config.Config) source.Pos { return source.Pos{File: c.Files[0].Name, Line: 1} }

// keepalivedHere is an error where the nodes of a lab would find no keepalived: a
// run that skips what was asked for by name would be no answer.
func keepalivedHere() error {
	for _, dir := range filepath.SplitList(node.Path) {
		if _, err := exec.LookPath(filepath.Join(dir, "keepalived")); err == nil {
			return nil
		}
	}
	return errors.New("--with-keepalived: keepalived is not installed on this machine: apt-get install keepalived; or leave the flag out, and lvslab tells IPVS what keepalived would")
}

// programHere reports whether the nodes of a lab, which see this machine's files,
// have a program.
func programHere(path string) bool {
	if filepath.IsAbs(path) {
		_, err := os.Stat(path)
		return err == nil
	}
	for _, dir := range filepath.SplitList(node.Path) {
		if _, err := exec.LookPath(filepath.Join(dir, path)); err == nil {
			return true
		}
	}
	return false
}

// originErrors are mistakes of a lab that nobody has seen, at the places that it
// came from.
func originErrors(places *origin.Map, err error) error {
	var list source.List
	if !errors.As(err, &list) {
		return err
	}
	out := make(source.List, len(list))
	for i, e := range list {
		moved := *e
		if o, ok := places.AtOrWhole(e.Pos); ok {
			moved.Pos = o
			moved.Msg = "the lab that was made of this cannot be run: " + e.Msg
		}
		out[i] = &moved
	}
	return out.Err()
}

// testAgain is the command that does it again.
func testAgain(flags *pflag.FlagSet, args []string) string {
	words := []string{"lvslab", "test"}
	for _, name := range []string{"kernel", "as", "id", "network", "mark", "with-keepalived"} {
		f := flags.Lookup(name)
		switch {
		case f == nil || !f.Changed:
		case f.Value.Type() == "bool":
			words = append(words, "--"+name)
		case name != "network" && name != "mark":
			words = append(words, "--"+name, shellWord(f.Value.String()))
		default: // which may have been given several times
			for value := range strings.SplitSeq(f.Value.String(), ",") {
				words = append(words, "--"+name, shellWord(value))
			}
		}
	}
	for _, arg := range args {
		words = append(words, shellWord(arg))
	}
	if f := flags.Lookup("against"); f.Changed {
		words = append(words, "--against", shellWord(f.Value.String()))
	}
	return strings.Join(words, " ")
}
