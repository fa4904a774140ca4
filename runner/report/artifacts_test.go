package report_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/runner/report"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology/source"
)

// tree are the files below a folder, with their texts.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path) // it is below dir
		files[filepath.ToSlash(rel)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func failedStep(lab, name string, results ...wire.Result) wire.Event {
	return wire.Event{Kind: wire.StepFinished, Lab: lab, Verdict: wire.Fail, Step: &wire.Step{Index: 1, Of: 1, Name: name, Results: results}}
}

func TestArtifacts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s, err := report.Artifacts(report.ArtifactOptions{
		Dir: dir, Flags: []string{"--kernel", "uml"},
		Files: []wire.File{{Path: "my labs/dr.yaml", Name: "dr", Data: []byte("the lab\n")}, {Path: "x.yaml", Name: "x", Data: []byte("other\n")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	table := wire.Evidence{Title: "IPVS table of director", Text: "TCP 1\x1b[2J\n"}
	table2 := wire.Evidence{Title: table.Title, Text: "TCP 2\n"}
	labPos := &source.Pos{File: "my labs/dr.yaml", Line: 1}
	for _, e := range []wire.Event{
		{Kind: wire.RunStarted, Message: "kernel: Linux", Shard: &wire.Shard{Index: 1, Of: 2}},
		// One that passes leaves nothing.
		{Kind: wire.LabStarted, Lab: "x/passes"},
		piece("x/passes", 1, "one", 0, "packets"), last(piece("x/passes", 1, "one", 7, ""), ""),
		{Kind: wire.LabFinished, Lab: "x/passes", Verdict: wire.Pass},
		{Kind: wire.LabFinished, Lab: "x/skipped", Verdict: wire.Skip, Message: "no twos"},
		// One whose kernel died in its first try.
		{Kind: wire.LabStarted, Lab: "dr/fails", Pos: labPos},
		piece("dr/fails", 1, "They answer!", 0, "of the first try"),
		failedStep("dr/fails", "of the first try"),
		{Kind: wire.LabStarted, Lab: "dr/fails", Pos: labPos},
		piece("dr/fails", 1, "They answer!", 0, "one "), last(piece("dr/fails", 1, "They answer!", 4, "two"), "lost 3 packets"),
		{Kind: wire.Log, Lab: "dr/fails", Message: "a line"},
		failedStep("dr/fails", "They answer!", wire.Result{Check: "rotation", Verdict: wire.Fail, Evidence: []wire.Evidence{table, table2}}, wire.Result{Check: "path", Verdict: wire.Fail, Evidence: []wire.Evidence{table}}),
		{Kind: wire.LabFinished, Lab: "dr/fails", Verdict: wire.Fail},
		// Names that would be the same folder, or another one.
		{Kind: wire.LabFinished, Lab: "dr/Fails", Verdict: wire.Broken, Message: "console\nKernel panic"},
		failedStep("../../../etc", "../../passwd", wire.Result{Verdict: wire.Fail, Evidence: []wire.Evidence{{Title: "../../x", Text: "y"}}}),
		{Kind: wire.LabFinished, Lab: "../../../etc", Verdict: wire.Fail},
		{Kind: wire.LabFinished, Lab: "///", Verdict: wire.Fail},
		// One that has no verdict at the end.
		{Kind: wire.LabStarted, Lab: "dr/killed"},
		piece("dr/killed", 1, "half", 0, "ha"),
	} {
		s.Event(e)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got := tree(t, dir)
	whole := got["dr/fails/report.txt"]
	for _, want := range []string{"kernel: Linux\n", "FAIL", "lvslab run --kernel uml dr.yaml\n", "\nThe packets of step 1 are not whole: lost 3 packets\n"} {
		if !strings.Contains(whole, want) {
			t.Errorf("no %q in\n%s", want, whole)
		}
	}
	if strings.Contains(whole, "first try") || !strings.Contains(got["dr/fails-2/report.txt"], "Kernel panic") {
		t.Errorf("%s\n%s", whole, got["dr/fails-2/report.txt"])
	}
	for name := range got {
		base := filepath.Base(name)
		if base == "report.txt" {
			delete(got, name)
		}
		if base != "events.json" {
			continue
		}
		events, err := report.ReadEvents(strings.NewReader(got[name]), name)
		if err != nil || len(events) < 2 {
			t.Errorf("%s: %v", name, err)
		}
		delete(got, name)
	}
	if d := cmp.Diff(map[string]string{
		"index.txt":                      "FAIL    dr/fails  in dr/fails\nBROKEN  dr/Fails  in dr/fails-2\nFAIL    ../../../etc  in etc\nFAIL    ///  in lab\nBROKEN  dr/killed  in dr/killed\n",
		"dr/fails/dr.yaml":               "the lab\n",
		"dr/fails/01-they-answer.pcapng": "one two",
		"dr/fails/01-they-answer-ipvs-table-of-director.txt":   "IPVS table of director\n\nTCP 1\\x1b[2J\n",
		"dr/fails/01-they-answer-ipvs-table-of-director-2.txt": "IPVS table of director\n\nTCP 2\n",
		"dr/fails-2/dr.yaml":       "the lab\n",
		"etc/01-passwd-x.txt":      "../../x\n\ny\n",
		"dr/killed/01-half.pcapng": "ha",
		"dr/killed/dr.yaml":        "the lab\n",
	}, got); d != "" {
		t.Error(d)
	}
	if outside, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "*")); len(outside) != 1 {
		t.Errorf("outside: %v", outside)
	}
}

func TestArtifactsCannotWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := report.Artifacts(report.ArtifactOptions{Dir: filepath.Join(file, "dir")}); err == nil {
		t.Error("a folder inside a file was made")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dr"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := report.Artifacts(report.ArtifactOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s.Event(wire.Event{Kind: wire.LabFinished, Lab: "dr/sysctl", Verdict: wire.Fail})
	if err := s.Close(); err == nil || !strings.HasPrefix(err.Error(), "artifacts: ") {
		t.Errorf("%v", err)
	}
	// A folder in the place of the index.
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "index.txt"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := report.Artifacts(report.ArtifactOptions{Dir: dir}); err == nil {
		t.Error("a folder that takes no index")
	}
}

// Links in the folder do not lead out of it.
func TestArtifactsStayInside(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "dr")); err != nil {
		t.Fatal(err)
	}
	s, err := report.Artifacts(report.ArtifactOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s.Event(wire.Event{Kind: wire.LabFinished, Lab: "dr/sysctl", Verdict: wire.Fail})
	if err := s.Close(); err == nil || len(tree(t, outside)) > 0 {
		t.Errorf("%v, outside: %v", err, tree(t, outside))
	}
}

// Tee closes all its sinks, and Map changes what is passed on alone.
func TestTeeAndMap(t *testing.T) {
	a, b := &kept{}, &kept{}
	s := report.Tee(report.Map(a, func(e wire.Event) wire.Event { e.Lab = "mapped"; return e }), b)
	s.Event(wire.Event{Kind: wire.LabStarted, Lab: "lab"})
	if err := s.Close(); err != nil || !a.closed || !b.closed {
		t.Errorf("%v, closed %t and %t", err, a.closed, b.closed)
	}
	if a.events[0].Lab != "mapped" || b.events[0].Lab != "lab" {
		t.Errorf("%v, %v", a.events, b.events)
	}
	full := report.Tee(report.JSON(badWriter{}), report.JSON(new(bytes.Buffer)), report.JUnit(badWriter{}, nil))
	full.Event(wire.Event{Kind: wire.RunFinished})
	if err := full.Close(); err == nil || strings.Count(err.Error(), "no room") != 2 {
		t.Errorf("%v", err)
	}
}

type badWriter struct{}

func (badWriter) Write([]byte) (int, error) {
	return 0, &fs.PathError{Op: "no room", Path: "x", Err: fs.ErrInvalid}
}
