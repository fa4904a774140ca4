package main

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// actionFile is the composite action, from this folder.
const actionFile = "../../.github/actions/lvslab/action.yml"

// step is one of an action or of a job.
type step struct {
	ID    string            `yaml:"id"`
	Name  string            `yaml:"name"`
	If    string            `yaml:"if"`
	Uses  string            `yaml:"uses"`
	Run   string            `yaml:"run"`
	Shell string            `yaml:"shell"`
	Env   map[string]string `yaml:"env"`
	With  map[string]string `yaml:"with"`
}

// action is what the tests want of action.yml.
type action struct {
	Inputs map[string]struct {
		Description string  `yaml:"description"`
		Default     *string `yaml:"default"`
	} `yaml:"inputs"`
	Outputs map[string]struct {
		Value string `yaml:"value"`
	} `yaml:"outputs"`
	Runs struct {
		Using string `yaml:"using"`
		Steps []step `yaml:"steps"`
	} `yaml:"runs"`
}

// readYAML reads one document.
func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

const ciPass = `title: Passes
networks: {lan: 10.0.0.0/24}
nodes: {a: {links: {eth0: lan 10.0.0.1/24}}}
steps:
- name: a command
  do: [run: {node: a, command: "true"}]
  expect: [output: {exit: 0}]
`

var ciFail = strings.NewReplacer("Passes", "Fails", `"true"`, `"false"`).Replace(ciPass)

// The scripts of the action, all of them: a binary that is there, a kernel that is
// cached, a lab that passes.
func TestActionPasses(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.needKernel()
	w.write("labs/one.yaml", ciPass)
	if status := w.use(map[string]string{"labs": "labs/", "binary": w.env["LVSLAB"]}); status != 0 {
		t.Fatalf("exit status %d:\n%s", status, w.out)
	}
	if w.values["steps.run.outputs.status"] != "0" || !strings.Contains(w.out, "1 lab: 1 passed") {
		t.Errorf("status %q, and\n%s", w.values["steps.run.outputs.status"], w.out)
	}
	if s := w.read(filepath.Join(w.temp, "GITHUB_STEP_SUMMARY")); !strings.Contains(s, "1") || !strings.Contains(s, "pass") {
		t.Errorf("the summary:\n%s", s)
	}
	for _, name := range []string{"lvslab.xml", "lvslab.json", "lvslab-artifacts"} {
		if !slices.Contains(w.uploads["lvslab"], filepath.Join(w.dir, name)) {
			t.Errorf("%s is not uploaded; uploaded are %v", name, w.uploads)
		}
		if _, err := os.Stat(filepath.Join(w.dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// A lab that fails is an annotation at its line, a line of the summary, and the
// step's exit status.
func TestActionFails(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.needKernel()
	w.write("labs/one.yaml", ciPass)
	w.write("labs/two.yaml", ciFail)
	if status := w.use(map[string]string{"labs": "labs/one.yaml\nlabs/two.yaml", "binary": w.env["LVSLAB"], "jobs": "2"}); status != 1 {
		t.Fatalf("exit status %d:\n%s", status, w.out)
	}
	if w.values["steps.run.outputs.status"] != "1" || !regexp.MustCompile(`(?m)^::error file=labs/two.yaml,line=7[,:]`).MatchString(w.out) {
		t.Errorf("status %q, and\n%s", w.values["steps.run.outputs.status"], w.out)
	}
	if s := w.read(filepath.Join(w.temp, "GITHUB_STEP_SUMMARY")); !strings.Contains(s, "two") {
		t.Errorf("the summary:\n%s", s)
	}
	if s := w.read(filepath.Join(w.dir, "lvslab.xml")); !strings.Contains(s, "<failure") {
		t.Errorf("lvslab.xml:\n%s", s)
	}
	if len(w.uploads["lvslab"]) == 0 {
		t.Error("nothing is uploaded of a run that failed")
	}
}

// A configuration is held against the one before: what it breaks is an annotation
// at its own line.
func TestActionAgainst(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.needKernel()
	const before = "-A -t 10.0.0.100:80 -s wrr\n-a -t 10.0.0.100:80 -r 10.0.0.2:80 -g -w 1\n-a -t 10.0.0.100:80 -r 10.0.0.3:80 -g -w 1\n"
	w.write("before.rules", before)
	w.write("ipvsadm.rules", strings.Replace(before, "10.0.0.3:80 -g -w 1", "10.0.0.3:80 -g -w 3", 1))
	with := map[string]string{"verb": "test", "labs": "ipvsadm.rules", "against": "before.rules", "binary": w.env["LVSLAB"]}
	if status := w.use(with); status != 1 {
		t.Fatalf("exit status %d:\n%s", status, w.out)
	}
	if !regexp.MustCompile(`(?m)^::error file=ipvsadm.rules,line=3[,:]`).MatchString(w.out) {
		t.Errorf("no annotation at the line that has changed:\n%s", w.out)
	}
}

// What an input says is no piece of a script, and no pattern of files.
func TestActionInputs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		with   map[string]string
		status int
		want   string
	}{
		{map[string]string{"labs": "$(touch pwned) `touch pwned` ; touch pwned"}, 2, "is neither a shipped lab"},
		{map[string]string{"labs": "*"}, 2, `"\*" is neither a shipped lab`},
		{map[string]string{"labs": "--help"}, 2, `"--help" is neither a shipped lab`},
		{map[string]string{"verb": "down --all"}, 2, "::error title=lvslab::The input verb is run or test"},
		{map[string]string{"labs": "one.yaml", "shard": "9/8"}, 2, "there is no part 9 of 8"},
		{map[string]string{"labs": "one.yaml", "jobs": "0"}, 2, "wanted a number from 1"},
		{map[string]string{"labs": "one.yaml", "kernel": "host", "json": "one.yaml"}, 2, "that is the name of a lab file"},
	} {
		w := newWorkspace(t)
		w.needKernel()
		w.write("one.yaml", ciPass)
		c.with["binary"] = w.env["LVSLAB"]
		if status := w.use(c.with); status != c.status || !regexp.MustCompile(c.want).MatchString(w.out) {
			t.Errorf("%v: exit status %d, and\n%s\nwanted %d, and %s", c.with, status, w.out, c.status, c.want)
		}
		if _, err := os.Stat(filepath.Join(w.dir, "pwned")); err == nil {
			t.Errorf("%v: an input was run", c.with)
		}
	}
}

// Each word of the input kernel has what it needs fetched, and no more.
func TestActionKernels(t *testing.T) {
	t.Parallel()
	var a action
	readYAML(t, actionFile, &a)
	at := slices.IndexFunc(a.Runs.Steps, func(s step) bool { return s.ID == "kernels" })
	for _, c := range []struct{ kernel, fresh, want string }{
		{"uml", "false", "kernel install uml"},
		{"uml", "true", "kernel install --force uml"},
		{"host", "false", ""},
		{"auto", "false", "doctor, kernel install"},
		{"uml,qemu,qemu:6.1", "false", "kernel install uml, kernel install qemu, kernel install qemu:6.1"},
		{"qemu:/boot/vmlinuz,host", "false", ""},
	} {
		w := newWorkspace(t)
		w.values["inputs.kernel"], w.values["inputs.fresh"] = c.kernel, c.fresh
		fake := filepath.Join(w.temp, "fake")
		for name, text := range map[string]string{
			"lvslab":             "#!/bin/sh\n[ \"$2\" = list ] || echo \"$*\" >> \"$RUNNER_TEMP/calls\"\n[ \"$1\" != doctor ]\n",
			"qemu-system-x86_64": "#!/bin/sh\n",
		} {
			if err := os.MkdirAll(fake, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(fake, name), []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		w.path = []string{fake}
		if status := w.step(a.Runs.Steps[at]); status != 0 {
			t.Errorf("%s: exit status %d\n%s", c.kernel, status, w.out)
		}
		calls, _ := os.ReadFile(filepath.Join(w.temp, "calls")) // none may have been made
		if got := strings.Join(strings.Split(strings.TrimSpace(string(calls)), "\n"), ", "); got != c.want {
			t.Errorf("%s: %q, wanted %q", c.kernel, got, c.want)
		}
	}
}

// Without a binary, the action builds that of its own source.
func TestActionBuilds(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip(err)
	}
	var a action
	readYAML(t, actionFile, &a)
	w := newWorkspace(t)
	w.values["inputs.binary"], w.values["inputs.version"] = "", ""
	for _, s := range a.Runs.Steps[:2] {
		if status := w.step(s); status != 0 {
			t.Fatalf("%s: exit status %d\n%s", s.Name, status, w.out)
		}
	}
	if !strings.Contains(w.out, "lvslab ") || len(w.path) != 1 {
		t.Errorf("lvslab version says %q; PATH has %v more", w.out, w.path)
	}
	built, err := elf.Open(filepath.Join(w.path[0], "lvslab"))
	if err != nil {
		t.Fatal(err)
	}
	defer built.Close()
	if built.Section(".interp") != nil {
		t.Error("the binary is not static, and could not be a guest's init")
	}
}

// The outputs are those of steps that there are, and every input is used.
func TestActionFile(t *testing.T) {
	t.Parallel()
	var a action
	readYAML(t, actionFile, &a)
	if a.Runs.Using != "composite" || len(a.Inputs) == 0 {
		t.Fatalf("%+v", a)
	}
	ids := make(map[string]bool)
	for _, s := range a.Runs.Steps {
		ids[s.ID] = true
	}
	for name, o := range a.Outputs {
		parts := strings.Split(expression.FindStringSubmatch(o.Value)[1], ".")
		if len(parts) != 4 || !ids[parts[1]] {
			t.Errorf("the output %s is made of %s, which no step has", name, o.Value)
		}
	}
	all := expressions(a)
	for name := range a.Inputs {
		if !strings.Contains(all, "inputs."+name+" ") {
			t.Errorf("the input %s is not used by any step", name)
		}
	}
}

// expressions are all expressions of an action's steps, each with a blank behind it.
func expressions(a action) string {
	var b strings.Builder
	for _, s := range a.Runs.Steps {
		fmt.Fprintf(&b, "%s ", s.If)
		for _, m := range []map[string]string{s.Env, s.With} {
			for _, v := range m {
				for _, e := range expression.FindAllStringSubmatch(v, -1) {
					fmt.Fprintf(&b, "%s ", e[1])
				}
			}
		}
	}
	return b.String()
}
