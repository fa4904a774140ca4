package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/runner/keeper"
	"github.com/lvslab/lvslab/runner/live"
)

func (a *app) logsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "logs LAB [NODE]",
		Short: "Show what a lab that is up and its servers have said",
		Long: `Logs shows what has happened to a lab since it came up (changes, faults, runs of
steps), and what the servers of its nodes have written. Of a lab that died it
shows how.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			conn, err := a.connect(c.Context(), args[0])
			var dead *keeper.DeadError
			if errors.As(err, &dead) || err == nil && conn.Info.Dead != "" {
				said, lerr := keeper.Log(os.Getenv, livingName(args[0]))
				if lerr != nil {
					return lerr
				}
				_, _ = a.out.Write(said)
				if err != nil {
					return err
				}
				conn.Close()
				return nil
			}
			if err != nil {
				return err
			}
			defer conn.Close()
			var l live.Logs
			if len(args) > 1 {
				l.Node = args[1]
			}
			return conn.Lab.Logs(c.Context(), l, a.out)
		},
		ValidArgsFunction: completeLiving,
	}
}
