package host

// raceEnabled is set in a build with -race.
var raceEnabled bool
