package assert

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// maxSequence bounds what a sequence with a × unfolds to; a request asks at
// most as often.
const maxSequence = 10000

// decodeSequence reads [web3, web2, web1] or "web3 web2 web1 ×2": who answers,
// one after the other from the first request on. A word of a result (refused,
// timeout, …) stands for a request that no server answered.
func decodeSequence(d *source.Decoder, n *yaml.Node, h head) Check {
	var phrases []string
	before := len(d.Errs)
	if d.Decode(n, &phrases); len(d.Errs) > before {
		return nil
	}
	var want []string
	for _, p := range phrases {
		words, err := parseSequence(p)
		if err != nil {
			d.Fail(n, "sequence: %v", err)
			return nil
		}
		want = append(want, words...)
	}
	if len(want) == 0 || len(want) > maxSequence {
		d.Fail(n, "sequence needs from 1 to %d answers, found %d", maxSequence, len(want))
		return nil
	}
	var servers []string
	for _, w := range want {
		if !slices.Contains(results(), w) && !slices.Contains(servers, w) {
			servers = append(servers, w)
		}
	}
	wanted := "the answers come from " + shortSequence(want) + ", in this order"
	return &replies{h, wanted, nodeRefs(h.pos, servers...), func(rs []Reply) string {
		got := make([]string, len(rs))
		for i, r := range rs {
			got[i] = answer(r)
		}
		switch {
		case slices.Equal(got, want):
			return ""
		case len(got) != len(want):
			return fmt.Sprintf("%s: %d answers, not %d", shortSequence(got), len(got), len(want))
		}
		i := 0
		for got[i] == want[i] {
			i++
		}
		return fmt.Sprintf("%s: number %d is %s, not %s", shortSequence(got), i+1, got[i], want[i])
	}}
}

// parseSequence reads words, and ×N or *N after them for all of them N times.
func parseSequence(phrase string) ([]string, error) {
	words := strings.Fields(phrase)
	times := 1
	if len(words) > 0 {
		last := words[len(words)-1]
		if count, ok := cutTimes(last); ok {
			n, err := strconv.Atoi(count)
			if err != nil || n < 1 || n > maxSequence {
				return nil, fmt.Errorf("%q: wanted how often after the sign, from 1 to %d, as in \"web1 web2 ×3\"", last, maxSequence)
			}
			times, words = n, words[:len(words)-1]
		}
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("%q names no server; wanted names such as \"web2 web1 ×3\"", phrase)
	}
	for _, w := range words {
		if _, ok := cutTimes(w); ok {
			return nil, fmt.Errorf("%q stands at the end of a phrase; make a list of several, as in [\"web1 ×3\", \"web2 ×2\"]", w)
		}
	}
	if len(words)*times > maxSequence {
		return nil, fmt.Errorf("%q is more than %d answers", phrase, maxSequence)
	}
	return slices.Repeat(words, times), nil
}

// cutTimes is what stands after the sign of repetition; neither sign may be
// part of a name.
func cutTimes(word string) (string, bool) {
	if s, ok := strings.CutPrefix(word, "×"); ok {
		return s, true
	}
	return strings.CutPrefix(word, "*")
}

// answer is a reply in one word: the server's name, or how the request ended.
func answer(r Reply) string {
	if r.Result == OK && r.Server != "" {
		return r.Server
	}
	return r.Result
}

// shortSequence is a sequence with equal neighbours counted, and its end cut off
// where it is long: "web1 ×3, web2, web1".
func shortSequence(words []string) string {
	const most = 24
	var parts []string
	for i := 0; i < len(words); {
		j := i
		for j < len(words) && words[j] == words[i] {
			j++
		}
		if len(parts) == most {
			parts = append(parts, fmt.Sprintf("… (%d in all)", len(words)))
			break
		}
		if j-i > 1 {
			parts = append(parts, fmt.Sprintf("%s ×%d", words[i], j-i))
		} else {
			parts = append(parts, words[i])
		}
		i = j
	}
	return strings.Join(parts, ", ")
}
