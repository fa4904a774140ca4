package scenarios

import (
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
)

// managedLab is a lab with lines of its director and of its service put in.
func managedLab(director, service string) []byte {
	return []byte(`
title: another writes the table
networks: {lan: 10.0.0.0/24, out: 10.9.0.0/24}
nodes:
  client: {links: {eth0: out 10.9.0.250/24}, routes: [default via 10.9.0.1]}
  director:
    links: {eth0: lan 10.0.0.1/24, eth1: out 10.9.0.1/24}
` + director + `
  web1: {links: {eth0: lan 10.0.0.2/24}, serve: [http]}
virtual_services:
  web:
    address: tcp 10.0.0.100:80
    directors: [director]
    scheduler: sh
    forwarding: nat
    real_servers: [web1]
` + service + "\n")
}

const (
	ownRules = `    rules: "-A -t 10.0.0.100:80 -s rr\n-a -t 10.0.0.100:80 -r 10.0.0.9:80 -m -w 3\n"`
	ownConf  = "    serve: [keepalived]\n    files: {/etc/keepalived/keepalived.conf: \"! empty\\n\"}"
)

func TestManagedBy(t *testing.T) {
	kinds := func(p *Plan) (out []string) {
		for _, op := range p.Setup {
			if k := op.About().Key; k.Kind == ipvs.KindService || k.Kind == ipvs.KindDestination {
				out = append(out, op.Shell(topology.Dialect{})[0])
			}
		}
		return out
	}
	for name, c := range map[string]struct {
		director, service string
		set               []string
		table             []string
		needs, not        []topology.Feature
	}{
		"lvslab": {
			table: []string{"ip netns exec director ipvsadm -A -t 10.0.0.100:80 -s sh", "ip netns exec director ipvsadm -a -t 10.0.0.100:80 -r 10.0.0.2:80 -m -w 1"},
			needs: []topology.Feature{"ip_vs_sh"},
		},
		"rules": {
			director: ownRules, service: "    managed_by: rules",
			table: []string{"ip netns exec director ipvsadm -A -t 10.0.0.100:80 -s rr", "ip netns exec director ipvsadm -a -t 10.0.0.100:80 -r 10.0.0.9:80 -m -w 3"},
			needs: []topology.Feature{"ip_vs", "ip_vs_rr"}, not: []topology.Feature{"ip_vs_sh"},
		},
		"rules that are set": {
			set:   []string{"virtual_services.web.managed_by=rules", `nodes.director.rules="-A -t 10.0.0.100:80 -s wlc\n"`},
			table: []string{"ip netns exec director ipvsadm -A -t 10.0.0.100:80 -s wlc"}, needs: []topology.Feature{"ip_vs_wlc"},
		},
		"keepalived": {
			director: ownConf, service: "    managed_by: keepalived",
			needs: []topology.Feature{"program:keepalived", "ip_vs", "ip_vs_sh", "ip_vs-ipvsadm", "overlay"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			labs, err := Load("x.yaml", "x", managedLab(c.director, c.service), c.set...)
			if err != nil {
				t.Fatal(err)
			}
			p, err := labs[0].Plan()
			if err != nil {
				t.Fatal(err)
			}
			if got := kinds(p); !slices.Equal(got, c.table) {
				t.Errorf("table\n%s\nwanted\n%s", strings.Join(got, "\n"), strings.Join(c.table, "\n"))
			}
			for _, f := range c.needs {
				if !slices.Contains(p.Needs, f) {
					t.Errorf("needs %v, not %s", p.Needs, f)
				}
			}
			for _, f := range c.not {
				if slices.Contains(p.Needs, f) {
					t.Errorf("needs %v, with %s", p.Needs, f)
				}
			}
			// All else is lvslab's.
			for _, r := range []topology.Role{"vip-on-director", "ip-forwarding", RoleReturnRoute} {
				if !slices.Contains(p.Roles, r) {
					t.Errorf("roles %v, not %s", p.Roles, r)
				}
			}
		})
	}
}

// TestKeepalivedComesLast: what it looks at is there before it looks.
func TestKeepalivedComesLast(t *testing.T) {
	labs, err := Load("x.yaml", "x", managedLab(ownConf, "    managed_by: keepalived\n    vip: {directors: none}"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := labs[0].Plan()
	if err != nil {
		t.Fatal(err)
	}
	last := p.Setup[len(p.Setup)-1]
	line := last.Shell(topology.Dialect{})[0]
	if k := last.About().Key; k.Node != "director" || k.ID != "keepalived" || !strings.HasPrefix(line, "serve_daemon director keepalived /run/keepalived.pid ") {
		t.Errorf("the last op is %v: %s", k, line)
	}
	if slices.Contains(p.Roles, roleDirectorVIP) {
		t.Error("the virtual IP is keepalived's to bring, and the plan brings it")
	}
	back, ok := last.Undo()
	if got := back.Shell(topology.Dialect{})[0]; !ok || got != "stop_daemon director keepalived" {
		t.Errorf("undone by %q", got)
	}
}

func TestManagedByRefuses(t *testing.T) {
	for _, c := range []struct{ name, director, service, want string }{
		{"nobody", "", "    managed_by: keepalivd", `x.yaml:17:17: unknown manager "keepalivd", did you mean "keepalived"? Allowed: keepalived, rules; leave the key out where lvslab shall write the service`},
		{"no rules", "", "    managed_by: rules", `x.yaml:17:17: managed_by: rules, and director director has none: give the node rules: as ipvsadm -S -n prints them`},
		{"no keepalived", "", "    managed_by: keepalived", `x.yaml:17:17: managed_by: keepalived, and director director runs none: give the node serve: [keepalived] and files: {/etc/keepalived/keepalived.conf: …}`},
		{"twice", ownRules, "", `x.yaml:8:12: the rules of director have tcp 10.0.0.100:80, which is the virtual service web at x.yaml:11:3; say managed_by: rules there if the rules shall write it`},
		{"no conf", "    serve: [keepalived]", "", `x.yaml:8:13: keepalived of node director has no configuration: give the node files: {/etc/keepalived/keepalived.conf: …}`},
		{"a port", "    serve: [keepalived 112]", "", `x.yaml:8:13: keepalived listens nowhere and serves no files; leave the other keys out`},
		{"a command", "    serve: [{service: keepalived, command: keepalived -n}]", "", `x.yaml:8:13: command: lvslab knows how keepalived is run; what it shall do is said in /etc/keepalived/keepalived.conf`},
		{"an id elsewhere", "    serve: [{service: http, config_id: lb1}]", "", `x.yaml:8:13: config_id is keepalived's, not http's`},
		{"two", "    serve: [keepalived, keepalived]\n    files: {/etc/keepalived/keepalived.conf: x}", "", `x.yaml:8:25: node director runs keepalived twice; the first is at x.yaml:8:13`},
		{"not carried", "", "    vip: {directors: none}", `x.yaml:17:22: the directors of web do not carry 10.0.0.100 [vip-not-carried]`},
	} {
		_, err := Load("x.yaml", "x", managedLab(c.director, c.service))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s:\n got %v\nwant %s", c.name, err, c.want)
		}
	}
}
