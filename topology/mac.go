package topology

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"strings"
)

// MAC is the hardware address of one end of a link: the same for the same lab,
// node and device on every machine, so that captures can be compared. It is
// unicast and locally administered (IEEE Std 802, the U/L bit).
func MAC(lab, node, device string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(lab + "\x00" + node + "\x00" + device))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^0x01 | 0x02
	return mac
}

// maxDeviceName is IFNAMSIZ-1 of linux/if.h.
const maxDeviceName = 15

// PortName is the name of the switch's end of a node's link: node-device, or a
// shortened form with a digest where that is longer than a device name may be,
// or where a dash in the device's name leaves open where the node's ends. Forty
// bits of digest keep thousands of nodes with one beginning apart.
func PortName(node, device string) string {
	name := node + "-" + device
	if len(name) <= maxDeviceName && !strings.Contains(device, "-") {
		return name
	}
	sum := sha256.Sum256([]byte(node + "\x00" + device))
	return name[:min(4, len(name))] + "-" + hex.EncodeToString(sum[:5])
}
