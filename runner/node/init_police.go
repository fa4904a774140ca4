package node

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// strayProcesses is how many processes a node may have that belong to no
	// program that runs: daemons, and what shells have left behind.
	strayProcesses = 512
	// nodeProcesses is how many processes the programs of a node may have at
	// once, all in all.
	nodeProcesses = 2048
	// killRounds bounds how often it is looked for processes that a group has
	// made while it was being killed.
	killRounds = 100
)

// process is one of the node's.
type process struct{ pid, parent, session int }

// police is the look of init's guard: it kills the processes of programs that
// have too many. No limit of setrlimit(2) binds root, see Run.
func (i *initState) police() func(*table) {
	idle := false
	return func(t *table) {
		i.mu.Lock()
		for idle && len(i.running) == 0 {
			i.more.Wait()
		}
		least := strayProcesses
		for _, p := range i.running {
			least = min(least, p.limit)
		}
		none := len(i.running) == 0
		i.mu.Unlock()
		count := len(t.list(least))
		// With none but init there is nothing to look at before a program is
		// started, and hundreds of nodes cost nothing.
		idle = none && count <= 1
		if count > least {
			i.judge(t)
		}
	}
}

// judge finds out whose processes are too many and kills them.
func (i *initState) judge(t *table) {
	all := t.processes()
	if len(all) > nodeProcesses {
		// Late on a busy machine. All of them stand still while it is found out
		// whose they are, so that only who made too many is killed for it.
		_ = unix.Kill(-1, unix.SIGSTOP)
		defer func() { _ = unix.Kill(-1, unix.SIGCONT) }()
		all = t.processes()
	}
	if !i.judgeEach(t, all) && len(all) > nodeProcesses {
		i.mu.Lock()
		for _, p := range i.running {
			p.note = tooMany("the node", nodeProcesses)
		}
		i.mu.Unlock()
		_ = unix.Kill(-1, unix.SIGKILL)
	}
}

// judgeEach kills the programs that have too many, and what was left behind if
// that is too much. It reports whether there was any such.
func (i *initState) judgeEach(t *table, all []process) (found bool) {
	i.mu.Lock()
	programs := make([]*started, 0, len(i.running))
	for _, p := range i.running {
		programs = append(programs, p)
	}
	i.mu.Unlock()
	for _, p := range programs {
		if len(membersOf(all, p.pid)) > p.limit {
			found = true
			i.mu.Lock()
			p.note = tooMany("the program", p.limit)
			i.mu.Unlock()
			i.killStill(t, func(all []process) []int { return membersOf(all, p.pid) })
		}
	}
	strays := func(all []process) []int { return strangers(all, programs) }
	if len(strays(all)) > strayProcesses {
		found = true
		i.mu.Lock()
		for _, p := range programs {
			p.note = tooMany("what was left in the background", strayProcesses)
		}
		i.mu.Unlock()
		i.killStill(t, strays)
	}
	return found
}

// killStill is killAll with all processes of the node stopped meanwhile: on
// another CPU a fork bomb makes as many as one can look at.
func (i *initState) killStill(t *table, choose func([]process) []int) {
	_ = unix.Kill(-1, unix.SIGSTOP)
	i.killAll(t, choose)
	_ = unix.Kill(-1, unix.SIGCONT)
}

func tooMany(who string, limit int) string {
	return fmt.Sprintf("\r\nlvslab: %s had more than %d processes at once: they were killed\r\n", who, limit)
}

// kill kills a program and all that belongs to it.
func (i *initState) kill(id uint64) {
	t, err := openTable()
	if err != nil {
		return
	}
	defer unix.Close(t.fd)
	i.mu.Lock()
	p := i.find(id)
	i.mu.Unlock()
	if p != nil {
		i.killAll(t, func(all []process) []int { return membersOf(all, p.pid) })
	}
}

// killAll kills those that choose finds until it finds no others. A process with
// SIGKILL on it makes no more; to die it needs a turn of the CPU, which it may
// not get while this thread is at work.
func (i *initState) killAll(t *table, choose func([]process) []int) {
	killed := make(map[int]bool)
	for range killRounds {
		fresh := false
		for _, pid := range choose(t.processes()) {
			if !killed[pid] {
				killed[pid], fresh = true, true
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		if !fresh {
			return
		}
	}
}

// processes are the node's that live, but init.
func (t *table) processes() []process {
	const enough = 2 * nodeProcesses
	var all []process
	for _, pid := range t.list(enough) {
		if pid == "1" {
			continue
		}
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			continue // it has ended
		}
		if p, alive := parseStat(stat); alive {
			all = append(all, p)
		}
	}
	return all
}

// parseStat reads a line of proc_pid_stat(5).
func parseStat(stat []byte) (p process, alive bool) {
	// The name in parentheses may hold anything.
	open, end := bytes.IndexByte(stat, ' '), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < 0 {
		return p, false
	}
	fields := bytes.Fields(stat[end+1:])
	if len(fields) < 4 {
		return p, false
	}
	for at, field := range map[*int][]byte{&p.pid: stat[:open], &p.parent: fields[1], &p.session: fields[3]} {
		n, err := strconv.Atoi(string(field))
		if err != nil {
			return p, false
		}
		*at = n
	}
	state := fields[0][0]
	return p, state != 'Z' && state != 'X'
}

// membersOf are the processes of a session, and all that descend from them.
func membersOf(all []process, session int) []int {
	children := make(map[int][]int)
	var members []int
	in := make(map[int]bool)
	add := func(pid int) {
		if !in[pid] {
			in[pid] = true
			members = append(members, pid)
		}
	}
	for _, p := range all {
		children[p.parent] = append(children[p.parent], p.pid)
		if p.session == session || p.pid == session {
			add(p.pid)
		}
	}
	for i := 0; i < len(members); i++ {
		for _, c := range children[members[i]] {
			add(c)
		}
	}
	return members
}

// strangers are the processes that belong to none of the programs.
func strangers(all []process, programs []*started) []int {
	known := make(map[int]bool)
	for _, p := range programs {
		for _, pid := range membersOf(all, p.pid) {
			known[pid] = true
		}
	}
	var others []int
	for _, p := range all {
		if !known[p.pid] {
			others = append(others, p.pid)
		}
	}
	return others
}
