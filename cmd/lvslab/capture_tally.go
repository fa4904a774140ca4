package main

import (
	"encoding/binary"
	"errors"
	"io"
)

// Blocks of pcapng, all of which begin with their type and length and end with
// the length again (draft-ietf-opsawg-pcapng, 3.1). The engine writes them in
// the order of bytes of most machines.
const (
	blockSection    = 0x0a0d0d0a
	blockStatistics = 5
	blockPacket     = 6
	blockLeast      = 12
	blockMost       = 16 << 20

	optionEnd    = 0
	optionIfDrop = 5 // isb_ifdrop
)

// tally passes a pcapng stream on, whole blocks only, so that what was written is
// a good file whenever it ends, and counts what passes.
type tally struct {
	w       io.Writer
	rest    []byte // the beginning of a block
	begun   bool
	packets uint64
	lost    map[uint32]uint64 // by interface, as told last
	err     error
}

func (t *tally) Write(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	t.rest = append(t.rest, p...)
	whole := 0
	for len(t.rest)-whole >= blockLeast {
		b := t.rest[whole:]
		kind, length := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
		if length < blockLeast || length > blockMost || length%4 != 0 || !t.begun && kind != blockSection {
			t.err = errors.New("what came is no pcapng")
			return 0, t.err
		}
		if uint32(len(b)) < length { //nolint:gosec // below blockMost and some
			break
		}
		t.begun = true
		t.count(kind, b[8:length-4])
		whole += int(length)
	}
	if whole > 0 {
		if _, err := t.w.Write(t.rest[:whole]); err != nil {
			t.err = err
			return 0, err
		}
		t.rest = append(t.rest[:0], t.rest[whole:]...)
	}
	return len(p), nil
}

// count looks at a block's body.
func (t *tally) count(kind uint32, body []byte) {
	switch kind {
	case blockPacket:
		t.packets++
	case blockStatistics:
		const head = 12 // the interface and a time
		if len(body) < head {
			return
		}
		iface := binary.LittleEndian.Uint32(body)
		for o := body[head:]; len(o) >= 4; {
			code, length := binary.LittleEndian.Uint16(o), int(binary.LittleEndian.Uint16(o[2:]))
			padded := 4 + (length+3)&^3
			if code == optionEnd || padded > len(o) {
				return
			}
			if code == optionIfDrop && length == 8 {
				if t.lost == nil {
					t.lost = make(map[uint32]uint64)
				}
				t.lost[iface] = binary.LittleEndian.Uint64(o[4:])
			}
			o = o[padded:]
		}
	}
}

func (t *tally) lostAll() uint64 {
	var n uint64
	for _, l := range t.lost {
		n += l
	}
	return n
}
