package main

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/runner/keeper"
)

func (a *app) downCmd() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "down LAB... | --all",
		Short: "Take labs down",
		Long: `Down takes labs down that lvslab up has brought up, and returns when nothing is
left of them. It needs neither the lab's file nor a lab that answers: one that
hangs is killed, and what is left of one that was killed is cleared away.`,
		Args: func(_ *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return errors.New("wanted the names of labs, or --all")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if all {
				args = keeper.Names(os.Getenv)
			}
			errs := make([]error, len(args))
			var wg sync.WaitGroup
			for i, name := range args {
				wg.Go(func() { errs[i] = keeper.Down(c.Context(), os.Getenv, livingName(name)) })
			}
			wg.Wait()
			for i, name := range args {
				if errs[i] == nil {
					fmt.Fprintf(a.out, "%s is down\n", visible(livingName(name)))
				}
			}
			if all && len(args) == 0 {
				fmt.Fprintln(a.out, "no lab is up")
			}
			return errors.Join(errs...)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return keeper.Names(os.Getenv), cobra.ShellCompDirectiveNoFileComp
		},
	}
	c.Flags().BoolVar(&all, "all", false, "all that are up")
	return c
}
