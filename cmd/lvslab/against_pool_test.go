package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/importer/config"
)

func TestFlowLength(t *testing.T) {
	for line, want := range map[string]int{
		`{a: [b, {c: 1}]}  # f:1`: 16,
		`{a: "}\"}", b: '}'}]`:    19,
		`{a: [b`:                  0,
		``:                        0,
	} {
		if got := flowLength(line); got != want {
			t.Errorf("%s: %d, wanted %d", line, got, want)
		}
	}
}

func TestLastLine(t *testing.T) {
	lines := bytes.Split([]byte("steps:\n- name: a\n  do: []\n\n# c\n- name: b\nallow: []\n---\n"), []byte("\n"))
	for from, want := range map[int]int{2: 7, 7: 8} {
		if got := lastLine(lines, from); got != want {
			t.Errorf("behind line %d: %d, wanted %d", from, got, want)
		}
	}
	if got := lastLine(lines[:6], 6); got != 7 {
		t.Errorf("to the end: %d", got)
	}
}

// A step that cannot be played for another configuration stays as it was.
func TestPoolsPlay(t *testing.T) {
	const head = `title: t
networks: {lan: 10.0.0.0/24}
nodes:
  client: {links: {eth0: lan 10.0.0.250/24}}
  lb: {links: {eth0: lan 10.0.0.1/24}}
  a: {links: {eth0: lan 10.0.0.2/24}, serve: [http]}
  b: {links: {eth0: lan 10.0.0.3/24}, serve: [http]}
  s: {links: {eth0: lan 10.0.0.9/24}, serve: [http]}
virtual_services:
  web: {address: tcp 10.0.0.100:80, directors: [lb], forwarding: dr, arp_suppression: sysctl, real_servers: [a, b]}
steps:
- name: x
  do:
`
	for action, want := range map[string]string{
		"- change: {virtual_services: {web: {real_servers: [s]}}}  # k:1":                              `- change: {virtual_services: {web: {real_servers: [s]}}, nodes: {lb: {rules: ""}}}  # k:1`,
		"- change: {virtual_services: {web: {real_servers: [{node: s, weight: 2}]}}}":                  `- change: {virtual_services: {web: {real_servers: [{node: s, weight: 2}]}}, nodes: {lb: {rules: ""}}}`,
		"- change: {virtual_services: {web: {real_servers: [a, b]}}}":                                  `- change: {virtual_services: {web: {real_servers: [a, b]}}, nodes: {lb: {rules: ""}}}`,
		"- change: {virtual_services: {web: {real_servers: [a]}}}":                                     "",
		"- change: {virtual_services: {web: {real_servers: [a, s]}}}":                                  "",
		"- change: {virtual_services: {web: {scheduler: rr}}}":                                         "",
		"- change: {virtual_services: {web: {real_servers: [s]}}, nodes: {a: {serve: []}}}":            "",
		"- change:\n      virtual_services: {web: {real_servers: [s]}}":                                "",
		"- change: {virtual_services: {web: {real_servers: [s]}}}\n  - change: {virtual_services: {}}": "",
	} {
		text := head + "  " + action + "\n"
		labs, err := scenarios.Load("l.yaml", "l", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", action, err)
			continue
		}
		p := &pools{now: &config.Config{}, lines: bytes.Split([]byte(text), []byte("\n"))}
		played := p.play(labs[0], &labs[0].Steps[0])
		got := strings.TrimSpace(strings.TrimPrefix(string(bytes.Join(p.lines, []byte("\n"))), head))
		if played != (want != "") || played && got != want || !played && got != action {
			t.Errorf("%s: %t\n%s", action, played, got)
		}
	}
}
