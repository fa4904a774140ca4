package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/runner/host"
	"github.com/lvslab/lvslab/runner/report"
)

// printDiagnosis prints sections of short lines, and at the end what to do.
func (a *app) printDiagnosis(d *diagnosis) {
	fmt.Fprintf(a.out, "This machine: Linux %s, %s, as %s (uid %d)\n", visible(d.Machine.Kernel), d.Machine.Arch, visible(d.Machine.User), d.Machine.UID)

	fmt.Fprintf(a.out, "\nIts own kernel (--kernel host) %s\n", capability(d.Host.Verdict))
	if r := d.Host.Rootless; r != nil {
		a.row(r.Verdict, r.Name+": "+r.Why, r.Fix)
	}
	a.features(d.Host.Features)

	fmt.Fprintf(a.out, "\nA guest kernel (--kernel uml) %s%s\n", capability(d.UML.Verdict), but(d.UML.Lacks))
	if d.UML.Image != "" {
		a.row(yes, d.UML.Kernel+": "+d.UML.Image, nil)
	}
	if d.UML.Why != "" {
		a.row(d.UML.Verdict, d.UML.Why, d.UML.Fix)
	}
	for _, r := range d.UML.Rungs {
		name := "rung " + r.Name
		if r.Name == d.UML.Taken {
			name += ", which is taken"
		}
		a.row(r.Verdict, name+": "+r.Why, r.Fix)
	}
	if d.UML.Image == "" || d.Apt.Verdict != yes {
		a.row(d.Apt.Verdict, d.Apt.Why, d.Apt.Fix)
	}

	fmt.Fprintf(a.out, "\nThe generic kernel in QEMU (--kernel qemu) %s\n", capability(d.QEMU.Verdict))
	if d.QEMU.Image != "" {
		a.row(yes, d.QEMU.Kernel+": "+d.QEMU.Image, nil)
	}
	a.row(d.QEMU.Verdict, d.QEMU.Why, d.QEMU.Fix)
	if d.QEMU.Verdict != no {
		a.row(d.QEMU.KVM.Verdict, "KVM: "+d.QEMU.KVM.Why, d.QEMU.KVM.Fix)
	}
	if s := d.QEMU.Snapshots; s.Count > 0 {
		a.row(yes, fmt.Sprintf("guests that are kept to start the next ones from: %d, %d MB in %s, which may be removed", s.Count, s.Bytes>>20, s.Folder), nil)
	}

	fmt.Fprint(a.out, "\nPlaces: the cache of kernels, and where a guest on the rung bare could have its memory\n")
	for _, t := range d.Folders {
		a.row(t.Verdict, t.Name+": "+t.Why, t.Fix)
	}

	switch {
	case !d.Ready:
		fmt.Fprint(a.out, "\nThe shipped labs cannot run here yet.\n")
	case d.Auto != "":
		fmt.Fprintf(a.out, "\nAll shipped labs%s can run here. --kernel auto takes %s%s.\n", but(d.skipped()), d.Auto, d.autoWhy())
	default:
		fmt.Fprintf(a.out, "\nAll shipped labs%s can run here.\n", but(d.skipped()))
	}
	fmt.Fprintf(a.out, "Type next: %s\n", visible(d.Next))
}

// autoWhy is a clause on what the preferred kernel lacks.
func (d *diagnosis) autoWhy() string {
	var lacks []string
	for _, t := range d.Host.Features {
		if t.Verdict == no {
			lacks = append(lacks, t.Name)
		}
	}
	if d.Auto == host.Name || len(lacks) == 0 {
		return ""
	}
	return ", since this machine's own kernel lacks " + some(lacks)
}

// skipped are the features for want of which some shipped lab is skipped here.
func (d *diagnosis) skipped() []string {
	if d.Host.Verdict == yes || d.QEMU.Verdict == yes {
		return nil
	}
	return d.UML.Lacks
}

// some names the first of a long list.
func some(names []string) string {
	const most = 5
	if len(names) <= most+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// features prints those that are there in one row, and the others with those
// that are not there for the same reason.
func (a *app) features(all []trait) {
	var there []string
	for _, t := range all {
		if t.Verdict == yes {
			there = append(there, t.Name)
		}
	}
	if len(there) > 0 {
		a.row(yes, strings.Join(there, ", "), nil)
	}
	done := make(map[string]bool)
	for i, t := range all {
		if t.Verdict == yes || done[t.Name] {
			continue
		}
		// The same is true of many but for their names.
		blank := func(t trait) string { return strings.ReplaceAll(t.Why, t.Name, "\x00") }
		var names []string
		for _, o := range all[i:] {
			if o.Verdict == t.Verdict && blank(o) == blank(t) && slices.Equal(o.Fix, t.Fix) {
				names = append(names, o.Name)
				done[o.Name] = true
			}
		}
		why := t.Why
		if len(names) > 1 {
			why = strings.ReplaceAll(blank(t), "\x00", "them")
		}
		a.row(t.Verdict, strings.Join(names, ", ")+": "+why, t.Fix)
	}
}

// but excepts the labs that a kernel skips.
func but(lacks []string) string {
	if len(lacks) == 0 {
		return ""
	}
	return " but those that need " + strings.Join(lacks, ", ")
}

func capability(verdict string) string {
	switch verdict {
	case yes:
		return "can run all shipped labs"
	case no:
		return "cannot run all shipped labs"
	}
	return "may or may not be able to run the shipped labs"
}

// row is a verdict and a text, folded at the width of a terminal, and the
// commands that mend it.
func (a *app) row(verdict, text string, fix []string) {
	const indent = "       "
	mark := map[string]string{yes: "yes", no: "NO", unknown: "?"}[verdict]
	head := "  " + pad(mark, len(indent)-2)
	columns := a.columns()
	for line := range strings.Lines(text) {
		for _, piece := range fold(visible(strings.TrimSuffix(line, "\n")), columns-len(indent)) {
			fmt.Fprintln(a.out, strings.TrimRight(head+piece, " "))
			head = indent
		}
	}
	if verdict == yes {
		return
	}
	for _, f := range fix {
		fmt.Fprintf(a.out, "%smend it with: %s\n", indent, visible(f))
	}
}

// columns is the width to fold at.
func (a *app) columns() int {
	if f, ok := a.out.file(); ok {
		if o := report.Detect(f, os.Getenv); o.Terminal && o.Width > 0 {
			return o.Width
		}
	}
	return 100
}

// fold breaks a line at blanks so that each piece has at most so many columns,
// as far as its words let it.
func fold(s string, width int) []string {
	width = max(width, 30)
	var pieces []string
	line := ""
	for _, word := range strings.Fields(s) {
		switch {
		case line == "":
			line = word
		case widest(line)+1+widest(word) <= width:
			line += " " + word
		default:
			pieces = append(pieces, line)
			line = word
		}
	}
	return append(pieces, line)
}
