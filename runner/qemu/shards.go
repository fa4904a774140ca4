package qemu

import "github.com/lvslab/lvslab/runner"

var _ runner.Shards = (*Backend)(nil)

// Shards implements runner.Shards: one machine, unless more are asked for. A
// machine without KVM takes a CPU to emulate another and half a minute to boot,
// so that more of them are seldom sooner done.
func (b *Backend) Shards() int { return 1 }
