package labtest_test

import (
	"testing"

	"github.com/lvslab/lvslab/runner/labtest"
)

// The tests of a package that has a lab file, a folder of them, and the
// keepalived.conf of a director beside it. Its TestMain is
//
//	func TestMain(m *testing.M) { labtest.Main(m) }
func Example() {
	_ = func(t *testing.T) { // TestBalancer
		labtest.Run(t, "balancer.yaml")
	}
	_ = func(t *testing.T) { // TestLabs
		t.Parallel()
		labtest.Run(t, "testdata/labs", labtest.Kernel("uml"))
	}
	_ = func(t *testing.T) { // TestConfiguration
		labtest.Import(t, "keepalived.conf")
	}
	// Output:
}
