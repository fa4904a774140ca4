//go:build race

package stay

func init() { raceEnabled = true }
