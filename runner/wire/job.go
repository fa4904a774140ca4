package wire

import "time"

// Job is what a backend is asked to run.
type Job struct {
	Version int `json:"version"`
	// Files are the lab files whole, so that a guest needs no path of its
	// caller's and errors name the caller's.
	Files []File `json:"files"`
	// Labs are the names of the labs to run, in order.
	Labs []string `json:"labs"`
	// Omit are the roles to leave out of every plan, on purpose.
	Omit []string `json:"omit,omitempty"`
	// FailFast ends the run after the first lab that did not pass.
	FailFast bool `json:"fail_fast,omitempty"`
	// Parallel is how many labs run at once; 0 means the engine's default.
	Parallel int `json:"parallel,omitempty"`
	// Timeout bounds one lab; 0 means the engine's default.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Capture asks for Captured events: the packets of every step.
	Capture bool `json:"capture,omitempty"`
	// Verbose asks for Log events.
	Verbose bool `json:"verbose,omitempty"`
	// HostileInit sets the sysctls of the initial namespace to values that
	// would spoil a lab that does not pin its own. For tests.
	HostileInit bool `json:"hostile_init,omitempty"`
	// Probe are features that are asked about in place of running labs: a Log
	// event for each, whose Message is a probe.Answer in JSON. The machine's own
	// kernel, used without root, is asked so.
	Probe []string `json:"probe,omitempty"`
}

// File is one lab file. Prefix is put before the names of its labs.
type File struct {
	// Path is the name shown in errors.
	Path string `json:"path"`
	// Name is the lab's name: "dr/arptables" for a shipped lab, else the
	// file's base name without its ending.
	Name string `json:"name"`
	Data []byte `json:"data"`
	// Set are assignments that are laid over the file's labs, as scenarios.Load
	// takes them: virtual_services.web.scheduler=wrr.
	Set []string `json:"set,omitempty"`
	// Omit are roles to leave out of the plans of this file's labs, besides
	// those of the Job.
	Omit []string `json:"omit,omitempty"`
}
