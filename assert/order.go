package assert

import (
	"fmt"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// leastOrder is how many answers it takes to look for a period.
const leastOrder = 60

// decodeOrder reads "random": the answers follow no period, as those of a
// scheduler that draws lots (twos) do not, while those of all others do, if
// every request meets the same state.
//
// A period is looked for up to a third of the answers, so that it is seen three
// times. Of n answers drawn at random, where the likeliest of the servers comes
// with probability p, the chance to follow one is below (n/3)·p^(2n/3): with 60
// answers and p = 3/4 it is 2 in 10000, with p = 1/2 it is 2 in 10^11.
func decodeOrder(d *source.Decoder, n *yaml.Node, h head) Check {
	word, ok := d.Scalar(n, "the word random")
	if ok && word != "random" {
		d.Fail(n, "%s", source.Unknown("order", word, []string{"random"}))
	}
	return &replies{h, "the answers come in a random order, which follows no period", nil, func(rs []Reply) string {
		if s := answered(rs); s != "" {
			return s
		}
		if len(rs) < leastOrder {
			return fmt.Sprintf("%d answers are too few to tell; it takes %d", len(rs), leastOrder)
		}
		for period := 1; period <= len(rs)/3; period++ {
			same := true
			for i := period; i < len(rs) && same; i++ {
				same = rs[i].Server == rs[i-period].Server
			}
			if !same {
				continue
			}
			var words []string
			for _, r := range rs[:period] {
				words = append(words, r.Server)
			}
			return fmt.Sprintf("%s, again and again", shortSequence(words))
		}
		return ""
	}}
}
