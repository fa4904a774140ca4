//go:build race

package prove

func init() { raceEnabled = true }
