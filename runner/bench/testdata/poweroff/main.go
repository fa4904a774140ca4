// Command poweroff is the init of a bare guest: it powers off at once.
package main

import "syscall"

func main() {
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}
