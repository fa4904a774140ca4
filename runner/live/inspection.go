package live

// Inspection is all that there is to see of a lab.
type Inspection struct {
	Lab      string    `json:"lab"`
	Title    string    `json:"title"`
	About    string    `json:"about,omitempty"`
	Networks []Network `json:"networks"`
	Nodes    []Node    `json:"nodes"`
	Faults   []Broken  `json:"faults,omitempty"`
}

// Network is one network of the lab.
type Network struct {
	Name     string   `json:"name"`
	Prefixes []string `json:"prefixes"`
}

// Node is one node as the kernel has it.
type Node struct {
	Name string `json:"name"`
	// Roles are what the lab has it for: client, director, real server, router.
	Roles []string `json:"roles,omitempty"`
	// Stopped says that the node is switched off; nothing else is known then.
	Stopped    bool     `json:"stopped,omitempty"`
	Devices    []Device `json:"devices,omitempty"`
	Routes     []string `json:"routes,omitempty"`     // in the words of ip-route(8)
	Neighbours []string `json:"neighbours,omitempty"` // in the words of ip-neighbour(8)
	// IPVS is the table of virtual services.
	IPVS []Service `json:"ipvs,omitempty"`
	// Sysctls are those that differ from what a new network namespace has.
	Sysctls  []Sysctl `json:"sysctls,omitempty"`
	ARPRules []string `json:"arp_rules,omitempty"` // in the words of arptables(8)
	IPTables []string `json:"iptables,omitempty"`  // in the words of iptables-save(8)
	Daemons  []Daemon `json:"daemons,omitempty"`
}

// Device is a network device of a node.
type Device struct {
	Name string `json:"name"`
	// Kind is "veth", "loopback", "ipip" and so on.
	Kind string `json:"kind"`
	// Network is the one that the device is plugged into, "" for none.
	Network string `json:"network,omitempty"`
	MAC     string `json:"mac,omitempty"`
	MTU     int    `json:"mtu"`
	// State is "up", "down" or, for one that is up and has no carrier,
	// "no carrier".
	State string `json:"state"`
	// Addresses are those of ip-address(8), with their prefix lengths.
	Addresses []string `json:"addresses,omitempty"`
	// VIPs are those of Addresses that are virtual IPs.
	VIPs []string `json:"vips,omitempty"`
	// Qdisc is what netem does to what is sent, in the words of tc-netem(8).
	Qdisc string `json:"qdisc,omitempty"`
}

// Service is a virtual service in ipvsadm's words.
type Service struct {
	Protocol string `json:"protocol"` // TCP, UDP, SCTP, FWM
	// Address is ADDRESS:PORT, or the firewall mark.
	Address      string        `json:"address"`
	Scheduler    string        `json:"scheduler"`
	Flags        string        `json:"flags,omitempty"`
	Destinations []Destination `json:"destinations"`
}

// Destination is a real server of a service.
type Destination struct {
	Address string `json:"address"`
	// Node is the one that has the address, "" for none.
	Node string `json:"node,omitempty"`
	// Forward is Route, Tunnel, Masq or Local.
	Forward     string `json:"forward"`
	Weight      int    `json:"weight"`
	ActiveConn  int    `json:"active_conn"`
	InactConn   int    `json:"inact_conn"`
	Connections uint64 `json:"connections"`
}

// Sysctl is a setting and what it would be by itself.
type Sysctl struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Default string `json:"default"`
}

// Daemon is a server of a node.
type Daemon struct {
	Name string `json:"name"`
	Port uint16 `json:"port"`
	// State is "listens", "hangs" or how it ended.
	State string `json:"state"`
}
