package node

import (
	"strings"

	"golang.org/x/sys/unix"
)

const (
	bashShell  = "/bin/bash"
	plainShell = "/bin/sh"
	// Files that shells read first. They are the node's own; the machine's
	// owner's are not looked at, which may ask for what is not here.
	bashRC = OwnFolder + "/bashrc"
	shRC   = OwnFolder + "/shrc"
)

// bashStart is what an interactive bash reads first. The history is one for all
// shells of the node.
const bashStart = `PS1='[\u@NODE \W]\$ '
HISTFILE=` + OwnFolder + `/history
HISTCONTROL=ignoredups
shopt -s checkwinsize histappend
alias ls='ls --color=auto' grep='grep --color=auto'
`

// shStart is what another interactive shell reads first; dash(1) knows no \W.
const shStart = `PS1='[root@NODE $PWD]# '
`

// shell is the shell of the node's person.
func shell(v *view) string {
	// Its rights are looked at when it is run.
	if file, err := v.open(bashShell, unix.O_PATH, 0); err == nil {
		file.Close()
		return bashShell
	}
	return plainShell
}

// Shell is the Args of an interactive shell of the node that f belongs to, whose
// prompt names it: bash where the node has it, else sh. It wants a terminal. A
// shell whose own settings cannot be written, since the node's files are full or
// closed, has the prompt that it has by itself.
func Shell(f *Files, node string) []string {
	v, done, err := f.use()
	if err != nil {
		return []string{plainShell, "-i"}
	}
	program := shell(v)
	done()
	if program == bashShell {
		if err := f.WriteFile(bashRC, []byte(strings.ReplaceAll(bashStart, "NODE", node)), 0o644); err != nil {
			return []string{bashShell, "--noprofile", "--norc", "-i"}
		}
		return []string{bashShell, "--noprofile", "--rcfile", bashRC, "-i"}
	}
	if err := f.WriteFile(shRC, []byte(strings.ReplaceAll(shStart, "NODE", node)), 0o644); err != nil {
		return []string{plainShell, "-i"}
	}
	return []string{plainShell, "-c", "ENV=" + shRC + " exec " + plainShell + " -i"}
}
