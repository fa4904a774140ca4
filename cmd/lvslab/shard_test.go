package main

import (
	"strings"
	"testing"
)

func TestShardFlag(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flag, index, shards string
		want, err           string
	}{
		{"", "", "", "all", ""},
		{"3/8", "", "", "3/8", ""},
		{"3/8", "0", "2", "3/8", ""}, // who names a part, means it
		{"8/8", "", "", "8/8", ""},
		{"auto/8", "0", "", "1/8", ""},
		{"auto/8", "7", "3", "8/8", ""}, // and who names how many
		{"", "7", "", "all", ""},
		{"", "", "8", "all", ""},
		{"", "7", "8", "8/8", ""},
		{"", "8", "8", "", "the last index is 7"},
		{"", "-1", "8", "", "wanted a number from 0"},
		{"", "0", "0", "", "LVSLAB_SHARDS=0: wanted the number of completions"},
		{"auto/8", "", "", "", "JOB_COMPLETION_INDEX is not set"},
		{"auto", "", "", "", "wanted PART/PARTS"},
		{"3/8/2", "", "", "", "wanted PART/PARTS"},
		{"3/10001", "", "", "", "wanted PART/PARTS"},
		{" 3/8", "", "", "", "wanted PART/PARTS"},
	} {
		env := map[string]string{envIndex: c.index, envShards: c.shards}
		var f shardFlag
		var err error
		if c.flag != "" {
			err = f.Set(c.flag)
		}
		got := "all"
		if err == nil {
			s, rerr := f.resolve(func(name string) string { return env[name] })
			if err = rerr; s != nil {
				got = (&shardFlag{s.Index, s.Of}).String()
			}
		}
		switch {
		case c.err == "" && (err != nil || got != c.want):
			t.Errorf("%+v: %s, %v", c, got, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%+v: %v", c, err)
		}
	}
}
