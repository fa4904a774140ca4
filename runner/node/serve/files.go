package serve

import (
	"context"
	"os"
)

// Files is a node's own view of the machine's files, as package node has it.
type Files interface {
	// ReadFileContext reads a regular file. It returns with ctx at the latest,
	// whatever the file's storage does.
	ReadFileContext(ctx context.Context, name string) ([]byte, error)
	// OpenRoot opens a folder, which is made where it is missing.
	OpenRoot(name string) (*os.Root, error)
	// Kept is what a server keeps in the node between its starts: the value
	// under name, made when it is first asked for.
	Kept(name string, make func() any) any
}
