package machine

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// A guest that starts from an initramfs stops once before anything in it depends
// on who started it: its drivers are loaded, the host's files are not yet mounted.
// Over the line to the host it says StageReady and waits. The host may keep a copy
// of the whole machine now, and start others from it later: each is told Stage,
// which makes it one of its own. It then asks for the time by StageTime, since
// much of it may have passed while it was read from a disk, and starts itself
// anew, so that nothing random that the program has drawn before is used twice.
// From there on it is a guest like any other, and the line is package wire's.
const (
	// StageReady is the guest's first word, a line.
	StageReady = "lvslab-stage ready\n"
	// StageTime asks for the time: the answer is the nanoseconds since 1970, and
	// a line end.
	StageTime = "lvslab-stage time\n"
	// StageGoes is the value of StageEnv in the guest's init once it has been told
	// Stage.
	StageGoes = "goes"
)

// Stage is what makes a guest out of one that has stopped at StageReady, a line
// of JSON.
type Stage struct {
	// Work is the path of the work folder.
	Work string `json:"work"`
	// Seed is for the kernel's random numbers, 64 bytes.
	Seed []byte `json:"seed"`
}

// maxStage bounds a line of these, in bytes.
const maxStage = 8 << 10

// StageLine reads a line, and not a byte more.
func StageLine(r io.Reader) (string, error) {
	var line []byte
	var b [1]byte
	for len(line) < maxStage {
		n, err := r.Read(b[:])
		if n > 0 {
			line = append(line, b[0])
			if b[0] == '\n' {
				return string(line), nil
			}
		}
		if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("a line of more than %d bytes", maxStage)
}

// Stager sees a guest over its stage. It is a Spec.Before.
type Stager struct {
	// Ready is called when the guest has stopped, or at once for one that was
	// stopped when its machine was kept. The guest goes on when Ready returns nil.
	// A nil Ready does nothing.
	Ready func(ctx context.Context) error
	// Kept says that the guest starts from a machine that was kept: it has said
	// StageReady then.
	Kept bool
}

// Before brings the guest over its stage.
func (s Stager) Before(ctx context.Context, line *os.File, work string) error {
	if !s.Kept {
		if err := expect(line, StageReady); err != nil {
			return err
		}
	}
	if s.Ready != nil {
		if err := s.Ready(ctx); err != nil {
			return err
		}
	}
	stage := Stage{Work: work, Seed: make([]byte, 64)}
	if _, err := rand.Read(stage.Seed); err != nil {
		return fmt.Errorf("random numbers for the guest: %w", err)
	}
	text, err := json.Marshal(stage)
	if err != nil {
		return err
	}
	if _, err := line.Write(append(text, '\n')); err != nil {
		return err
	}
	if err := expect(line, StageTime); err != nil {
		return err
	}
	_, err = line.WriteString(strconv.FormatInt(time.Now().UnixNano(), 10) + "\n")
	return err
}

func expect(line io.Reader, want string) error {
	got, err := StageLine(line)
	if err == nil && got != want {
		err = fmt.Errorf("the guest's init said %.100q, not %q", got, want)
	}
	return err
}

// ReadStage is the guest's side of it: it says that it is ready, and waits for
// what it is to be. set is called with the time when that is known.
func ReadStage(line io.ReadWriter, set func(Stage, time.Time) error) (Stage, error) {
	var stage Stage
	if _, err := io.WriteString(line, StageReady); err != nil {
		return stage, err
	}
	text, err := StageLine(line)
	if err != nil {
		return stage, err
	}
	if err := json.NewDecoder(bytes.NewReader([]byte(text))).Decode(&stage); err != nil {
		return stage, fmt.Errorf("what this guest is to be: %w", err)
	}
	if stage.Work == "" || len(stage.Seed) == 0 {
		return stage, errors.New("what this guest is to be: no work folder, or no seed")
	}
	if _, err := io.WriteString(line, StageTime); err != nil {
		return stage, err
	}
	if text, err = StageLine(line); err != nil {
		return stage, err
	}
	now, err := strconv.ParseInt(text[:len(text)-1], 10, 64)
	if err != nil {
		return stage, fmt.Errorf("the time: %w", err)
	}
	return stage, set(stage, time.Unix(0, now))
}
