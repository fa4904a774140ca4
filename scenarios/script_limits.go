package scenarios

import (
	"fmt"
	"slices"

	"github.com/lvslab/lvslab/topology"
)

// lacks are the things of the lab for which a script has no means, a clause
// each. A script with any says so at its top and sets nothing up.
func (s *script) lacks() []string {
	var out []string
	add := func(format string, args ...any) {
		if l := fmt.Sprintf(format, args...); !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	for _, o := range s.allOps() {
		switch k := o.About().Key; k.Kind {
		case "daemon":
			for _, service := range servicesIn(called(o.Shell(s.dialect)[0])) {
				if !slices.Contains(scriptServices(), service) {
					add("a script has no %s server", service)
				}
			}
		case "mount":
			add("a script has no machines with mounts of their own")
		}
	}
	return out
}

// programs are those of the machine that the lab asks for by name.
func (s *script) programs() []string {
	var out []string
	for _, f := range s.plan.AllNeeds() {
		if name, ok := f.Program(); ok && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// legacyARP is what the steps must know of arptables-legacy-save and -restore,
// which are scripts of Debian's: they call /usr/sbin/arptables, and that is
// another program as soon as the package iptables is installed.
func (s *script) legacyARP() {
	for _, tool := range []string{"arptables-legacy-save", "arptables-legacy-restore"} {
		if slices.Contains(s.stimuli, tool) {
			fmt.Fprintf(&s.text, "  legacy_arp %s\n", tool)
		}
	}
}

const legacyARP = `
# legacy_arp SCRIPT: the script asks the tables that arptables-legacy has
legacy_arp() {
  grep -qs '"/usr/sbin/arptables"' "$(command -v "$1")" || return 0
  [ "$(readlink -f /usr/sbin/arptables)" = "$(readlink -f "$(command -v arptables-legacy)")" ] ||
    fail "$1 calls /usr/sbin/arptables, which is not the legacy one here: update-alternatives --set arptables /usr/sbin/arptables-legacy"
}
`

// needsModule reports whether the lab rests on a module.
func (s *script) needsModule(name string) bool {
	return slices.Contains(s.plan.AllNeeds(), topology.Feature(name))
}
