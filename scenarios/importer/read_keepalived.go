package importer

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/importer/keepalived"
	"github.com/lvslab/lvslab/topology/source"
)

// readKeepalived reads a keepalived.conf of which the text is known, with what it
// includes from its folder.
func readKeepalived(path string, data []byte, id string) (*config.Config, error) {
	dir, base := filepath.Split(path)
	root, err := os.OpenRoot(filepath.Clean(dir))
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer root.Close()
	c, err := parseKeepalived(&folder{root: root, main: base, data: data}, base, id)
	if dir == "" {
		return c, err
	}
	// The reader names files as they are called in the folder, a person as they
	// are called from here.
	if err != nil {
		return nil, errorFrom(dir, err)
	}
	from(dir).config(c)
	return c, nil
}

// parseKeepalived reads a keepalived.conf in its folder.
func parseKeepalived(fsys fs.FS, name, id string) (*config.Config, error) {
	return keepalived.Parse(fsys, name, keepalived.Options{ID: id})
}

// from is the folder, with its slash, that places are in.
type from string

func (f from) pos(p *source.Pos) {
	if p.File != "" && !filepath.IsAbs(p.File) {
		p.File = string(f) + p.File
	}
}

// places are as a map that may be shared, so the result is another.
func (f from) places(m map[string]source.Pos) map[string]source.Pos {
	m = maps.Clone(m)
	for part, p := range m {
		f.pos(&p)
		m[part] = p
	}
	return m
}

func (f from) config(c *config.Config) {
	for i := range c.Files {
		name := source.Pos{File: c.Files[i].Name}
		f.pos(&name)
		c.Files[i].Name = name.File
	}
	for i := range c.Addresses {
		f.pos(&c.Addresses[i].Pos)
	}
	for i := range c.Notes {
		f.pos(&c.Notes[i].Pos)
	}
	for i := range c.Services {
		s := &c.Services[i]
		f.pos(&s.Pos)
		s.Places = f.places(s.Places)
		// Services of one block may have their servers in common.
		s.Servers = append([]config.Server(nil), s.Servers...)
		for j := range s.Servers {
			f.server(&s.Servers[j])
		}
		if s.Sorry != nil {
			sorry := *s.Sorry
			f.server(&sorry)
			s.Sorry = &sorry
		}
	}
}

func (f from) server(s *config.Server) {
	f.pos(&s.Pos)
	s.Places = f.places(s.Places)
	s.Checkers = append([]config.Checker(nil), s.Checkers...)
	for i := range s.Checkers {
		f.pos(&s.Checkers[i].Pos)
	}
}

// errorFrom is an error with its places in a folder.
func errorFrom(dir string, err error) error {
	var list source.List
	var one *source.Error
	switch {
	case errors.As(err, &list):
		for _, e := range list {
			from(dir).pos(&e.Pos)
		}
	case errors.As(err, &one):
		from(dir).pos(&one.Pos)
	}
	return err
}
