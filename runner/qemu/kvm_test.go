package qemu

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestParseKVM(t *testing.T) {
	for value, want := range map[string]KVM{"": KVMProven, "0": KVMNever, "1": KVMAlways} {
		if got, err := ParseKVM(value); got != want || err != nil {
			t.Errorf("%q: %v, %v", value, got, err)
		}
	}
	for _, value := range []string{"yes", "2", " 1"} {
		if _, err := ParseKVM(value); err == nil {
			t.Errorf("%q is taken", value)
		}
	}
}

func TestRememberKVM(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "cache")
	program := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, ok := recallKVM(cache, program); ok {
		t.Error("an answer without a question")
	}
	for name, tt := range map[string]struct {
		a    kvmAnswer
		age  time.Duration
		want bool
	}{
		"no":            {kvmAnswer{Why: "it hung"}, time.Hour, true},
		"an old no":     {kvmAnswer{Why: "it hung"}, 25 * time.Hour, false},
		"yes":           {kvmAnswer{Works: true}, 25 * time.Hour, true},
		"an old yes":    {kvmAnswer{Works: true}, 31 * 24 * time.Hour, false},
		"trying":        {kvmAnswer{Trying: true}, 0, true},
		"a killed try":  {kvmAnswer{Trying: true}, time.Minute, false},
		"of the future": {kvmAnswer{Works: true}, -time.Hour, false},
	} {
		if err := rememberKVM(cache, program, tt.a); err != nil {
			t.Fatal(err)
		}
		a, _ := recallKVM(cache, program)
		a.At = a.At.Add(-tt.age)
		data, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(cache, kvmFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, ok := recallKVM(cache, program); ok != tt.want || ok && (got.Works != tt.a.Works || got.Why != tt.a.Why) {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
	if err := rememberKVM(cache, program, kvmAnswer{Works: true}); err != nil {
		t.Fatal(err)
	}
	// Another QEMU is another matter, and so is half a file.
	if err := os.Chmod(program, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, ok := recallKVM(cache, program); ok {
		t.Error("the answer of another QEMU")
	}
	if err := os.WriteFile(filepath.Join(cache, kvmFile), []byte(`{"of": "`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := recallKVM(cache, program); ok {
		t.Error("half an answer")
	}
	forgetKVM(cache)
	if err := rememberKVM("/proc/nowhere", program, kvmAnswer{}); err == nil {
		t.Error("remembered nowhere")
	}
}
