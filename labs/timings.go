package labs

import (
	_ "embed"
	"encoding/json"
	"sync"
	"time"
)

// timings are seconds by the labs' names, from a run of all of them in
// User-Mode Linux. CONTRIBUTING says how they are measured anew.
//
//go:embed timings.json
var timings []byte

var readTimings = sync.OnceValue(func() map[string]time.Duration {
	var seconds map[string]float64
	if err := json.Unmarshal(timings, &seconds); err != nil {
		panic("labs: timings.json: " + err.Error())
	}
	known := make(map[string]time.Duration, len(seconds))
	for name, s := range seconds {
		known[name] = time.Duration(s * float64(time.Second)).Round(time.Millisecond)
	}
	return known
})

// Timings are how long the shipped labs took when they were last measured, by
// their names: by their proportions labs are shared out to several machines. The
// map is not to be changed.
func Timings() map[string]time.Duration { return readTimings() }
