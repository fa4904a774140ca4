package serve

import (
	"net"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Logger is a daemon that tells who asked it.
type Logger interface {
	// Log is its last questions, LogLines at most, the oldest first, each with
	// its time of day and the address and port that it came from.
	Log() []string
}

// LogLines bounds what a daemon keeps of who asked it.
const LogLines = 200

// logWidth bounds a line's text, in bytes.
const logWidth = 200

// accessLog is who asked a server, in a ring. What is kept of a question is cheap:
// it is put into words when somebody wants to see it. A nil one keeps nothing.
type accessLog struct {
	mu   sync.Mutex
	ring []question // at most LogLines, the oldest at next when it is full
	next int
}

type question struct {
	at   time.Time
	peer string
	// verb and what are its words, "GET" and "/".
	verb, what string
}

// add notes a question. The ring grows to its size by and by: most servers are
// asked a few times.
func (l *accessLog) add(peer, verb, what string) {
	if l == nil {
		return
	}
	if len(what) > logWidth {
		what = what[:logWidth] + "…"
	}
	q := question{time.Now(), peer, verb, strings.Clone(what)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ring) < LogLines {
		l.ring = append(l.ring, q)
		return
	}
	l.ring[l.next] = q
	l.next = (l.next + 1) % LogLines
}

// logTime is the time of day of a line, to the millisecond.
const logTime = "15:04:05.000"

func (l *accessLog) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for i := range l.ring {
		q := l.ring[(l.next+i)%len(l.ring)]
		lines = append(lines, strings.TrimRight(q.at.Format(logTime)+" "+q.peer+" "+q.verb+" "+printable(q.what), " "))
	}
	return lines
}

// printable is a client's text as a line that a terminal can be shown.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// asked notes a question of a peer.
func (h host) asked(peer net.Addr, verb, what string) {
	if peer != nil {
		h.log.add(peer.String(), verb, what)
	}
}
