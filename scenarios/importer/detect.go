package importer

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// kindOf is what a file is: what a person says, or else what its first line that
// is no comment tells.
func kindOf(name string, data []byte, said config.Kind) (config.Kind, error) {
	if said != "" {
		if !slices.Contains(config.Kinds(), string(said)) {
			return "", &source.Error{Pos: source.Pos{File: name}, Msg: source.Unknown("kind", string(said), config.Kinds())}
		}
		return said, nil
	}
	pos := source.Pos{File: name}
	for line := range bytes.Lines(data) {
		pos.Line++
		kind, err := kindOfLine(string(line))
		if err != nil && ofShell(data, string(line)) {
			err = fmt.Errorf("%.60q is of a shell script, and an import runs nothing; run the script, and save what it made with ipvsadm -S -n", strings.TrimSpace(string(line)))
		}
		if err != nil {
			return "", &source.Error{Pos: pos, Msg: err.Error()}
		}
		if kind != "" {
			return kind, nil
		}
	}
	return "", &source.Error{Pos: source.Pos{File: name}, Msg: "holds nothing but comments; wanted ipvsadm rules or a keepalived.conf"}
}

// ofShell says that a line which is neither kind's is one of a shell script: the
// file says so in its first line, or the line sets a variable or runs sudo.
func ofShell(data []byte, line string) bool {
	first, _, _ := strings.Cut(strings.TrimSpace(line), " ")
	name, _, set := strings.Cut(first, "=")
	return bytes.HasPrefix(data, []byte("#!")) || first == "sudo" || set && name != "" && !strings.ContainsFunc(name, func(c rune) bool {
		return c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	})
}

// kindOfLine is the kind that a line tells, "" for a comment.
func kindOfLine(line string) (config.Kind, error) {
	line = strings.TrimSpace(line)
	first, rest, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
	switch {
	case line == "---", slices.Contains(labKeys(), first):
		return "", errors.New("this is a lab, and not a director's configuration; run it with lvslab run, or hold a configuration against it with lvslab test FILE --against LAB.yaml")
	case line == "" || line[0] == '#':
		return "", nil // to both of them
	case first == "ipvsadm", strings.HasSuffix(first, "/ipvsadm"), strings.HasPrefix(first, "-"):
		return config.IPVSAdm, nil
	case strings.HasPrefix(line, `{"version":`), strings.HasPrefix(line, "TAP version "):
		return "", errors.New("this is a report of lvslab's, and not a configuration; a file to write it to stands behind a =: --json=FILE, --tap=FILE")
	case first == "IP" && strings.Contains(line, "Virtual Server version"), first == "Prot" && strings.Contains(line, "LocalAddress:Port"):
		return "", errors.New("this is a table as ipvsadm -L shows it, which leaves out half of it; save it with ipvsadm -S -n")
	case line[0] == '!', line[0] == '@', line[0] == '$', line[0] == '~', line[0] == '}', strings.HasSuffix(line, "{"):
		return config.Keepalived, nil
	case slices.Contains(keepalivedWords(), first):
		return config.Keepalived, nil
	case strings.HasPrefix(strings.TrimSpace(rest), "{"):
		return config.Keepalived, nil
	}
	return "", fmt.Errorf("%.60q begins neither an ipvsadm rule (-A, -a, ipvsadm -A) nor a block of a keepalived.conf (virtual_server ADDRESS PORT {); say what the file is with --as %s", line, strings.Join(config.Kinds(), " or --as "))
}

// IsConfiguration says whether a file begins as ipvsadm rules or a keepalived.conf
// do, for a verb that wants a lab and was given one of these.
func IsConfiguration(data []byte) bool {
	kind, err := kindOf("", data, "")
	return err == nil && kind != ""
}

// labKeys are those with which a lab file may begin.
func labKeys() []string {
	return []string{
		"title:", "about:", "name:", "networks:", "sysctls:", "allow:", "needs:", "nodes:", "virtual_services:",
		"steps:", "keep_going:", "matrix:",
	}
}

// keepalivedWords are those that stand at the top of a keepalived.conf and whose
// brace may come later, or never (keepalived.conf(5)).
func keepalivedWords() []string {
	return []string{
		"global_defs", "static_ipaddress", "static_routes", "static_rules", "track_group", "linkbeat_interfaces",
		"linkbeat_use_polling", "vrrp_script", "vrrp_track_process", "track_file", "vrrp_track_file", "vrrp_sync_group",
		"vrrp_instance", "garp_group", "interface_up_down_delays", "virtual_server_group", "virtual_server",
		"bfd_instance", "include", "includer", "includem", "includew", "includeb", "includea", "net_namespace", "net_namespace_ipvs",
		"namespace_with_ipsets", "instance", "use_pid_dir", "random_seed", "child_wait_time", "reload_date_specific",
	}
}
