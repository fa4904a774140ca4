package topology

import "golang.org/x/sys/unix"

// NeighbourStates are the words of ip-neighbour(8) for the bits of an entry's
// state (NUD_* of linux/neighbour.h).
func NeighbourStates(state int) []string {
	var words []string
	for _, s := range []struct {
		bit  int
		word string
	}{
		{unix.NUD_INCOMPLETE, "INCOMPLETE"},
		{unix.NUD_REACHABLE, "REACHABLE"},
		{unix.NUD_STALE, "STALE"},
		{unix.NUD_DELAY, "DELAY"},
		{unix.NUD_PROBE, "PROBE"},
		{unix.NUD_FAILED, "FAILED"},
		{unix.NUD_PERMANENT, "PERMANENT"},
	} {
		if state&s.bit != 0 {
			words = append(words, s.word)
		}
	}
	return words
}
