package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What executes a guest's instructions.
const (
	accelKVM = "kvm"
	accelTCG = "tcg"
)

const kvmDevice = "/dev/kvm"

// KVM says whether the machine's processor is to run guests itself.
type KVM int

const (
	// KVMProven has it where a guest has booted by it, and tries that once: a
	// device that opens, and even a small program that it runs, prove nothing.
	KVMProven KVM = iota
	// KVMNever has the processor emulated.
	KVMNever
	// KVMAlways has it untried, and a guest that does not boot by it fails.
	KVMAlways
)

// KVMVariable is the environment's word on it: 0 for never, 1 for always.
const KVMVariable = "LVSLAB_KVM"

// ParseKVM reads what KVMVariable may be set to.
func ParseKVM(value string) (KVM, error) {
	switch value {
	case "":
		return KVMProven, nil
	case "0":
		return KVMNever, nil
	case "1":
		return KVMAlways, nil
	}
	return KVMProven, fmt.Errorf("%s=%.100q: wanted 1 (use KVM untried), 0 (emulate), or unset (use it where a guest has booted by it)", KVMVariable, value)
}

const (
	// kvmPatience bounds the boot that tries KVM, which takes under a second
	// where it works.
	kvmPatience = 5 * time.Second
	// kvmRefuted is how long a no counts, kvmProved a yes, kvmTrying the no of one
	// who tries: others do not wait for that.
	kvmRefuted = 24 * time.Hour
	kvmProved  = 30 * 24 * time.Hour
	kvmTrying  = 2 * kvmPatience
	// kvmFile is where the answer is kept, in lvslab's folder of the cache.
	kvmFile = "kvm.json"
)

// kvmAnswer is what a boot by KVM came to.
type kvmAnswer struct {
	// Of is what the answer is about: the machine since its last start, its
	// device, and QEMU.
	Of    string `json:"of"`
	Works bool   `json:"works"`
	// Trying says that a boot has begun, and may have come to nothing.
	Trying bool      `json:"trying,omitempty"`
	Why    string    `json:"why,omitempty"`
	At     time.Time `json:"at"`
}

// kvmOf names what an answer is about. A device that was made anew, or that other
// users may open, is another one.
func kvmOf(program string) string {
	id := func(path string) string {
		info, err := os.Stat(path)
		if err != nil {
			return path + " is not there"
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return path
		}
		return fmt.Sprintf("%s %d:%d:%d:%o:%d:%d:%d", path, st.Dev, st.Ino, st.Rdev, st.Mode, st.Uid, st.Gid, st.Ctim.Nano())
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // without it, the release has to do
	return strings.Join([]string{hostRelease(), strings.TrimSpace(string(boot)), id(kvmDevice), id(program)}, "; ")
}

// kvmThere says what keeps this user from KVM; nil where it can be tried.
func kvmThere() error {
	if err := unix.Access(kvmDevice, unix.R_OK|unix.W_OK); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("this machine has no %s", kvmDevice)
		}
		return fmt.Errorf("this user cannot open %s: %w", kvmDevice, err)
	}
	return nil
}

// recallKVM is what is remembered of KVM with this program; false where nothing
// is that still counts.
func recallKVM(cache, program string) (kvmAnswer, bool) {
	var a kvmAnswer
	data, err := os.ReadFile(filepath.Join(cache, kvmFile))
	if err != nil || json.Unmarshal(data, &a) != nil {
		return kvmAnswer{}, false
	}
	age, most := time.Since(a.At), kvmRefuted
	switch {
	case a.Works:
		most = kvmProved
	case a.Trying:
		most = kvmTrying
	}
	return a, a.Of == kvmOf(program) && age >= 0 && age < most
}

// rememberKVM keeps an answer.
func rememberKVM(cache, program string, a kvmAnswer) error {
	a.Of, a.At = kvmOf(program), time.Now().UTC().Truncate(time.Second)
	data, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(cache, kvmFile), append(data, '\n'), 0o600)
}

// forgetKVM has the next guest try.
func forgetKVM(cache string) { _ = os.Remove(filepath.Join(cache, kvmFile)) }

// AboutKVM says, for a person, whether guests get KVM here and why, without a
// boot; tried is false where the next guest will try.
func AboutKVM(cache string, wish KVM) (works, tried bool, why string) {
	switch wish {
	case KVMNever:
		return false, true, KVMVariable + "=0 has the processor emulated"
	case KVMAlways:
		return true, true, KVMVariable + "=1 has guests boot by KVM untried"
	}
	if err := kvmThere(); err != nil {
		return false, true, "the processor is emulated: " + err.Error()
	}
	program, err := findProgram()
	if err == nil {
		program, err = filepath.EvalSymlinks(program)
	}
	if err != nil {
		return false, false, err.Error()
	}
	a, ok := recallKVM(cache, program)
	switch when := a.At.Local().Format("2006-01-02 15:04"); {
	case !ok:
		return false, false, kvmDevice + " can be opened; the next guest will tell whether one boots by it"
	case a.Works:
		return true, true, "a guest has booted by KVM at " + when
	default:
		return false, true, fmt.Sprintf("the processor is emulated, since a guest did not boot by KVM at %s (%s); that is tried again a day later, or when %s changes; %s=1 has it all the same", when, a.Why, kvmDevice, KVMVariable)
	}
}
