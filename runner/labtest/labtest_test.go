package labtest_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/labtest"
)

// A child is this very program again, with one test, whose outcome is looked at.
const (
	childEnv  = "LABTEST_CHILD"
	forgetEnv = "LABTEST_FORGET"
)

func TestMain(m *testing.M) {
	if os.Getenv(forgetEnv) != "" {
		os.Exit(m.Run())
	}
	labtest.Main(m)
}

func needGuest(t *testing.T) {
	t.Helper()
	if _, err := kernel.Find(os.Getenv); err != nil {
		if os.Getenv("LVSLAB_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	needGuest(t)
	labtest.Run(t, "testdata/labs", labtest.Kernel("uml"))
}

func TestRunPattern(t *testing.T) {
	t.Parallel()
	needGuest(t)
	labtest.Run(t, "testdata/labs/*.yaml", labtest.Kernel("uml"), labtest.Set("virtual_services.web.scheduler=wrr"), labtest.Timeout(time.Minute))
}

func TestImport(t *testing.T) {
	t.Parallel()
	needGuest(t)
	labtest.Import(t, "testdata/ipvsadm.rules", labtest.Kernel("uml"))
}

const fails = `
title: Not what happens
networks: {lan: 10.0.0.0/24}
nodes: {a: {links: {eth0: lan 10.0.0.1/24}}}
steps:
- name: as it should
  do: [run: {node: a, command: echo out}]
- name: not so/at all
  do: [run: {node: a, command: "echo out; echo '::error::x'"}]
  expect: [output: {matches: in}]
- name: never
`

// children are tests that do not pass, each to be run in a child.
var children = map[string]func(*testing.T){
	"fail":   func(t *testing.T) { labtest.RunText(t, "fails", fails, labtest.Kernel("uml")) },
	"broken": func(t *testing.T) { labtest.Run(t, "testdata/broken.yaml", labtest.Kernel("uml")) },
	"skip":   func(t *testing.T) { labtest.Run(t, "schedulers/twos", labtest.Kernel("uml")) },
	"both":   func(t *testing.T) { labtest.Run(t, "testdata/labs", labtest.Kernel("uml")) },
	"omit": func(t *testing.T) {
		labtest.Run(t, "testdata/labs", labtest.Omit("virtual-service"), labtest.Kernel("uml"))
	},
	"no role":   func(t *testing.T) { labtest.Run(t, "testdata/labs", labtest.Omit("nothing-has-it")) },
	"no path":   func(t *testing.T) { labtest.Run(t, "testdata/nowhere") },
	"mistake":   func(t *testing.T) { labtest.RunText(t, "odd", "title: x\nnode: {}\n") },
	"no such":   func(t *testing.T) { labtest.RunText(t, "fails", fails, labtest.Kernel("xen")) },
	"no import": func(t *testing.T) { labtest.Import(t, "testdata/nowhere.conf") },
	"timeout": func(t *testing.T) {
		labtest.RunText(t, "fails", fails, labtest.Kernel("uml"), labtest.Timeout(time.Millisecond))
	},
}

func TestChild(t *testing.T) {
	f, ok := children[os.Getenv(childEnv)]
	if !ok {
		t.Skip("for TestOutcomes")
	}
	f(t)
}

var (
	childTimes = regexp.MustCompile(` \(\d+\.\d+s\)`)
	childLines = regexp.MustCompile(`(?m)^( *)\w+\.go:\d+: `)
	childNames = regexp.MustCompile(`(?m)^===.*\n`)
)

// child runs a test in a child, and returns what it printed, and whether it
// passed.
func child(t *testing.T, name string, env []string, args ...string) (string, bool) {
	t.Helper()
	program, err := labtest.Program() // it boots guests by itself
	if err != nil {
		t.Fatal(err)
	}
	if program == "" {
		program = os.Args[0]
	}
	cmd := exec.Command(program, append([]string{"-test.v", "-test.run", "^TestChild$"}, args...)...)
	cmd.Env = append(os.Environ(), append([]string{childEnv + "=" + name, "LVSLAB_REQUIRE=", "GITHUB_ACTIONS="}, env...)...)
	out, err := cmd.CombinedOutput()
	text := childNames.ReplaceAllString(string(out), "")
	return childLines.ReplaceAllString(childTimes.ReplaceAllString(text, ""), "$1"), err == nil
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	needGuest(t)
	for _, c := range []struct {
		name   string
		child  string
		env    []string
		args   []string
		passes bool
		want   []string // pieces of the output, in their order
	}{
		{"a failure", "fail", []string{"GITHUB_ACTIONS=true"}, nil, false, []string{
			`    fail
        step    fails.yaml:8
        did     a: echo out; echo '::error::x'
        
        output at fails.yaml:10
        wanted  its output matches /in/
        seen    exit 0: out
        
        a# echo out; echo '::error::x':
        │ out
        │ ::error::x
`, "    of 3 steps, those behind step 2 were not run\n", `--- FAIL: TestChild
    --- FAIL: TestChild/fails
        --- PASS: TestChild/fails/as_it_should
        --- FAIL: TestChild/fails/not_so-at_all
FAIL
`,
		}},
		{"skipped", "skip", nil, nil, true, []string{
			"    this kernel lacks ip_vs_twos",
			"--- PASS: TestChild\n    --- SKIP: TestChild/schedulers/twos\nPASS\n",
		}},
		{"skipped, where that is a failure", "skip", []string{"LVSLAB_REQUIRE=1"}, nil, false, []string{
			"    LVSLAB_REQUIRE is 1, and this cannot be run: this kernel lacks ip_vs_twos",
			"--- FAIL: TestChild\n    --- FAIL: TestChild/schedulers/twos\nFAIL\n",
		}},
		{"broken", "broken", nil, nil, false, []string{
			"    setting the lab up: testdata/broken.yaml:6:14: a: ", "    the lab is broken\n",
			"--- FAIL: TestChild\n    --- FAIL: TestChild/broken\nFAIL\n",
		}},
		{"too late", "timeout", nil, nil, false, []string{
			"    setting the lab up: the lab took longer than 1ms\n    the lab is broken\n",
		}},
		{"one of several", "both", nil, []string{"-test.run", "^TestChild$/more/command"}, true, []string{
			"--- PASS: TestChild\n    --- PASS: TestChild/more/command\n        --- PASS: TestChild/more/command/it_is_run\nPASS\n",
		}},
		{"those that have a role", "omit", nil, nil, false, []string{
			"    setting the lab up: testdata/labs/two-servers.yaml:15:20: director: ipvsadm -a",
			"--- FAIL: TestChild\n    --- FAIL: TestChild/two-servers\nFAIL\n",
		}},
		{"no kernel", "fail", []string{"LVSLAB_UML=/nowhere"}, nil, true, []string{
			"    no kernel here can run this:\n", "uml: LVSLAB_UML=/nowhere: ",
			"--- PASS: TestChild\n    --- SKIP: TestChild/fails\nPASS\n",
		}},
		{"no kernel, where that is a failure", "fail", []string{"LVSLAB_UML=/nowhere", "LVSLAB_REQUIRE=1"}, nil, false, []string{
			"    LVSLAB_REQUIRE is 1, and this cannot be run: no kernel here can run this:\n",
		}},
		{"no such kernel", "no such", nil, nil, false, []string{
			`    unknown kernel "xen"; Allowed: auto, host, uml, qemu` + "\n--- FAIL: TestChild\n    --- FAIL: TestChild/fails\n",
		}},
		{"no such role", "no role", nil, nil, false, []string{"    there is no lab to run\n--- FAIL: TestChild\n"}},
		{"no such path", "no path", nil, nil, false, []string{`    labs "testdata/nowhere": no such file, folder or pattern below `}},
		{"a mistake in a lab", "mistake", nil, nil, false, []string{`odd.yaml:2:1: unknown key "node", did you mean "nodes"?`}},
		{"no configuration", "no import", nil, nil, false, []string{"testdata/nowhere.conf: "}},
		{"Main was forgotten", "fail", []string{forgetEnv + "=1"}, nil, false, []string{
			"    labtest: the package needs `func TestMain(m *testing.M) { labtest.Main(m) }`",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, passed := child(t, c.child, c.env, c.args...)
			if passed != c.passes {
				t.Errorf("passed: %t", passed)
			}
			rest := got
			for _, want := range c.want {
				i := strings.Index(rest, want)
				if i < 0 {
					t.Fatalf("no\n%s\nin its place in\n%s", want, got)
				}
				rest = rest[i+len(want):]
			}
		})
	}
}
