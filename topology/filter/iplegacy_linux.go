package filter

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Socket options of linux/netfilter_ipv4/ip_tables.h, at level IPPROTO_IP, and
// of linux/netfilter_ipv6/ip6_tables.h, at level IPPROTO_IPV6. They have the
// same numbers.
const (
	soIPReplace     = 64 // IPT_SO_SET_REPLACE
	soIPAddCounters = 65 // IPT_SO_SET_ADD_COUNTERS
	soIPGetInfo     = 64 // IPT_SO_GET_INFO
	soIPGetEntries  = 65 // IPT_SO_GET_ENTRIES

	// struct ipt_getinfo: name[32], valid_hooks, hook_entry[5], underflow[5],
	// num_entries, size.
	ipInfoSize, offIPInfoHooks, offIPInfoEntry           = 84, 32, 36
	offIPInfoUnderflow, offIPInfoNum, offIPInfoSize      = 56, 76, 80
	ipReplaceSize, offIPNumCounters, offIPReplaceCounter = 96, 84, 88
	// struct xt_counters_info: name[32], num_counters, then the counters.
	countersInfoSize = 40
)

// legacyIP is a socket that takes the options of a family.
type legacyIP struct {
	family    Family
	fd, level int
}

func openLegacyIP(f Family) (legacyIP, error) {
	if bits.UintSize != 64 {
		return legacyIP{}, &absentError{errors.New("ip_tables is supported on 64-bit machines only")}
	}
	domain, level := unix.AF_INET, unix.IPPROTO_IP
	if f == IPv6 {
		domain, level = unix.AF_INET6, unix.IPPROTO_IPV6
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EAFNOSUPPORT):
		return legacyIP{}, &absentError{fmt.Errorf("opening an %s socket: %w", f, err)}
	case err != nil:
		return legacyIP{}, fmt.Errorf("opening an %s socket: %w", f, err)
	}
	return legacyIP{f, fd, level}, nil
}

func (s legacyIP) Close() error { return unix.Close(s.fd) }

// core is the name of the family's part of ip_tables.
func (f Family) core() string {
	if f == IPv6 {
		return "ip6_tables"
	}
	return "ip_tables"
}

// info reads where the table's chains begin and how big it is. To ask for a
// table makes it in the namespace, if its module is there.
func (s legacyIP) info(t Table) (ipBlob, uint32, error) {
	var info ipBlob
	b := make([]byte, ipInfoSize)
	copy(b, t)
	n, err := getsockoptAt(s.fd, s.level, soIPGetInfo, b)
	switch {
	case errors.Is(err, unix.ENOPROTOOPT):
		return info, 0, &absentError{fmt.Errorf("the kernel has no %s: %w", s.family.core(), err)}
	case errors.Is(err, unix.ENOENT):
		return info, 0, &absentError{fmt.Errorf("%s has no table %s (module %s): %w", s.family.core(), t, TableFeature(s.family, t), err)}
	case errors.Is(err, unix.EPERM):
		return info, 0, fmt.Errorf("CAP_NET_ADMIN is needed in the network namespace: %w", err)
	case err != nil:
		return info, 0, fmt.Errorf("IPT_SO_GET_INFO for table %s: %w", t, err)
	case n != ipInfoSize:
		return info, 0, fmt.Errorf("IPT_SO_GET_INFO for table %s: the kernel's answer has %d bytes, not %d", t, n, ipInfoSize)
	}
	if h := native.Uint32(b[offIPInfoHooks:]); h != t.validHooks() {
		return info, 0, fmt.Errorf("IPT_SO_GET_INFO: table %s has the hooks %#x, not %#x", t, h, t.validHooks())
	}
	for i := range numIPHooks {
		info.hookEntry[i] = native.Uint32(b[offIPInfoEntry+4*i:])
		info.underflow[i] = native.Uint32(b[offIPInfoUnderflow+4*i:])
	}
	info.numEntries = native.Uint32(b[offIPInfoNum:])
	return info, native.Uint32(b[offIPInfoSize:]), nil
}

// read reads a whole table.
func (s legacyIP) read(t Table) (ipBlob, error) {
	for range legacyTries {
		info, size, err := s.info(t)
		if err != nil {
			return ipBlob{}, err
		}
		b := make([]byte, getEntriesSize+int(size))
		copy(b, t)
		native.PutUint32(b[tableNameSize:], size)
		n, err := getsockoptAt(s.fd, s.level, soIPGetEntries, b)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return ipBlob{}, fmt.Errorf("IPT_SO_GET_ENTRIES of table %s: %w", t, err)
		}
		if n != len(b) {
			return ipBlob{}, fmt.Errorf("IPT_SO_GET_ENTRIES of table %s: the kernel's answer has %d bytes, not %d", t, n, len(b))
		}
		info.entries = b[getEntriesSize:]
		return info, nil
	}
	return ipBlob{}, fmt.Errorf("the table %s changed %d times while it was read", t, legacyTries)
}

func (s legacyIP) count(t Table) ([]CountedIP, error) {
	b, err := s.read(t)
	if err != nil {
		return nil, err
	}
	return decodeIP(s.family, t, b)
}

// write makes a table these rules. What stays keeps its counters: the kernel
// tells the old ones at the moment of the exchange, and has them added to the
// new ones.
func (s legacyIP) write(t Table, rules []IPRule) error {
	for range legacyTries {
		was, err := s.read(t)
		if err != nil {
			return err
		}
		old, err := decodeIP(s.family, t, was)
		if err != nil {
			return err
		}
		b := encodeIP(s.family, t, rules)
		counters, err := replaceWithCounters(s.fd, s.level, soIPReplace, b.replace(t, was.numEntries), offIPReplaceCounter, was.numEntries)
		switch {
		case errors.Is(err, unix.EAGAIN):
			continue
		case errors.Is(err, unix.ENOENT):
			return fmt.Errorf("IPT_SO_SET_REPLACE of table %s: the kernel lacks a match or a target of these rules, one of %s: %w", t, needsList(rules), err)
		case err != nil:
			return fmt.Errorf("IPT_SO_SET_REPLACE of table %s: %w", t, err)
		}
		return s.addCounters(t, rulesOf(old), rules, b.numEntries, counters)
	}
	return fmt.Errorf("the table %s changed %d times while it was written", t, legacyTries)
}

// addCounters gives the rules that stayed, and the policies, what the old
// entries had counted.
func (s legacyIP) addCounters(t Table, old, rules []IPRule, entries uint32, counters []byte) error {
	b := make([]byte, countersInfoSize+int(entries)*countersSize)
	copy(b, t)
	native.PutUint32(b[tableNameSize:], entries)
	from := survivors(old, rules)
	was, is := places(t, old), places(t, rules)
	carry := func(from, to int) {
		copy(b[countersInfoSize+to*countersSize:][:countersSize], counters[from*countersSize:])
	}
	for i, j := range from {
		if j >= 0 {
			carry(was.rules[j], is.rules[i])
		}
	}
	for i := range was.policies {
		carry(was.policies[i], is.policies[i])
	}
	if err := unix.SetsockoptString(s.fd, s.level, soIPAddCounters, string(b)); err != nil {
		return fmt.Errorf("IPT_SO_SET_ADD_COUNTERS of table %s: %w", t, err)
	}
	return nil
}

// entryPlaces are the numbers of entries in a table: of its rules in the order
// of a list, of its policies by hook.
type entryPlaces struct{ rules, policies []int }

func places(t Table, rules []IPRule) entryPlaces {
	p := entryPlaces{rules: make([]int, len(rules))}
	n := 0
	for _, chain := range t.Chains() {
		for i, r := range rules {
			if r.Chain == chain {
				p.rules[i] = n
				n++
			}
		}
		p.policies = append(p.policies, n)
		n++
	}
	return p
}

// replace is struct ipt_replace with its entries, but for the pointer: name[32],
// valid_hooks, num_entries, size, hook_entry[5], underflow[5], num_counters,
// counters.
func (b ipBlob) replace(t Table, oldEntries uint32) []byte {
	r := make([]byte, tableNameSize, ipReplaceSize+len(b.entries))
	copy(r, t)
	r = native.AppendUint32(r, t.validHooks())
	r = native.AppendUint32(r, b.numEntries)
	r = native.AppendUint32(r, uint32(len(b.entries)))
	for _, off := range b.hookEntry {
		r = native.AppendUint32(r, off)
	}
	for _, off := range b.underflow {
		r = native.AppendUint32(r, off)
	}
	r = native.AppendUint32(r, oldEntries)
	r = native.AppendUint64(r, 0)
	return append(r, b.entries...)
}

// legacyTables are the tables that the thread's namespace has, without making
// any.
func legacyTables(f Family) ([]Table, error) {
	name := "/proc/thread-self/net/" + f.core() + "_names"
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the tables of %s: %w", f.core(), err)
	}
	var tables []Table
	for _, t := range Tables() {
		if slices.ContainsFunc(bytes.Fields(data), func(w []byte) bool { return string(w) == string(t) }) {
			tables = append(tables, t)
		}
	}
	return tables, nil
}

// countLegacyIP reads the tables that are there.
func countLegacyIP(f Family) ([]CountedIP, error) {
	tables, err := legacyTables(f)
	if err != nil || len(tables) == 0 {
		return nil, err
	}
	s, err := openLegacyIP(f)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var all []CountedIP
	for _, t := range tables {
		c, err := s.count(t)
		if err != nil {
			return nil, err
		}
		all = append(all, c...)
	}
	return all, nil
}

// replaceLegacyIP writes the tables of which any rule changes.
func replaceLegacyIP(f Family, old, rules []IPRule) error {
	s, err := openLegacyIP(f)
	if err != nil {
		return err
	}
	defer s.Close()
	for _, t := range Tables() {
		if was, is := ofTable(old, t), ofTable(rules, t); !slices.Equal(was, is) {
			if err := s.write(t, is); err != nil {
				return err
			}
		}
	}
	return nil
}

// probeLegacyIP asks for a table. nil is yes, an absentError no. Any table will
// do; those that are wanted come first and that of NAT comes last, because to ask
// for a table makes it in the namespace, and that one starts connection tracking.
func probeLegacyIP(f Family, wanted ...Table) error {
	s, err := openLegacyIP(f)
	if err != nil {
		return err
	}
	defer s.Close()
	for _, t := range append(slices.Clone(wanted), FilterTable, RawTable, MangleTable, NATTable) {
		if _, _, err = s.info(t); err == nil || !isAbsent(err) {
			return err
		}
	}
	return err
}
