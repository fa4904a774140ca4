package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology/capture"
	"github.com/lvslab/lvslab/topology/netns"
	"github.com/lvslab/lvslab/topology/source"
)

// Capture implements live.Lab. It ends without an error when ctx ends or as many
// packets were written as were asked for, and with one when the lab is taken
// down; packets that a slow reader lost are
// told by the stream's interface statistics (isb_ifdrop) and in the lab's log.
// Devices of a node that is switched off are listened to when it is back.
func (l *Live) Capture(ctx context.Context, c live.Capture, w io.Writer) error {
	if c.Count < 0 {
		return fmt.Errorf("a capture of %d packets; wanted 1 or more, or 0 for no end", c.Count)
	}
	taps, err := l.taps(c.Links)
	if err != nil {
		return err
	}
	lab, _, _ := l.state()
	ctx, stop := l.changing.during(ctx)
	defer stop()
	stats, err := capture.Stream(ctx, w, taps, capture.StreamOptions{
		Comment: lab.Name, Count: uint64(c.Count), NoOffloads: true,
	})
	if stats.Lost > 0 {
		l.log.note("", "a capture lost %d packets beside the %d written: its reader was too slow", stats.Lost, stats.Packets)
	}
	if err == nil && errors.Is(context.Cause(ctx), errDown) {
		return errDown
	}
	return err
}

// taps are the devices that words stand for, each once.
func (l *Live) taps(words []string) ([]capture.Tap, error) {
	lab, _, _ := l.state()
	if len(words) == 0 {
		words = lab.Nodes.Names()
	}
	var taps []capture.Tap
	for _, word := range words {
		devices, node, err := l.tapped(lab, word)
		if err != nil {
			return nil, err
		}
		for _, device := range devices {
			name := captureName(node, device)
			if slices.ContainsFunc(taps, func(t capture.Tap) bool { return t.Name == name }) {
				continue
			}
			taps = append(taps, capture.Tap{Name: name, Device: device, Namespace: func() *netns.Namespace {
				if n, err := l.world.live(node); err == nil {
					return n.Namespace
				}
				return nil
			}})
		}
	}
	if len(taps) == 0 {
		return nil, errors.New("there is no link to listen to")
	}
	return taps, nil
}

// tapped are the devices that NODE:DEVICE or NODE stands for: the one, which may
// be any that the node has, or the node's links.
func (l *Live) tapped(lab *scenarios.Lab, word string) (devices []string, node string, err error) {
	name, device, one := strings.Cut(word, ":")
	n, ok := lab.Nodes.Get(name)
	if !ok {
		return nil, "", fmt.Errorf("capture %s: %s", word, source.Unknown("node", name, lab.Nodes.Names()))
	}
	links := n.Links.Names()
	if !one {
		return links, name, nil
	}
	if slices.Contains(links, device) {
		return []string{device}, name, nil
	}
	known := links
	if running, err := l.world.live(name); err == nil {
		if all, err := dumped(running.Netlink().LinkList); err == nil {
			for _, link := range all {
				if !slices.Contains(known, link.Attrs().Name) {
					known = append(known, link.Attrs().Name)
				}
			}
		}
	}
	if !slices.Contains(known, device) {
		return nil, "", fmt.Errorf("capture %s: %s", word, source.Unknown("device of "+name, device, known))
	}
	return []string{device}, name, nil
}
