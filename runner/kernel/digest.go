package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Digest tells a kernel of the cache from every other: the SHA-256, in hex, of the
// sums that its manifest has of the kernel and of the list of its modules. It reads
// the manifest alone; Verify compares that with the files. A kernel from elsewhere
// has none, which is an error.
func Digest(k Kernel) (string, error) {
	if k.root == "" {
		return "", fmt.Errorf("%s is not from the cache", k)
	}
	_, m, err := k.Name.openCached(k.root)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(m.Image.SHA256 + " " + m.Modules.SHA256))
	return hex.EncodeToString(sum[:]), nil
}
