package labtest

// Program is the program that guests run: "" for this very one.
func Program() (string, error) { return self.program() }
