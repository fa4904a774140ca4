package scenarios

import (
	"maps"
	"reflect"
	"slices"
)

// Services are the words of serve, sorted: what a node can serve by itself, and
// keepalived.
func Services() []string {
	words := append(slices.Collect(maps.Keys(services())), serviceKeepalived)
	slices.Sort(words)
	return words
}

// Suppressions are the words of arp_suppression, sorted.
func Suppressions() []string { return slices.Sorted(maps.Keys(suppressions())) }

// Changeable are the keys of a lab that a change may have.
func Changeable() []string { return changeable() }

// ActionTypes are the types that the values of actions are read into, by the
// actions' words; that of change, which is read into nothing, is nil.
func ActionTypes() map[string]reflect.Type {
	var a Action
	pointers := map[string]any{
		"request": a.Request, "release": a.Release, "wait": a.Wait, "stop": a.Daemon, "start": a.Daemon,
		"ping": a.Ping, "run": a.Run, "write": a.Write, "save": a.Save, "restore": a.Restore,
		"systemctl": a.Systemctl, "link": a.Link, "mutate": a.Omit, "flush_neighbours": a.Flush, "zero": a.Zero,
	}
	types := map[string]reflect.Type{"change": nil}
	for word, p := range pointers {
		types[word] = reflect.TypeOf(p)
	}
	return types
}
