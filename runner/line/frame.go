package line

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A frame is a kind, a number of 24 bits with its highest byte first, and for
// data as many bytes as the number says.
const (
	// dataFrame carries 1 to maxData bytes.
	dataFrame = 'd'
	// creditFrame says that so many more bytes were taken, at least 1.
	creditFrame = 'c'
	// beatFrame is a sign of life. Its number is 0.
	beatFrame = 'b'
)

const (
	headerSize = 4
	// maxData bounds the bytes of a data frame.
	maxData = 32 << 10
	// maxNumber is what fits into a frame's number.
	maxNumber = 1<<24 - 1
)

// ErrGarbage is within the error of a stream that holds something else than
// frames. The error quotes it.
var ErrGarbage = errors.New("not a frame of lvslab's")

type frame struct {
	kind   byte
	number int
}

func appendHeader(b []byte, f frame) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(f.kind)<<24|uint32(f.number))
}

// readHeader reads the next frame but for its data. It returns io.EOF at an end
// between two frames and io.ErrUnexpectedEOF at one within a header.
func readHeader(r *bufio.Reader) (frame, error) {
	var h [headerSize]byte
	if n, err := io.ReadFull(r, h[:]); err != nil {
		// Less than a header may be garbage, too, and that says more.
		if errors.Is(err, io.ErrUnexpectedEOF) && !known(h[0]) {
			return frame{}, fmt.Errorf("%w: %q, and then the end", ErrGarbage, h[:n])
		}
		return frame{}, err
	}
	f := frame{kind: h[0], number: int(binary.BigEndian.Uint32(h[:]) & maxNumber)}
	ok := false
	switch f.kind {
	case dataFrame:
		ok = f.number >= 1 && f.number <= maxData
	case creditFrame:
		ok = f.number >= 1
	case beatFrame:
		ok = f.number == 0
	}
	if !ok {
		return frame{}, fmt.Errorf("%w: %s", ErrGarbage, quote(h[:], r))
	}
	return f, nil
}

func known(kind byte) bool { return kind == dataFrame || kind == creditFrame || kind == beatFrame }

// quote is what was read, with some of what is there behind it.
func quote(read []byte, r *bufio.Reader) string {
	const most = 100
	more, _ := r.Peek(min(r.Buffered(), most-len(read)))
	return fmt.Sprintf("%q", append(append([]byte(nil), read...), more...))
}
