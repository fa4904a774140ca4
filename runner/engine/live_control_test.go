package engine_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/runner/engine"
	"github.com/lvslab/lvslab/runner/live"
)

// typed types a line into a node and returns what came of it.
func typed(t *testing.T, l *engine.Live, node, line string) (said string, exit int) {
	t.Helper()
	var out bytes.Buffer
	e, err := l.Exec(context.Background(), live.Exec{Node: node, Args: []string{"sh", "-c", "exec 2>&1\n" + line}}, live.Streams{Stdout: &out})
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return out.String(), e.Code
}

const twoMachines = `
title: Two machines
networks: {lan: 10.7.0.0/24}
nodes:
  one: {links: {eth0: lan 10.7.0.1/24}}
  two: {links: {eth0: lan 10.7.0.2/24}, serve: [http]}
`

// The services of a node say what systemctl would, and do it in that node alone.
func TestUnits(t *testing.T) {
	l := liveLab(t, twoMachines)
	for _, c := range []struct {
		node, line, said string
		exit             int
	}{
		{"one", "systemctl is-active httpd", "inactive\n", 3},
		{"one", "curl -sS -m 20 10.7.0.1", "Couldn't connect to server", 7},
		{"one", "systemctl start httpd && curl -sS -m 20 10.7.0.1", "one 10.7.0.1\n", 0},
		{"one", "systemctl start httpd; systemctl is-active nginx", "active\n", 0},
		{"one", "echo by hand > /var/www/html/index.html; curl -sS -m 20 10.7.0.1", "by hand\n", 0},
		{"two", "ls /var/www/html; curl -sS -m 20 10.7.0.2", "two 10.7.0.2\n", 0},
		{"two", "service httpd stop; curl -sS -m 20 10.7.0.2", "Couldn't connect to server", 7},
		{"two", "systemctl restart httpd; curl -sS -m 20 10.7.0.2", "two 10.7.0.2\n", 0},
		{"one", "curl -sS -m 20 10.7.0.1", "by hand\n", 0},
		{"one", "systemctl start ipvsadm", "Job for ipvsadm.service failed because the control process exited with error code.\nSee ", 1},
		{"one", "systemctl status ipvsadm", "/etc/sysconfig/ipvsadm: No such file or directory\n", 3},
		{"one", "systemctl is-active ipvsadm", "failed\n", 3},
		{"one", "systemctl enable --now httpd", "Created symlink ", 0},
		{"one", "systemctl is-enabled httpd", "enabled\n", 0},
		{"two", "systemctl is-enabled httpd", "disabled\n", 1},
		{"one", "systemctl start firewalld", "Failed to start firewalld.service: Unit firewalld.service not found.\n", 5},
		{"one", "systemctl stop NetworkManager.service", "Failed to stop NetworkManager.service: Unit NetworkManager.service not loaded.\n", 5},
		{"one", "cat /etc/sysconfig/ipvsadm-config", "IPVS_SAVE_ON_RESTART=\"no\"\n", 0},
		{"one", "modprobe no-such-module", "modprobe: FATAL: Module no_such_module is not loaded, and lvslab loads none into the machine's own kernel", 1},
		{"one", "modprobe ../etc", "modprobe: FATAL: Module ../etc not found in directory /lib/modules/", 1},
		{"one", "modprobe -r no_such_module", "", 0},
	} {
		said, exit := typed(t, l, c.node, c.line)
		if exit != c.exit || !strings.Contains(said, c.said) {
			t.Errorf("%s: %s: exit %d, %q; wanted %d, %q", c.node, c.line, exit, said, c.exit, c.said)
		}
	}
	var log bytes.Buffer
	if err := l.Logs(t.Context(), live.Logs{Node: "one"}, &log); err != nil || !strings.Contains(log.String(), "systemctl start httpd\n") {
		t.Errorf("the log: %v\n%s", err, log.String())
	}
}
