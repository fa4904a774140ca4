package machine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// slot is one guest's claim to a CPU. Claims are sockets with abstract names
// (unix(7)): they are seen by every lvslab on the machine and vanish with the
// process that holds them.
type slot struct {
	cpu   int
	claim net.Listener
}

// rounds bounds how many guests are spread evenly over the CPUs.
const rounds = 16

// takeCPU claims the CPU with the fewest guests on it, of those that this
// process may use. One CPU per guest is what makes User-Mode Linux fast: on
// two, every switch between the kernel and its processes wakes the other.
func takeCPU() (*slot, error) {
	allowed, err := allowedCPUs()
	if err != nil {
		return nil, err
	}
	for round := range rounds {
		// From the last on: interrupts are mostly the first one's.
		for i := len(allowed) - 1; i >= 0; i-- {
			l, err := net.Listen("unix", fmt.Sprintf("@lvslab-cpu-%d-%d", allowed[i], round))
			if err == nil {
				return &slot{cpu: allowed[i], claim: l}, nil
			}
		}
	}
	return &slot{cpu: allowed[os.Getpid()%len(allowed)]}, nil
}

// CPUs is how many CPUs this process may use: how many guests that are pinned
// to one each run without being in each other's way.
func CPUs() int {
	allowed, err := allowedCPUs()
	if err != nil {
		return 1
	}
	return len(allowed)
}

func allowedCPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("asking for the CPUs allowed: %w", err)
	}
	var allowed []int
	for cpu := range len(set) * strconv.IntSize {
		if set.IsSet(cpu) {
			allowed = append(allowed, cpu)
		}
	}
	if len(allowed) == 0 {
		return nil, errors.New("no CPU is allowed")
	}
	return allowed, nil
}

func (s *slot) release() {
	if s.claim != nil {
		_ = s.claim.Close()
	}
}

func (s *slot) String() string {
	if s == nil {
		return "none"
	}
	return strconv.Itoa(s.cpu)
}
