package runner_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios/importer"
)

// TestImportedFiles runs what is drafted for the files of package importer, among
// them a keepalived.conf with a virtual server of every kind and 40 services of
// rules with 10 real servers each: a kernel that does right passes.
func TestImportedFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a guest")
	}
	const folder = "../scenarios/importer/testdata/"
	paths, err := filepath.Glob(folder + "*.[cr]*")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no configurations: %v", err)
	}
	var files []wire.File
	for _, path := range paths {
		c, err := importer.Read(path, importer.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
		files = append(files, wire.File{Path: name + ".yaml", Name: name, Data: drafted(t, c, name).Text})
	}
	for name, r := range runImported(t, guestBackend(t), files) {
		if r.verdict != wire.Pass {
			t.Errorf("%s: %s: %s", name, r.verdict, r.why)
		}
	}
}
