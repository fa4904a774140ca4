package schema_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonschema "github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/assert"
	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/schema"
)

const shipped = "../../labs/lab.schema.json"

// TestShipped holds the shipped schema to the types: LVSLAB_UPDATE=1 writes it.
func TestShipped(t *testing.T) {
	c, err := schema.ReadComments("../..")
	if err != nil {
		t.Fatal(err)
	}
	want, err := schema.Lab(c)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("LVSLAB_UPDATE") != "" {
		if err := os.WriteFile(shipped, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(shipped)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the types say; LVSLAB_UPDATE=1 go test ./scenarios/schema writes it anew\n%s", shipped, cmp.Diff(string(got), string(want)))
	}
}

// TestTables holds the tables of forms to those that decode.
func TestTables(t *testing.T) {
	if diff := cmp.Diff(assert.Kinds(), slices.Sorted(maps.Keys(assert.Shapes()))); diff != "" {
		t.Errorf("assert.Shapes (-decoded +described):\n%s", diff)
	}
	if diff := cmp.Diff(scenarios.ActionKinds(), slices.Sorted(maps.Keys(scenarios.ActionTypes()))); diff != "" {
		t.Errorf("scenarios.ActionTypes (-decoded +described):\n%s", diff)
	}
}

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(labs.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("lab.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("lab.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// documents are those of a YAML file, as JSON has them.
func documents(t *testing.T, data []byte) []any {
	t.Helper()
	var docs []any
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var v any
		if dec.Decode(&v) != nil {
			return docs
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, doc)
	}
}

// TestGoodFiles: every shipped lab is valid, and names the schema.
func TestGoodFiles(t *testing.T) {
	s := compiled(t)
	for _, f := range labs.All() {
		docs := documents(t, f.Data)
		if len(docs) == 0 {
			t.Errorf("%s has no document", f.Path)
		}
		for _, d := range docs {
			if err := s.Validate(d); err != nil {
				t.Errorf("%s: %v", f.Path, err)
			}
		}
		if !bytes.HasPrefix(f.Data, []byte("# yaml-language-server: $schema=../lab.schema.json\n")) {
			t.Errorf("%s does not begin with the line that names the schema to editors", f.Path)
		}
	}
}

// TestBadFiles: each is refused at the place that its first line names, by the
// schema, and by lvslab check.
func TestBadFiles(t *testing.T) {
	s := compiled(t)
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d bad files: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(data), "\n")
			at, ok := strings.CutPrefix(first, "# wrong at: ")
			if !ok {
				t.Fatal("the first line names no place")
			}
			if _, err := scenarios.Load(file, "bad", data); err == nil {
				t.Error("lvslab check takes it")
			}
			var invalid *jsonschema.ValidationError
			if err := s.Validate(documents(t, data)[0]); !errors.As(err, &invalid) {
				t.Fatalf("the schema takes it: %v", err)
			}
			if places := locations(invalid); !slices.Contains(places, at) {
				t.Errorf("wrong at %s, not at %s", strings.Join(places, ", "), at)
			}
		})
	}
}

// locations are all the places that an error of validation names.
func locations(e *jsonschema.ValidationError) []string {
	list := []string{"/" + strings.Join(e.InstanceLocation, "/")}
	for _, c := range e.Causes {
		list = append(list, locations(c)...)
	}
	return list
}
