package main

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/runner/keeper"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/scenarios"
)

// connection is a lab that is up, reached.
type connection struct {
	Lab  live.Lab
	Info live.Info
	// Client is Lab, with what its keeper can be asked for.
	Client *live.Client
}

// Close ends what was asked for by it. The lab stays up.
func (c *connection) Close() { _ = c.Client.Close() }

// connect reaches the lab that is up under a name. The name of its file will do
// as well.
func (a *app) connect(ctx context.Context, name string) (*connection, error) {
	client, info, err := keeper.Connect(ctx, os.Getenv, livingName(name))
	if err != nil {
		return nil, err
	}
	if now, err := client.Info(ctx); err == nil {
		info = *now
	}
	return &connection{client, info, client}, nil
}

// livingName is what a lab is called while it is up, if an argument that names
// its file is meant.
func livingName(arg string) string {
	if isLabFile(arg) && !slices.Contains(keeper.Names(os.Getenv), arg) {
		return scenarios.NameOf(arg)
	}
	return arg
}

// completeWait bounds what is asked of a lab while somebody presses Tab.
const completeWait = time.Second

// completeLiving offers the labs that are up, and then their nodes.
func completeLiving(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return keeper.Names(os.Getenv), cobra.ShellCompDirectiveNoFileComp
	}
	s := statusOf(c, args[0])
	if s == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return s.Nodes, cobra.ShellCompDirectiveDefault
}

// statusOf asks a lab how it is, while somebody presses Tab; nil where it does not
// say.
func statusOf(c *cobra.Command, name string) *live.Status {
	ctx, cancel := context.WithTimeout(c.Context(), completeWait)
	defer cancel()
	client, _, err := keeper.Connect(ctx, os.Getenv, livingName(name))
	if err != nil {
		return nil
	}
	defer client.Close()
	s, err := client.Status(ctx)
	if err != nil {
		return nil
	}
	return s
}
