// Command lvslab runs Linux Virtual Server labs on a real kernel.
package main

import (
	"context"
	"os"

	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/keeper"
)

func main() {
	guest.Enter()
	if keeper.Asked() {
		os.Exit(keeper.Main(kernelBackends))
	}
	os.Exit(Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
