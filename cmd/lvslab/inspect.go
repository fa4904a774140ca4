package main

import (
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/topology/source"
)

func (a *app) inspectCmd() *cobra.Command {
	var format *formatFlag
	c := &cobra.Command{
		Use:   "inspect LAB [NODE]",
		Short: "Show all that there is to see of a lab that is up",
		Long: `Inspect reads from the kernel what a lab, or one node of it, is like now:
devices, addresses and MACs, routes and neighbours in the words of ip, the IPVS
tables in those of ipvsadm, ARP and IP rules in those of arptables and
iptables-save, the servers, and the sysctls that differ from what a new network
namespace has. What is broken on purpose comes first.

To look changes nothing.`,
		Example: `  lvslab inspect dr/arptables
  lvslab inspect dr/arptables director
  lvslab inspect dr/arptables --format json | jq '.nodes[].devices[].mac'`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			in, err := a.inspection(c.Context(), args[0])
			if err != nil {
				return err
			}
			if len(args) > 1 {
				if in.Nodes, err = onlyNode(in.Nodes, args[1]); err != nil {
					return err
				}
			}
			if *format == formatJSON {
				return a.printJSON(inspectionDoc{jsonVersion, in})
			}
			printInspection(a.out, in, len(args) > 1)
			return nil
		},
		ValidArgsFunction: completeLiving,
	}
	format = addFormat(c.Flags(), "text or json")
	return c
}

// inspectionDoc is the document of inspect --format json.
type inspectionDoc struct {
	Version int `json:"version"`
	*live.Inspection
}

func onlyNode(nodes []live.Node, name string) ([]live.Node, error) {
	i := slices.IndexFunc(nodes, func(n live.Node) bool { return n.Name == name })
	if i < 0 {
		var names []string
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		return nil, usageError{errors.New(source.Unknown("node", name, names))}
	}
	return nodes[i : i+1], nil
}
