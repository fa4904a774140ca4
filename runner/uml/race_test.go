//go:build race

package uml_test

func init() { raceEnabled = true }
