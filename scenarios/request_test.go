package scenarios_test

import (
	"strings"
	"testing"

	"github.com/lvslab/lvslab/scenarios"
)

const serviceLab = `title: services
networks: {lan: 10.0.0.0/24}
nodes:
  client: {links: {eth0: lan 10.0.0.250/24}}
  director: {links: {eth0: lan 10.0.0.1/24}}
  web1: {links: {eth0: lan 10.0.0.2/24}, serve: [http, tcp, udp, dns, smtp, ftp]}
virtual_services:
  web: {address: "tcp 10.0.0.100:80", directors: [director], forwarding: dr, arp_suppression: sysctl, real_servers: [web1]}
  line: {address: "tcp 10.0.0.100:7000", directors: [director], forwarding: dr, arp_suppression: sysctl, real_servers: [web1]}
  names: {address: "tcp 10.0.0.100:53", directors: [director], forwarding: dr, arp_suppression: sysctl, real_servers: [web1]}
steps:
- name: one
  do:
  - request: {to: web}
`

func loadServices(t *testing.T, old, text string) (*scenarios.Plan, error) {
	t.Helper()
	if !strings.Contains(serviceLab, old) {
		t.Fatalf("the lab has no %q", old)
	}
	labs, err := scenarios.Load("f.yaml", "f", []byte(strings.Replace(serviceLab, old, text, 1)))
	if err != nil {
		return nil, err
	}
	return labs[0].Plan()
}

// TestRequestRefuses has what a lab may not ask for, with the whole message.
func TestRequestRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"{to: web, client: gopher}":                                               `unknown client "gopher"; Allowed: dns, ftp, http, sctp, smtp, tcp, udp`,
		"{to: web, source: nonsense}":                                             `wanted an address, :PORT, or both as in 10.0.0.1:1234, found "nonsense"`,
		"{to: web, source: ':0'}":                                                 `wanted an address, :PORT, or both as in 10.0.0.1:1234, found ":0"`,
		"{to: web, source: 'fd00::1'}":                                            `source fd00::1 is not of the family of 10.0.0.100:80`,
		"{to: web, bytes: 0}":                                                     `bytes is from 1 to 67108864, found 0`,
		"{to: web, upload: 2000000}":                                              `upload is from 1 to 1048576, found 2000000`,
		"{to: web, bytes: 1, upload: 1}":                                          `bytes and upload: the one is what the server sends, the other what the client does; give one of both`,
		"{to: web, bytes: 1, path: /x}":                                           `bytes and path: the path of so many bytes is /bytes/1; give one of both`,
		"{to: line, path: /x}":                                                    `path is not for client tcp, only for http, ftp`,
		"{to: web, same_socket: true}":                                            `same_socket is not for client http, only for udp`,
		"{to: 'web1:53', hold: true}":                                             `hold is not for client dns, only for http, tcp, sctp, smtp, ftp`,
		"{to: web, mode: active}":                                                 `mode is not for client http, only for ftp`,
		"{to: web, mode: passiv}":                                                 `unknown mode "passiv", did you mean "passive"? Allowed: active, passive`,
		"{to: web, name: x}":                                                      `name: only a request with hold: true needs one, for release`,
		"{to: web, hold: true, background: true}":                                 `hold and background do not go together: a held connection hinders nobody`,
		"{to: web, interval: 1ms, concurrency: 2}":                                `interval is between requests one after another; with concurrency there is no such time`,
		"{to: web, source: ':99', concurrency: 2}":                                `source port 99: two requests at once cannot have one port; take concurrency out`,
		"{to: web, source: ':99', hold: true, count: 2}":                          `source port 99: a held connection keeps it, so count is 1`,
		"{to: line, source: ':99', count: 2}":                                     `source port 99: client tcp closes first, so that its port rests for a minute; use count: 1, or client http, whose server closes first`,
		"{to: 'web1:7000', client: udp, bytes: 70000}":                            `bytes: a datagram carries at most 65507 bytes, found 70000`,
		"{to: 'web1:7000', client: udp, same_socket: true, from: [client, web1]}": `same_socket: one socket is of one node, found 2 in from`,
		"{to: web, from: [client, nobody]}":                                       `unknown node "nobody"; Allowed: client, director, web1`,
	} {
		_, err := loadServices(t, "{to: web}", text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestServeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"[gopher]":                                              `f.yaml:6:50: unknown service "gopher"; Allowed: dns, ftp, http, keepalived, nfs, sctp, smtp, tcp, udp`,
		"[http 0]":                                              `f.yaml:6:50: port "0" is not from 1 to 65535`,
		"[http, {service: http, port: 80}]":                     `f.yaml:6:56: node web1 serves port 80 twice; the first is at f.yaml:6:50`,
		"[{service: x, command: sleep 1}]":                      `f.yaml:6:50: key "port" is missing: no usual port of x is known`,
		"[{service: x, port: 1, command: '$X'}]":                `command "$X": wanted a program first, as in "nginx -g 'daemon off;'"`,
		"[{service: X, port: 1, command: nginx}]":               `service "X": a name is small letters, digits and dashes, begins with a letter and has at most 31 characters`,
		"[{service: http, passive_ports: 1-2}]":                 `passive_ports are ftp's, not http's`,
		"[{service: ftp, passive_ports: 9-2}]":                  `wanted ports such as 30000-30009, found "9-2"`,
		"[{service: http, address: 10.0.0.2}, {service: http}]": `node web1 serves port 80 twice`,
	} {
		_, err := loadServices(t, "[http, tcp, udp, dns, smtp, ftp]", text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", text, err, want)
		}
	}
	for _, text := range []string{
		"[http, tcp, udp 7000, sctp 7000, dns, smtp, ftp]", // one port each of another protocol
		"[{service: http, address: 10.0.0.2}, {service: http, address: 10.0.0.100}, tcp, dns]",
	} {
		if _, err := loadServices(t, "[http, tcp, udp, dns, smtp, ftp]", text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestStopRefuses(t *testing.T) {
	const step = "- request: {to: web}"
	for text, want := range map[string]string{
		"- stop: {node: web1, service: htp}":    `node web1: unknown service "htp", did you mean "http"? Allowed: http, tcp, udp, dns, smtp, ftp`,
		"- start: {node: client, service: dns}": `node client serves nothing`,
		"- wait: {}":                            `wait: no request before it in this step has background: true`,
		"- release: {}":                         `release: no request before it has hold: true`,
		"- request: {to: web, hold: true, name: a}\n  - release: other": `unknown held request "other"; Allowed: a`,
	} {
		_, err := loadServices(t, step, text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", text, err, want)
		}
	}
}

// TestClientOf: who is asked decides how.
func TestClientOf(t *testing.T) {
	for text, want := range map[string]string{
		"{to: web}":                       "client: curl http://10.0.0.100:80/",
		"{to: line}":                      "client: nc 10.0.0.100 7000",
		"{to: names}":                     "client: dig +tcp @10.0.0.100 server.lab TXT",
		"{to: 'web1:53'}":                 "client: dig @10.0.0.2 server.lab TXT",
		"{to: 'web1:7000', client: udp}":  "client: nc -u 10.0.0.2 7000",
		"{to: web1, client: ftp}":         "client: curl --disable-epsv --no-ftp-skip-pasv-ip ftp://10.0.0.2/",
		"{to: '10.0.0.2:25', count: 2}":   "client: curl smtp://10.0.0.2 --mail-from client@lab --mail-rcpt postmaster@lab -T - (2 times)",
		"{to: web, source: '10.0.0.250'}": "client: curl --interface 10.0.0.250 http://10.0.0.100/",
	} {
		p, err := loadServices(t, "{to: web}", text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := p.Steps[0].Do[0].Words(); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}
