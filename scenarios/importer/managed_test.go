package importer

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// TestPageText: whatever a configuration holds, the lab has it byte for byte, as
// a block where that is possible.
func TestPageText(t *testing.T) {
	for text, block := range map[string]bool{
		"a\nb\n":                     true,
		"a":                          true,
		"a\n\n\n":                    true,
		"\n\na\n":                    true,
		"    indented\nnot\n":        true,
		"\n  indented\n":             true,
		"a\n\tb\n":                   true,
		"# a: b\n- {c}\n---\nd: |\n": true,
		"a\r\nb\r\n":                 false,
		"a \n b\n":                   true,
		"\n":                         false,
		"a\u2028b\n":                 false,
		"bell \a, quote \" and \\\n": false,
		"ünï😀\n":                     true,
		"${NOT} @a\n":                true,
	} {
		p := new(page)
		p.line(0, source.Pos{}, "files:")
		p.text(1, "/etc/x", text)
		p.line(0, source.Pos{}, "after: 1")
		var back struct {
			Files map[string]string
			After int
		}
		if err := yaml.Unmarshal(p.b.Bytes(), &back); err != nil {
			t.Errorf("%q: %v in\n%s", text, err, p.b.String())
			continue
		}
		if got := back.Files["/etc/x"]; got != text || back.After != 1 {
			t.Errorf("%q came back as %q from\n%s", text, got, p.b.String())
		}
		if got := strings.HasPrefix(p.b.String(), "files:\n  /etc/x: |"); got != block {
			t.Errorf("%q: a block: %v, wanted %v:\n%s", text, got, block, p.b.String())
		}
	}
}

func TestManagedPath(t *testing.T) {
	c := &config.Config{Files: []config.File{{Name: "conf/lvs.conf"}, {Name: "conf/more/a.conf"}, {Name: "conf/b.conf"}}}
	for i, want := range []string{"/etc/keepalived/keepalived.conf", "/etc/keepalived/more/a.conf", "/etc/keepalived/b.conf"} {
		if got := managedPath(c, i); got != want {
			t.Errorf("%s is %s, wanted %s", c.Files[i].Name, got, want)
		}
	}
}

// quorumConf has servers of every health: 1 passes, 2 cannot, 3 cannot and is
// inhibited, 4 may.
const quorumConf = `virtual_server 10.0.0.100 80 {
    delay_loop 2
    quorum QUORUM
    lb_algo rr
    lb_kind DR
    protocol TCP
    sorry_server 10.0.0.9 80
    real_server 10.0.0.1 80 {
        weight 2
        inhibit_on_failure
        HTTP_GET {
            url {
                path /
            }
        }
    }
    real_server 10.0.0.2 80 {
        SSL_GET {
            url {
                path /
            }
        }
    }
    real_server 10.0.0.3 80 {
        inhibit_on_failure
        HTTP_GET {
            url {
                path /
                status_code 404
            }
        }
    }
    real_server 10.0.0.4 80 {
        CHECK
    }
}
`

// TestSettled: the table of a director is what the real keepalived makes of servers
// that pass its checks in a lab, and of those that cannot.
func TestSettled(t *testing.T) {
	const misc, elsewhere = "MISC_CHECK {\n misc_path /no/such/check\n}", "TCP_CHECK {\n connect_ip 10.0.0.IP\n}"
	server := func(n, weight int) string {
		return fmt.Sprintf("\n- -a -t 10.0.0.100:80 -r 10.0.0.%d:80 -g -w %d", n, weight)
	}
	for _, c := range []struct {
		name, quorum, check, want string
	}{
		{"all there", "3", "TCP_CHECK {\n}", server(1, 2) + server(3, 0) + server(4, 1)},
		{"another port", "3", "TCP_CHECK {\n connect_port 8080\n}", server(1, 2) + server(3, 0) + server(4, 1)},
		{"no such address", "2", strings.Replace(elsewhere, "IP", "77", 1), server(1, 2) + server(3, 0)},
		{"quorum lost", "3", strings.Replace(elsewhere, "IP", "77", 1), server(1, 0) + server(3, 0) + server(9, 1)},
		{"another's address", "3", strings.Replace(elsewhere, "IP", "1", 1), ""},
		{"no such program", "3", misc, server(1, 2) + server(3, 0) + server(4, 1)},
		{"a program", "3", strings.Replace(misc, "/no/such", "/bin", 1), ""},
		{"other protocol", "3", "SMTP_CHECK {\n}", ""},
	} {
		text := strings.NewReplacer("QUORUM", c.quorum, "CHECK\n    }\n}\n", c.check+"\n    }\n}\n").Replace(quorumConf)
		path := filepath.Join(t.TempDir(), "k.conf")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		conf, err := Read(path, ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		lab, _ := loaded(t, conf, DraftOptions{ManagedBy: managedByKeepalived, HasProgram: func(p string) bool { return strings.HasPrefix(p, "/bin/") }})
		got, _, _ := strings.Cut(string(regexp.MustCompile(`(?m)^ +| *# /.*`).ReplaceAll(lab.Text, nil)), "- name: 'web:")
		if strings.Contains(got, "-A -t 10.0.0.100:80 -s rr"+c.want+"\n") != (c.want != "") {
			t.Errorf("%s: wanted%s\n%s", c.name, c.want, got)
		}
		var notes []string
		for _, n := range lab.Notes {
			if n.Kind != config.Ignored && !strings.Contains(n.Msg, "network") {
				notes = append(notes, fmt.Sprintf("%d %s", n.Pos.Line, n.Kind))
			}
		}
		want := []string{"18 assumed", "26 assumed"}
		switch {
		case strings.Contains(c.check, ".77"):
			want = append(want, "34 assumed")
		case c.want == "":
			want = append(want, "34 warning")
		}
		if !slices.Equal(notes, want) {
			t.Errorf("%s: notes %q, wanted %q", c.name, notes, want)
		}
	}
}
