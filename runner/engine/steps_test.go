package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner/wire"
)

// going is a lab of two machines whose first and third steps cannot be met. The
// second relies on what the first has changed.
const going = `title: On and on
networks: {n: 10.78.0.0/24}
nodes:
  a: {links: {eth0: n 10.78.0.1/24}}
  b: {links: {eth0: n 10.78.0.2/24}, serve: [http]}
steps:
- name: nobody answers there
  within: 10ms
  do:
  - change: {nodes: {b: {links: {eth0: {addresses: [10.78.0.3/24]}}}}}
  - request: {from: a, to: '10.78.0.3:81', client: tcp, count: 1}
  expect: [result: ok]
- name: b has moved
  do: [request: {from: a, to: '10.78.0.3:80'}]
  expect: [result: ok]
- name: and has left nothing behind
  within: 10ms
  do: [request: {from: a, to: '10.78.0.2:80', timeout: 50ms}]
  expect: [result: ok]
- name: it stays there
  do: [request: {from: a, to: '10.78.0.3:80'}]
  expect: [result: ok]
`

// verdicts are those of a lab's steps and its own.
func verdicts(es []wire.Event) string {
	var words []string
	for _, e := range es {
		if e.Kind == wire.StepFinished || e.Kind == wire.LabFinished {
			words = append(words, string(e.Verdict))
		}
	}
	return strings.Join(words, " ")
}

// TestKeepGoing: a lab that keeps going tells of every step that fails; others end
// with the first, and all with one that is broken. Where time runs out after a
// failure, the failure is what is known.
func TestKeepGoing(t *testing.T) {
	needRoot(t)
	on := "keep_going: true\n" + going
	got := events(t, anything, wire.Job{}, map[string]string{
		"usual": going, "on": on,
		"broken": strings.Replace(on, "  do: [request: {from: a, to: '10.78.0.3:80'}]", "  do: [write: {node: a, file: /etc, content: x}]", 1),
	})
	for name, want := range map[string]string{"usual": "fail fail", "on": "fail pass fail pass fail", "broken": "fail broken broken"} {
		if v := verdicts(got[name]); v != want {
			t.Errorf("%s: %s, wanted %s", name, v, want)
		}
	}
	late := events(t, anything, wire.Job{Timeout: 3 * time.Second}, map[string]string{
		"late": strings.Replace(on, "request: {from: a, to: '10.78.0.2:80', timeout: 50ms}", "ping: {from: a, to: 10.78.0.9, count: 100}", 1),
	})["late"]
	if v := verdicts(late); v != "fail pass broken fail" {
		t.Errorf("without time: %s", v)
	}
	if e := last(late); !strings.Contains(e.Message, "steps 3 to 4 were not done") || !strings.Contains(e.Message, "--timeout") {
		t.Errorf("without time: %q", e.Message)
	}
}
