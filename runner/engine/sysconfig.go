package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/filter"
)

// Where the services of the tutorial's machines (Red Hat's ipvsadm and
// arptables packages) keep their rules and settings.
const (
	ipvsadmFile   = "/etc/sysconfig/ipvsadm"
	ipvsadmConfig = "/etc/sysconfig/ipvsadm-config"
	arptablesFile = "/etc/sysconfig/arptables"
)

// saveOnRestart is the setting by which a restart of ipvsadm saves first. It is
// the variable's whole name that counts: IPVS_SAVE_ON_RESTAR does nothing.
var saveOnRestart = regexp.MustCompile(`(?m)^\s*(?:export\s+)?IPVS_SAVE_ON_RESTART=(?:yes|"yes"|'yes')\s*(?:#.*)?$`)

// systemctl does what the service does on start, stop and restart.
func (r *labRun) systemctl(ctx context.Context, s *scenarios.Systemctl) error {
	n, err := r.env.live(s.Node)
	if err != nil {
		return err
	}
	failure, err := n.switchUnit(ctx, s.Unit, s.Verb)
	if err != nil {
		return err
	}
	exit := 0
	if failure != "" {
		exit = 1
	}
	r.output(s.Node, "systemctl "+s.Verb+" "+s.Unit, failure, exit)
	return nil
}

// switchUnit starts, stops or restarts one of the services that load tables:
// start loads the file, stop clears the table, restart saves first when told
// to. A file that cannot be loaded is the node's failure, in words, and no
// error.
func (n *liveNode) switchUnit(ctx context.Context, unit, verb string) (failure string, err error) {
	file, table := ipvsadmFile, "ipvs"
	if unit == "arptables" {
		file, table = arptablesFile, "arp"
	}
	if verb == "restart" && unit == "ipvsadm" {
		config, err := n.files.ReadFile(ipvsadmConfig)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if saveOnRestart.Match(config) {
			if err := n.saveTable(ctx, table, file); err != nil {
				return "", err
			}
		}
	}
	if verb != "start" {
		if err := n.loadTable(ctx, table, "", nil); err != nil {
			return "", err
		}
	}
	if verb == "stop" {
		return "", nil
	}
	data, err := n.files.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Sprintf("%s: No such file or directory\nJob for %s.service failed", file, unit), nil
	}
	if err != nil {
		return "", err
	}
	if err := n.loadTable(ctx, table, file, data); err != nil {
		failure = err.Error()
	}
	return failure, nil
}

// save writes a node's table to a file, as ipvsadm-save -n or arptables-save
// would.
func (r *labRun) save(ctx context.Context, s *scenarios.Save) error {
	n, err := r.env.live(s.Node)
	if err != nil {
		return err
	}
	return n.saveTable(ctx, s.Table, s.File)
}

// saveTable writes the table "arp" or "ipvs" to a file of the node.
func (n *liveNode) saveTable(ctx context.Context, table, file string) error {
	var text string
	var err error
	if table == "arp" {
		err = n.Do(func() error {
			backend, err := filter.Detect()
			if err != nil {
				return err
			}
			rules, err := backend.List()
			text = filter.FormatSave(rules)
			return err
		})
	} else {
		var conn *ipvs.Conn
		if conn, err = ipvs.Open(n); err != nil {
			return err
		}
		defer conn.Close()
		var t ipvs.Table
		t, err = conn.Table(ctx)
		text = ipvs.FormatRules(t)
	}
	if err != nil {
		return fmt.Errorf("node %s: %w", n.name, err)
	}
	return n.files.WriteFile(file, []byte(text), 0o600)
}

// restore loads a node's table from a file. A file that is not there or holds
// no rules is the lab's outcome, as a command's exit status is.
func (r *labRun) restore(ctx context.Context, s *scenarios.Save) error {
	n, err := r.env.live(s.Node)
	if err != nil {
		return err
	}
	command := "restore " + s.Table + " < " + s.File
	data, err := n.files.ReadFile(s.File)
	if errors.Is(err, fs.ErrNotExist) {
		r.output(s.Node, command, s.File+": No such file or directory", 1)
		return nil
	}
	if err != nil {
		return err
	}
	if err := n.loadTable(ctx, s.Table, s.File, data); err != nil {
		r.output(s.Node, command, err.Error(), 1)
		return nil
	}
	r.output(s.Node, command, "", 0)
	return nil
}

// loadTable replaces a table by what a file's text says; no text clears it.
func (n *liveNode) loadTable(ctx context.Context, table, file string, data []byte) error {
	if table == "arp" {
		rules, _, err := filter.ParseSave(string(data))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		return n.Do(func() error {
			backend, err := filter.Detect()
			if err != nil {
				return err
			}
			return backend.Replace(rules)
		})
	}
	t, err := ipvs.ParseRules(file, string(data))
	if err != nil {
		return err
	}
	return ipvs.Restore(ctx, n, t)
}
