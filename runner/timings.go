package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lvslab/lvslab/runner/wire"
)

// wantedTimings ends what is said of a file from which nothing can be learnt.
const wantedTimings = `wanted the events of an earlier run (lvslab run --json=FILE), or {"LAB": SECONDS, …}`

// ReadTimings reads how long labs took: from the events of one or several runs,
// one JSON object a line, or from an object of seconds by the labs' names. A lab
// that comes several times took the mean of them; one that was skipped or broken
// has shown nothing, and is left out.
func ReadTimings(data []byte) (Timings, error) {
	var seconds map[string]float64
	if json.Unmarshal(data, &seconds) == nil {
		t := make(Timings)
		for lab, s := range seconds {
			t.put(lab, s)
		}
		return t, t.check()
	}
	sums, times := make(map[string]time.Duration), make(map[string]int)
	dec := json.NewDecoder(bytes.NewReader(data))
	for n := 1; ; n++ {
		var e wire.Event
		err := dec.Decode(&e)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && (e.Version != wire.Version || e.Kind == "") {
			err = fmt.Errorf("no event of version %d", wire.Version)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w; %s", n, err, wantedTimings)
		}
		if e.Kind == wire.LabFinished && (e.Verdict == wire.Pass || e.Verdict == wire.Fail) {
			one := make(Timings)
			one.put(e.Lab, e.Seconds)
			sums[e.Lab] += one[e.Lab]
			times[e.Lab]++
		}
	}
	t := make(Timings)
	for lab, n := range times {
		t[lab] = sums[lab] / time.Duration(n)
	}
	return t, t.check()
}

// put keeps seconds, within the bounds of what a lab takes.
func (t Timings) put(lab string, seconds float64) {
	const most = 24 * time.Hour
	switch {
	case seconds >= most.Seconds():
		t[lab] = most
	case seconds > 0:
		t[lab] = time.Duration(seconds * float64(time.Second)).Round(time.Microsecond)
	default:
		t[lab] = time.Microsecond
	}
}

func (t Timings) check() error {
	if len(t) == 0 {
		return errors.New("it tells how long no lab took; " + wantedTimings)
	}
	return nil
}
