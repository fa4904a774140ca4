package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/runner/wire"
)

// version is what the build set it to (-ldflags "-X main.version=…"), which wins
// over what Go knows.
var version string

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of lvslab",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintf(a.out, "lvslab %s\n", buildVersion())
			fmt.Fprintf(a.out, "wire   %d\n", wire.Version)
			fmt.Fprintf(a.out, "go     %s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

// buildVersion is the version that the build was given, or that of the module;
// (devel) without either. The revision that it was built from follows where Go
// knows it.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	v := cmp.Or(version, info.Main.Version, "(devel)")
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if rev := settings["vcs.revision"]; rev != "" {
		v += " revision " + rev[:min(12, len(rev))]
		if settings["vcs.modified"] == "true" {
			v += ", modified"
		}
	}
	return v
}
