// Package warm maps a guest's init into memory at once, before most of it runs.
//
// In User-Mode Linux a page fault costs as much as four system calls: the
// kernel is a process that traces another one, and maps one page at a time into
// it. A Go program of 12 MB takes some 1,700 of them to run a lab, a fifth of
// all the time. madvise(2) fills the guest's page tables without a fault, and
// mprotect(2), which must look at all of a range, makes the kernel carry the
// whole of it over to the process in a few calls (flush_tlb_range in
// arch/um/kernel/tlb.c).
//
// The work is done by the package's init, which runs early since it imports
// little.
package warm

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Env is the variable that a guest's init finds in its environment, put there by
// the kernel's command line. Everywhere else the package does nothing.
const Env = "LVSLAB_WARM"

// From linux/mman.h, elf(5) and linux/auxvec.h.
const (
	madvPopulateRead  = 22
	madvPopulateWrite = 23
	atPHDR            = 3
	atPHNUM           = 5
	ptLoad            = 1
	pfX, pfW, pfR     = 1, 2, 4
)

// heap is how much of the Go heap's first arena is made ready, in bytes: what a
// lab uses. The runtime maps an arena in steps of this size (runtime/malloc.go).
const heap = 4 << 20

const pageSize = 4096

// header is Elf64_Phdr of elf(5).
type header struct {
	kind, flags               uint32
	_, vaddr, _, filesz, _, _ uint64
}

var first *[64]byte

func init() {
	if _, ok := syscall.Getenv(Env); !ok || syscall.Getpid() != 1 {
		return
	}
	var headers, count uintptr
	aux, err := unix.Auxv()
	if err != nil {
		return
	}
	for _, entry := range aux {
		switch entry[0] {
		case atPHDR:
			headers = entry[1]
		case atPHNUM:
			count = entry[1]
		}
	}
	// A program is loaded where its headers say, less where it is independent of
	// its place: then this would warm what is not there, and be refused.
	for i := range count {
		h := at(headers + i*unsafe.Sizeof(header{}))
		if h.kind != ptLoad {
			continue
		}
		prot := uintptr(0)
		if h.flags&pfR != 0 {
			prot |= syscall.PROT_READ
		}
		if h.flags&pfW != 0 {
			prot |= syscall.PROT_WRITE
		}
		if h.flags&pfX != 0 {
			prot |= syscall.PROT_EXEC
		}
		ready(uintptr(h.vaddr), uintptr(h.filesz), prot)
	}
	first = new([64]byte)
	ready(uintptr(unsafe.Pointer(first))&^(heap-1), heap, syscall.PROT_READ|syscall.PROT_WRITE)
}

// at reads what the kernel has mapped, and the collector knows nothing of.
func at(address uintptr) *header {
	return *(**header)(unsafe.Pointer(&address))
}

// ready maps a range. That it cannot is no error: pages are mapped when they
// are touched.
func ready(from, size, prot uintptr) {
	size += from & (pageSize - 1)
	from &^= pageSize - 1
	size = (size + pageSize - 1) &^ (pageSize - 1)
	advice := uintptr(madvPopulateRead)
	if prot&syscall.PROT_WRITE != 0 {
		advice = madvPopulateWrite
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_MADVISE, from, size, advice); errno != 0 {
		return
	}
	// The same again would be no change: one right more, and back. Nothing runs
	// in between that would use it.
	const all = syscall.PROT_READ | syscall.PROT_WRITE | syscall.PROT_EXEC
	more := uintptr(all)
	if prot == syscall.PROT_READ {
		more = syscall.PROT_READ | syscall.PROT_EXEC
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_MPROTECT, from, size, more); errno == 0 {
		_, _, _ = syscall.RawSyscall(syscall.SYS_MPROTECT, from, size, prot)
	}
}
