package assert

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// grouping takes the replies of one client, in some sense of the word, together.
type grouping struct {
	what string // in a sentence, in the singular and with an s in the plural
	// key names the group of a reply; "" where the reply does not tell.
	key func(Reply) string
}

// groupings are the senses that sticky knows.
func groupings() map[string]grouping {
	return map[string]grouping{
		"client": {"client", func(r Reply) string { return r.From }},
		"source": {"source address", func(r Reply) string {
			if !r.Local.IsValid() {
				return ""
			}
			return r.Local.Addr().String()
		}},
		"connection": {"source address and port", func(r Reply) string {
			if !r.Local.IsValid() {
				return ""
			}
			return r.Local.String()
		}},
		"service": {"service", func(r Reply) string { return r.To }},
	}
}

// stickyForm is how a lab file says it.
type stickyForm struct {
	By      string `yaml:"by,required"`
	Servers string `yaml:"servers"`
	// Netmask takes sources of one network as one, which is of so many bits.
	Netmask int `yaml:"netmask"`
}

// network is a grouping by the networks of so many bits that sources are in, as
// persistence with a netmask takes them.
func network(bits int) grouping {
	return grouping{fmt.Sprintf("/%d of source addresses", bits), func(r Reply) string {
		p, err := r.Local.Addr().Prefix(bits)
		if !r.Local.IsValid() || err != nil {
			return ""
		}
		return p.String()
	}}
}

// decodeSticky reads {by: source, servers: ">1"}: whoever asks again gets the
// same server, and over all of them there are so many servers. Without the
// second half a director with one real server would do. With netmask: sources of
// one network are one.
func decodeSticky(d *source.Decoder, n *yaml.Node, h head) Check {
	var c stickyForm
	d.Decode(n, &c)
	by, ok := groupings()[c.By]
	if !ok && c.By != "" {
		d.Fail(n, "%s", source.Unknown("grouping", c.By, []string{"client", "source", "connection", "service"}))
	}
	if c.Netmask != 0 {
		switch {
		case c.Netmask < 1 || c.Netmask > 128:
			d.Fail(n, "netmask is from 1 to 32, or to 128 for IPv6, found %d", c.Netmask)
		case c.By != "source" && ok:
			d.Fail(n, "netmask: networks are those of source addresses, so it goes with by: source")
		}
		by = network(c.Netmask)
	}
	servers := condition{op: ">="}
	servers.n = 1
	wanted := "each " + by.what + " is answered by one server alone"
	if c.Servers != "" {
		var err error
		if servers, err = parseCondition(c.Servers); err != nil {
			d.Fail(n, "servers: %v", err)
		}
		wanted += fmt.Sprintf(", and all of them by %s servers", strings.TrimPrefix(servers.String(), "="))
	}
	return &replies{h, wanted, nil, func(rs []Reply) string { return by.judge(rs, servers) }}
}

func (g grouping) judge(rs []Reply, servers condition) string {
	if s := answered(rs); s != "" {
		return s
	}
	var keys, all []string
	asked := make(map[string]int)
	by := make(map[string][]string) // the servers of a group, in the order of their first answer
	for i, r := range rs {
		k := g.key(r)
		if k == "" {
			return fmt.Sprintf("the %s of request %d is not known", g.what, i+1)
		}
		if asked[k]++; asked[k] == 1 {
			keys = append(keys, k)
		}
		if !slices.Contains(by[k], r.Server) {
			by[k] = append(by[k], r.Server)
		}
		if !slices.Contains(all, r.Server) {
			all = append(all, r.Server)
		}
	}
	repeated := false
	var torn []string
	for _, k := range keys {
		repeated = repeated || asked[k] > 1
		if len(by[k]) > 1 {
			torn = append(torn, fmt.Sprintf("%s by %s", k, strings.Join(by[k], ", ")))
		}
	}
	const most = 6
	switch {
	case !repeated:
		return fmt.Sprintf("no %s asked twice, so nothing is known", g.what)
	case len(torn) > most:
		return fmt.Sprintf("%s, and %d more of %d", strings.Join(torn[:most], "; "), len(torn)-most, len(keys))
	case len(torn) > 0:
		return fmt.Sprintf("%s (of %d)", strings.Join(torn, "; "), len(keys))
	case !servers.holds(uint64(len(all))):
		slices.Sort(all)
		return fmt.Sprintf("%d in all, by %s", len(keys), strings.Join(all, ", "))
	}
	return ""
}
