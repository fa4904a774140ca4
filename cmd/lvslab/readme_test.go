package main

import (
	"os"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/assert"
	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/scenarios"
)

// TestReadme holds the README to what lvslab knows: its lab loads, every
// chapter, action and expectation is named, and no verb that is not there.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(data)
	_, rest, found := strings.Cut(readme, "```yaml\n")
	lab, _, ended := strings.Cut(rest, "```")
	if !found || !ended {
		t.Fatal("the README shows no lab")
	}
	loaded, err := scenarios.Load("README.md", "readme", []byte(lab))
	if err != nil {
		t.Fatalf("the README's lab: %v", err)
	}
	if _, err := loaded[0].Plan(); err != nil {
		t.Errorf("the README's lab: %v", err)
	}
	for _, c := range labs.Chapters() {
		if !strings.Contains(readme, "`"+c+"`") {
			t.Errorf("the README does not name the chapter %s", c)
		}
	}
	for _, word := range append(assert.Kinds(), scenarios.ActionKinds()...) {
		if !strings.Contains(readme, "`"+word+"`") && !strings.Contains(readme, "`"+word+":") {
			t.Errorf("the README does not name %s", word)
		}
	}
	var verbs []string
	for _, c := range (&app{}).root().Commands() {
		verbs = append(verbs, c.Name())
	}
	known := " " + strings.Join(verbs, " ") + " "
	for line := range strings.Lines(readme) {
		// What is typed is indented as code.
		if after, ok := strings.CutPrefix(line, "    lvslab "); ok && !strings.Contains(known, " "+strings.Fields(after)[0]+" ") {
			t.Errorf("the README types %q, and there is no such verb", strings.TrimSpace(line))
		}
	}
}
