package machine

import "fmt"

// Rung is a degree of isolation. Each promises that a guest cannot write the
// host's files and that SIGKILL of lvslab leaves nothing.
type Rung int

const (
	// Auto is the highest rung that works.
	Auto Rung = iota
	// Root: PID and mount namespaces, made by a privileged user.
	Root
	// UserNS: the same inside a user namespace, for anybody.
	UserNS
	// Bare: no namespaces. Landlock keeps the kernel's hands off the host's
	// files where this machine's kernel has it; the supervisor kills what is
	// left.
	Bare
)

// Rungs are all but Auto, highest first.
func Rungs() []Rung { return []Rung{Root, UserNS, Bare} }

func (r Rung) String() string {
	switch r {
	case Auto:
		return "auto"
	case Root:
		return "root"
	case UserNS:
		return "userns"
	case Bare:
		return "bare"
	}
	return fmt.Sprintf("Rung(%d)", int(r))
}

// Gives says what a rung that works is worth.
func (r Rung) Gives() string {
	switch r {
	case Root:
		return "PID and mount namespaces; the host's files are read-only to the guest"
	case UserNS:
		return "user, PID and mount namespaces; the host's files are read-only to the guest"
	case Bare:
		if landlockChanges() == 0 {
			return "no namespaces, and no Landlock in this kernel: only the guest's own read-only root protects the host's files"
		}
		return "no namespaces; Landlock keeps the guest from writing the host's files"
	}
	return ""
}
