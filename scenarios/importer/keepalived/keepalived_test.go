package keepalived_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/importer/keepalived"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// fixtures are the files of testdata, one for each construct.
func fixtures(t testing.TB) []string {
	t.Helper()
	names, err := filepath.Glob("testdata/*.conf")
	if err != nil || len(names) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	return append(names, "testdata/include/keepalived.conf")
}

// Each fixture becomes what its golden file says. LVSLAB_UPDATE=1 writes them.
func TestFixtures(t *testing.T) {
	for _, name := range fixtures(t) {
		t.Run(strings.TrimPrefix(name, "testdata/"), func(t *testing.T) {
			c, err := keepalived.Parse(os.DirFS(filepath.Dir(name)), filepath.Base(name), keepalived.Options{ID: "one"})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Table().Validate(); err != nil {
				t.Errorf("the table is none that a kernel takes: %v", err)
			}
			golden := strings.TrimSuffix(name, ".conf") + ".golden"
			got := dump(c)
			if os.Getenv("LVSLAB_UPDATE") == "1" {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil { //nolint:gosec // a text of the repository
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-%s +Parse)\n%s", golden, diff)
			}
		})
	}
}

// dump is a Config as text.
func dump(c *config.Config) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	for _, f := range c.Files {
		say("file %s", f.Name)
	}
	for _, s := range c.Services {
		rules := strings.Split(strings.TrimSpace(ipvs.FormatRules(ipvs.Table{{Service: s.Service}})), "\n")
		say("%s", rules[0])
		say("  block %d at %s, address %s, scheduler %s, forwarding %s, persistence %s, protocol %s", s.Parent, s.Pos,
			s.Place("address"), s.Place("scheduler"), s.Place("forwarding"), s.Place("persistence"), s.Place("protocol"))
		say("  group %q, quorum %d, host %q, every %v%s%s", s.Group, s.Quorum, s.VirtualHost, s.DelayLoop, word(s.Alpha, ", alpha"), word(s.InhibitOnFailure, ", inhibit"))
		for _, d := range s.Servers {
			sayServer(say, "real", d)
		}
		if s.Sorry != nil {
			sayServer(say, "sorry", *s.Sorry)
		}
	}
	for _, a := range c.Addresses {
		say("address %v device %q instance %q at %s", a.Prefix, a.Device, a.Instance, a.Pos)
	}
	for _, v := range c.Instances {
		say("instance %q at %s: interface %q, tracked %v, from %v at %s, peers %v", v.Name, v.Pos, v.Interface.Name, v.Tracked, v.Source, v.SourcePos, v.Peers)
	}
	for _, n := range c.Notes {
		say("%s", n)
	}
	return b.String()
}

func sayServer(say func(string, ...any), what string, d config.Server) {
	tun := ""
	if d.Forward == ipvs.TUN {
		tun = fmt.Sprintf(" %v port %d flags %d", d.TunType, d.TunPort, d.TunFlags)
	}
	say("  %s %v %v%s weight %d thresholds %d %d%s at %s, weight %s, forwarding %s, thresholds %s", what, d.Addr, d.Forward, tun, d.Weight,
		d.Upper, d.Lower, word(d.InhibitOnFailure, " inhibit"), d.Pos, d.Place("weight"), d.Place("forwarding"), d.Place("thresholds"))
	for _, c := range d.Checkers {
		to := ""
		if c.Addr.IsValid() {
			to = " to " + c.Addr.String()
		}
		why := "passable"
		if !c.Passable {
			why = c.Why
		}
		say("    %s port %d%s %q at %s: %s", c.Kind, c.Port, to, c.Paths, c.Pos, why)
	}
}

func word(yes bool, s string) string {
	if yes {
		return s
	}
	return ""
}

// realKeepalived is what keepalived -t says of a file: its exit status and text.
func realKeepalived(t *testing.T, dir, name string) (int, string) {
	t.Helper()
	program, err := exec.LookPath("keepalived")
	if err != nil {
		if os.Getenv("LVSLAB_REQUIRE") == "1" {
			t.Fatalf("%v, and LVSLAB_REQUIRE=1 is set", err)
		}
		t.Skip(err)
	}
	cmd := exec.Command(program, "-t", "-f", name, "-i", "one")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// The real keepalived takes each fixture, or complains where its first line says
// so ("# keepalived -t: 5").
func TestFixturesWithKeepalived(t *testing.T) {
	for _, name := range fixtures(t) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want := "0"
		first, _, _ := strings.Cut(string(data), "\n")
		if _, code, ok := strings.Cut(first, "keepalived -t: "); ok {
			want = code
		}
		if want == "any" {
			continue // what it says depends on the machine, or it crashes
		}
		got, out := realKeepalived(t, filepath.Dir(name), filepath.Base(name))
		if fmt.Sprint(got) != want {
			t.Errorf("%s: keepalived -t ends with %d, want %s\n%s", name, got, want, out)
		}
	}
}

// parse reads files of which the first is the main one.
func parse(text string, others ...string) (*config.Config, error) {
	fsys := fstest.MapFS{"k.conf": {Data: []byte(text)}}
	for i := 0; i+1 < len(others); i += 2 {
		fsys[others[i]] = &fstest.MapFile{Data: []byte(others[i+1])}
	}
	return keepalived.Parse(fsys, "k.conf", keepalived.Options{})
}

// tell is an error as text, for a case that wants one.
func tell(err error) string {
	if err == nil {
		return "no error"
	}
	var list source.List
	if !errors.As(err, &list) {
		return "no source.List: " + err.Error()
	}
	return err.Error()
}

// good is a virtual server that nothing is wrong with.
const good = `virtual_server 10.0.0.1 80 {
  lb_algo rr
  lb_kind DR
  protocol TCP
  real_server 10.0.0.2 80 {
  }
}
`

// inVirtual is good with a line more in its virtual_server, the fifth.
func inVirtual(line string) string {
	return strings.Replace(good, "  real_server", line+"\n  real_server", 1)
}

// inReal is good with a line more in its real_server, the sixth.
func inReal(line string) string { return strings.Replace(good, "80 {\n  }", "80 {\n"+line+"\n  }", 1) }
