// Package schema describes lab files as a JSON Schema (draft 2020-12), so that an
// editor completes them and flags mistakes. It is made of the Go types that lab
// files are decoded into: their yaml tags, and their doc comments as
// descriptions. What a type reads in a way of its own (the short form of a link)
// is in forms.go, by its type; a type that reads itself and has no form there
// is an error, and not a schema that takes anything.
//
// A schema knows no names: that a service's director is a node of the lab is
// for lvslab check. What the schema refuses, lvslab check refuses too.
package schema

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/lvslab/lvslab/assert"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology/source"
)

// Comments are doc comments: those of a type by "PACKAGE.Type", those of a field
// by "PACKAGE.Type.Field", as jsonschema.Reflector reads them from source.
type Comments map[string]string

// ReadComments reads the doc comments of the module that lies in a folder.
func ReadComments(root string) (Comments, error) {
	r := new(jsonschema.Reflector)
	for _, room := range []string{"scenarios", "assert"} {
		if err := r.AddGoComments("github.com/lvslab/lvslab", root+"/"+room, jsonschema.WithFullComment()); err != nil {
			return nil, fmt.Errorf("reading the comments of %s: %w", room, err)
		}
	}
	out := make(Comments, len(r.CommentMap))
	for k, v := range r.CommentMap {
		// Keys hold the folder as it was given, relative or not.
		if i := strings.LastIndex(k, "/scenarios."); i >= 0 {
			k = k[i+1:]
		} else if i := strings.LastIndex(k, "/assert."); i >= 0 {
			k = k[i+1:]
		}
		out[k] = v
	}
	return out, nil
}

// Lab is the schema of a document of a lab file, as indented JSON.
func Lab(c Comments) ([]byte, error) {
	b := &builder{comments: c, defs: make(jsonschema.Definitions), names: make(map[string]reflect.Type)}
	root := b.schema(reflect.TypeFor[scenarios.Lab]())
	if len(b.errs) > 0 {
		return nil, b.errs[0]
	}
	top := &jsonschema.Schema{
		Version: jsonschema.Version, Title: "A lab of lvslab", Ref: root.Ref, Definitions: b.defs,
		Description: "One document of a lab file. lvslab check finds what a schema cannot, such as names that lead nowhere.",
	}
	data, err := json.MarshalIndent(top, "", " ")
	return append(data, '\n'), err
}

// builder makes the definitions.
type builder struct {
	comments Comments
	defs     jsonschema.Definitions
	names    map[string]reflect.Type
	// patch is set while what may be laid over a lab is described: there
	// everything may be left out, and null takes a thing out.
	patch bool
	errs  []error
}

func (b *builder) fail(format string, args ...any) *jsonschema.Schema {
	b.errs = append(b.errs, fmt.Errorf("schema: "+format, args...))
	return &jsonschema.Schema{}
}

// schema is that of a value of a type: a short form, a reference, a basic type.
func (b *builder) schema(t reflect.Type) *jsonschema.Schema {
	if t.Kind() == reflect.Pointer {
		return b.schema(t.Elem())
	}
	if f, ok := forms()[t]; ok {
		return f(b)
	}
	if elem, ok := mapElem(t); ok {
		return &jsonschema.Schema{Type: "object", AdditionalProperties: b.orNull(b.schema(elem))}
	}
	switch t {
	case reflect.TypeFor[time.Duration]():
		return duration()
	case reflect.TypeFor[netip.Addr]():
		return &jsonschema.Schema{Type: "string", Description: "an IPv4 or IPv6 address"}
	case reflect.TypeFor[netip.Prefix]():
		return pattern(`^[0-9A-Fa-f:.]+/[0-9]+$`, "ADDRESS/LENGTH")
	}
	switch t.Kind() {
	case reflect.Struct:
		// What keeps only its own place besides reads itself by reflection.
		if reads(t) && !plainly()[t] {
			return b.fail("%s reads itself, and package schema has no form for it", t)
		}
		return b.object(t)
	case reflect.Slice:
		if reads(t) {
			return b.fail("%s reads itself, and package schema has no form for it", t)
		}
		one := b.schema(t.Elem())
		return either(&jsonschema.Schema{Type: "array", Items: one}, one)
	case reflect.String:
		return text()
	case reflect.Bool:
		return &jsonschema.Schema{Type: "boolean"}
	case reflect.Int, reflect.Int64:
		return &jsonschema.Schema{Type: "integer"}
	case reflect.Uint16:
		return &jsonschema.Schema{Type: "integer", Minimum: "0", Maximum: "65535"}
	case reflect.Uint32:
		return &jsonschema.Schema{Type: "integer", Minimum: "0", Maximum: "4294967295"}
	case reflect.Float64:
		return &jsonschema.Schema{Type: "number"}
	}
	return b.fail("no way to describe %s", t)
}

// reads reports whether a type decodes itself.
func reads(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[source.Unmarshaler]())
}

// mapElem is the type of the values of a source.Map.
func mapElem(t reflect.Type) (reflect.Type, bool) {
	if t.Kind() != reflect.Slice || t.Elem().Kind() != reflect.Struct || !strings.HasPrefix(t.Name(), "Map[") {
		return nil, false
	}
	v, ok := t.Elem().FieldByName("Value")
	return v.Type, ok
}

// object defines a struct by its yaml tags, once, and refers to it.
func (b *builder) object(t reflect.Type) *jsonschema.Schema {
	name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	if b.patch {
		name += "Patch"
	}
	ref := &jsonschema.Schema{Ref: "#/$defs/" + name}
	if of, ok := b.names[name]; ok {
		if of != t {
			return b.fail("%s and %s would both be called %s", of, t, name)
		}
		return ref
	}
	b.names[name] = t
	// The reflector walks the fields; what a field is, schema says.
	first := true
	r := &jsonschema.Reflector{
		FieldNameTag: "yaml", ExpandedStruct: true, Anonymous: true, DoNotReference: true, RequiredFromJSONSchemaTags: true,
		Mapper: func(field reflect.Type) *jsonschema.Schema {
			if first {
				first = false
				return nil
			}
			return b.orNull(b.schema(field))
		},
		IgnoredTypes: []any{source.Pos{}},
	}
	s := r.ReflectFromType(tagged(t))
	s.Version, s.ID = "", ""
	s.Description = b.about(t)
	s.AdditionalProperties = jsonschema.FalseSchema
	s.Required = nil
	for f := range fields(t) {
		prop, ok := s.Properties.Get(f.name)
		if !ok {
			return b.fail("%s.%s is lost", t, f.name)
		}
		if choose, ok := fieldForms()[t.Name()+"."+f.field]; ok {
			prop = b.orNull(choose())
			s.Properties.Set(f.name, prop)
		}
		if known := assert.FieldWords()[strings.TrimSuffix(t.Name(), "Form")+"."+f.name]; known != nil {
			prop = b.orNull(words(known...))
			s.Properties.Set(f.name, prop)
		}
		if about := b.aboutField(t, f); about != "" {
			prop = described(prop, about)
			s.Properties.Set(f.name, prop)
		}
		if f.required && !b.patch {
			s.Required = append(s.Required, f.name)
		}
	}
	b.defs[name] = s
	return ref
}

// tagged is the struct with those of its fields that a file has a key for.
func tagged(t reflect.Type) reflect.Type {
	var kept []reflect.StructField
	for f := range fields(t) {
		kept = append(kept, reflect.StructField{Name: f.field, Type: f.typ, Tag: reflect.StructTag(`yaml:"` + f.name + `"`)})
	}
	return reflect.StructOf(kept)
}

// field is one key of a struct.
type field struct {
	name, field string
	typ         reflect.Type
	required    bool
}

// fields are those of a struct that a file has a key for.
func fields(t reflect.Type) func(yield func(field) bool) {
	return func(yield func(field) bool) {
		for i := range t.NumField() {
			f := t.Field(i)
			name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if name == "" || name == "-" {
				continue
			}
			if !yield(field{name, f.Name, f.Type, opts == "required"}) {
				return
			}
		}
	}
}

// about is a type's doc comment, as a sentence of its own.
func (b *builder) about(t reflect.Type) string {
	return firstPart(b.comments[room(t)+"."+t.Name()])
}

// aboutField is a field's doc comment, by the field's name in a lab file.
func (b *builder) aboutField(t reflect.Type, f field) string {
	about := firstPart(b.comments[room(t)+"."+t.Name()+"."+f.field])
	if rest, ok := strings.CutPrefix(about, f.field+" "); ok {
		return f.name + " " + rest
	}
	return about
}

func room(t reflect.Type) string { return t.PkgPath()[strings.LastIndexByte(t.PkgPath(), '/')+1:] }

// firstPart is the first paragraph of a comment, on one line.
func firstPart(comment string) string {
	part, _, _ := strings.Cut(comment, "\n\n")
	return strings.Join(strings.Fields(part), " ")
}

// orNull lets null stand for a value, where that takes it out.
func (b *builder) orNull(s *jsonschema.Schema) *jsonschema.Schema {
	if !b.patch {
		return s
	}
	return either(s, &jsonschema.Schema{Type: "null"})
}

// described is a schema with a description. A reference may carry one of its
// own since draft 2019-09.
func described(s *jsonschema.Schema, about string) *jsonschema.Schema {
	out := *s
	out.Description = about
	return &out
}

// either is a value of one of some forms.
func either(list ...*jsonschema.Schema) *jsonschema.Schema {
	var flat []*jsonschema.Schema
	for _, s := range list {
		if s.AnyOf != nil && s.Description == "" {
			flat = append(flat, s.AnyOf...)
		} else {
			flat = append(flat, s)
		}
	}
	return &jsonschema.Schema{AnyOf: slices.Clip(flat)}
}
