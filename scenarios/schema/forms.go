package schema

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/lvslab/lvslab/assert"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/forward"
	"github.com/lvslab/lvslab/scenarios/ipvs"
)

// form is the schema of a type that reads itself.
type form func(b *builder) *jsonschema.Schema

// plainly are the types that read themselves only to keep a place besides.
func plainly() map[reflect.Type]bool {
	return map[reflect.Type]bool{
		reflect.TypeFor[scenarios.VirtualService](): true,
		reflect.TypeFor[scenarios.Mount]():          true,
	}
}

// forms is the table of types that read themselves.
func forms() map[reflect.Type]form {
	all := map[reflect.Type]form{
		reflect.TypeFor[scenarios.Network](): func(*builder) *jsonschema.Schema {
			p := pattern(`^[0-9A-Fa-f:.]+/[0-9]+$`, "a prefix such as 10.0.0.0/24")
			return either(p, &jsonschema.Schema{Type: "array", Items: p, MinItems: &one})
		},
		reflect.TypeFor[scenarios.Need](): func(*builder) *jsonschema.Schema {
			return pattern(`^(program:)?[A-Za-z0-9_.+][A-Za-z0-9_.+-]*$`, "a feature such as ip_vs_twos, or program:nginx")
		},
		reflect.TypeFor[scenarios.Allowed](): func(*builder) *jsonschema.Schema { return words(scenarios.Codes()...) },
		reflect.TypeFor[scenarios.Link](): func(b *builder) *jsonschema.Schema {
			return either(pattern(`^\s*\S+(\s+\S+)*\s*$`, "NETWORK ADDRESS/LENGTH [noprefixroute]"), b.object(reflect.TypeFor[scenarios.Link]()))
		},
		reflect.TypeFor[scenarios.Address](): func(*builder) *jsonschema.Schema {
			return pattern(`^\s*[0-9A-Fa-f:.]+/[0-9]+\s*( noprefixroute)?$`, "ADDRESS/LENGTH [noprefixroute]")
		},
		reflect.TypeFor[scenarios.Route]():         said("a route in the words of ip route add: 10.0.0.0/24 via 10.0.1.1"),
		reflect.TypeFor[scenarios.ARPRule]():       said("a rule in the words of arptables: -A INPUT -d 10.0.0.100 -j DROP"),
		reflect.TypeFor[scenarios.IPTablesRule]():  said("a rule in the words of iptables: -t nat -A POSTROUTING -j MASQUERADE"),
		reflect.TypeFor[scenarios.IP6TablesRule](): said("a rule in the words of ip6tables"),
		reflect.TypeFor[scenarios.Rules]():         said("IPVS rules as ipvsadm -S -n prints them"),
		reflect.TypeFor[scenarios.SyncDaemon]():    said("a sync daemon in the words of ipvsadm --start-daemon: master --mcast-interface eth0"),
		reflect.TypeFor[scenarios.Timeouts]():      said("timeouts in seconds as ipvsadm --set has them, of TCP, TCP after FIN and UDP: 900 120 300"),
		reflect.TypeFor[scenarios.PortRange]():     func(*builder) *jsonschema.Schema { return pattern(`^[0-9]+-[0-9]+$`, "FIRST-LAST") },
		reflect.TypeFor[scenarios.Serve](): func(b *builder) *jsonschema.Schema {
			return either(pattern(`^\s*(`+strings.Join(scenarios.Services(), "|")+`)(\s+[0-9]+)?\s*$`, "SERVICE [PORT]"), b.object(reflect.TypeFor[scenarios.Serve]()))
		},
		reflect.TypeFor[scenarios.ServiceAddress](): func(*builder) *jsonschema.Schema {
			return pattern(`^((tcp|udp|sctp) +(\[[0-9A-Fa-f:.]+\]|[0-9.]+):[0-9]+|fwmark +[0-9A-Fa-fx]+) *$`, "tcp, udp or sctp ADDRESS:PORT, or fwmark MARK")
		},
		reflect.TypeFor[scenarios.Persistence](): func(b *builder) *jsonschema.Schema {
			return either(duration(), b.object(reflect.TypeFor[scenarios.Persistence]()))
		},
		reflect.TypeFor[scenarios.Forwarding](): func(*builder) *jsonschema.Schema { return forwarding() },
		reflect.TypeFor[scenarios.Placement](): func(*builder) *jsonschema.Schema {
			return pattern(`^(none|[^/]+/[0-9]+)$`, "DEVICE/LENGTH, or none")
		},
		reflect.TypeFor[scenarios.Suppression](): func(*builder) *jsonschema.Schema { return listOf(words(scenarios.Suppressions()...)) },
		reflect.TypeFor[scenarios.RealServer](): func(b *builder) *jsonschema.Schema {
			return either(text(), b.object(reflect.TypeFor[scenarios.RealServer]()))
		},
		reflect.TypeFor[scenarios.Source](): func(*builder) *jsonschema.Schema {
			return pattern(`^([0-9A-Fa-f:.\[\]]+|:[0-9]+)$`, "ADDRESS, :PORT or ADDRESS:PORT")
		},
		reflect.TypeFor[scenarios.Release](): func(b *builder) *jsonschema.Schema {
			return either(text(), b.object(reflect.TypeFor[scenarios.Release]()))
		},
		reflect.TypeFor[scenarios.Combination](): matrix,
		reflect.TypeFor[scenarios.Action]():      actions,
		reflect.TypeFor[scenarios.Expect]():      expectations,
	}
	for t, s := range assert.Forms() {
		all[t] = func(b *builder) *jsonschema.Schema { return shape(b, s) }
	}
	return all
}

// fieldForms are fields of a plain type that take a few words or numbers alone, by
// TYPE.FIELD: so that an editor completes them and flags others.
func fieldForms() map[string]func() *jsonschema.Schema {
	// Where a word may be left out, an empty one is none, too.
	maybe := func(list ...string) func() *jsonschema.Schema {
		return func() *jsonschema.Schema { return either(words(list...), &jsonschema.Schema{Const: ""}) }
	}
	count := func() *jsonschema.Schema { return &jsonschema.Schema{Type: "integer", Minimum: "0"} }
	return map[string]func() *jsonschema.Schema{
		"VirtualService.Scheduler":      maybe(scenarios.Schedulers()...),
		"VirtualService.SchedulerFlags": func() *jsonschema.Schema { return listOf(words(ipvs.SchedulerFlags()...)) },
		"VirtualService.ManagedBy":      maybe(scenarios.Managers()...),
		"Request.Client":                maybe(scenarios.Clients()...),
		"Request.Count":                 count,
		"Request.Concurrency":           count,
		"Request.Bytes":                 count,
		"Request.Upload":                count,
		"Ping.Count":                    count,
		"RealServer.Weight":             count,
	}
}

var one = uint64(1)

// said is a text in the words of another tool, which the schema does not judge.
func said(what string) form {
	return func(*builder) *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Description: what} }
}

// text is any scalar: a word that looks like a number is a word.
func text() *jsonschema.Schema {
	return either(&jsonschema.Schema{Type: "string"}, &jsonschema.Schema{Type: "number"}, &jsonschema.Schema{Type: "boolean"})
}

// stand is what stands for a value of a matrix, in any text.
const stand = `\$\{[A-Za-z0-9_-]+\}`

func pattern(re, about string) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: re + "|" + stand, Description: about}
}

// duration is what time.ParseDuration takes that is not negative.
func duration() *jsonschema.Schema {
	return either(pattern(`^\+?([0-9]*\.?[0-9]+(ns|us|µs|μs|ms|s|m|h))+$`, "a duration such as 500ms or 2s"), &jsonschema.Schema{Const: 0})
}

func words(list ...string) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string"}
	for _, w := range list {
		s.Enum = append(s.Enum, w)
	}
	return either(s, &jsonschema.Schema{Type: "string", Pattern: stand})
}

// listOf is a list of values, or one of them alone.
func listOf(item *jsonschema.Schema) *jsonschema.Schema {
	return either(item, &jsonschema.Schema{Type: "array", Items: item})
}

// forwarding names the methods, so that an editor completes them, and the form
// of a tunnel's words.
func forwarding() *jsonschema.Schema {
	return either(words(forward.Names()...), pattern(`^\s*tun\s+(ipip|gre|gue\s+[0-9]+)(\s+(nocsum|csum|remcsum))?\s*$`, "tun ipip, tun gre, or tun gue PORT, with its checksum"))
}

// matrix is {AXIS: [VALUE…] or {VALUE: PATCH}, exclude: […]}.
func matrix(b *builder) *jsonschema.Schema {
	axis := either(&jsonschema.Schema{Type: "array", Items: text(), MinItems: &one},
		&jsonschema.Schema{Type: "object", AdditionalProperties: either(variant(b), &jsonschema.Schema{Type: "null"})})
	props := jsonschema.NewProperties()
	props.Set("exclude", &jsonschema.Schema{Type: "array", Items: &jsonschema.Schema{Type: "object", AdditionalProperties: listOf(text())}})
	return &jsonschema.Schema{Type: "object", Properties: props, AdditionalProperties: axis}
}

// change is what a step may lay over a lab.
func change(b *builder) *jsonschema.Schema {
	return b.once("Change", func() *jsonschema.Schema { return laid(b, scenarios.Changeable()) })
}

// variant is what a value of a matrix may lay over a lab: all but what makes the
// lab that very one.
func variant(b *builder) *jsonschema.Schema {
	return b.once("Variant", func() *jsonschema.Schema {
		var keys []string
		for f := range fields(reflect.TypeFor[scenarios.Lab]()) {
			if f.name != "matrix" && f.name != "name" {
				keys = append(keys, f.name)
			}
		}
		return laid(b, keys)
	})
}

// laid is a patch of a lab with some of its keys. Lists, and so the steps, are
// taken as a whole.
func laid(b *builder, keys []string) *jsonschema.Schema {
	was := b.patch
	defer func() { b.patch = was }()
	props := jsonschema.NewProperties()
	for f := range fields(reflect.TypeFor[scenarios.Lab]()) {
		if slices.Contains(keys, f.name) {
			b.patch = f.name != "steps"
			s := b.schema(f.typ)
			b.patch = true
			props.Set(f.name, b.orNull(s))
		}
	}
	return &jsonschema.Schema{Type: "object", Properties: props, AdditionalProperties: jsonschema.FalseSchema}
}

// single is a mapping of one key.
func single(values map[string]*jsonschema.Schema) *jsonschema.Schema {
	props := jsonschema.NewProperties()
	for _, k := range slices.Sorted(maps.Keys(values)) {
		props.Set(k, values[k])
	}
	return &jsonschema.Schema{Type: "object", Properties: props, AdditionalProperties: jsonschema.FalseSchema, MinProperties: &one, MaxProperties: &one}
}

// actions is one thing that a step does.
func actions(b *builder) *jsonschema.Schema {
	return b.once("Action", func() *jsonschema.Schema {
		values := make(map[string]*jsonschema.Schema)
		for name, t := range scenarios.ActionTypes() {
			if t == nil {
				values[name] = change(b)
			} else {
				values[name] = b.schema(t)
			}
		}
		s := single(values)
		s.Description = "one thing that a step does, exactly once"
		return s
	})
}

// expectations is one thing that a step expects.
func expectations(b *builder) *jsonschema.Schema {
	return b.once("Expect", func() *jsonschema.Schema {
		values := make(map[string]*jsonschema.Schema)
		for name, s := range assert.Shapes() {
			values[name] = shape(b, s)
		}
		s := single(values)
		s.Description = "one thing that a step expects"
		return s
	})
}

// once defines something under a name, and refers to it.
func (b *builder) once(name string, f func() *jsonschema.Schema) *jsonschema.Schema {
	if b.defs[name] == nil {
		b.defs[name] = &jsonschema.Schema{} // who comes here again on the way refers to it
		b.defs[name] = f()
	}
	return &jsonschema.Schema{Ref: "#/$defs/" + name}
}

// shape is the schema of an expectation's value.
func shape(b *builder, s assert.Shape) *jsonschema.Schema {
	var list []*jsonschema.Schema
	if s.Type != nil {
		list = append(list, b.object(s.Type))
	}
	if len(s.Words) > 0 {
		list = append(list, words(s.Words...))
	}
	if s.Word {
		list = append(list, text())
	}
	if s.Number {
		list = append(list, &jsonschema.Schema{Type: "integer"})
	}
	if s.List {
		list = append(list, &jsonschema.Schema{Type: "array", Items: text()})
	}
	if s.Items != nil {
		list = append(list, &jsonschema.Schema{Type: "array", Items: b.schema(s.Items)})
	}
	if s.Keys != nil || s.Free != "" {
		list = append(list, mapping(s))
	}
	if len(list) == 1 {
		return list[0]
	}
	return either(list...)
}

func mapping(s assert.Shape) *jsonschema.Schema {
	props := jsonschema.NewProperties()
	for _, k := range slices.Sorted(maps.Keys(s.Keys)) {
		props.Set(k, value(s.Keys[k]))
	}
	m := &jsonschema.Schema{Type: "object", Properties: props, Required: s.Required, AdditionalProperties: jsonschema.FalseSchema}
	if s.Free != "" {
		m.AdditionalProperties = value(s.Free)
	}
	return m
}

func value(v assert.Value) *jsonschema.Schema {
	switch v {
	case assert.NumberValue:
		return &jsonschema.Schema{Type: "number"}
	case assert.ConditionValue:
		return either(&jsonschema.Schema{Type: "integer"}, pattern(`^\s*(<=|>=|<|>|=|!=)?\s*[0-9]+\s*(\.\.\s*[0-9]+)?\s*$`, `a number, a condition such as ">0", or a range such as "8..14"`))
	case assert.NamesValue:
		return listOf(text())
	}
	return text()
}
