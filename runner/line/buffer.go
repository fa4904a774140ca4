package line

// buffer is a queue of bytes that grows as it must.
type buffer struct {
	ring        []byte
	start, size int
}

func (b *buffer) write(p []byte) {
	if need := b.size + len(p); need > len(b.ring) {
		grown := make([]byte, max(need, 2*len(b.ring), 4<<10))
		b.copyTo(grown)
		b.ring, b.start = grown, 0
	}
	end := (b.start + b.size) % len(b.ring)
	n := copy(b.ring[end:], p)
	copy(b.ring, p[n:])
	b.size += len(p)
}

func (b *buffer) read(p []byte) int {
	n := b.copyTo(p)
	b.size -= n
	if b.size == 0 {
		b.start = 0
	} else {
		b.start = (b.start + n) % len(b.ring)
	}
	return n
}

// copyTo copies the first bytes, as many as there are and fit.
func (b *buffer) copyTo(p []byte) int {
	p = p[:min(len(p), b.size)]
	n := copy(p, b.ring[b.start:])
	return n + copy(p[n:], b.ring)
}
