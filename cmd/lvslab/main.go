// Command lvslab runs Linux Virtual Server labs on a real kernel.
package main

import (
	"context"
	"os"

	"github.com/lvslab/lvslab/runner/guest"
)

func main() {
	guest.Enter()
	os.Exit(Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
