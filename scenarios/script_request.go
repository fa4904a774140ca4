package scenarios

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/lvslab/lvslab/topology"
)

// words are the requests as a person would type them.
func (r *Request) words() string {
	s := strings.Join(r.From, ", ") + ": " + r.brief()
	if r.Count > 1 {
		s += fmt.Sprintf(" (%d times)", r.Count)
	}
	if r.Hold {
		s += ", and the connection stays open"
	}
	if r.Background {
		s += " &"
	}
	return s
}

// brief is the client's command without what bounds it.
func (r *Request) brief() string {
	if r.Client == "http" && !r.Source.Valid() && r.Upload == 0 {
		return fmt.Sprintf("curl http://%s%s", r.Addr, r.Path)
	}
	return r.command(0)
}

// command is what a person types for one request; a timeout of 0 leaves out
// what bounds it.
func (r *Request) command(timeout time.Duration) string {
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	bounded := func(option string) {
		if timeout > 0 {
			add(option, seconds(timeout))
		}
	}
	host, port := r.Addr.Addr().String(), r.Addr.Port()
	switch r.Client {
	case "http", "ftp", "smtp":
		add("curl")
		if timeout > 0 {
			add("-sS")
		}
		bounded("-m %s")
		if r.Source.Addr.IsValid() {
			add("--interface %s", r.Source.Addr)
		}
		if r.Source.Port > 0 {
			add("--local-port %d", r.Source.Port)
		}
		words = append(words, r.url()...)
	case "dns":
		add("dig")
		if timeout > 0 {
			add("+tries=1 +time=%d", max(1, int(timeout.Seconds())))
		}
		if r.Network == "tcp" {
			add("+tcp")
		}
		if r.Source.Valid() {
			own := r.Source.Addr
			if !own.IsValid() {
				own = netip.IPv4Unspecified()
			}
			add("-b %s#%d", own, r.Source.Port)
		}
		if port != services()["dns"].port {
			add("-p %d", port)
		}
		add("@%s server.lab TXT", host)
	default:
		add("%s", map[string]string{"udp": "nc -u", "sctp": "ncat --sctp"}[r.Client])
		if r.Client == "tcp" {
			words = []string{"nc"}
			if timeout > 0 {
				add("-N")
			}
		}
		switch {
		case r.Client == "udp" && timeout > 0:
			add("-w 1") // it ends when nothing came for so long
		case timeout > 0:
			add("-w %d", max(1, int(timeout.Seconds())))
		}
		if r.Source.Addr.IsValid() {
			add("-s %s", r.Source.Addr)
		}
		if r.Source.Port > 0 {
			add("-p %d", r.Source.Port)
		}
		add("%s %d", host, port)
	}
	return strings.Join(words, " ")
}

// url are curl's words for what is asked.
func (r *Request) url() []string {
	host := r.Addr.String()
	if r.Addr.Port() == services()[r.Client].port {
		if host = r.Addr.Addr().String(); r.Addr.Addr().Is6() {
			host = "[" + host + "]"
		}
	}
	switch r.Client {
	case "smtp":
		return []string{"smtp://" + host, "--mail-from client@lab", "--mail-rcpt postmaster@lab", "-T -"}
	case "ftp":
		words := []string{"--disable-epsv", "--no-ftp-skip-pasv-ip"}
		if r.Mode == "active" {
			words = []string{"--disable-eprt", "-P -"}
		}
		if r.Addr.Addr().Is6() {
			words = words[1:] // only the extended commands know IPv6
		}
		return append(words, topology.Quote("ftp://"+host+r.Path))
	}
	words := []string{topology.Quote("http://" + host + r.Path)}
	if r.Upload > 0 {
		words = append([]string{"--data-binary @-"}, words...)
	}
	return words
}

// said is what is put into the client.
func (r *Request) said() string {
	switch {
	case r.Client == "smtp":
		return "hello"
	case r.Bytes > 0:
		return fmt.Sprintf("bytes %d", r.Bytes)
	}
	return "hello"
}

// request is a request as lines of a script.
func (s *script) request(in inNode, r *Request) []string {
	var lines []string
	if r.Bytes > 0 && r.Client == "http" {
		lines = append(lines, fmt.Sprintf("bulk_http %d", r.Bytes))
		s.words = append(s.words, "bulk_http")
	}
	if r.Hold {
		return append(lines, s.hold(r)...)
	}
	one := func(node string) string {
		c := in(node, r.command(r.Timeout))
		switch {
		case r.Upload > 0:
			lines := ""
			if r.Client == "smtp" {
				lines = "fold -w 63 | "
			}
			c = fmt.Sprintf("head -c %d /dev/zero | tr '\\0' . | %s%s", r.Upload, lines, c)
		case r.Client != "http" && r.Client != "ftp" && r.Client != "dns":
			c = "echo " + topology.Quote(r.said()) + " | " + c
		}
		return c + failure
	}
	var l string
	switch {
	case r.SameSocket:
		say := times(r.Count, "echo "+topology.Quote(r.said())+"; sleep "+seconds(max(r.Interval, 100*time.Millisecond)))
		l = "{ " + say + "; } | " + in(r.From[0], r.command(r.Timeout)) + failure
	case len(r.From) > 1 && r.Count > 1:
		var cases []string
		for i, node := range r.From {
			cases = append(cases, fmt.Sprintf("%d) %s ;;", i, one(node)))
		}
		l = times(r.Count, fmt.Sprintf("case $(((i - 1) %% %d)) in %s esac%s", len(r.From), strings.Join(cases, " "), s.interval(r)))
	case r.Concurrency > 1 && r.Upload == 0 && (r.Client == "http" || r.Client == "ftp" || r.Client == "dns"):
		l = fmt.Sprintf("seq %d | xargs -P %d -I '{}' %s", r.Count, r.Concurrency, one(r.From[0]))
	default:
		l = times(r.Count, one(r.From[0])+s.interval(r))
	}
	if r.Background {
		return append(lines, "{ "+l+"; } &", `asked="${asked-} $!"`)
	}
	return append(lines, l)
}

func (s *script) interval(r *Request) string {
	if r.Interval == 0 {
		return ""
	}
	return "; sleep " + seconds(r.Interval)
}

// hold opens connections that stay open: what a client says beyond the first
// line does not matter for that.
func (s *script) hold(r *Request) []string {
	plain := *r
	text := `''`
	if r.Client != "sctp" {
		plain.Client = "tcp"
	}
	if r.Client == "tcp" || r.Client == "sctp" {
		text = topology.Quote(r.said() + "\n")
	}
	name := r.Name
	if name == "" {
		name = "-"
	}
	var lines []string
	if r.Client != "tcp" && r.Client != "sctp" {
		lines = append(lines, "# The connection alone; "+r.Client+" is not spoken over it.")
	}
	for i := range r.Count {
		lines = append(lines, fmt.Sprintf("hold %s %s %s %s", r.From[i%len(r.From)], name, text, plain.command(0)))
	}
	tool, _, _ := strings.Cut(plain.command(0), " ")
	s.words = append(s.words, "hold")
	s.stimuli = append(s.stimuli, "ip", tool)
	return lines
}

func (s *script) release(r *Release) []string {
	word := func(w string) string {
		if w == "" {
			return "-"
		}
		return w
	}
	s.words = append(s.words, "hold")
	return []string{fmt.Sprintf("release %s %s", word(r.Node), word(r.Name))}
}

// waiting are the lines that wait for what is in the background.
const waiting = `wait ${asked-}; asked=`

// leftOver are the lines at the end of a step whose requests in the background
// nobody waited for.
func leftOver(st *Step) []string {
	open := false
	for _, a := range st.Do {
		open = a.Request != nil && a.Request.Background || open && a.Wait == nil
	}
	if !open {
		return nil
	}
	return []string{waiting}
}

func (s *script) daemon(a *Action) []string {
	line := a.Daemon.Serve.Daemon().Shell(a.Daemon.Node, a.Kind == "start")
	s.words = append(s.words, called(line)...)
	return []string{line}
}

// scriptServices are the services that a script has a server for.
func scriptServices() []string {
	return []string{"http", "tcp", "udp", "sctp", "dns", "smtp", "ftp", "command", "daemon"}
}

// isFunction reports whether a word is a function of the script's own, and the
// tools that it calls.
func isFunction(word string) (tools []string, ok bool) {
	_, service, _ := strings.Cut(word, "_")
	switch {
	case word == "hold" || word == "bulk_http":
		return nil, true
	case !strings.HasPrefix(word, "serve_") && !strings.HasPrefix(word, "stop_"):
		return nil, false
	case service == "http":
		return []string{"ss", "setsid"}, true
	case service == "command":
		return []string{"ss", "setsid", "mount"}, true
	case service == "daemon":
		return []string{"setsid", "mount"}, true
	case slices.Contains(scriptServices(), service):
		return []string{"ss", "setsid", "python3"}, true
	}
	return nil, true
}

// servicesIn are the services whose functions are among words.
func servicesIn(words []string) []string {
	var out []string
	for _, w := range words {
		verb, service, _ := strings.Cut(w, "_")
		if verb == "serve" || verb == "stop" {
			out = append(out, service)
		}
	}
	return out
}

// functions are those that the lines of the script call.
func (s *script) functions() string {
	var b strings.Builder
	any := func(words ...string) bool { return slices.ContainsFunc(words, s.uses) }
	var own, missing []string
	for _, service := range servicesIn(s.words) {
		list := &own
		if !slices.Contains(scriptServices(), service) {
			list = &missing
		}
		if !slices.Contains(*list, service) {
			*list = append(*list, service)
		}
	}
	if len(own) > 0 {
		b.WriteString("\n" + daemons)
	}
	if any("serve_http", "stop_http", "bulk_http") {
		b.WriteString("\n" + webServer)
	}
	if any("serve_command", "stop_command") {
		b.WriteString("\n" + commandServer)
	}
	if any("serve_daemon", "stop_daemon") {
		b.WriteString("\n" + fileServer)
	}
	if slices.ContainsFunc(own, func(w string) bool { return w != "http" && w != "command" && w != "daemon" }) {
		b.WriteString("\n" + pythonServices)
	}
	for _, w := range missing {
		fmt.Fprintf(&b, "\n# No simple program stands in for lvslab's own %s server.\nserve_%s() { fail 'a script has no %s server; lvslab run has'; }\nstop_%s() { :; }\n", w, w, w, w)
	}
	if any("hold") {
		b.WriteString("\n" + heldConnections)
	}
	if slices.ContainsFunc(s.stimuli, func(w string) bool { return strings.HasPrefix(w, "arptables-legacy-") }) {
		b.WriteString(legacyARP)
	}
	return b.String()
}
