package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/lvslab/lvslab/topology/source"
)

// SyncState says on which side of the synchronisation a director is
// (linux/ip_vs.h, IP_VS_STATE_MASTER and IP_VS_STATE_BACKUP). A node may run
// one daemon of each.
type SyncState uint8

// The sides.
const (
	SyncMaster SyncState = 1 // tells others of its connections
	SyncBackup SyncState = 2 // learns of others' connections
)

// String is "master" or "backup".
func (s SyncState) String() string {
	switch s {
	case SyncMaster:
		return "master"
	case SyncBackup:
		return "backup"
	}
	return fmt.Sprintf("sync state %d", uint8(s))
}

// What a daemon has where it is not told (ipvsadm(8)).
const (
	DefaultSyncPort = 8848
	DefaultSyncTTL  = 1
)

// DefaultSyncGroup is the multicast address of sync messages, 224.0.0.81.
func DefaultSyncGroup() netip.Addr { return netip.AddrFrom4([4]byte{224, 0, 0, 81}) }

// MaxSyncLength is the longest sync message in bytes: what IPv4 leaves to UDP.
const MaxSyncLength = 65535 - 20 - 8

// maxInterfaceName is the room for an interface's name with its closing zero
// (linux/ip_vs.h, IP_VS_IFNAME_MAXLEN).
const maxInterfaceName = 16

// SyncDaemon is a daemon of the kernel that hands the connection table of one
// director to others by multicast, so that connections live on when another
// director takes over.
type SyncDaemon struct {
	State SyncState
	// Interface is the device that the multicasts leave and enter by. It must
	// be up when the daemon starts.
	Interface string
	// SyncID marks a master's messages; a backup takes those with its own
	// alone. A backup with 0 takes all.
	SyncID uint8
	// MaxLength is the size of a message's payload in bytes, 1 to
	// MaxSyncLength. 0 leaves it to the kernel, which goes by the device's MTU,
	// 1500 at most.
	MaxLength int
	// Group is the multicast address; the zero value is DefaultSyncGroup.
	Group netip.Addr
	// Port is the UDP port, 0 means DefaultSyncPort.
	Port uint16
	// TTL is that of the messages, 0 means DefaultSyncTTL.
	TTL uint8
}

// Normal is d with its defaults written out, but for MaxLength.
func (d SyncDaemon) Normal() SyncDaemon {
	if !d.Group.IsValid() {
		d.Group = DefaultSyncGroup()
	}
	if d.Port == 0 {
		d.Port = DefaultSyncPort
	}
	if d.TTL == 0 {
		d.TTL = DefaultSyncTTL
	}
	return d
}

// Satisfies reports whether d, read from a kernel, is what want wishes for; a
// length that want leaves to the kernel is as the kernel has it.
func (d SyncDaemon) Satisfies(want SyncDaemon) bool {
	d, want = d.Normal(), want.Normal()
	if want.MaxLength == 0 {
		d.MaxLength = 0
	}
	return d == want
}

// String is d as ParseSyncDaemon reads it and ipvsadm --start-daemon takes it:
// "master --mcast-interface eth0 --syncid 1". What is as by default is left out.
func (d SyncDaemon) String() string {
	n := d.Normal()
	words := []string{d.State.String(), "--mcast-interface", d.Interface}
	if d.SyncID != 0 {
		words = append(words, "--syncid", fmt.Sprint(d.SyncID))
	}
	if d.MaxLength != 0 {
		words = append(words, "--sync-maxlen", fmt.Sprint(d.MaxLength))
	}
	if n.Group != DefaultSyncGroup() {
		words = append(words, "--mcast-group", n.Group.String())
	}
	if n.Port != DefaultSyncPort {
		words = append(words, "--mcast-port", fmt.Sprint(n.Port))
	}
	if n.TTL != DefaultSyncTTL {
		words = append(words, "--mcast-ttl", fmt.Sprint(n.TTL))
	}
	return strings.Join(words, " ")
}

// Validate finds what no kernel would take of d.
func (d SyncDaemon) Validate() error {
	n := d.Normal()
	switch {
	case d.State != SyncMaster && d.State != SyncBackup:
		return errors.New("a sync daemon is master or backup")
	case d.Interface == "":
		return fmt.Errorf("the %v sync daemon needs its interface (--mcast-interface)", d.State)
	case len(d.Interface) >= maxInterfaceName:
		return fmt.Errorf("the interface's name %.40q is longer than %d letters", d.Interface, maxInterfaceName-1)
	case strings.ContainsAny(d.Interface, "/ \t\n") || d.Interface == "." || d.Interface == ".." || strings.HasPrefix(d.Interface, "-"):
		return fmt.Errorf("%q cannot be the name of an interface", d.Interface)
	case d.MaxLength < 0 || d.MaxLength > MaxSyncLength:
		return fmt.Errorf("a sync message of %d bytes is out of range, 1 to %d", d.MaxLength, MaxSyncLength)
	case !n.Group.IsMulticast() || n.Group.Is4In6() || n.Group.Zone() != "":
		return fmt.Errorf("%v is no multicast address", n.Group)
	}
	return nil
}

// ParseSyncDaemon reads what follows --start-daemon in a command line of
// ipvsadm: a state and options, long ones with their argument after a space or
// an equals sign: "backup --mcast-interface=eth0 --syncid 1". The words
// "ipvsadm --start-daemon" may stand before it. Unlike with ipvsadm the
// interface must be named.
func ParseSyncDaemon(text string) (SyncDaemon, error) {
	words := split(text)
	for _, lead := range []string{"ipvsadm", "--start-daemon"} {
		if len(words) > 0 && words[0].text == lead {
			words = words[1:]
		}
	}
	if len(words) == 0 {
		return SyncDaemon{}, errors.New("a sync daemon begins with its state, master or backup")
	}
	var d SyncDaemon
	switch words[0].text {
	case "master":
		d.State = SyncMaster
	case "backup":
		d.State = SyncBackup
	default:
		return d, fmt.Errorf("a sync daemon begins with its state, master or backup; found %.40q", words[0].text)
	}
	seen := map[string]bool{}
	for words = words[1:]; len(words) > 0; {
		name, value, glued := strings.Cut(words[0].text, "=")
		words = words[1:]
		if !glued {
			if len(words) == 0 {
				return d, fmt.Errorf("%.40s needs an argument", name)
			}
			value, words = words[0].text, words[1:]
		}
		if seen[name] {
			return d, fmt.Errorf("a second %s", name)
		}
		seen[name] = true
		if err := d.set(name, value); err != nil {
			return d, err
		}
	}
	return d, d.Validate()
}

func syncOptions() []string {
	return []string{"--mcast-interface", "--syncid", "--sync-maxlen", "--mcast-group", "--mcast-port", "--mcast-ttl"}
}

// set gives the daemon one option.
func (d *SyncDaemon) set(name, value string) (err error) {
	if !slices.Contains(syncOptions(), name) {
		return errors.New(source.Unknown("option of a sync daemon", fmt.Sprintf("%.40s", name), syncOptions()))
	}
	var n int
	switch name {
	case "--mcast-interface":
		d.Interface = value
	case "--syncid":
		n, err = parseNumber("syncid", value, 0, 255)
		d.SyncID = uint8(n) //nolint:gosec // in range, as just checked
	case "--sync-maxlen":
		d.MaxLength, err = parseNumber("the length of a sync message", value, 1, MaxSyncLength)
	case "--mcast-group":
		if d.Group, err = netip.ParseAddr(value); err != nil {
			err = fmt.Errorf("%.60q is no IP address", value)
		}
	case "--mcast-port":
		n, err = parseNumber("port of sync messages", value, 1, 65535)
		d.Port = uint16(n) //nolint:gosec // in range, as just checked
	default:
		n, err = parseNumber("TTL of sync messages", value, 1, 255)
		d.TTL = uint8(n) //nolint:gosec // in range, as just checked
	}
	return err
}

// FormatDaemons is what `ipvsadm -L --daemon` prints of the daemons that a
// kernel told of.
func FormatDaemons(list []SyncDaemon) string {
	var b strings.Builder
	for _, d := range list {
		n := d.Normal()
		fmt.Fprintf(&b, "%v sync daemon (mcast=%s, syncid=%d, maxlen=%s, group=%v, port=%d, ttl=%d)\n",
			n.State, n.Interface, n.SyncID, strconv.Itoa(n.MaxLength), n.Group, n.Port, n.TTL)
	}
	return b.String()
}
