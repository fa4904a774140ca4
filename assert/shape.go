package assert

import (
	"maps"
	"reflect"
	"slices"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/capture"
)

// Shape is the form that an expectation's value has in a lab file, for what
// describes lab files without reading any, as a schema does. A value may have
// any of the forms that are set.
type Shape struct {
	// Type is a struct whose fields carry the keys in their yaml tags.
	Type reflect.Type
	// Word says that a word alone will do, Words which, where they are known.
	Word  bool
	Words []string
	// Number says that a whole number will do.
	Number bool
	// List says that a list of words will do, Items that a list of those will.
	List  bool
	Items reflect.Type
	// Keys are those of a mapping with keys that are no fields, each with the
	// form of its value. With Free any other key is allowed beside them, and
	// Free is the form of its value.
	Keys map[string]Value
	Free Value
	// Required are the keys that must be there.
	Required []string
}

// Value is the form of one value of a Shape.
type Value string

// The forms of values. The zero value is none.
const (
	// TextValue is a word or a text.
	TextValue Value = "text"
	// NumberValue is a number, whole or not.
	NumberValue Value = "number"
	// ConditionValue is a number, or a condition such as ">0".
	ConditionValue Value = "condition"
	// NamesValue is a name or a list of names.
	NamesValue Value = "names"
)

// Shapes are the forms of all expectations, by their words.
func Shapes() map[string]Shape {
	word := Shape{Word: true}
	names := Shape{Word: true, List: true}
	of := func(v any) Shape { return Shape{Type: reflect.TypeOf(v)} }
	rule := Shape{Required: []string{"node", "rule"}, Keys: map[string]Value{"node": TextValue, "rule": TextValue, "packets": ConditionValue, "bytes": ConditionValue}}
	costs := map[string]Value{"node": TextValue, "to": TextValue, "from": TextValue}
	for _, f := range costFigures() {
		costs[f] = ConditionValue
	}
	ends := make(map[string]Value)
	for _, r := range results() {
		ends[r] = ConditionValue
	}
	counters := map[string]Value{"node": NamesValue, "nodes": NamesValue}
	for _, c := range ipvsCounters() {
		counters[c] = ConditionValue
	}
	pathShape := of(path{})
	pathShape.Words = pathMethodNames()
	return map[string]Shape{
		"rotation":     {List: true},
		"sequence":     names,
		"distribution": {Keys: map[string]Value{"significance": NumberValue}, Free: NumberValue},
		"order":        {Words: []string{"random"}},
		"sticky":       of(stickyForm{}),
		"shares":       {Keys: map[string]Value{"tolerance": NumberValue}, Free: NumberValue, Required: []string{"tolerance"}},
		"only":         word,
		"answers":      {Free: ConditionValue},
		"path":         pathShape,
		"packets":      of(packetCount{}),
		"cost":         {Keys: costs, Required: []string{"node"}},
		"result":       {Words: results()},
		"results":      {Keys: ends},
		"status":       {Number: true},
		"body":         word,
		"bodies":       {Words: []string{"same"}},
		"peer":         word,
		"arp_owner":    of(arpOwner{}),
		"arp_requests": of(arpRequests{}),
		"neighbour":    of(neighbour{}),
		"table":        of(tableForm{}),
		"connections":  of(connections{}),
		"destination":  of(destination{}),
		"counter":      {Keys: counters, Free: ConditionValue},
		"route":        of(route{}),
		"routes":       of(routes{}),
		"output":       of(output{}),
		"file":         of(file{}),
		"arp_rules":    of(arpRulesForm{}),
		"addresses":    of(addresses{}),
		"iptables":     rule,
		"ip6tables":    rule,
	}
}

// Forms are the types of fields of Shape.Type that are read in a way of their
// own, each with a field that is a list of words, or that and a struct.
func Forms() map[reflect.Type]Shape {
	return map[reflect.Type]Shape{
		reflect.TypeFor[leg]():       {Type: reflect.TypeFor[leg](), Items: reflect.TypeFor[oneOf]()},
		reflect.TypeFor[oneOf]():     {Word: true, List: true},
		reflect.TypeFor[ruleLines](): {Word: true, List: true},
	}
}

// FieldWords are the words that fields of shapes take, by the name of the struct,
// less an ending of Form, and the key, where they are few.
func FieldWords() map[string][]string {
	var wraps []string
	for _, e := range capture.Encapsulations() {
		wraps = append(wraps, string(e))
	}
	wraps = append(wraps, noEncapsulation)
	return map[string][]string{
		"path.method":               pathMethodNames(),
		"path.encapsulation":        wraps,
		"leg.encapsulation":         wraps,
		"neighbour.state":           slices.Sorted(maps.Keys(neighbourStates())),
		"sticky.by":                 slices.Sorted(maps.Keys(groupings())),
		"packetCount.protocol":      packetProtocols(),
		"packetCount.direction":     {"in", "out"},
		"packetCount.encapsulation": wraps,
		"connections.protocol":      {ipvs.TCP.String(), ipvs.UDP.String(), ipvs.SCTP.String()},
	}
}
