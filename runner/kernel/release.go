package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// imageRelease is what `uname -r` will say in a guest that boots the image, a
// bzImage or an ELF file.
func imageRelease(image string) (string, error) {
	f, err := os.Open(image)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if info.Size() < minImage || info.Size() > largest {
		return "", fmt.Errorf("%s has %d bytes, which is no kernel", image, info.Size())
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return "", fmt.Errorf("%s: mmap: %w", image, err)
	}
	defer func() { _ = unix.Munmap(data) }()
	release, err := releaseOf(data)
	if err != nil {
		return "", fmt.Errorf("%s: %w", image, err)
	}
	return release, nil
}

// minImage is less than any kernel, in bytes: the header of a bzImage is larger.
const minImage = 0x250

// releaseOf finds a kernel's release in its image: in a bzImage where the header
// says that it is (Documentation/arch/x86/boot.rst of Linux, kernel_version), in
// an ELF file in the kernel's banner.
func releaseOf(image []byte) (string, error) {
	const (
		magic         = 0x202
		kernelVersion = 0x20e
		// base is what the header counts from.
		base = 0x200
	)
	switch {
	case len(image) >= minImage && string(image[magic:magic+4]) == "HdrS":
		at := base + int(binary.LittleEndian.Uint16(image[kernelVersion:]))
		if at >= len(image) {
			return "", errors.New("a bzImage that does not say its version")
		}
		return firstWord(image[at:])
	case bytes.HasPrefix(image, []byte("\x7fELF")):
		const banner = "Linux version "
		for rest := image; ; {
			i := bytes.Index(rest, []byte(banner))
			if i < 0 {
				return "", errors.New("an ELF file that is no Linux kernel: it has no `Linux version` in it")
			}
			rest = rest[i+len(banner):]
			// The format of the banner comes with a %s.
			if release, err := firstWord(rest); err == nil && isDigit(release[0]) {
				return release, nil
			}
		}
	}
	return "", fmt.Errorf("neither a bzImage nor an ELF file: it begins with % x", image[:min(len(image), 6)])
}

// firstWord is a text up to its first blank. A release has at most 64 bytes
// (uname(2)).
func firstWord(text []byte) (string, error) {
	text = text[:min(len(text), 65)]
	i := bytes.IndexAny(text, " \x00\n")
	word := string(text[:max(i, 0)])
	if word == "" || strings.ContainsFunc(word, func(c rune) bool { return c <= ' ' || c > '~' || c == '/' }) {
		return "", errors.New("the kernel does not say its release")
	}
	return word, nil
}
