package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// workflow is what the tests want of a workflow of GitHub's.
type workflow struct {
	Name string `yaml:"name"`
	Jobs map[string]struct {
		Needs    string `yaml:"needs"`
		If       string `yaml:"if"`
		Strategy struct {
			FailFast *bool            `yaml:"fail-fast"`
			Matrix   map[string][]int `yaml:"matrix"`
		} `yaml:"strategy"`
		Steps []step `yaml:"steps"`
	} `yaml:"jobs"`
}

// gitlabJob is a job of GitLab's.
type gitlabJob struct {
	Extends      string            `yaml:"extends"`
	Stage        string            `yaml:"stage"`
	Parallel     int               `yaml:"parallel"`
	BeforeScript []string          `yaml:"before_script"`
	Script       []string          `yaml:"script"`
	Variables    map[string]string `yaml:"variables"`
	Artifacts    struct {
		Paths   []string          `yaml:"paths"`
		Reports map[string]string `yaml:"reports"`
	} `yaml:"artifacts"`
}

// kubernetesJob is a Job of Kubernetes'.
type kubernetesJob struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Spec       struct {
		CompletionMode       string `yaml:"completionMode"`
		Completions          int    `yaml:"completions"`
		Parallelism          int    `yaml:"parallelism"`
		BackoffLimitPerIndex *int   `yaml:"backoffLimitPerIndex"`
		MaxFailedIndexes     int    `yaml:"maxFailedIndexes"`
		Template             struct {
			Spec struct {
				RestartPolicy string         `yaml:"restartPolicy"`
				Containers    []podContainer `yaml:"containers"`
				Volumes       []struct {
					Name string `yaml:"name"`
				} `yaml:"volumes"`
			} `yaml:"spec"`
		} `yaml:"template"`
	} `yaml:"spec"`
}

type podContainer struct {
	Command []string `yaml:"command"`
	Args    []string `yaml:"args"`
	Env     []struct {
		Name  string `yaml:"name"`
		Value string `yaml:"value"`
	} `yaml:"env"`
	VolumeMounts []struct {
		Name      string `yaml:"name"`
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

// twoLabs are the labs of these runs: with more shards than labs, some have
// nothing to do.
func (w *workspace) twoLabs(dir string) {
	w.t.Helper()
	w.write(filepath.Join(dir, "one.yaml"), ciPass)
	w.write(filepath.Join(dir, "two.yaml"), strings.Replace(ciPass, "Passes", "Passes too", 1))
}

// merged checks that a report of all shards has both labs, and all of the shards.
func (w *workspace) merged(status int, junit string) {
	w.t.Helper()
	if status != 0 || !strings.Contains(w.out, "2 labs: 2 passed") || strings.Contains(w.out, "missing") {
		w.t.Errorf("merging: exit status %d, and\n%s", status, w.out)
	}
	if s := w.read(junit); strings.Count(s, "<testsuite ") < 1 || !strings.Contains(s, "one") || !strings.Contains(s, "two") {
		w.t.Errorf("%s:\n%s", junit, s)
	}
}

// The workflow of this repository: its shards run by the action, as many as the
// matrix has, and its other job merges what they upload.
func TestWorkflowShards(t *testing.T) {
	t.Parallel()
	var f workflow
	readYAML(t, "../../.github/workflows/labs.yml", &f)
	w := newWorkspace(t)
	w.needKernel()
	w.twoLabs("labs")
	shard := f.Jobs["shard"]
	if shard.Strategy.FailFast == nil || *shard.Strategy.FailFast {
		t.Error("the first shard that fails ends the others")
	}
	at := slices.IndexFunc(shard.Steps, func(s step) bool { return s.Uses == "./.github/actions/lvslab" })
	parts := shard.Strategy.Matrix["shard"]
	for i, n := range parts {
		w.values["matrix.shard"] = strconv.Itoa(n)
		with := map[string]string{"labs": "labs", "binary": w.env["LVSLAB"]}
		for name, value := range shard.Steps[at].With {
			with[name] = value
		}
		if n != i+1 || !strings.HasSuffix(with["shard"], fmt.Sprintf("/%d", len(parts))) {
			t.Fatalf("part %d of the matrix %v is run as %s", n, parts, with["shard"])
		}
		if status := w.use(with); status != 0 {
			t.Fatalf("shard %d: exit status %d\n%s", n, status, w.out)
		}
	}
	// What upload-artifact takes, download-artifact puts into a folder.
	merge := f.Jobs["merge"]
	if merge.Needs != "shard" || !strings.Contains(merge.If, "always()") {
		t.Errorf("the merging job needs %q, if %q", merge.Needs, merge.If)
	}
	for _, s := range merge.Steps {
		if name, _, _ := strings.Cut(s.Uses, "@"); name == "actions/download-artifact" {
			w.download(s.With)
		}
	}
	w.write("bin/lvslab", "#!/bin/sh\nexec \"$LVSLAB\" \"$@\"\n")
	if err := os.Chmod(filepath.Join(w.dir, "bin/lvslab"), 0o755); err != nil {
		t.Fatal(err)
	}
	at = slices.IndexFunc(merge.Steps, func(s step) bool { return strings.Contains(s.Run, "report merge") })
	w.merged(w.step(merge.Steps[at]), filepath.Join(w.dir, "lvslab.xml"))

	// A shard that nobody uploaded is missed.
	if err := os.Remove(filepath.Join(w.dir, "shards", "shard-2.json")); err != nil {
		t.Fatal(err)
	}
	if status := w.step(merge.Steps[at]); status != 3 || !strings.Contains(w.out, "shard 2 of 4 is missing") {
		t.Errorf("without one of the shards: exit status %d, and\n%s", status, w.out)
	}
}

// download puts what was uploaded into a folder, all of it together.
func (w *workspace) download(with map[string]string) {
	w.t.Helper()
	if with["merge-multiple"] != "true" {
		w.t.Error("each artifact is downloaded into a folder of its own")
	}
	for name, paths := range w.uploads {
		if ok, err := filepath.Match(with["pattern"], name); err != nil || !ok {
			continue
		}
		for _, path := range paths {
			if data, err := os.ReadFile(path); err == nil { // not of folders
				w.write(filepath.Join(with["path"], filepath.Base(path)), string(data))
			}
		}
	}
}

// Each step of a workflow that uses the action gives it inputs that it has.
func TestWorkflowInputs(t *testing.T) {
	t.Parallel()
	var a action
	readYAML(t, actionFile, &a)
	for _, file := range []string{"../../.github/workflows/labs.yml", "../../.github/examples/github.yml"} {
		var f workflow
		readYAML(t, file, &f)
		uses := 0
		for name, job := range f.Jobs {
			for _, s := range job.Steps {
				if !strings.Contains(s.Uses, ".github/actions/lvslab") {
					continue
				}
				uses++
				for input := range s.With {
					if _, ok := a.Inputs[input]; !ok {
						t.Errorf("%s: job %s: the action has no input %q", file, name, input)
					}
				}
				if n := len(job.Strategy.Matrix["shard"]); n > 0 && s.With["shard"] != fmt.Sprintf("${{ matrix.shard }}/%d", n) {
					t.Errorf("%s: job %s: %d shards, run as %s", file, name, n, s.With["shard"])
				}
			}
		}
		if uses == 0 {
			t.Errorf("%s uses no action", file)
		}
	}
}

// The example for GitLab, all its scripts.
func TestGitLabShards(t *testing.T) {
	t.Parallel()
	var jobs struct {
		Variables map[string]string `yaml:"variables"`
		Stages    []string          `yaml:"stages"`
		Base      gitlabJob         `yaml:".lvslab"`
		Labs      gitlabJob         `yaml:"labs"`
		Report    gitlabJob         `yaml:"report"`
	}
	readYAML(t, "../../.github/examples/gitlab-ci.yml", &jobs)
	if jobs.Labs.Extends != ".lvslab" || jobs.Report.Extends != ".lvslab" || !slices.Equal(jobs.Stages, []string{jobs.Labs.Stage, jobs.Report.Stage}) {
		t.Fatalf("%+v", jobs)
	}
	w := newWorkspace(t)
	w.needKernel()
	w.twoLabs("labs")
	w.path = []string{filepath.Dir(w.env["LVSLAB"])}
	env := map[string]string{"CI_PROJECT_DIR": w.dir, "CI_NODE_TOTAL": strconv.Itoa(jobs.Labs.Parallel), "GITHUB_ACTIONS": ""}
	for name, value := range jobs.Variables {
		env[name] = strings.ReplaceAll(value, "$CI_PROJECT_DIR", w.dir)
	}
	env["XDG_CACHE_HOME"] = w.env["XDG_CACHE_HOME"] // has the kernel, as if from GitLab's cache
	script := func(j gitlabJob) string {
		return strings.Join(append(slices.Clone(jobs.Base.BeforeScript), j.Script...), "\n")
	}
	for n := range jobs.Labs.Parallel {
		env["CI_NODE_INDEX"] = strconv.Itoa(n + 1)
		if status := w.bash(script(jobs.Labs), env); status != 0 {
			t.Fatalf("shard %d: exit status %d\n%s", n+1, status, w.out)
		}
	}
	for _, pattern := range jobs.Labs.Artifacts.Paths {
		if found, err := filepath.Glob(filepath.Join(w.dir, pattern)); err != nil || len(found) == 0 {
			t.Errorf("the job keeps %s, and there is none (%v)", pattern, err)
		}
	}
	w.merged(w.bash(script(jobs.Report), env), filepath.Join(w.dir, jobs.Report.Artifacts.Reports["junit"]))
}

// The examples for Kubernetes: every pod of the Indexed Job, told nothing but its
// index, and the job that merges.
func TestKubernetesShards(t *testing.T) {
	t.Parallel()
	var job, merge kubernetesJob
	readYAML(t, "../../.github/examples/kubernetes-job.yaml", &job)
	readYAML(t, "../../.github/examples/kubernetes-merge.yaml", &merge)
	s := job.Spec
	if job.APIVersion != "batch/v1" || job.Kind != "Job" || s.CompletionMode != "Indexed" || s.Completions < 2 || s.Parallelism != s.Completions {
		t.Fatalf("%+v", job)
	}
	if s.BackoffLimitPerIndex == nil || *s.BackoffLimitPerIndex != 0 || s.MaxFailedIndexes != s.Completions || s.Template.Spec.RestartPolicy != "Never" {
		t.Errorf("a shard that fails is tried again, or ends the others: %+v", s)
	}
	pod := s.Template.Spec.Containers[0]
	if !slices.Contains(pod.Args, fmt.Sprintf("--shard=auto/%d", s.Completions)) {
		t.Errorf("%d completions, and the arguments are %q", s.Completions, pod.Args)
	}
	w := newWorkspace(t)
	w.needKernel()
	w.twoLabs("labs")
	for _, dir := range []string{"bin", "results"} {
		if err := os.Mkdir(filepath.Join(w.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{w.env["LVSLAB"]: "bin/lvslab", w.env["XDG_CACHE_HOME"]: "cache"} {
		if err := os.Symlink(from, filepath.Join(w.dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	for index := range s.Completions {
		if status := w.pod(pod, strconv.Itoa(index)); status != 0 {
			t.Fatalf("pod %d: exit status %d\n%s", index, status, w.out)
		}
	}
	w.merged(w.pod(merge.Spec.Template.Spec.Containers[0], ""), filepath.Join(w.dir, "results/lvslab.xml"))
}

var dependent = regexp.MustCompile(`\$\((\w+)\)`)

// pod runs a container's command, with the volume's folder in the place of where
// it is mounted. Kubernetes puts values into $(NAME) itself.
func (w *workspace) pod(c podContainer, index string) int {
	w.t.Helper()
	env := map[string]string{"GITHUB_ACTIONS": ""}
	if index != "" {
		env["JOB_COMPLETION_INDEX"] = index
	}
	here := func(text string) string {
		text = dependent.ReplaceAllStringFunc(text, func(v string) string { return env[dependent.FindStringSubmatch(v)[1]] })
		return strings.ReplaceAll(text, c.VolumeMounts[0].MountPath+"/", w.dir+"/")
	}
	for _, e := range c.Env {
		if e.Name != "HOME" {
			env[e.Name] = here(e.Value)
		}
	}
	var words []string
	for _, word := range append(slices.Clone(c.Command), c.Args...) {
		words = append(words, shellWord(here(word)))
	}
	return w.bash(strings.Join(words, " "), env)
}
