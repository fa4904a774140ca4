package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Sysctl reads a value under /proc/sys/net as the namespace has it, without the
// newline at its end. The key is written as sysctl(8) takes it, see SetSysctl.
func (n *Namespace) Sysctl(key string) (string, error) {
	path, err := sysctlPath(key)
	if err != nil {
		return "", n.errorf("read sysctl: %w", err)
	}
	var data []byte
	// The kernel decides by the thread that looks the path up.
	err = n.Do(func() (err error) { data, err = os.ReadFile(path); return err })
	if err != nil {
		return "", n.errorf("read sysctl %s: %w", key, err)
	}
	return strings.TrimSuffix(string(data), "\n"), nil
}

// SetSysctl writes a value under /proc/sys/net in the namespace.
//
// The key is written as sysctl(8) takes it: net.ipv4.ip_forward or
// net/ipv4/ip_forward. The first separator is the one that parts the words; the
// other one stands for a dot inside a word, so that the interface eth0.5 is
// net.ipv4.conf.eth0/5.rp_filter or net/ipv4/conf/eth0.5/rp_filter. Keys outside
// of net are refused.
func (n *Namespace) SetSysctl(key, value string) error {
	path, err := sysctlPath(key)
	if err != nil {
		return n.errorf("set sysctl: %w", err)
	}
	err = n.Do(func() error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if _, err := f.WriteString(value + "\n"); err != nil {
			_ = f.Close()
			return err
		}
		return f.Close()
	})
	if err != nil {
		return n.errorf("set sysctl %s=%s: %w", key, value, err)
	}
	return nil
}

// ProcNet reads /proc/thread-self/net/NAME ("arp", "netstat", "ip_vs_stats") as
// the namespace has it.
func (n *Namespace) ProcNet(name string) ([]byte, error) {
	if !filepath.IsLocal(name) || strings.ContainsRune(name, 0) {
		return nil, n.errorf("read /proc/thread-self/net: %q leads out of it", name)
	}
	var data []byte
	err := n.Do(func() (err error) {
		data, err = os.ReadFile("/proc/thread-self/net/" + name)
		return err
	})
	if err != nil {
		return nil, n.errorf("%w", err)
	}
	return data, nil
}

// sysctlPath is the file of a key; it is always below /proc/sys/net.
func sysctlPath(key string) (string, error) {
	words := key
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '.' {
		words = strings.Map(func(r rune) rune {
			switch r {
			case '.':
				return '/'
			case '/':
				return '.'
			}
			return r
		}, key)
	}
	parts := strings.Split(words, "/")
	if len(parts) < 2 || parts[0] != "net" {
		return "", fmt.Errorf("key %q is not below net (wanted the form net.ipv4.ip_forward)", key)
	}
	for _, p := range parts {
		if p == "" || p == "." || p == ".." || strings.ContainsFunc(p, isControl) {
			return "", fmt.Errorf("key %q has the word %q, which names no sysctl", key, p)
		}
	}
	return "/proc/sys/" + words, nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
