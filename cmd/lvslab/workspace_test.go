package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/runner/kernel"
)

// workspace is a job's machine, as far as the scripts of steps see one.
type workspace struct {
	t *testing.T
	// dir is the folder that the repository is checked out to, temp RUNNER_TEMP.
	dir, temp string
	// values are those of expressions: "inputs.labs", "matrix.shard".
	values map[string]string
	// path is what GITHUB_PATH has added, env what the job has.
	path []string
	env  map[string]string
	// uploads are the paths of each artifact that was uploaded.
	uploads map[string][]string
	// out is what the last step has written.
	out string
}

// newWorkspace is a machine with a cache that has the kernel of this one.
func newWorkspace(t *testing.T) *workspace {
	t.Helper()
	w := &workspace{t: t, dir: t.TempDir(), temp: t.TempDir(), values: make(map[string]string), env: make(map[string]string), uploads: make(map[string][]string)}
	program, err := exec.LookPath("lvslab") // testscript.Main has put it there
	if err != nil {
		t.Fatal(err)
	}
	w.env["LVSLAB"] = program
	w.values["runner.temp"] = w.temp
	w.values["github.action_path"], err = filepath.Abs(filepath.Dir(actionFile))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// needKernel gives the machine a cache with a kernel in it, or skips the test.
func (w *workspace) needKernel() {
	w.t.Helper()
	ok, err := condition("guest")
	if err != nil {
		w.t.Fatal(err)
	}
	k, there := installed(kernel.UML, "")
	if !ok || !there {
		if os.Getenv("LVSLAB_REQUIRE") != "" && !raceEnabled {
			w.t.Fatal("LVSLAB_REQUIRE is set, and no guest kernel is in the cache: lvslab kernel install")
		}
		w.t.Skip("no guest kernel is in the cache")
	}
	cache := filepath.Join(w.temp, "cache", "lvslab")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		w.t.Fatal(err)
	}
	kernels, err := cacheFolder()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.Symlink(kernels, filepath.Join(cache, "kernels")); err != nil {
		w.t.Fatal(err)
	}
	w.env["XDG_CACHE_HOME"] = filepath.Dir(cache)
	w.t.Logf("the kernel is %s", k)
}

func (w *workspace) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *workspace) read(path string) string {
	w.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

var expression = regexp.MustCompile(`\$\{\{ *(.*?) *\}\}`)

// expand puts the values of expressions into a text.
func (w *workspace) expand(text string) string {
	w.t.Helper()
	return expression.ReplaceAllStringFunc(text, func(e string) string { return w.value(expression.FindStringSubmatch(e)[1]) })
}

// value is that of 'text', a number, or a name of the context.
func (w *workspace) value(word string) string {
	w.t.Helper()
	word = strings.TrimSpace(word)
	if text, ok := strings.CutPrefix(word, "'"); ok {
		return strings.TrimSuffix(text, "'")
	}
	v, ok := w.values[word]
	if !ok {
		w.t.Fatalf("the expression %q is not known; known are %q", word, slices.Sorted(maps.Keys(w.values)))
	}
	return v
}

// holds evaluates the conditions that the steps here have.
func (w *workspace) holds(condition string, failed bool) bool {
	w.t.Helper()
	always := false
	for term := range strings.SplitSeq(condition, "&&") {
		term = strings.TrimSpace(term)
		switch a, b, ok := strings.Cut(term, " == "); {
		case term == "":
		case term == "always()":
			always = true
		case ok && w.value(a) != w.value(b):
			return false
		case !ok:
			a, b, ok = strings.Cut(term, " != ")
			if !ok {
				w.t.Fatalf("the condition %q is not understood", term)
			}
			if w.value(a) == w.value(b) {
				return false
			}
		}
	}
	return always || !failed
}

// bash runs a step's script as GitHub does, and returns its exit status.
func (w *workspace) bash(script string, env map[string]string) int {
	w.t.Helper()
	files := map[string]string{}
	for _, name := range []string{"GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY"} {
		files[name] = filepath.Join(w.temp, name)
		if name != "GITHUB_STEP_SUMMARY" {
			_ = os.Remove(files[name]) // each step has its own
		}
	}
	file := filepath.Join(w.temp, "script.sh")
	if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(w.t.Context(), "bash", "--noprofile", "--norc", "-eo", "pipefail", file)
	cmd.Dir = w.dir
	cmd.Env = []string{
		"PATH=" + strings.Join(append(slices.Clone(w.path), os.Getenv("PATH")), ":"), "HOME=" + os.Getenv("HOME"),
		"GITHUB_ACTIONS=true", "GITHUB_WORKSPACE=" + w.dir, "RUNNER_TEMP=" + w.temp,
		"GITHUB_ACTION_PATH=" + w.values["github.action_path"], "GOFLAGS=-buildvcs=false",
	}
	for _, more := range []map[string]string{files, w.env, env} {
		for name, value := range more {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	out, err := cmd.CombinedOutput()
	w.out = string(out)
	if cmd.ProcessState == nil {
		w.t.Fatalf("bash: %v", err)
	}
	if added, err := os.ReadFile(files["GITHUB_PATH"]); err == nil {
		w.path = append(strings.Fields(string(added)), w.path...)
	}
	return cmd.ProcessState.ExitCode()
}

// step does one step, and returns its exit status. Actions of others' are not
// run: what they would be told is checked, and what they would say is in values.
func (w *workspace) step(s step) int {
	w.t.Helper()
	if s.Run != "" {
		env := make(map[string]string)
		for name, value := range s.Env {
			env[name] = w.expand(value)
		}
		if expression.MatchString(s.Run) {
			w.t.Errorf("step %q has an expression in its script, which is read as a piece of it", s.Name)
		}
		status := w.bash(s.Run, env)
		if s.ID != "" {
			said, _ := os.ReadFile(filepath.Join(w.temp, "GITHUB_OUTPUT")) // a step may say nothing
			for line := range strings.Lines(string(said)) {
				if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
					w.values["steps."+s.ID+".outputs."+name] = value
				}
			}
		}
		return status
	}
	name, _, _ := strings.Cut(s.Uses, "@")
	with := make(map[string]string)
	for key, value := range s.With {
		with[key] = w.expand(value)
	}
	switch name {
	case "actions/setup-go":
		if _, err := os.Stat(filepath.Clean(with["go-version-file"])); err != nil {
			w.t.Error(err)
		}
	case "actions/cache/restore":
		if !strings.HasPrefix(with["key"], with["restore-keys"]) || with["restore-keys"] == "" || with["path"] == "" {
			w.t.Errorf("the cache is restored with %q", with)
		}
		w.values["steps."+s.ID+".outputs.cache-matched-key"] = ""
	case "actions/cache/save":
		if strings.ContainsAny(with["key"], ", \n") || len(with["key"]) > 512 || strings.HasSuffix(with["key"], "-none") {
			w.t.Errorf("the cache is saved with the key %q", with["key"])
		}
		if _, err := os.Stat(with["path"]); err != nil {
			w.t.Error(err)
		}
	case "actions/upload-artifact":
		for path := range strings.FieldsSeq(with["path"]) {
			w.uploads[with["name"]] = append(w.uploads[with["name"]], filepath.Join(w.dir, path))
		}
	default:
		w.t.Fatalf("the step uses %s, which this test does not know", s.Uses)
	}
	return 0
}

// use runs the action as a step of a job, and returns its exit status.
func (w *workspace) use(with map[string]string) int {
	w.t.Helper()
	var a action
	readYAML(w.t, actionFile, &a)
	for name, in := range a.Inputs {
		if in.Description == "" || in.Default == nil {
			w.t.Errorf("the input %s has no description, or no default", name)
			continue
		}
		w.values["inputs."+name] = *in.Default
	}
	for name, value := range with {
		if _, ok := a.Inputs[name]; !ok {
			w.t.Errorf("the action has no input %q", name)
		}
		w.values["inputs."+name] = w.expand(value)
	}
	status, out := 0, ""
	for _, s := range a.Runs.Steps {
		if s.Run != "" && s.Shell != "bash" {
			w.t.Errorf("step %q has the shell %q; a composite action names one", s.Name, s.Shell)
		}
		if !w.holds(s.If, status != 0) {
			continue
		}
		if got := w.step(s); got != 0 {
			status = got
			w.t.Logf("step %q ends with %d", s.Name, got)
		}
		if s.Run != "" {
			out = w.out
		}
	}
	w.out = out
	return status
}
