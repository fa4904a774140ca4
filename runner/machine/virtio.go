package machine

// What a guest finds in a machine of virtual hardware, by virtio; User-Mode
// Linux has none of it. The words are agreed between the backend outside and
// package guest inside.
const (
	// RootTag is the mount_tag of the 9p share of the host's whole tree.
	RootTag = "lvslab-root"
	// PortName is the name of the virtio-serial port that is the line to the
	// host, in /sys/class/virtio-ports/*/name.
	PortName = "lvslab-line"
	// StageEnv is the variable, put on the kernel's command line, by which the
	// init knows that it is in an initramfs, and that its root is still to be
	// mounted.
	StageEnv = "LVSLAB_STAGE"
	// StageModules is the folder in the initramfs with the modules for the
	// root and the line. They are to be loaded in the order of their names.
	StageModules = "/modules"
)
