package tools

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Flags of a neighbour in /proc/net/arp (linux/if_arp.h).
const (
	atfCom  = 0x02 // ATF_COM, the address is known
	atfPerm = 0x04 // ATF_PERM
	atfPubl = 0x08 // ATF_PUBL
)

// arpEntry is a line of /proc/net/arp.
type arpEntry struct {
	ip, mac, device string
	hardware, flags uint64
}

// arpOptions are what arp(8) was told.
type arpOptions struct {
	all, numeric, verbose, del, set, help bool
	device                                string
	rest                                  []string
}

// arp is arp(8) of net-tools for Ethernet, without -f and -D.
func arp(c *call) int {
	o, bad := parseArpOptions(c.args)
	switch {
	case bad != "":
		c.errorf("arp: %s\n%s", bad, arpUsage)
		return 3
	case o.help:
		c.errorf("%s", arpUsage)
		return 3
	case o.del:
		return c.arpDelete(o)
	case o.set:
		return c.arpSet(o)
	}
	return c.arpShow(o)
}

const arpUsage = `Usage:
  arp [-vn] [-i <if>] [-a] [<hostname>]             <-Display ARP cache
  arp [-v]  [-i <if>] -d  <host>                    <-Delete ARP entry
  arp [-v]  [-i <if>] -s  <host> <hwaddr> [temp]    <-Add entry
`

// parseArpOptions reads options wherever they stand, as getopt_long(3) does.
func parseArpOptions(args []string) (o arpOptions, bad string) {
	long := map[string]byte{"--all": 'a', "--verbose": 'v', "--numeric": 'n', "--delete": 'd', "--set": 's', "--device": 'i', "--help": 'h'}
	for i := 0; i < len(args); i++ {
		a := args[i]
		letters := strings.TrimPrefix(a, "-")
		switch {
		case a == "-" || !strings.HasPrefix(a, "-"):
			o.rest = append(o.rest, a)
			continue
		case strings.HasPrefix(a, "--"):
			name, value, glued := strings.Cut(a, "=")
			letter, ok := long[name]
			if !ok {
				return o, "unrecognized option '" + a + "'"
			}
			letters = string(letter)
			if glued {
				letters += value
			}
		}
		for j := 0; j < len(letters); j++ {
			switch letters[j] {
			case 'a':
				o.all = true
			case 'e':
				o.all = false
			case 'n':
				o.numeric = true
			case 'v':
				o.verbose = true
			case 'd':
				o.del = true
			case 's':
				o.set = true
			case 'h':
				o.help = true
			case 'i':
				o.device = letters[j+1:]
				if o.device == "" {
					i++
					if i >= len(args) {
						return o, "option requires an argument -- 'i'"
					}
					o.device = args[i]
				}
				j = len(letters)
			default:
				return o, fmt.Sprintf("invalid option -- '%c'", letters[j])
			}
		}
	}
	return o, ""
}

func parseArp(text string) []arpEntry {
	var list []arpEntry
	for i, line := range slices.Collect(strings.Lines(text)) {
		f := strings.Fields(line)
		if i == 0 || len(f) < 6 {
			continue
		}
		hardware, _ := strconv.ParseUint(strings.TrimPrefix(f[1], "0x"), 16, 32)
		flags, _ := strconv.ParseUint(strings.TrimPrefix(f[2], "0x"), 16, 32)
		list = append(list, arpEntry{ip: f[0], mac: f[3], device: f[5], hardware: hardware, flags: flags})
	}
	return list
}

// arpShow lists what the kernel knows of its neighbours.
func (c *call) arpShow(o arpOptions) int {
	text, err := os.ReadFile("/proc/thread-self/net/arp")
	if err != nil {
		c.errorf("/proc/net/arp: %v\n", errors.Unwrap(err))
		return 255
	}
	n := readNames()
	wanted := ""
	if len(o.rest) > 0 {
		a, ok := n.host(o.rest[0])
		if !ok {
			c.errorf("%s: Host name lookup failure\n", o.rest[0])
			return 255
		}
		wanted = a.String()
	}
	entries := parseArp(string(text))
	shown := 0
	for _, e := range entries {
		if wanted != "" && e.ip != wanted || o.device != "" && e.device != o.device {
			continue
		}
		name := ""
		if a, err := netip.ParseAddr(e.ip); err == nil && !o.numeric {
			name = n.addrs[a]
		}
		if o.all {
			c.printf("%s", e.bsd(name))
		} else {
			if shown == 0 {
				c.printf("Address                  HWtype  HWaddress           Flags Mask            Iface\n")
			}
			c.printf("%s", e.linux(name))
		}
		shown++
	}
	if o.verbose {
		c.printf("Entries: %d\tSkipped: %d\tFound: %d\n", len(entries), len(entries)-shown, shown)
	}
	if shown == 0 {
		switch {
		case wanted != "" && !o.all:
			c.printf("%s (%s) -- no entry\n", o.rest[0], wanted)
		case wanted != "" || o.device != "":
			c.printf("arp: in %d entries no match found.\n", len(entries))
		}
	}
	return 0
}

// bsd is the entry as arp -a has it.
func (e arpEntry) bsd(name string) string {
	if name == "" {
		name = "?"
	}
	s := fmt.Sprintf("%s (%s) at ", name, e.ip)
	switch {
	case e.flags&atfCom != 0:
		s += e.mac + " [" + e.kind() + "] "
	case e.flags&atfPubl != 0:
		s += "<from_interface> "
	default:
		s += "<incomplete> "
	}
	if e.flags&atfPerm != 0 {
		s += "PERM "
	}
	if e.flags&atfPubl != 0 {
		s += "PUP "
	}
	return s + "on " + e.device + "\n"
}

// linux is the entry as arp has it without -a.
func (e arpEntry) linux(name string) string {
	if name == "" {
		name = e.ip
	}
	kind, mac, flags := e.kind(), e.mac, ""
	switch {
	case e.flags&atfCom != 0:
		flags = "C"
	case e.flags&atfPubl != 0:
		kind, mac = "*", "<from_interface>"
	default:
		kind, mac = "", "(incomplete)"
	}
	if e.flags&atfPerm != 0 {
		flags += "M"
	}
	if e.flags&atfPubl != 0 {
		flags += "P"
	}
	mask := ""
	if e.flags&atfPubl != 0 {
		mask = "*"
	}
	return fmt.Sprintf("%-23.23s  %-8.8s%-20.20s%-6.6s%-15.15s %s\n", name, kind, mac, flags, mask, e.device)
}

func (e arpEntry) kind() string {
	if e.hardware == unix.ARPHRD_ETHER {
		return "ether"
	}
	return fmt.Sprintf("[%#x]", e.hardware)
}

// arpRequest is struct arpreq of linux/if_arp.h.
type arpRequest struct {
	protocol, hardware unix.RawSockaddr
	flags              int32
	mask               unix.RawSockaddr
	device             [16]byte
}

func newArpRequest(a netip.Addr, device string, flags int32) *arpRequest {
	r := &arpRequest{flags: flags}
	r.protocol.Family = unix.AF_INET
	raw := a.As4()
	for i, b := range raw {
		r.protocol.Data[2+i] = int8(b) //nolint:gosec // a byte is a byte
	}
	copy(r.device[:len(r.device)-1], device)
	return r
}

// ioctl asks the kernel on a socket of the thread's namespace.
func (r *arpRequest) ioctl(request uintptr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(r))); e != 0 {
		return e
	}
	return nil
}

// Requests of linux/sockios.h.
const (
	siocDARP = 0x8953 // SIOCDARP
	siocSARP = 0x8955 // SIOCSARP
)

// arpHost is the IPv4 address of the first word.
func (c *call) arpHost(o arpOptions) (netip.Addr, bool) {
	if len(o.rest) == 0 {
		c.errorf("arp: need host name\n")
		return netip.Addr{}, false
	}
	a, ok := readNames().host(o.rest[0])
	if !ok || !a.Is4() {
		c.errorf("%s: Host name lookup failure\n", o.rest[0])
		return a, false
	}
	return a, true
}

func (c *call) arpDelete(o arpOptions) int {
	a, ok := c.arpHost(o)
	if !ok {
		return 255
	}
	device, _, ok := c.arpWords(o, o.rest[1:])
	if !ok {
		return 255
	}
	if o.verbose {
		c.errorf("arp: SIOCDARP(dontpub)\n")
	}
	err := newArpRequest(a, device, atfPerm).ioctl(siocDARP)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENOENT):
		c.printf("No ARP entry for %s\n", o.rest[0])
	default:
		c.errorf("SIOCDARP(dontpub): %s\n", errnoText(err))
	}
	return 255
}

func (c *call) arpSet(o arpOptions) int {
	a, ok := c.arpHost(o)
	if !ok {
		return 255
	}
	if len(o.rest) < 2 {
		c.errorf("arp: need hardware address\n")
		return 255
	}
	mac, ok := parseMAC(o.rest[1])
	if !ok {
		c.errorf("arp: invalid hardware address\n")
		return 255
	}
	device, flags, ok := c.arpWords(o, o.rest[2:])
	if !ok {
		return 255
	}
	if o.verbose {
		c.errorf("arp: SIOCSARP()\n")
	}
	r := newArpRequest(a, device, flags|atfCom)
	r.hardware.Family = unix.ARPHRD_ETHER
	for i, b := range mac {
		r.hardware.Data[i] = int8(b) //nolint:gosec // a byte is a byte
	}
	if err := r.ioctl(siocSARP); err != nil {
		c.errorf("SIOCSARP: %s\n", errnoText(err))
		return 255
	}
	return 0
}

// arpWords reads the words behind the addresses.
func (c *call) arpWords(o arpOptions, words []string) (device string, flags int32, ok bool) {
	device, flags = o.device, atfPerm
	for i := 0; i < len(words); i++ {
		switch words[i] {
		case "temp":
			flags &^= atfPerm
		case "dev":
			i++
			if i == len(words) {
				c.errorf("%s", arpUsage)
				return "", 0, false
			}
			device = words[i]
		default:
			c.errorf("arp: %q is not known to lvslab's arp; see ip neighbour\n", words[i])
			return "", 0, false
		}
	}
	return device, flags, true
}

// parseMAC reads six numbers between colons.
func parseMAC(text string) (mac [6]byte, ok bool) {
	words := strings.Split(text, ":")
	if len(words) != len(mac) {
		return mac, false
	}
	for i, w := range words {
		n, err := strconv.ParseUint(w, 16, 8)
		if err != nil {
			return mac, false
		}
		mac[i] = byte(n)
	}
	return mac, true
}

// errnoText is what perror(3) would print for an error of the kernel.
func errnoText(err error) string {
	var e unix.Errno
	if !errors.As(err, &e) {
		return err.Error()
	}
	return sentence(e.Error())
}

// sentence begins with a capital letter, as the C library's texts do and Go's do
// not.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
