package runner_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/host"
	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/runner/wire"
)

const exampleLab = `
title: Two web servers behind one address
networks: {lan: 10.0.0.0/24}
nodes:
  client:   {links: {eth0: lan 10.0.0.250/24}}
  director: {links: {eth0: lan 10.0.0.1/24}}
  web1:     {links: {eth0: lan 10.0.0.2/24}, serve: [http]}
  web2:     {links: {eth0: lan 10.0.0.3/24}, serve: [http]}
virtual_services:
  web:
    address: tcp 10.0.0.100:80
    directors: [director]
    scheduler: rr
    forwarding: dr
    arp_suppression: sysctl
    real_servers: [web1, web2]
steps:
- name: the servers answer in turn
  do: [request: {to: web, count: 4}]
  expect: [rotation: [web1, web2]]
- name: and the director alone answers ARP
  do: [flush_neighbours: all, request: {to: web}]
  expect: [arp_owner: {address: web, at: client, is: director}]
`

// A program that runs labs calls guest.Enter at the top of its main (this
// package's tests do so in TestMain): lvslab starts the very same program again
// as the init of a guest where this machine's kernel cannot run the lab.
func Example() {
	_, err := runner.Run(context.Background(), runner.Options{
		Files: []wire.File{{Path: "two-servers.yaml", Name: "two-servers", Data: []byte(exampleLab)}},
		// The first that can run the lab is taken.
		Backends: []runner.Backend{host.New(), &uml.Backend{Env: os.Getenv, Config: uml.Config{Self: self}}},
	}, func(e wire.Event) {
		switch e.Kind {
		case wire.StepFinished:
			fmt.Printf("%s: %s\n", e.Verdict, e.Step.Name)
		case wire.LabFinished:
			fmt.Printf("%s: %s\n", e.Verdict, e.Title)
		}
	})
	if err != nil {
		fmt.Println(err)
	}
}

// The example has no Output comment, since it needs a kernel; this runs it
// where there is one.
func TestExample(t *testing.T) {
	guestBackend(t) // skips where there is no kernel
	guestBackend(t) // skips where there is no kernel
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	Example()
	os.Stdout = stdout
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	const want = `pass: the servers answer in turn
pass: and the director alone answers ARP
pass: Two web servers behind one address
`
	if string(out) != want {
		t.Errorf("the example printed\n%s\nwanted\n%s", out, want)
	}
}
