// Package ipvs is the room of the virtual services: services and real servers
// as values, the rule grammar of ipvsadm that reads and writes them, the only
// door to IPVS in a kernel, and the ops that put them there.
//
// The values (Service, Destination, Table) and the grammar (ParseRules,
// FormatRules, FormatList) know no kernel and work on every system. Conn is the
// door: it is opened on a node, changes that node's table, and believes a
// change only when it has read it back.
//
// The door writes with github.com/moby/ipvs, which has three ways to mislead:
// without IPVS in the kernel it reports success, a receive that times out is
// tried again for ever, and it knows neither tunnel types nor mixed address
// families nor the persistence engine of a service that it reads. Conn answers
// the first by resolving the generic-netlink family before anything else, the
// second by a deadline of its own after which the socket is thrown away, and
// the third by a small generic-netlink client (genl_linux.go) that does all the
// reading and writes the destinations that moby/ipvs cannot. So what is read
// back never passes through the code that wrote it.
//
// In a user namespace of one's own the kernel takes no generic netlink of IPVS,
// and there the door is the older one, socket options (sockopt_linux.go), which
// knows less: ErrLegacy is what it cannot do.
package ipvs
