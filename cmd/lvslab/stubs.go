package main

import "github.com/spf13/cobra"

func (a *app) planCmd() *cobra.Command    { return &cobra.Command{Use: "plan"} }
func (a *app) checkCmd() *cobra.Command   { return &cobra.Command{Use: "check"} }
func (a *app) listCmd() *cobra.Command    { return &cobra.Command{Use: "list"} }
func (a *app) doctorCmd() *cobra.Command  { return &cobra.Command{Use: "doctor"} }
func (a *app) kernelCmd() *cobra.Command  { return &cobra.Command{Use: "kernel"} }
func (a *app) versionCmd() *cobra.Command { return &cobra.Command{Use: "version"} }
