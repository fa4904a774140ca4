package source_test

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// everything has a field of each kind that the decoder knows.
type everything struct {
	Pos      source.Pos
	Text     string            `yaml:"text,required"`
	Bool     bool              `yaml:"bool"`
	Int      int               `yaml:"int"`
	Int64    int64             `yaml:"int64"`
	Port     uint16            `yaml:"port"`
	U32      uint32            `yaml:"u32"`
	Float    float64           `yaml:"float"`
	Duration time.Duration     `yaml:"duration"`
	Addr     netip.Addr        `yaml:"addr"`
	Prefix   netip.Prefix      `yaml:"prefix"`
	List     []string          `yaml:"list"`
	Pointer  *int              `yaml:"pointer"`
	Inner    inner             `yaml:"inner"`
	Map      source.Map[inner] `yaml:"map"`
	Hidden   string            `yaml:"-"`
	Untagged string
}

type inner struct {
	N int `yaml:"n"`
}

func decode(t testing.TB, text string) (everything, error) {
	t.Helper()
	docs, err := source.Parse("f.yaml", []byte(text))
	if err != nil {
		return everything{}, err
	}
	var e everything
	d := &source.Decoder{File: "f.yaml"}
	d.Decode(docs[0], &e)
	return e, d.Errs.Err()
}

func TestDecode(t *testing.T) {
	e, err := decode(t, `
text: a b
bool: true
int: -3
int64: 9223372036854775807
port: 65535
u32: 4294967295
float: 1.5
duration: 250ms
addr: 10.0.0.1
prefix: 10.0.0.0/8
list: one
pointer: 0
inner: {n: 1}
map: {b: {n: 2}, a: {n: 3}}
`)
	if err != nil {
		t.Fatal(err)
	}
	zero := 0
	want := everything{
		Pos: source.Pos{File: "f.yaml", Line: 2, Col: 1}, Text: "a b", Bool: true, Int: -3, Int64: math.MaxInt64,
		Port: 65535, U32: math.MaxUint32, Float: 1.5, Duration: 250 * time.Millisecond,
		Addr: netip.MustParseAddr("10.0.0.1"), Prefix: netip.MustParsePrefix("10.0.0.0/8"), List: []string{"one"}, Pointer: &zero, Inner: inner{1},
		Map: source.Map[inner]{
			{"b", source.Pos{File: "f.yaml", Line: 15, Col: 7}, inner{2}},
			{"a", source.Pos{File: "f.yaml", Line: 15, Col: 18}, inner{3}},
		},
	}
	same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	samePrefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(want, e, same, samePrefix); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"text: [a]", `f.yaml:1:7: wanted text, found a list`},
		{"text: {a: b}", `f.yaml:1:7: wanted text, found a mapping`},
		{"text:", `f.yaml:1:6: key "text" has no value`},
		{"text: ~", `f.yaml:1:7: key "text" has no value`},
		{"bool: true", `f.yaml:1:1: key "text" is missing`},
		{"- a", `f.yaml:1:1: wanted a mapping with the keys text, bool, int, int64, port, u32, float, duration, addr, prefix, list, pointer, inner, map, found a list`},
		{"text: a\ntxet: b", `f.yaml:2:1: unknown key "txet", did you mean "text"? Allowed: text, bool, int, int64, port, u32, float, duration, addr, prefix, list, pointer, inner, map`},
		{"text: a\ntext: b", `f.yaml:2:1: key "text" is here a second time; the first is in line 1`},
		{"text: a\nUntagged: b", `f.yaml:2:1: unknown key "Untagged"; Allowed: text, bool, int, int64, port, u32, float, duration, addr, prefix, list, pointer, inner, map`},
		{"text: a\nbool: yes", `f.yaml:2:7: wanted true or false, found "yes"`},
		{"text: a\nint: 1.5", `f.yaml:2:6: wanted a whole number, found "1.5"`},
		{"text: a\nint: 99999999999999999999", `f.yaml:2:6: wanted a whole number from -9223372036854775808 to 9223372036854775807, found "99999999999999999999"`},
		{"text: a\nport: 65536", `f.yaml:2:7: wanted a whole number from 0 to 65535, found "65536"`},
		{"text: a\nport: -1", `f.yaml:2:7: wanted a whole number from 0 to 65535, found "-1"`},
		{"text: a\nu32: 4294967296", `f.yaml:2:6: wanted a whole number from 0 to 4294967295, found "4294967296"`},
		{"text: a\nfloat: .nan", `f.yaml:2:8: wanted a number, found ".nan"`},
		{"text: a\nfloat: NaN", `f.yaml:2:8: wanted a number, found "NaN"`},
		{"text: a\nfloat: +Inf", `f.yaml:2:8: wanted a number, found "+Inf"`},
		{"text: a\nfloat: 1e999", `f.yaml:2:8: wanted a number, found "1e999"`},
		{"text: a\nduration: 5", `f.yaml:2:11: wanted a duration such as 500ms or 2s, found "5"`},
		{"text: a\nduration: -5s", `f.yaml:2:11: wanted a duration such as 500ms or 2s, found "-5s"`},
		{"text: a\naddr: 10.0.0", `f.yaml:2:7: wanted an IP address, found "10.0.0"`},
		{"text: a\nprefix: 10.0.0.0", `f.yaml:2:9: wanted an address with its prefix length such as 10.0.0.1/24, found "10.0.0.0"`},
		{"text: a\nlist: {a: b}", `f.yaml:2:7: wanted a list, found a mapping`},
		{"text: a\nlist: [a, ~]", `f.yaml:2:11: wanted text, found nothing`},
		{"text: a\ninner: 5", `f.yaml:2:8: wanted a mapping with the keys n, found "5"`},
		{"text: a\nmap: [a]", `f.yaml:2:6: wanted a mapping (key: value), found a list`},
		{"text: a\nmap: {a: ~}", `f.yaml:2:10: wanted a mapping with the keys n, found nothing`},
		{"text: a\nmap: {a: {n: 1}, a: {n: 2}}", `f.yaml:2:18: key "a" is here a second time; the first is in line 2`},
		{"text: a\nmap: {[a]: {n: 1}}", `f.yaml:2:7: a key must be a word, found a list`},
		{"text: a\n<<: {bool: true}", `f.yaml:2:1: unknown key "<<"; Allowed: text, bool, int, int64, port, u32, float, duration, addr, prefix, list, pointer, inner, map`},
		{"text: a\nint: x\nport: y", "f.yaml:2:6: wanted a whole number, found \"x\"\nf.yaml:3:7: wanted a whole number, found \"y\""},
		{"text: a\nint: " + strings.Repeat("9", 200), `f.yaml:2:6: wanted a whole number from -9223372036854775808 to 9223372036854775807, found "` + strings.Repeat("9", 80) + `…"`},
	} {
		_, err := decode(t, c.text)
		if err == nil {
			t.Errorf("%q: no error, want\n%s", c.text, c.want)
		} else if err.Error() != c.want {
			t.Errorf("%q:\n%v\nwant\n%s", c.text, err, c.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'i'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 9), ", "))
	}
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "f.yaml: is empty; a lab begins with title: and networks:"},
		{"comment", "# nothing\n", "f.yaml: is empty; a lab begins with title: and networks:"},
		{"separators", "---\n---\n...\n", "f.yaml: is empty; a lab begins with title: and networks:"},
		{"NUL", "a: b\nc: \x00", "f.yaml:2:4: a NUL byte: this is no text file"},
		{"latin-1", "a: b\n\xe9: c", "f.yaml:2:1: byte 0xe9 is not valid UTF-8"},
		{"tab", "a:\n\tb: c", "f.yaml:2: not YAML: found character that cannot start any token"},
		{"unclosed", "a: [b", "f.yaml:1: not YAML: did not find expected ',' or ']'"},
		{"unknown alias", "a: *b", "f.yaml:1: not YAML: unknown anchor 'b' referenced"},
		{"alias bomb", bomb, "f.yaml:2: unfolds to more than 1048576 values; look at its aliases"},
		{"alias in itself", "a: &a [*a]", "f.yaml:1:4: nested deeper than 64 levels"},
		{"deep flow", strings.Repeat("[", 100) + strings.Repeat("]", 100), "f.yaml:1:66: nested deeper than 64 levels"},
		{"very deep flow", strings.Repeat("[", 1<<20), "f.yaml:1:1025: nested deeper than 64 levels"},
		{"deep block", strings.Repeat("- ", 2000) + "a", "f.yaml:1:131: nested deeper than 64 levels"},
		{"too large", strings.Repeat("#", source.MaxBytes+1), "f.yaml: is larger than 8 MiB; that is no lab file"},
		{"binary", "\x7fELF\x02\x01\x01\x00", "f.yaml:1:8: a NUL byte: this is no text file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			docs, err := source.Parse("f.yaml", []byte(c.text))
			if err == nil {
				t.Fatalf("no error but %d documents, want %s", len(docs), c.want)
			}
			got := err.Error()
			if strings.HasPrefix(c.name, "alias bomb") {
				got = strings.Replace(got, got[len("f.yaml:"):strings.Index(got, ": ")], "2", 1) // where it gets too much
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

// Each document of a file may be small, and all of them together too much.
func TestParseBoundsAllDocumentsTogether(t *testing.T) {
	doc := "---\na: &a [" + strings.Repeat("x, ", 999) + "x]\nb: [" + strings.Repeat("*a, ", 99) + "*a]\n"
	if _, err := source.Parse("f.yaml", []byte(doc)); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Parse("f.yaml", []byte(strings.Repeat(doc, 20))); err == nil || !strings.Contains(err.Error(), "unfolds to more than") {
		t.Errorf("twenty documents of 100,000 values: %v", err)
	}
}

func TestParseDocuments(t *testing.T) {
	docs, err := source.Parse("f", []byte("# first\n---\na: 1\n---\n# nothing here\n---\nb: 2\n...\n"))
	if err != nil || len(docs) != 2 {
		t.Fatalf("%d documents, %v", len(docs), err)
	}
	if docs[0].Line != 3 || docs[1].Line != 7 {
		t.Errorf("documents begin in lines %d and %d, want 3 and 7", docs[0].Line, docs[1].Line)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 100<<20); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir:                             dir + ": is a folder, wanted a lab file",
		large:                           large + ": is larger than 8 MiB; that is no lab file",
		filepath.Join(dir, "not-there"): "open " + filepath.Join(dir, "not-there") + ": no such file or directory",
	} {
		if _, err := source.Read(path); err == nil || err.Error() != want {
			t.Errorf("Read(%s): %v, want %s", path, err, want)
		}
	}
}

func TestMerge(t *testing.T) {
	for _, c := range []struct{ base, patch, want string }{
		{"a: 1", "a: 2", "a: 2"},
		{"a: 1", "b: 2", "a: 1\nb: 2"},
		{"a: 1\nb: 2", "a: ~", "b: 2"},
		{"a: 1", "b: ~", "a: 1"},
		{"a: {b: 1, c: 2}", "a: {c: 3, d: 4}", "a: {b: 1, c: 3, d: 4}"},
		{"a: {b: 1}", "a: [x]", "a: [x]"},
		{"a: [x]", "a: {b: 1}", "a: {b: 1}"},
		{"a: [x, y]", "a: [z]", "a: [z]"},
		{"a: &x {b: 1}\nc: *x", "c: {b: 2}", "a: &x {b: 1}\nc: {b: 2}"}, // the anchor's own value stays
		{"a: {b: {c: 1, d: 2}}", "a: {b: {c: ~}}", "a: {b: {d: 2}}"},
	} {
		parse := func(s string) *yaml.Node {
			docs, err := source.Parse("f", []byte(s))
			if err != nil {
				t.Fatal(err)
			}
			return docs[0]
		}
		base, patch := parse(c.base), parse(c.patch)
		got := values(t, source.Merge(base, patch))
		if diff := cmp.Diff(values(t, parse(c.want)), got); diff != "" {
			t.Errorf("%s with %s laid over it:\n%s", c.base, c.patch, diff)
		}
		if diff := cmp.Diff(values(t, parse(c.base)), values(t, base)); diff != "" {
			t.Errorf("%s was changed itself:\n%s", c.base, diff)
		}
		if diff := cmp.Diff(values(t, parse(c.patch)), values(t, patch)); diff != "" {
			t.Errorf("the patch %s was changed itself:\n%s", c.patch, diff)
		}
	}
}

func values(t *testing.T, n *yaml.Node) any {
	t.Helper()
	var v any
	if err := n.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestUnknown(t *testing.T) {
	known := []string{"rotation", "result", "route"}
	for word, want := range map[string]string{
		"rotaton":               `unknown check "rotaton", did you mean "rotation"? Allowed: rotation, result, route`,
		"rota":                  `unknown check "rota", did you mean "rotation"? Allowed: rotation, result, route`,
		"zz":                    `unknown check "zz"; Allowed: rotation, result, route`,
		"ROUTE":                 `unknown check "ROUTE", did you mean "route"? Allowed: rotation, result, route`,
		"zzzzzzzz":              `unknown check "zzzzzzzz"; Allowed: rotation, result, route`,
		strings.Repeat("x", 99): fmt.Sprintf("unknown check %q; Allowed: rotation, result, route", strings.Repeat("x", 99)),
	} {
		if got := source.Unknown("check", word, known); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestListErr(t *testing.T) {
	var l source.List
	if err := l.Err(); err != nil {
		t.Errorf("an empty list is the error %v", err)
	}
	at := func(line, col int) source.Pos { return source.Pos{File: "f", Line: line, Col: col} }
	l.Add(at(2, 1), "second")
	l.Find(at(1, 5), "some-code", "first")
	l.Add(at(3, 1), "third")
	l.Add(at(2, 1), "second")
	l.AddError(at(4, 0), fmt.Errorf("wrapped: %w", &source.Error{Pos: at(1, 1), Msg: "before all"}))
	l.AddError(at(4, 0), os.ErrNotExist)
	const want = "f:1:1: before all\nf:1:5: first [some-code]\nf:2:1: second\nf:3:1: third\nf:4: file does not exist"
	if got := l.Err().Error(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// FuzzDecode: whatever a file holds, it is decoded or told what is wrong with
// it, at a place in that very file.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		"text: a", "text: &a b\nlist: [*a, *a]", "a: &a [*a]", "text: \"\\0\"", "? [a]\n: b", "text: !!binary aGk=", "<<: &x {text: a}\ninner: *x",
		"text: a\nmap: {a: {n: 1}, <<: {b: {n: 2}}}", "%YAML 1.1\n---\ntext: a\n...\n---\ntext: b", "text: |\n  a\n  b\n", "!!map {text: a}", "- - - - a", "text: 1_000\nfloat: 0x1p-2",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, err := source.Parse("f.yaml", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f.yaml:") {
				t.Errorf("the error %q does not begin with the file", err)
			}
			return
		}
		for _, doc := range docs {
			var e everything
			d := &source.Decoder{File: "f.yaml"}
			d.Decode(doc, &e)
			for _, e := range d.Errs {
				if e.Pos.File != "f.yaml" || e.Pos.Line < 1 || e.Msg == "" {
					t.Errorf("the error %q has no place", e)
				}
			}
			m := source.Merge(doc, doc)
			if m.Kind != doc.Kind && doc.Kind != yaml.AliasNode {
				t.Errorf("merged with itself, kind %d became %d", doc.Kind, m.Kind)
			}
		}
	})
}
