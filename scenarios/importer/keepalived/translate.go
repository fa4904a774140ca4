package keepalived

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// translator makes a Config of a tree.
type translator struct {
	r   *reader
	cfg *config.Config

	groups   []*group
	virtuals []*virtual
	left     leftovers
	notes    []config.Note

	// defaultDevice is global_defs' default_interface.
	defaultDevice string
	instances     map[string]source.Pos
	carried       map[string]source.Pos
	// own are the director's addresses that its VRRP says besides, by their places.
	own    map[netip.Addr]source.Pos
	placed int // real servers in services
	// routers are the vrrp_instances by their virtual routers.
	routers map[routerKey]*speaker

	virtualWords map[string]func(*translator, *virtual, *stmt)
	realWords    map[string]func(*translator, *server, *stmt)
}

func newTranslator(r *reader) *translator {
	return &translator{
		r: r, cfg: &config.Config{Kind: config.Keepalived},
		instances: map[string]source.Pos{}, carried: map[string]source.Pos{},
		own:          map[netip.Addr]source.Pos{},
		routers:      map[routerKey]*speaker{},
		virtualWords: virtualWords(), realWords: realWords(),
	}
}

func (t *translator) fail(at source.Pos, format string, args ...any) {
	t.r.errs.Add(at, format, args...)
}

func (t *translator) warn(at source.Pos, format string, args ...any) {
	t.notes = append(t.notes, note(at, config.Warning, fmt.Sprintf(format, args...)))
}

func (t *translator) assume(at source.Pos, format string, args ...any) {
	t.notes = append(t.notes, note(at, config.Assumed, fmt.Sprintf(format, args...)))
}

func (t *translator) ignore(at source.Pos, format string, args ...any) {
	t.notes = append(t.notes, note(at, config.Ignored, fmt.Sprintf(format, args...)))
}

// finish are the translator's notes, when all is done.
func (t *translator) finish() []config.Note { return append(t.notes, t.left.notes()...) }

// leave leaves a keyword of a block out.
func (t *translator) leave(s *stmt, of string) { t.left.add(s, of) }

// file translates the outermost block.
func (t *translator) file(root *block) {
	known := rootWords()
	for _, s := range root.stmts {
		switch key := s.key(); key {
		case "virtual_server":
			t.virtualServer(s)
		case "virtual_server_group":
			t.serverGroup(s)
		case "vrrp_instance":
			t.instance(s)
		case "static_ipaddress":
			t.staticAddresses(s)
		case "global_defs":
			t.global(s)
		case "SSL", "vrrp_script", "vrrp_sync_group":
			t.leaveBlock(s)
		default:
			if slices.Contains(known, key) {
				t.leaveBlock(s)
			} else {
				t.unknownRoot(s, known)
			}
		}
	}
	t.resolve()
	t.ownServers()
	if len(t.cfg.Services) == 0 && len(t.r.errs) == 0 {
		t.fail(source.Pos{File: t.r.files[0].Name}, "has no virtual_server with real servers; there is nothing to balance")
	}
}

// global is global_defs.
func (t *translator) global(s *stmt) {
	if s.block != nil {
		for _, in := range s.block.stmts {
			if in.key() == "default_interface" && len(in.words) > 1 {
				t.defaultDevice = in.words[1].text
			}
		}
	}
	t.leaveBlock(s)
}

// leaveBlock leaves a whole block out, or a keyword of the outermost.
func (t *translator) leaveBlock(s *stmt) {
	switch {
	case s.block == nil:
		t.ignore(s.at(), "%s is left out: it changes no virtual service", title(s))
	case len(s.block.stmts) == 0:
		t.ignore(s.at(), "%s is left out: it is empty", title(s))
	default:
		t.ignore(s.at(), "%s is left out: it changes no virtual service; it holds %s", title(s), holds(s.block))
	}
}

// holds are the keywords of a block, each once.
func holds(b *block) string {
	const most = 12
	var words []string
	for _, s := range b.stmts {
		if !slices.Contains(words, s.key()) {
			words = append(words, s.key())
		}
	}
	if len(words) > most {
		words = append(words[:most], "…")
	}
	return strings.Join(words, ", ")
}

func (t *translator) unknownRoot(s *stmt, known []string) {
	t.warn(s.at(), "%s; keepalived passes over it", unknown(s, "the file", known))
	if s.block == nil {
		return
	}
	for _, in := range s.block.stmts {
		if slices.Contains(known, in.key()) {
			t.fail(in.at(), "%s inside the unknown block %s: keepalived knows no such block and takes what is in it for its own", in.key(), quote(s.key()))
		}
	}
}

// unknown is the sentence for a keyword that is not known where it stands.
func unknown(s *stmt, where string, known []string) string {
	msg := fmt.Sprintf("unknown keyword %s in %s", quote(s.key()), where)
	if strings.HasPrefix(s.key(), "$") {
		return msg + " (a definition is $NAME=VALUE, without a blank before the =)"
	}
	if n := source.Nearest(s.key(), known); n != "" {
		msg += fmt.Sprintf(" (did you mean %q?)", n)
	}
	return msg
}

// unknownIn tells of an unknown keyword in a block. One that has a block of its
// own is a mistake: keepalived takes the inner lines for the outer block's, and
// ends that at the inner } (run).
func (t *translator) unknownIn(s *stmt, where string, known []string) {
	if s.block != nil {
		t.fail(s.at(), "%s; keepalived would end %s at its }", unknown(s, where, known), where)
		return
	}
	t.warn(s.at(), "%s; keepalived passes over it", unknown(s, where, known))
}

// want checks that a keyword has from least to most words behind it, and no
// block. What is too much keepalived does not look at.
func (t *translator) want(s *stmt, least, most int) bool {
	if s.block != nil {
		t.fail(s.block.open, "%s takes no block; keepalived would end the block around it at its }", s.key())
		return false
	}
	return t.count(s, least, most)
}

func (t *translator) count(s *stmt, least, most int) bool {
	n := len(s.args())
	if n < least {
		t.fail(s.at(), "%s needs %s behind it", s.key(), plural(least, "word"))
		return false
	}
	if n > most {
		w, hint := s.words[1+most], ""
		if t.virtualWords[w.text] != nil || t.realWords[w.text] != nil {
			hint = "; a keyword begins a line of its own"
		}
		t.warn(w.at, "%s: keepalived does not look at %s behind it%s", s.key(), quote(w.text), hint)
	}
	return true
}

// needBlock checks that a keyword has its block.
func (t *translator) needBlock(s *stmt) bool {
	if s.block == nil {
		t.fail(s.at(), "%s has no { … } behind it", title(s))
		return false
	}
	return true
}
