package kernel

// Kind is a kind of kernel, called as the backend that boots it.
type Kind string

// The kinds.
const (
	// UML is User-Mode Linux, Debian's package user-mode-linux.
	UML Kind = "uml"
	// QEMU is the generic kernel of PCs, Debian's package linux-image-amd64.
	QEMU Kind = "qemu"
)

const (
	// umlPackage is Debian's and Ubuntu's name for User-Mode Linux.
	umlPackage = "user-mode-linux"
	// genericPackage depends on the newest package of Debian's generic kernel.
	genericPackage = "linux-image-amd64"
)

// pkg is the package that Install fetches.
func (kd Kind) pkg() string {
	if kd == QEMU {
		return genericPackage
	}
	return umlPackage
}

// Variable names a kernel in the environment; modulesVariable its modules.
func (kd Kind) Variable() string {
	if kd == QEMU {
		return FromEnvironmentQEMU
	}
	return FromEnvironment
}

func (kd Kind) modulesVariable() string {
	if kd == QEMU {
		return "LVSLAB_QEMU_MODULES"
	}
	return "LVSLAB_UML_MODULES"
}

// modulesBeside is where the modules are from the folder of an image on, if
// nothing else is said: as the packages have it.
func (kd Kind) modulesBeside() string {
	if kd == QEMU {
		return "../lib/modules"
	}
	return "../lib/uml/modules"
}

// InstallCommand is the command by which a person gets a kernel of this kind.
func (kd Kind) InstallCommand() string {
	if kd == QEMU {
		return "lvslab kernel install qemu"
	}
	return "lvslab kernel install"
}

// otherWays ends every error of Install.
func (kd Kind) otherWays() string {
	if kd == QEMU {
		return "another way to a kernel: LVSLAB_QEMU_KERNEL=/path/to/vmlinuz and LVSLAB_QEMU_MODULES=/lib/modules/RELEASE"
	}
	return "other ways to a kernel: as root `apt-get install " + umlPackage + "`, or LVSLAB_UML=/path/to/linux.uml"
}
