package keepalived

import (
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// keepalived's defaults (keepalived.conf(5) and check_data.c).
const (
	defaultDelay  = time.Minute
	defaultQuorum = 1
	// maxPersistence is the longest persistence_timeout, in seconds (run).
	maxPersistence = 2678400
	// maxPEName is the longest name of a persistence engine; a longer one is
	// cut (run).
	maxPEName = 15
)

// virtual is a virtual_server block.
type virtual struct {
	at     source.Pos
	name   string // "virtual_server group web"
	parent int
	// One of the three says what it is for.
	addr  netip.AddrPort
	mark  uint32
	group word
	// af is the family that the block has told so far: of its address, of
	// ip_family, of its first real server that is not tunnelled.
	af family

	proto     ipvs.Protocol
	sched     string
	flags     []string
	onePacket bool
	timeout   time.Duration
	netmask   int
	pe        string
	method    method
	weight    int
	quorum    int
	host      string
	delay     time.Duration
	alpha     bool
	inhibit   bool
	places    map[string]source.Pos
	servers   []*server
	sorry     *server
}

// family is an address family, 0 for not known yet.
type family int

const (
	unknownFamily family = 0
	v4            family = 4
	v6            family = 6
)

func (f family) String() string { return map[family]string{v4: "IPv4", v6: "IPv6"}[f] }

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return v4
	}
	return v6
}

// virtualServer reads a virtual_server block.
func (t *translator) virtualServer(s *stmt) {
	v := &virtual{
		at: s.at(), name: title(s), parent: len(t.virtuals) + 1,
		weight: 1, quorum: defaultQuorum, delay: defaultDelay, places: map[string]source.Pos{},
	}
	if !t.count(s, 1, 2) || !t.needBlock(s) || !t.subject(v, s) {
		return
	}
	t.virtuals = append(t.virtuals, v)
	for _, in := range s.block.stmts {
		if do, ok := t.virtualWords[in.key()]; ok {
			do(t, v, in)
			continue
		}
		t.unknownIn(in, "virtual_server", slices.Sorted(maps.Keys(t.virtualWords)))
	}
}

// subject reads what a virtual_server is for.
func (t *translator) subject(v *virtual, s *stmt) bool {
	args := s.args()
	switch kind := args[0].text; kind {
	case "group", "fwmark":
		if len(args) < 2 {
			t.fail(s.at(), "virtual_server %s needs a name or number behind it", kind)
			return false
		}
		if kind == "group" {
			v.group = args[1]
			return true
		}
		n, ok := t.whole("virtual_server fwmark", args[1], 1, math.MaxUint32)
		v.mark = uint32(n) //nolint:gosec // in range
		return ok
	}
	a, ok := t.addr("virtual_server", args[0])
	if !ok {
		return false
	}
	port, ok := t.maybePort("virtual_server", args[1:min(2, len(args))])
	v.addr, v.af = netip.AddrPortFrom(a, port), familyOf(a)
	return ok
}

// once notes where a part of a block stands, and tells of the second of its kind.
func (t *translator) once(places map[string]source.Pos, part string, s *stmt) {
	if first, twice := places[part]; twice {
		t.warn(s.at(), "a second %s (the first is in line %d); keepalived takes the last", s.key(), first.Line)
	}
	places[part] = s.at()
}

func (t *translator) family(v *virtual, s *stmt) {
	if !t.want(s, 1, 1) {
		return
	}
	af, ok := familyWord(s.words[1].text)
	switch {
	case !ok:
		t.fail(s.words[1].at, "ip_family: wanted inet or inet6, found %s", quote(s.words[1].text))
	case v.af != unknownFamily && v.af != af:
		t.fail(s.words[1].at, "ip_family %s, but %s is %v", s.words[1].text, v.name, v.af)
	default:
		v.af = af
	}
}

func familyWord(s string) (family, bool) {
	switch s {
	case "inet":
		return v4, true
	case "inet6":
		return v6, true
	}
	return unknownFamily, false
}

func (t *translator) scheduler(v *virtual, s *stmt) {
	if !t.want(s, 1, 1) {
		return
	}
	w := s.words[1]
	if !slices.Contains(schedulers(), w.text) {
		hint := ""
		if strings.HasSuffix(w.text, `\`) {
			hint = "; a backslash continues a line in definitions alone"
		}
		t.fail(w.at, "%s%s", source.Unknown("scheduler", w.text, schedulers()), hint)
		return
	}
	t.once(v.places, "scheduler", s)
	v.sched = w.text
}

// flag reads the flags of a scheduler, and ops. Those of sh and mh count only
// below the scheduler's own line (run).
func (t *translator) flag(v *virtual, s *stmt) {
	if !t.want(s, 0, 0) {
		return
	}
	name := s.key()
	owner, _, _ := strings.Cut(name, "-")
	switch {
	case name == "ops":
		v.onePacket = true
		v.places["ops"] = s.at()
		return
	case name == "hashed":
		t.warn(s.at(), "hashed says nothing: the kernel keeps every service in its table so")
		return
	case owner != "flag" && owner != v.sched:
		t.warn(s.at(), "%s counts only below lb_algo %s; keepalived passes over it", name, owner)
		return
	}
	if !slices.Contains(v.flags, name) {
		v.flags = append(v.flags, name)
	}
	v.places["flags"] = s.at()
}

func (t *translator) persistence(v *virtual, s *stmt) {
	if !t.want(s, 0, 1) {
		return
	}
	if len(s.args()) > 0 && s.words[1].text == "0" {
		// What many write for "off", and older keepalived takes without a word.
		t.warn(s.words[1].at, "persistence_timeout 0: keepalived wants 1 to %d and passes over the line; it is off without a line too", maxPersistence)
		return
	}
	v.timeout = ipvs.DefaultPersistence
	if len(s.args()) > 0 {
		n, ok := t.whole("persistence_timeout", s.words[1], 1, maxPersistence)
		if !ok {
			return
		}
		v.timeout = time.Duration(n) * time.Second //nolint:gosec // in range
	}
	t.once(v.places, "persistence", s)
}

func (t *translator) engine(v *virtual, s *stmt) {
	if !t.want(s, 1, 1) {
		return
	}
	if w := s.words[1]; len(w.text) > maxPEName {
		t.fail(w.at, "persistence_engine: %s is longer than %d letters", quote(w.text), maxPEName)
		return
	}
	v.pe = s.words[1].text
	t.once(v.places, "engine", s)
}

// granularity reads the part of a client's address that counts: a mask in dots
// for IPv4, a prefix length for IPv6. Where nothing has told the family yet, the
// dots do (run).
func (t *translator) granularity(v *virtual, s *stmt) {
	if !t.want(s, 1, 1) {
		return
	}
	w := s.words[1]
	af := v.af
	if af == unknownFamily {
		af = v6
		if strings.Contains(w.text, ".") {
			af = v4
		}
	}
	if af == v6 {
		n, ok := t.whole("persistence_granularity of IPv6", w, 1, 128)
		if !ok {
			return
		}
		v.netmask = int(n) //nolint:gosec // in range
	} else {
		n, ok := netmask(w.text)
		if !ok {
			t.fail(w.at, "persistence_granularity of IPv4: wanted a mask such as 255.255.255.0, found %s", quote(w.text))
			return
		}
		v.netmask = n
	}
	if v.group.text == "" {
		v.af = af
	}
	t.once(v.places, "granularity", s)
}

func (t *translator) protocol(v *virtual, s *stmt) {
	if !t.want(s, 1, 1) {
		return
	}
	p, err := ipvs.ParseProtocol(strings.ToLower(s.words[1].text))
	if err != nil {
		t.fail(s.words[1].at, "%s", source.Unknown("protocol", s.words[1].text, []string{"TCP", "UDP", "SCTP"}))
		return
	}
	v.proto = p
	t.once(v.places, "protocol", s)
}

func (t *translator) quorum(v *virtual, s *stmt) {
	if !t.want(s, 1, 1) {
		return
	}
	if n, ok := t.whole("quorum", s.words[1], 1, math.MaxUint32); ok {
		v.quorum = int(n) //nolint:gosec // in range
		t.once(v.places, "quorum", s)
	}
}

func (t *translator) virtualHost(v *virtual, s *stmt) {
	if t.want(s, 1, 1) {
		v.host = s.words[1].text
		t.once(v.places, "virtualhost", s)
	}
}

// defaultWeight is weight in a virtual_server, for real servers without one.
func (t *translator) defaultWeight(v *virtual, s *stmt) {
	if !t.want(s, 1, 1) {
		return
	}
	if n, ok := t.whole("weight", s.words[1], 1, ipvs.MaxWeight); ok {
		v.weight = int(n) //nolint:gosec // in range
		t.once(v.places, "weight", s)
	}
}

func (t *translator) delayLoop(v *virtual, s *stmt) {
	if t.want(s, 1, 1) {
		v.delay = t.seconds("delay_loop", s.words[1], v.delay)
	}
}

// switches reads alpha and inhibit_on_failure, which take no word here: "alpha
// no" is on (run).
func (t *translator) switches(v *virtual, s *stmt) {
	if !t.want(s, 0, 0) {
		return
	}
	if s.key() == "alpha" {
		v.alpha = true
	} else {
		v.inhibit = true
	}
}
