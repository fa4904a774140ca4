package main

import (
	"fmt"
	"os"

	"github.com/lvslab/lvslab/runner"
)

// mostTimings bounds a file of --timings, in bytes: events carry evidence.
const mostTimings = 256 << 20

// readTimings reads the file of --timings.
func readTimings(path string) (runner.Timings, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > mostTimings {
		err = fmt.Errorf("it has %d MB; at most %d MB are read", info.Size()>>20, mostTimings>>20)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	var timings runner.Timings
	if err == nil {
		timings, err = runner.ReadTimings(data)
	}
	if err != nil {
		return nil, fmt.Errorf("--timings %s: %w", path, plainError(err))
	}
	return timings, nil
}
