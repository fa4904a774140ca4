package node

import "testing"

func TestCPUInfoIsMendedWhereNothingEndsIt(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                      false, // of a kernel that hides it
		"processor\t: 0\nbogomips\t: 3678.00\n": true,  // User-Mode Linux
		"processor\t: 0\nbogomips\t: 3678.00\n\n": false, // x86
	} {
		if got := unended(text); got != want {
			t.Errorf("%q: mended %v, wanted %v", text, got, want)
		}
	}
}
