package scenarios

import "strings"

// vsDefaults are the sysctls of net.ipv4.vs with a way back: the values that a
// new namespace has (ip_vs_control_net_init_sysctl in
// net/netfilter/ipvs/ip_vs_ctl.c; Documentation/networking/ipvs-sysctl.rst).
func vsDefaults() map[string]string {
	return map[string]string{
		"am_droprate": "10", "backup_only": "0", "cache_bypass": "0", "conn_reuse_mode": "1", "conntrack": "0",
		"drop_entry": "0", "drop_packet": "0", "expire_nodest_conn": "0", "expire_quiescent_template": "0",
		"ignore_tunneled": "0", "nat_icmp_send": "0", "pmtu_disc": "1", "schedule_icmp": "0", "secure_tcp": "0",
		"sloppy_sctp": "0", "sloppy_tcp": "0", "snat_reroute": "1", "sync_persist_mode": "0", "sync_ports": "1",
		"sync_refresh_period": "0", "sync_retries": "0",
	}
}

// withVSDefaults gives settings of net.ipv4.vs the value that undoing them leads
// back to.
func withVSDefaults(set func(setting)) func(setting) {
	defaults := vsDefaults()
	return func(s setting) {
		if key, ok := strings.CutPrefix(canonicalSysctl(s.key), "net.ipv4.vs."); ok && s.pinned == "" {
			s.pinned = defaults[key]
		}
		set(s)
	}
}
