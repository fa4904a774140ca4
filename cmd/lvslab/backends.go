package main

import (
	"io"
	"os"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/host"
	"github.com/lvslab/lvslab/runner/qemu"
	"github.com/lvslab/lvslab/runner/uml"
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

// kernelWords are the words that --kernel takes.
func kernelWords(bs []runner.Backend) []string {
	words := []string{runner.Auto}
	for _, b := range bs {
		words = append(words, b.Name())
	}
	return words
}
