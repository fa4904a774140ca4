package scenarios_test

import (
	"strings"
	"testing"
)

const shrinking = `
title: t
networks: {lan: 10.0.0.0/24}
nodes:
  a: {links: {eth0: lan 10.0.0.9/24}}
  d: {links: {eth0: lan 10.0.0.1/24}}
  b: {links: {eth0: lan 10.0.0.2/24}, serve: [http]}
virtual_services:
  web: {address: "tcp 10.0.0.100:80", directors: [d], forwarding: dr, arp_suppression: sysctl, real_servers: [b]}
steps:
- name: first
  do: [mutate: {omit: virtual-service}, mutate: {omit: real-server}, request: {from: a, to: web}]
  expect: [result: refused]
`

// ipvsadm fails for a real server that went with its virtual service.
func TestScriptLeavesOutWhatWentAlong(t *testing.T) {
	text := load(t, shrinking).Script(legacy)
	if !strings.Contains(text, "ipvsadm -D -t 10.0.0.100:80\n") || strings.Contains(text, "ipvsadm -d ") {
		_, step, _ := strings.Cut(text, "step_1()")
		t.Errorf("the step removes what is not there:\n%s", step)
	}
	programs(t, text)
}

const storage = `
title: t
networks: {lan: 10.0.0.0/24}
nodes:
  a: {links: {eth0: lan 10.0.0.1/24}, mounts: {/srv: {from: b}}}
  b: {links: {eth0: lan 10.0.0.2/24}, serve: [{service: nfs, root: /srv}]}
steps:
- name: first
  do: [ping: {from: a, to: b}]
  expect: [result: ok]
`

// What a script has no means for it says at its top, and before it makes
// anything.
func TestScriptSaysWhatItCannotDo(t *testing.T) {
	text := load(t, storage).Script(legacy)
	for _, want := range []string{
		"\n# What it cannot do: a script has no nfs server; lvslab run can.\n",
		"\ncheck() {\n  fail 'a script has no nfs server; lvslab run can: lvslab run lab'\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the script lacks %q:\n%s", want, text)
		}
	}
}
