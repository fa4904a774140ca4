package keepalived

// rootWords are the keywords of the outermost block (keepalived.conf(5), 2.2.7).
func rootWords() []string {
	return []string{
		"virtual_server", "virtual_server_group", "vrrp_instance", "global_defs", "static_ipaddress",
		"static_routes", "static_rules", "SSL", "vrrp_script", "vrrp_sync_group", "vrrp_track_process", "track_process",
		"vrrp_track_file", "track_file", "track_group", "bfd_instance", "linkbeat_interfaces", "garp_group",
		"interface_up_down_delays", "net_namespace", "net_namespace_ipvs", "namespace_with_ipsets", "instance",
		"use_pid_dir", "linkbeat_use_polling", "child_wait_time", "include_check",
		"include", "includer", "includem", "includew", "includeb", "includea",
	}
}

// virtualWords are those of virtual_server. Each says what is done with it.
func virtualWords() map[string]func(*translator, *virtual, *stmt) {
	left := func(t *translator, _ *virtual, s *stmt) {
		if t.want(s, 0, len(s.args())) {
			t.leave(s, "virtual_server")
		}
	}
	flag := (*translator).flag
	return map[string]func(*translator, *virtual, *stmt){
		"ip_family": (*translator).family,
		"lb_algo":   (*translator).scheduler, "lvs_sched": (*translator).scheduler,
		"lb_kind": (*translator).kind, "lvs_method": (*translator).kind,
		"hashed": flag, "ops": flag, "flag-1": flag, "flag-2": flag, "flag-3": flag,
		"sh-port": flag, "sh-fallback": flag, "mh-port": flag, "mh-fallback": flag,
		"persistence_timeout": (*translator).persistence, "persistence_engine": (*translator).engine,
		"persistence_granularity": (*translator).granularity,
		"protocol":                (*translator).protocol,
		"quorum":                  (*translator).quorum,
		"virtualhost":             (*translator).virtualHost,
		"weight":                  (*translator).defaultWeight,
		"delay_loop":              (*translator).delayLoop,
		"alpha":                   (*translator).switches, "inhibit_on_failure": (*translator).switches,
		"sorry_server": (*translator).sorry, "sorry_server_inhibit": (*translator).sorryInhibit,
		"sorry_server_lvs_method": (*translator).sorryMethod,
		"real_server":             (*translator).realServer,
		"retry":                   left, "delay_before_retry": left, "warmup": left, "connect_timeout": left,
		"ha_suspend": left, "smtp_alert": left, "snmp_name": left, "omega": left, "hysteresis": left,
		"quorum_up": left, "quorum_down": left,
	}
}

// realWords are those of real_server, checkers beside.
func realWords() map[string]func(*translator, *server, *stmt) {
	left := func(t *translator, _ *server, s *stmt) {
		if t.want(s, 0, len(s.args())) {
			t.leave(s, "real_server")
		}
	}
	return map[string]func(*translator, *server, *stmt){
		"weight": (*translator).weight, "lvs_method": (*translator).serverMethod,
		"uthreshold": (*translator).threshold, "lthreshold": (*translator).threshold,
		"inhibit_on_failure": (*translator).inhibit,
		"alpha":              left, "notify_up": left, "notify_down": left, "virtualhost": left, "snmp_name": left,
		"smtp_alert": left, "retry": left, "delay_before_retry": left, "warmup": left, "delay_loop": left,
		"connect_timeout": left,
	}
}

// checkerWords are the keywords of all checkers together, by what they do to
// them: each checker of keepalived's takes some of them.
func checkerWords() []string {
	return []string{
		"connect_ip", "connect_port", "bindto", "bind_if", "bind_port", "fwmark", "alpha", "connect_timeout", "retry",
		"nb_get_retry", "delay_before_retry", "warmup", "delay_loop", "log_all_failures", "host", "http_protocol",
		"fast_recovery", "url", "virtualhost", "enable_sni", "helo_name", "type", "name", "misc_path", "misc_timeout",
		"misc_dynamic", "user", "payload", "require_reply", "min_reply_length", "max_reply_length", "track_file",
		"dynamic", "weight",
	}
}

// mailHostWords are those of host in SMTP_CHECK.
func mailHostWords() []string {
	return []string{
		"connect_ip", "connect_port", "bindto", "bind_if", "bind_port", "fwmark", "connect_timeout", "retry",
		"delay_before_retry", "warmup", "delay_loop", "alpha", "log_all_failures",
	}
}

// urlWords are those of url.
func urlWords() []string {
	return []string{
		"path", "digest", "status_code", "virtualhost", "regex", "regex_no_match", "regex_options", "regex_stack",
		"regex_min_offset", "regex_max_offset",
	}
}

// checkers are keepalived's checkers.
func checkers() []string {
	return []string{
		"HTTP_GET", "SSL_GET", "TCP_CHECK", "SMTP_CHECK", "DNS_CHECK", "MISC_CHECK", "UDP_CHECK", "PING_CHECK",
		"FILE_CHECK", "BFD_CHECK",
	}
}

// schedulers are those that keepalived 2.2.7 knows.
func schedulers() []string {
	return []string{"rr", "wrr", "lc", "wlc", "lblc", "sh", "mh", "dh", "fo", "ovf", "lblcr", "sed", "nq", "twos"}
}
