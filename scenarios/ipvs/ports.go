package ipvs

import (
	"net"
	"os"
)

// lookupPort finds a port by a service's name in the system's list of services,
// as ipvsadm does, or 0. Where the system has none, as in small containers, the
// usual names stand in for it.
func lookupPort(network, name string) int {
	if n, err := net.LookupPort(network, name); err == nil {
		return n
	}
	if _, err := os.Stat("/etc/services"); err == nil {
		return 0 // ipvsadm would not know it either
	}
	return usualPort(network, name)
}

// usualPort is the port of a service that is often balanced, by its name in
// IANA's list, or 0.
func usualPort(network, name string) int {
	ports := map[string]int{
		"amqp": 5672, "amqps": 5671, "domain": 53, "domain-s": 853, "ftp": 21, "ftp-data": 20, "ftps": 990,
		"http": 80, "http-alt": 8080, "https": 443, "imap": 143, "imap2": 143, "imaps": 993, "ldap": 389, "ldaps": 636,
		"ms-sql-s": 1433, "ms-wbt-server": 3389, "mysql": 3306, "nfs": 2049, "pop3": 110, "pop3s": 995,
		"postgresql": 5432, "redis": 6379, "rtsp": 554, "sip": 5060, "sip-tls": 5061, "smtp": 25, "ssh": 22,
		"submission": 587, "submissions": 465, "syslog-tls": 6514, "telnet": 23, "webcache": 8080,
		"www": 80, "xmpp-client": 5222, "xmpp-server": 5269,
	}
	switch network {
	case "sctp":
		ports = map[string]int{"amqp": 5672}
	case "udp":
		ports = map[string]int{
			"domain": 53, "domain-s": 853, "https": 443, "ldap": 389, "nfs": 2049, "ntp": 123, "openvpn": 1194,
			"radius": 1812, "radius-acct": 1813, "rtsp": 554, "sip": 5060, "sip-tls": 5061, "snmp": 161,
			"snmp-trap": 162, "syslog": 514, "tftp": 69,
		}
	}
	return ports[name]
}
