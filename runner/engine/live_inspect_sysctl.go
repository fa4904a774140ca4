package engine

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/netns"
)

// Keys that make a node a router.
const (
	keyForward  = "net.ipv4.ip_forward"
	keyForward6 = "net.ipv6.conf.all.forwarding"
)

// Folders of sysctls below /proc/sys; those of conf have one more for each
// device, and for these two words.
const (
	sysctlRoot  = "/proc/sys/"
	folderVS    = "net/ipv4/vs"
	folderConf  = "net/ipv4/conf/"
	folderConf6 = "net/ipv6/conf/"
	allDevices  = "all"
	newDevices  = "default"
)

// values are sysctls by their paths below /proc/sys, written as in sysctl(8).
type values map[string]string

// keys6 are the sysctls of IPv6 that bear on a lab; there are some fifty more
// for each device.
func keys6() []string { return []string{"disable_ipv6", "forwarding", "accept_ra", "accept_dad"} }

// keysLo are those of a loopback device that bear on a lab: where the virtual IP
// is carried there, tutorials set them.
func keysLo() []string {
	return []string{"arp_ignore", "arp_announce", "arp_filter", "rp_filter", "accept_local"}
}

// planKeys are the files of the sysctls that a plan sets on any node: those are
// looked at, whatever they are.
func planKeys(plan *scenarios.Plan) []string {
	var names []string
	for _, op := range plan.Setup {
		k := op.About().Key
		if k.Kind != "sysctl" {
			continue
		}
		if p, err := topology.SysctlPath(k.ID); err == nil {
			names = append(names, strings.TrimPrefix(p, sysctlRoot))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// readDefaults reads what a new namespace has: all that a node is compared with.
func readDefaults(ns *netns.Namespace, keys []string) (values, error) {
	v := make(values)
	err := ns.Do(func() error {
		for _, dev := range []string{allDevices, newDevices} {
			v.folder(folderConf + dev)
		}
		for _, k := range keysLo() {
			v.file(folderConf + "lo/" + k)
		}
		v.folder(folderVS)
		for _, dev := range []string{allDevices, newDevices} {
			for _, k := range keys6() {
				v.file(folderConf6 + dev + "/" + k)
			}
		}
		for _, k := range append([]string{
			"net/ipv4/ip_forward", "net/ipv4/ip_nonlocal_bind", "net/ipv4/ip_default_ttl", "net/ipv4/tcp_synack_retries", "net/ipv4/tcp_syncookies",
		}, keys...) {
			v.file(k)
		}
		return nil
	})
	return v, err
}

// folder reads all files of a folder, if there is one.
func (v values) folder(name string) {
	entries, err := os.ReadDir(sysctlRoot + name)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			v.file(name + "/" + e.Name())
		}
	}
}

// file reads one, if it is there and can be read. They are some hundred a node,
// and so they are read by bare system calls: os would try to poll each of them.
func (v values) file(name string) {
	if _, ok := v[name]; ok {
		return
	}
	fd, err := unix.Open(sysctlRoot+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	var buf [512]byte
	if n, err := unix.Read(fd, buf[:]); err == nil && n < len(buf) {
		v[name] = strings.Join(strings.Fields(string(bytes.TrimSpace(buf[:n]))), " ")
	}
}

// sysctls are those of the calling thread's namespace that differ from what a new
// one has. The settings of a device are compared with those that devices begin
// with there.
func (o onlooker) sysctls(devices []string) []live.Sysctl {
	is, fresh := make(values), maps.Clone(o.fresh)
	for name := range o.fresh {
		is.file(name)
	}
	for name, value := range o.fresh {
		if key, ok := strings.CutPrefix(name, folderConf+newDevices+"/"); ok {
			is.ofDevices(folderConf, key, value, devices, fresh)
		}
		if key, ok := strings.CutPrefix(name, folderConf6+newDevices+"/"); ok && is.ipv6() {
			is.ofDevices(folderConf6, key, value, devices, fresh)
		}
	}
	var list []live.Sysctl
	for _, name := range slices.Sorted(maps.Keys(is)) {
		value, unlike := is[name], fresh[name]
		if value == unlike || is.follows(name) || strings.HasPrefix(name, folderConf6) && !is.ipv6() {
			continue
		}
		list = append(list, live.Sysctl{Key: sysctlKey(name), Value: value, Default: unlike})
	}
	return list
}

// ofDevices reads a setting of each device but lo, which has defaults of its own.
func (v values) ofDevices(folder, key, value string, devices []string, fresh values) {
	for _, dev := range devices {
		if dev == "lo" {
			continue
		}
		name := folder + dev + "/" + key
		v.file(name)
		fresh[name] = value
	}
}

// ipv6 reports whether IPv6 is on: most labs turn it off, with all that it has.
func (v values) ipv6() bool { return v[folderConf6+allDevices+"/disable_ipv6"] == "0" }

// follows reports whether a setting is another one's shadow: ip_forward sets
// forwarding for all devices, and whether redirects are accepted
// (inet_forward_change in net/ipv4/devinet.c); IPv6's does likewise.
func (v values) follows(name string) bool {
	dev, key, ok := strings.Cut(strings.TrimPrefix(name, folderConf), "/")
	if ok && strings.HasPrefix(name, folderConf) {
		forward := v["net/ipv4/ip_forward"]
		return key == "forwarding" && v[name] == forward || dev == allDevices && key == "accept_redirects" && v[name] != forward
	}
	dev, key, ok = strings.Cut(strings.TrimPrefix(name, folderConf6), "/")
	return ok && strings.HasPrefix(name, folderConf6) && key == "forwarding" && dev != allDevices && v[name] == v[folderConf6+allDevices+"/forwarding"]
}

// sysctlKey is a file's key as sysctl(8) prints it: a dot inside a device's name
// is a slash.
func sysctlKey(name string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '/':
			return '.'
		case '.':
			return '/'
		}
		return r
	}, name)
}
