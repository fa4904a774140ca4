package assert

import (
	"context"
	"fmt"
	"math"
	"strings"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// Bounds of the chi-square test.
const (
	// defaultSignificance is the error rate where the lab states none.
	defaultSignificance = 0.001
	// leastExpected is how many answers each server must be expected to give,
	// for Pearson's statistic to be distributed as chi-square: the common rule,
	// after Cochran, "Some methods for strengthening the common χ² tests",
	// Biometrics 10 (1954).
	leastExpected = 5
)

// distribution checks that a random scheduler spreads answers by weight, with
// Pearson's chi-square test of goodness of fit. It fails where such answers, or
// ones further off, would come from the wanted weights with a probability below
// the significance: that is how often it fails a kernel that does what is
// wanted.
//
// It is for chance (twos, hashes over many sources). Where the kernel counts, as
// rr and wrr do, there is no chance to test: sequence: says the order, and
// shares: the percents within a bound.
type distribution struct {
	head
	servers      []string // in the file's order
	weight       map[string]float64
	significance float64
}

// decodeDistribution reads {web1: 3, web2: 1, significance: 0.001}.
func decodeDistribution(d *source.Decoder, n *yaml.Node, h head) Check {
	c := &distribution{head: h, weight: make(map[string]float64), significance: defaultSignificance}
	weighty := 0
	for k, v := range d.Pairs(n) {
		var f float64
		d.Decode(v, &f)
		if k.Value == "significance" {
			if c.significance = f; f < 1e-9 || f > 0.1 {
				d.Fail(v, "significance is how often a kernel that does right may fail, from 1e-9 to 0.1; found %v", f)
			}
			continue
		}
		if f < 0 || f > 65535 {
			d.Fail(v, "a weight is from 0 to 65535; found %v", f)
		}
		if f > 0 {
			weighty++
		}
		c.weight[k.Value] = f
		c.servers = append(c.servers, k.Value)
	}
	if weighty < 2 {
		d.Fail(n, "distribution needs at least two servers with a weight above 0; for one there is only:")
	}
	return c
}

func (c *distribution) Refs() []Ref { return nodeRefs(c.pos, c.servers...) }

func (c *distribution) Begin(_ context.Context, env Env) (Pending, error) {
	var words []string
	for _, s := range c.servers {
		words = append(words, fmt.Sprintf("%s %v", s, c.weight[s]))
	}
	wanted := fmt.Sprintf("answers distributed as the weights %s (chi-square test; one run in %s fails by chance)",
		strings.Join(words, ", "), oneIn(c.significance))
	return judge(func(context.Context) (Result, bool) {
		rs := env.Outcomes().Replies
		r := Result{Wanted: wanted}
		if len(rs) == 0 {
			r.Seen = errNoStimulus.Error()
			return r, false
		}
		r.Seen, r.Pass = c.test(rs)
		if !r.Pass {
			r.Evidence = []Evidence{{"requests", listReplies(rs)}}
		}
		return r, false
	}), nil
}

// oneIn is the number of runs of which one fails by chance.
func oneIn(significance float64) string { return fmt.Sprintf("%.0f", 1/significance) }

// test says what was seen, and whether that is as wanted.
func (c *distribution) test(rs []Reply) (seen string, pass bool) {
	if s := answered(rs); s != "" {
		return s, false
	}
	got := make(map[string]float64)
	for _, r := range rs {
		got[r.Server]++
		if w, named := c.weight[r.Server]; !named {
			return fmt.Sprintf("%s: %s answered, which is not among the servers", summary(rs), r.Server), false
		} else if w == 0 {
			return fmt.Sprintf("%s: %s answered, whose weight is 0", summary(rs), r.Server), false
		}
	}
	sum, least := 0.0, math.Inf(1)
	for _, w := range c.weight {
		sum += w
		if w > 0 {
			least = min(least, w)
		}
	}
	if need := math.Ceil(leastExpected * sum / least); float64(len(rs)) < need {
		return fmt.Sprintf("%d answers are too few to tell: the test needs %.0f, so that each server is expected %d times", len(rs), need, leastExpected), false
	}
	var observed, expected []float64
	var words []string
	for _, s := range c.servers {
		if c.weight[s] == 0 {
			continue
		}
		o, e := got[s], float64(len(rs))*c.weight[s]/sum
		observed, expected = append(observed, o), append(expected, e)
		words = append(words, fmt.Sprintf("%.0f× %s where %s are expected", o, s, short(e)))
	}
	statistic := stat.ChiSquare(observed, expected)
	freedom := len(observed) - 1
	p := distuv.ChiSquared{K: float64(freedom)}.Survival(statistic)
	seen = fmt.Sprintf("%s: χ² = %.2f, %s, p = %s", strings.Join(words, ", "), statistic, degrees(freedom), shortP(p))
	return seen, p >= c.significance
}

func short(f float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") }

// shortP is a probability as a reader compares it with the significance.
func shortP(p float64) string {
	if p < 0.001 {
		return fmt.Sprintf("%.1g", p)
	}
	return fmt.Sprintf("%.3f", p)
}

func degrees(n int) string {
	if n == 1 {
		return "1 degree of freedom"
	}
	return fmt.Sprintf("%d degrees of freedom", n)
}
