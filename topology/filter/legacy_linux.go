package filter

import (
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"
)

// Socket options of linux/netfilter_arp/arp_tables.h, at level IPPROTO_IP.
const (
	soSetReplace        = 96 // ARPT_SO_SET_REPLACE
	soGetInfo           = 96 // ARPT_SO_GET_INFO
	soGetEntries        = 97 // ARPT_SO_GET_ENTRIES
	soGetRevisionTarget = 99 // ARPT_SO_GET_REVISION_TARGET
)

const filterTable = "filter"

// legacyTries is how often a table is read or written again when somebody
// else changed it in between (EAGAIN).
const legacyTries = 10

// openLegacy opens a socket in the thread's namespace. Any IPv4 socket takes
// the options; a UDP one needs no CAP_NET_RAW.
func openLegacy() (int, error) {
	if bits.UintSize != 64 {
		return -1, &absentError{errors.New("arp_tables is supported on 64-bit machines only")}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return -1, &absentError{fmt.Errorf("opening an IPv4 socket: %w", err)}
	}
	if err != nil {
		return -1, fmt.Errorf("opening an IPv4 socket: %w", err)
	}
	return fd, nil
}

// probeLegacy asks for the table and for the target mangle. nil is yes, an
// absentError no.
func probeLegacy() error {
	fd, err := openLegacy()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := legacyInfo(fd); err != nil {
		return err
	}
	return probeMangle(fd)
}

// probeMangle sends a struct xt_get_revision: name[29], u8 revision.
func probeMangle(fd int) error {
	req := make([]byte, targetNameSize+1)
	copy(req, "mangle")
	_, err := getsockopt(fd, soGetRevisionTarget, req)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EPROTONOSUPPORT):
		return &absentError{fmt.Errorf("the target mangle is missing (module arpt_mangle): %w", err)}
	case err != nil:
		return fmt.Errorf("asking for the target mangle: %w", err)
	}
	return nil
}

// legacyInfo reads where the table's chains begin and how big it is; entries
// is left for legacyTable.
func legacyInfo(fd int) (info struct {
	table
	size uint32
}, err error,
) {
	b := make([]byte, getInfoSize)
	copy(b, filterTable)
	n, err := getsockopt(fd, soGetInfo, b)
	switch {
	case errors.Is(err, unix.ENOPROTOOPT):
		return info, &absentError{fmt.Errorf("the kernel has no arp_tables: %w", err)}
	case errors.Is(err, unix.ENOENT):
		return info, &absentError{fmt.Errorf("arp_tables has no table filter (module arptable_filter): %w", err)}
	case errors.Is(err, unix.EPERM):
		return info, fmt.Errorf("CAP_NET_ADMIN is needed in the network namespace: %w", err)
	case err != nil:
		return info, fmt.Errorf("ARPT_SO_GET_INFO: %w", err)
	case n != getInfoSize:
		return info, fmt.Errorf("ARPT_SO_GET_INFO: the kernel's answer has %d bytes, not %d", n, getInfoSize)
	}
	if h := native.Uint32(b[offInfoHooks:]); h != validHooks {
		return info, fmt.Errorf("ARPT_SO_GET_INFO: the table has the hooks %#x, not %#x", h, validHooks)
	}
	for i := range numHooks {
		info.hookEntry[i] = native.Uint32(b[offInfoEntry+4*i:])
		info.underflow[i] = native.Uint32(b[offInfoUnderflow+4*i:])
	}
	info.numEntries = native.Uint32(b[offInfoNum:])
	info.size = native.Uint32(b[offInfoSize:])
	return info, nil
}

// legacyTable reads the whole table.
func legacyTable(fd int) (table, error) {
	for range legacyTries {
		info, err := legacyInfo(fd)
		if err != nil {
			return table{}, err
		}
		b := make([]byte, getEntriesSize+int(info.size))
		copy(b, filterTable)
		native.PutUint32(b[tableNameSize:], info.size)
		n, err := getsockopt(fd, soGetEntries, b)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return table{}, fmt.Errorf("ARPT_SO_GET_ENTRIES: %w", err)
		}
		if n != len(b) {
			return table{}, fmt.Errorf("ARPT_SO_GET_ENTRIES: the kernel's answer has %d bytes, not %d", n, len(b))
		}
		info.entries = b[getEntriesSize:]
		return info.table, nil
	}
	return table{}, fmt.Errorf("the table changed %d times while it was read", legacyTries)
}

func countLegacy() ([]Counted, error) {
	fd, err := openLegacy()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	t, err := legacyTable(fd)
	if err != nil {
		return nil, err
	}
	return decodeTable(t)
}

func replaceLegacy(rules []ArpRule) error {
	fd, err := openLegacy()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	replace := encodeReplace(encodeTable(rules))
	for range legacyTries {
		info, err := legacyInfo(fd)
		if err != nil {
			return err
		}
		native.PutUint32(replace[offReplaceCounters-4:], info.numEntries) // num_counters
		err = setReplace(fd, soSetReplace, replace, info.numEntries)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EAGAIN):
			continue
		case errors.Is(err, unix.ENOENT):
			return errors.Join(fmt.Errorf("ARPT_SO_SET_REPLACE: %w", err), probeMangle(fd))
		}
		return fmt.Errorf("ARPT_SO_SET_REPLACE: %w", err)
	}
	return fmt.Errorf("the table changed %d times while it was written", legacyTries)
}

// encodeReplace is struct arpt_replace with its entries, but for the counters:
// name[32], valid_hooks, num_entries, size, hook_entry[3], underflow[3],
// num_counters, counters.
func encodeReplace(t table) []byte {
	b := make([]byte, 0, replaceSize+len(t.entries))
	b = append(b, filterTable...)
	b = append(b, make([]byte, tableNameSize-len(filterTable))...)
	b = native.AppendUint32(b, validHooks)
	b = native.AppendUint32(b, t.numEntries)
	b = native.AppendUint32(b, uint32(len(t.entries)))
	for _, off := range t.hookEntry {
		b = native.AppendUint32(b, off)
	}
	for _, off := range t.underflow {
		b = native.AppendUint32(b, off)
	}
	b = native.AppendUint32(b, 0) // num_counters
	b = native.AppendUint64(b, 0) // counters
	return append(b, t.entries...)
}
