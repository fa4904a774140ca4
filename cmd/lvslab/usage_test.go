package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// TestUsageIsNamed: who leaves something out is told what, not how many.
func TestUsageIsNamed(t *testing.T) {
	for args, want := range map[string]string{
		"exec":              "lvslab: wanted lvslab exec [-t] LAB NODE [--] COMMAND [ARGUMENT]..., found nothing after it (see lvslab exec --help)\n",
		"graph one two":     `lvslab: wanted lvslab graph LAB, found ["one" "two"] (see lvslab graph --help)` + "\n",
		"fault":             "lvslab: wanted lvslab fault LAB [KIND NODE[:DEVICE] [VALUE]], found nothing after it (see lvslab fault --help)\n",
		"shell lab web web": `lvslab: wanted lvslab shell LAB NODE, found ["lab" "web" "web"] (see lvslab shell --help)` + "\n",
	} {
		var out, errw bytes.Buffer
		if exit := Main(context.Background(), strings.Fields(args), strings.NewReader(""), &out, &errw); exit != exitUsage || errw.String() != want || out.Len() > 0 {
			t.Errorf("lvslab %s: exit status %d\n%s\nwanted\n%s", args, exit, errw.String(), want)
		}
	}
}
