package importer

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/lvslab/lvslab/topology/source"
)

// ReadOrigins reads the comments that tell where the lines of a lab file came
// from: the last of a line, of the form "# FILE:LINE". A name that has spaces in
// it, or a #, is in quotes. Texts of several lines have no comments.
func ReadOrigins(text []byte) Origins {
	out := make(Origins)
	block := -1 // the indentation of the line that opened a text of several lines
	for i, line := range strings.Split(string(text), "\n") {
		content := strings.TrimLeft(line, " ")
		if indent := len(line) - len(content); block >= 0 && (content == "" || indent > block) {
			continue
		} else {
			block = -1
			said, comment := splitComment(content)
			if said == "" {
				continue
			}
			if opensBlock(said) {
				block = indent
			}
			if pos, ok := parseOrigin(comment); ok {
				out[i+1] = pos
			}
		}
	}
	return out
}

// splitComment takes a line apart where its comment begins: a # behind a space,
// and in no quotes.
func splitComment(line string) (said, comment string) {
	var quote byte
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == '"' && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case (c == '"' || c == '\'') && (i == 0 || strings.IndexByte(" [{,:", line[i-1]) >= 0):
			quote = c // inside a word it is no quote
		case c == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t'):
			return strings.TrimSpace(line[:i]), line[i+1:]
		}
	}
	return strings.TrimSpace(line), ""
}

// opensBlock reports whether a text of several lines follows: "about: |".
func opensBlock(said string) bool {
	i := strings.LastIndexByte(said, ' ')
	last := strings.TrimRight(said[i+1:], "+-123456789")
	return i > 0 && (last == "|" || last == ">")
}

// parseOrigin reads " FILE:LINE", with anything and another # before it.
func parseOrigin(comment string) (source.Pos, bool) {
	text := strings.TrimSpace(comment)
	colon := strings.LastIndexByte(text, ':')
	if colon < 1 {
		return source.Pos{}, false
	}
	line, err := strconv.Atoi(text[colon+1:])
	if err != nil || line < 1 {
		return source.Pos{}, false
	}
	file := text[:colon]
	if strings.HasSuffix(file, `"`) {
		for i := 0; i < len(file); i++ { // the quoted name is the end of it
			if name, err := strconv.Unquote(file[i:]); err == nil && file[i] == '"' {
				return source.Pos{File: name, Line: line}, true
			}
		}
		return source.Pos{}, false
	}
	if i := strings.LastIndex(file, "# "); i >= 0 {
		file = file[i+2:]
	}
	if file == "" || strings.ContainsAny(file, " \t\"#") || isAddress(file, text) {
		return source.Pos{}, false
	}
	return source.Pos{File: file, Line: line}, true
}

// isAddress reports whether what looks like a place is what else people write so: an
// address, with or without its port, or that of a page. A file with such a name is in
// quotes.
func isAddress(file, text string) bool {
	_, err := netip.ParseAddr(strings.Trim(file, "[]"))
	_, whole := netip.ParseAddr(text)
	return err == nil || whole == nil || strings.Contains(file, "://")
}

// originText is a place as such a comment has it.
func originText(p source.Pos) string {
	name := p.File
	if strings.ContainsAny(name, " \t\"#\\") || isAddress(name, name+":"+strconv.Itoa(p.Line)) || strconv.Quote(name) != `"`+name+`"` {
		name = strconv.Quote(name)
	}
	return name + ":" + strconv.Itoa(p.Line)
}
