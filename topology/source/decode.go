package source

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Decoder turns YAML nodes into Go values, strictly: an unknown key, a key
// twice, a value of the wrong kind is an error at its place, and all errors of
// a file are collected.
type Decoder struct {
	File string
	// Data is the file's text, by which places inside a block of text are
	// found; it may be nil.
	Data []byte
	Errs List
}

// Unmarshaler is a type that decodes itself, for short forms that reflection
// cannot know ("lan 10.0.0.1/24" for a whole link).
type Unmarshaler interface {
	UnmarshalSource(d *Decoder, n *yaml.Node)
}

// Entry is one key of a Map, in the file's order.
type Entry[T any] struct {
	Name  string
	Pos   Pos
	Value T
}

// Map is a mapping that keeps the order and the places of its keys.
type Map[T any] []Entry[T]

// Get finds the value of a key.
func (m Map[T]) Get(name string) (T, bool) {
	for _, e := range m {
		if e.Name == name {
			return e.Value, true
		}
	}
	var zero T
	return zero, false
}

// Names are the keys, in the file's order.
func (m Map[T]) Names() []string {
	names := make([]string, len(m))
	for i, e := range m {
		names[i] = e.Name
	}
	return names
}

// UnmarshalSource decodes a mapping with any keys.
func (m *Map[T]) UnmarshalSource(d *Decoder, n *yaml.Node) {
	for k, v := range d.Pairs(n) {
		var val T
		d.Decode(v, &val)
		*m = append(*m, Entry[T]{k.Value, d.Pos(k), val})
	}
}

// Pos is a node's place.
func (d *Decoder) Pos(n *yaml.Node) Pos { return Pos{d.File, n.Line, n.Column} }

// Within is the place of a line and a column, both from 1, inside a text of
// several lines; where that cannot be told, it is the text's own place.
func (d *Decoder) Within(n *yaml.Node, line, col int) Pos {
	n = resolve(n)
	if n.Style&yaml.LiteralStyle == 0 || line < 1 {
		return d.Pos(n)
	}
	// The text begins in the line after its "|".
	at := Pos{d.File, n.Line + line, 0}
	lines := strings.Split(string(d.Data), "\n")
	text := strings.Split(n.Value, "\n")
	if at.Line > len(lines) || line > len(text) {
		return at
	}
	if indent := len(lines[at.Line-1]) - len(strings.TrimRight(text[line-1], "\r")); indent >= 0 {
		at.Col = indent + col
	}
	return at
}

// Fail records an error at a node.
func (d *Decoder) Fail(n *yaml.Node, format string, args ...any) {
	d.Errs.Add(d.Pos(n), format, args...)
}

// Pairs walks a mapping's keys and values. Anything but a mapping, and a key
// that comes twice, is recorded as an error.
func (d *Decoder) Pairs(n *yaml.Node) func(yield func(k, v *yaml.Node) bool) {
	return func(yield func(k, v *yaml.Node) bool) {
		if n = resolve(n); n.Kind != yaml.MappingNode {
			d.Fail(n, "wanted a mapping (key: value), found %s", describe(n))
			return
		}
		seen := make(map[string]int, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := resolve(n.Content[i]), resolve(n.Content[i+1])
			if k.Kind != yaml.ScalarNode {
				d.Fail(k, "a key must be a word, found %s", describe(k))
				continue
			}
			if line, twice := seen[k.Value]; twice {
				d.Fail(k, "key %q is here a second time; the first is in line %d", k.Value, line)
				continue
			}
			seen[k.Value] = k.Line
			if !yield(k, v) {
				return
			}
		}
	}
}

// Single is the one key and value of a mapping such as `request: {…}`, or the
// word itself for a scalar, with a nil value. The key is nil where there is no
// such thing, which has been recorded then.
func (d *Decoder) Single(n *yaml.Node, what string) (key, value *yaml.Node) {
	n = resolve(n)
	if n.Kind == yaml.ScalarNode && !isNull(n) {
		return n, nil
	}
	if n.Kind != yaml.MappingNode {
		d.Fail(n, "wanted one %s (name: value), found %s", what, describe(n))
		return nil, nil
	}
	for k, v := range d.Pairs(n) {
		if key != nil {
			d.Fail(k, "one %s a list item: %q is a second one; begin it with a dash", what, k.Value)
			return nil, nil
		}
		key, value = k, v
	}
	return key, value
}

// Scalar is the text of a scalar; anything else is recorded as an error.
func (d *Decoder) Scalar(n *yaml.Node, wanted string) (string, bool) {
	n = resolve(n)
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.Fail(n, "wanted %s, found %s", wanted, describe(n))
		return "", false
	}
	return n.Value, true
}

// Decode decodes a node into the value that into points to.
func (d *Decoder) Decode(n *yaml.Node, into any) {
	d.value(resolve(n), reflect.ValueOf(into).Elem())
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	addrType     = reflect.TypeFor[netip.Addr]()
	prefixType   = reflect.TypeFor[netip.Prefix]()
	posType      = reflect.TypeFor[Pos]()
)

func (d *Decoder) value(n *yaml.Node, v reflect.Value) {
	if u, ok := v.Addr().Interface().(Unmarshaler); ok {
		u.UnmarshalSource(d, n)
		return
	}
	switch v.Type() {
	case durationType:
		d.parse(n, v, "a duration such as 500ms or 2s", func(s string) (any, error) {
			t, err := time.ParseDuration(s)
			if err == nil && t < 0 {
				err = strconv.ErrRange
			}
			return t, err
		})
		return
	case addrType:
		d.parse(n, v, "an IP address", func(s string) (any, error) { return netip.ParseAddr(s) })
		return
	case prefixType:
		d.parse(n, v, "an address with its prefix length such as 10.0.0.1/24", func(s string) (any, error) { return netip.ParsePrefix(s) })
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem())
	case reflect.Struct:
		d.structure(n, v)
	case reflect.Slice:
		d.slice(n, v)
	case reflect.String:
		if s, ok := d.Scalar(n, "text"); ok {
			v.SetString(s)
		}
	case reflect.Bool:
		d.parse(n, v, "true or false", func(s string) (any, error) {
			if s != "true" && s != "false" {
				return nil, strconv.ErrSyntax
			}
			return s == "true", nil
		})
	case reflect.Int, reflect.Int64, reflect.Uint16, reflect.Uint32:
		d.parse(n, v, "a whole number", func(s string) (any, error) {
			i, err := strconv.ParseInt(s, 10, 64)
			if errors.Is(err, strconv.ErrRange) ||
				err == nil && (v.CanInt() && v.OverflowInt(i) || v.CanUint() && (i < 0 || v.OverflowUint(uint64(i)))) {
				err = rangeOf(v.Type())
			}
			return i, err
		})
	case reflect.Float64:
		d.parse(n, v, "a number", func(s string) (any, error) {
			f, err := strconv.ParseFloat(s, 64)
			if err == nil && (math.IsNaN(f) || math.IsInf(f, 0)) {
				err = strconv.ErrRange // comparisons with it would tell nothing
			}
			return f, err
		})
	default:
		panic(fmt.Sprintf("source: no way to decode %s", v.Type()))
	}
}

// rangeError says which whole numbers fit a type.
type rangeError struct {
	low  int64
	high uint64
}

func (e rangeError) Error() string { return fmt.Sprintf("from %d to %d", e.low, e.high) }

func rangeOf(t reflect.Type) rangeError {
	if reflect.Zero(t).CanUint() {
		return rangeError{0, math.MaxUint64 >> (64 - t.Bits())}
	}
	return rangeError{math.MinInt64 >> (64 - t.Bits()), math.MaxInt64 >> (64 - t.Bits())}
}

func (d *Decoder) parse(n *yaml.Node, v reflect.Value, wanted string, f func(string) (any, error)) {
	s, ok := d.Scalar(n, wanted)
	if !ok {
		return
	}
	val, err := f(s)
	if err != nil {
		var limits rangeError
		if errors.As(err, &limits) {
			wanted += " " + limits.Error()
		}
		d.Fail(n, "wanted %s, found %q", wanted, clip(s))
		return
	}
	v.Set(reflect.ValueOf(val).Convert(v.Type()))
}

// slice takes one scalar as a list of one: `directors: director`.
func (d *Decoder) slice(n *yaml.Node, v reflect.Value) {
	items := n.Content
	switch {
	case n.Kind == yaml.SequenceNode:
	case n.Kind == yaml.ScalarNode && !isNull(n):
		items = []*yaml.Node{n}
	default:
		d.Fail(n, "wanted a list, found %s", describe(n))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		d.value(resolve(item), out.Index(i))
	}
	v.Set(out)
}

func (d *Decoder) structure(n *yaml.Node, v reflect.Value) {
	fields := make(map[string]reflect.Value)
	var names, missing []string
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Type == posType && f.Name == "Pos" {
			v.Field(i).Set(reflect.ValueOf(d.Pos(n)))
			continue
		}
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		fields[name] = v.Field(i)
		names = append(names, name)
		if opts == "required" {
			missing = append(missing, name)
		}
	}
	if n.Kind != yaml.MappingNode {
		d.Fail(n, "wanted a mapping with the keys %s, found %s", strings.Join(names, ", "), describe(n))
		return
	}
	for k, val := range d.Pairs(n) {
		f, ok := fields[k.Value]
		if !ok {
			d.Errs.Add(d.Pos(k), "%s", Unknown("key", clip(k.Value), names))
			continue
		}
		missing = slices.DeleteFunc(missing, func(m string) bool { return m == k.Value })
		if isNull(val) && f.Kind() != reflect.Pointer {
			d.Fail(val, "key %q has no value", k.Value)
			continue
		}
		if isNull(val) {
			continue
		}
		d.value(val, f)
	}
	for _, m := range missing {
		d.Fail(n, "key %q is missing", m)
	}
}

func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	}
	return strconv.Quote(clip(n.Value))
}

// clip keeps a quoted value from filling the screen.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
