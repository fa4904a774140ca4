package runner_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/lvslab/lvslab/"

// sees is the table of rooms and of the rooms that each may import. A room that
// ends in /... is a folder with all below it; the most exact entry counts. It is
// here because runner is the room that most others lie below or beside, and
// that all its neighbours' tests run in.
//
// Backends (host, uml, qemu) never see one another, and of them only host and
// the guest's side see the engine: what runs outside a kernel knows labs by
// what travels, package wire, alone. The guest's side sees machine, by whose
// helper processes the program is started, and machine does not see it.
var sees = map[string][]string{
	"topology/source":               {},
	"topology":                      {"topology/source"},
	"topology/netns":                {"topology", "topology/source"},
	"topology/filter":               {"topology", "topology/source", "topology/netns"},
	"topology/capture":              {"topology", "topology/source", "topology/netns"},
	"topology/probe":                {"topology", "topology/source", "topology/netns", "topology/filter", "topology/capture"},
	"topology/...":                  {"topology", "topology/source"},
	"scenarios/ipvs":                {"topology", "topology/source"},
	"scenarios/forward":             {"topology", "topology/source", "scenarios/ipvs"},
	"assert":                        {"topology/...", "scenarios/ipvs"},
	"scenarios":                     {"topology/...", "scenarios/ipvs", "scenarios/forward", "assert"},
	"scenarios/importer":            {"topology/...", "scenarios", "scenarios/ipvs", "scenarios/forward", "scenarios/importer/...", "assert"},
	"scenarios/importer/config":     {"topology/source", "scenarios/ipvs"},
	"scenarios/importer/keepalived": {"topology/source", "scenarios/ipvs", "scenarios/importer/config"},
	"scenarios/schema":              {"topology/...", "scenarios", "scenarios/ipvs", "scenarios/forward", "assert"},
	"runner/labtest":                {"..."},
	"runner/wire":                   {"topology/source"},
	"runner/report":                 {"runner/wire", "topology/source"},
	"runner/origin":                 {"topology/source", "scenarios/importer", "runner/wire"},
	"runner/live":                   {"runner/wire", "topology/source"},
	"runner/line":                   {},
	"runner/keeper":                 {"runner", "runner/wire", "runner/live", "topology/source"},
	"runner/draw":                   {"runner/live"},
	"runner":                        {"topology", "topology/source", "scenarios", "runner/wire", "runner/live"},
	"runner/kernel":                 {"runner/kernel/..."},
	"runner/kernel/...":             {"runner/kernel/..."},
	"runner/node":                   {"topology/...", "runner/node/..."},
	"runner/node/...":               {"topology/..."},
	"runner/node/tools":             {"topology/...", "scenarios/ipvs"},
	"runner/engine":                 {"topology/...", "scenarios/...", "assert", "runner/wire", "runner/live", "runner/node/..."},
	"runner/host":                   {"topology/...", "scenarios/...", "runner", "runner/wire", "runner/live", "runner/line", "runner/machine", "runner/engine", "runner/node/...", "runner/kernel/..."},
	"runner/guest":                  {"topology/...", "runner/wire", "runner/live", "runner/line", "runner/machine", "runner/engine", "runner/node/...", "runner/kernel/..."},
	"runner/machine":                {"runner/wire", "runner/live", "runner/line", "runner/kernel/..."},
	"runner/uml":                    {"topology", "runner", "runner/wire", "runner/live", "runner/kernel/...", "runner/machine", "runner/uml/..."},
	"runner/uml/...":                {"runner/wire"},
	"runner/qemu":                   {"topology", "runner", "runner/wire", "runner/live", "runner/kernel/...", "runner/machine"},
	"labs":                          {"runner/wire"},
	"cmd/...":                       {"..."},
}

// topLevel is all that the module's folder may hold, dot-files beside.
var topLevel = []string{"cmd", "topology", "scenarios", "runner", "assert", "labs", "go.mod", "go.sum", "Makefile", "README.md", "LICENSE"}

// within reports whether a room is one that a pattern names.
func within(room, pattern string) bool {
	base, all := strings.CutSuffix(pattern, "...")
	return room == pattern || all && (base == "" || room+"/" == base || strings.HasPrefix(room, base))
}

// allowed is the table's entry for a room.
func allowed(room string) ([]string, bool) {
	if list, ok := sees[room]; ok {
		return list, true
	}
	for at := room; at != "."; at = path.Dir(at) {
		if list, ok := sees[at+"/..."]; ok {
			return list, true
		}
	}
	return nil, false
}

// importsOf calls f for each import, within the module, of each Go file.
func importsOf(t *testing.T, root string, f func(file, room, imported string, pos token.Position)) {
	t.Helper()
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (strings.HasPrefix(e.Name(), ".") && name != root || e.Name() == "testdata") {
			return filepath.SkipDir
		}
		if e.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		parsed, err := parser.ParseFile(fset, name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		if p := strings.TrimSuffix(parsed.Name.Name, "_test"); slices.Contains([]string{"util", "utils", "common", "helpers", "misc"}, p) {
			t.Errorf("%s: package %s says nothing of what it is for", rel, p)
		}
		for _, i := range parsed.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if imported, ours := strings.CutPrefix(p, module); ours {
				pos := fset.Position(i.Pos())
				pos.Filename = rel
				f(rel, path.Dir(rel), imported, pos)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDirection holds the direction of imports. Tests may import what they like.
func TestDirection(t *testing.T) {
	seen := 0
	importsOf(t, "..", func(file, room, imported string, pos token.Position) {
		if strings.HasSuffix(file, "_test.go") {
			return
		}
		seen++
		list, ok := allowed(room)
		if !ok {
			t.Errorf("%s:%d: room %s is not in the table of %s; say there what it may import", pos.Filename, pos.Line, room, "runner/direction_test.go")
			return
		}
		if !slices.ContainsFunc(list, func(p string) bool { return within(imported, p) }) {
			t.Errorf("%s:%d: %s may not import %s, only %s", pos.Filename, pos.Line, room, imported, strings.Join(list, ", "))
		}
	})
	if seen < 50 {
		t.Errorf("only %d imports were looked at", seen)
	}
}

// The table itself has no way round: no room sees, by whatever way, itself.
func TestTableOfRooms(t *testing.T) {
	for room, list := range sees {
		for _, p := range list {
			other, all := strings.CutSuffix(p, "/...")
			if all || p == "..." {
				continue
			}
			for _, back := range sees[other] {
				if !strings.HasSuffix(back, "...") && within(room, back) {
					t.Errorf("%s and %s may import each other", room, other)
				}
			}
		}
	}
	for _, c := range []struct {
		room, imported string
		ok             bool
	}{
		{"topology/source", "topology", false},
		{"topology", "topology/netns", false},
		{"topology", "scenarios/ipvs", false},
		{"assert", "scenarios", false},
		{"scenarios", "runner/wire", false},
		{"runner/uml", "runner/engine", false},
		{"runner/uml", "runner/wire", true},
		{"runner/uml", "runner/host", false},
		{"runner/wire", "scenarios", false},
		{"runner/engine", "runner", false},
		{"cmd/lvslab", "runner/uml", true},
		{"runner", "cmd/lvslab", false},
		{"runner/kernel", "runner/kernel/scratch", true},
	} {
		list, _ := allowed(c.room)
		if ok := slices.ContainsFunc(list, func(p string) bool { return within(c.imported, p) }); ok != c.ok {
			t.Errorf("%s imports %s: %t, want %t", c.room, c.imported, ok, c.ok)
		}
	}
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		// bin is what make builds into, and git does not know it.
		if !strings.HasPrefix(e.Name(), ".") && e.Name() != "bin" && !slices.Contains(topLevel, e.Name()) {
			t.Errorf("%s: the top level is fixed (%s); new rooms go inside these", e.Name(), strings.Join(topLevel, ", "))
		}
	}
}
