package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/host"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/qemu"
	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/topology/source"
)

// backends are the kernels that labs can run in, the preferred first. log takes
// lines for a person who asked for more; nil means none.
func backends(log io.Writer) []runner.Backend {
	return []runner.Backend{
		host.New(),
		&uml.Backend{Env: os.Getenv, Modules: guest.Modules, Config: uml.Config{Log: log}},
		&qemu.Backend{Env: os.Getenv, Modules: guest.Modules, Config: qemu.Config{Log: log}},
	}
}

// kernelWords are the words that --kernel takes, those of particular kernels as
// examples.
func kernelWords() []string {
	words := []string{runner.Auto}
	for _, b := range backends(nil) {
		words = append(words, b.Name())
	}
	return append(words, kernel.QEMU.Word("VERSION"), kernel.QEMU.Word(kernel.Debian), kernel.QEMU.Word("/path/to/vmlinuz"))
}

// kernelBackends are the kernels that labs can run in, the one that a single word
// of --kernel names among them under that name: "auto", "host", "uml", "qemu", or
// the last two with one of several kernels behind a colon (kernel.Kind.Choose).
// An error is one of usage; whether that kernel is installed, its Can tells.
func kernelBackends(spec string, log io.Writer) ([]runner.Backend, error) {
	all := backends(log)
	word, which, chosen := strings.Cut(spec, ":")
	for i, b := range all {
		if b.Name() != word {
			continue
		}
		if !chosen {
			return all, nil
		}
		var err error
		switch b := b.(type) {
		case *uml.Backend:
			b.Which, err = which, checkWhich(kernel.UML, which)
		case *qemu.Backend:
			b.Which, err = which, checkWhich(kernel.QEMU, which)
		default:
			err = usageError{fmt.Errorf("--kernel %s: there is one kernel called %s, and nothing to choose behind a colon", spec, all[i].Name())}
		}
		return all, err
	}
	if spec == runner.Auto {
		return all, nil
	}
	known := []string{runner.Auto}
	for _, b := range all {
		known = append(known, b.Name())
	}
	return nil, usageError{errors.New("--kernel: " + source.Unknown("kernel", word, known))}
}

// checkWhich tells of what follows the colon and can be no kernel's word.
func checkWhich(kind kernel.Kind, which string) error {
	err := kernel.CheckWord(kind, which)
	if which == "" {
		err = &kernel.WordError{Kind: kind}
	}
	if err == nil {
		return nil
	}
	text := err.Error()
	if source.Nearest(which, []string{kernel.Debian}) != "" {
		text = fmt.Sprintf("unknown kernel %q, did you mean %q?", kind.Word(which), kind.Word(kernel.Debian))
	}
	return usageError{errors.New("--kernel: " + text)}
}
