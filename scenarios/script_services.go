package scenarios

// The servers of a script. HTTP's is busybox or Python's own; the others are
// small stand-ins in Python, which say what lvslab's say.

// daemons are what all servers share.
const daemons = `# listens NODE PORT [tcp|udp|sctp], or listens NODE NAME file: /run/NAME.pid is
# there, in the /run that serve_daemon gives the node
listens() {
  case ${3:-tcp} in
  file) [ -e "$state/run/$1/$2.pid" ] ;;
  sctp) ip netns exec "$1" grep -Eqs "^ *([^ ]+ +){5}$2 " /proc/net/sctp/eps ;;
  udp) [ -n "$(ip netns exec "$1" ss -Hlun "sport = :$2")" ] ;;
  *) [ -n "$(ip netns exec "$1" ss -Hltn "sport = :$2")" ] ;;
  esac
}

# in_background NAME NODE PORT PROTOCOL COMMAND...: until it listens
in_background() {
  name=$1 at=$2 port=$3 protocol=$4
  shift 4
  mkdir -p "$state/daemons"
  nohup setsid ip netns exec "$at" "$@" >"$state/daemons/$name-$at-$port.log" 2>&1 &
  server=$!
  echo "$server" >"$state/daemons/$name-$at-$port.pid"
  until listens "$at" "$port" "$protocol"; do
    kill -0 "$server" 2>/dev/null || {
      cat "$state/daemons/$name-$at-$port.log" >&2
      fail "the $name server of $at ended at once: $*"
    }
    sleep 0.05
  done
}

# end_background NAME NODE PORT PROTOCOL
end_background() {
  server=$(cat "$state/daemons/$1-$2-$3.pid")
  # Only if it is still a process of this node: numbers are used again.
  if ip netns pids "$2" | grep -qx "$server"; then
    kill -s KILL -- "-$server"
    while listens "$2" "$3" "$4"; do sleep 0.05; done
  fi
}
`

const webServer = `# The web server to be had.
web_server() {
  if busybox --list 2>/dev/null | grep -qx httpd; then
    echo busybox
  elif python3 -c 'import http.server' 2>/dev/null; then
    echo python3
  else
    return 1
  fi
}

# serve_http NODE PORT [ADDRESS|- [ROOT]]: answers every request for / with the
# node's name, or serves the node's files below ROOT
serve_http() {
  root=$state/http/$1-$2
  mkdir -p "$root"
  echo "$1" >"$root/index.html"
  if [ -n "${4-}" ]; then
    root=$state/files/$1$4
    mkdir -p "$root"
  fi
  address=${3:--}
  # Without an address both listen for IPv4 and IPv6.
  case $(web_server) in
  busybox)
    case $address in
    -) address= ;;
    *:*) address="[$address]:" ;;
    *) address=$address: ;;
    esac
    in_background http "$1" "$2" tcp busybox httpd -f -p "$address$2" -h "$root"
    ;;
  python3)
    at=$1 port=$2
    set -- -m http.server -d "$root"
    [ "$address" = - ] || set -- "$@" --bind "$address"
    in_background http "$at" "$port" tcp python3 "$@" "$port"
    ;;
  esac
}

# stop_http NODE PORT
stop_http() { end_background http "$1" "$2" tcp; }

# bulk_http N: every web server has a file /bytes/N of N bytes
bulk_http() {
  for root in "$state"/http/*; do
    mkdir -p "$root/bytes"
    head -c "$1" /dev/zero | tr '\0' . >"$root/bytes/$1"
  done
}
`

const commandServer = `# serve_command NODE PORT PROTOCOL COMMAND: a daemon of this machine, which sees
# the node's own files laid over this machine's (ip netns exec gives it mounts of
# its own)
serve_command() {
  # shellcheck disable=SC2016 # the inner shell expands it
  in_background command "$1" "$2" "$3" sh -c '
    for dir in "$1"/*; do
      [ ! -d "$dir" ] || mount -t overlay -o "lowerdir=$dir:/${dir##*/}" overlay "/${dir##*/}" || exit
    done
    exec sh -c "$2"' sh "$state/files/$1" "$4"
}

# stop_command NODE PORT PROTOCOL
stop_command() { end_background command "$1" "$2" "$3"; }
`

const fileServer = `# serve_daemon NODE NAME FILE COMMAND: as serve_command, for a daemon that listens
# on no port and writes FILE, /run/NAME.pid, when it is ready. The node has a /run
# of its own for that.
serve_daemon() {
  mkdir -p "$state/run/$1"
  rm -f "$state/run/$1/$2.pid"
  # shellcheck disable=SC2016 # the inner shell expands it
  in_background daemon "$1" "$2" file sh -c '
    for dir in "$1"/*; do
      [ ! -d "$dir" ] || mount -t overlay -o "lowerdir=$dir:/${dir##*/}" overlay "/${dir##*/}" || exit
    done
    mount --bind "$2" /run || exit
    exec sh -c "$3"' sh "$state/files/$1" "$state/run/$1" "$4"
}

# stop_daemon NODE NAME
stop_daemon() {
  server=$(cat "$state/daemons/daemon-$1-$2.pid")
  if ip netns pids "$1" | grep -qx "$server"; then
    kill -s KILL -- "-$server"
  fi
  rm -f "$state/run/$1/$2.pid"
}
`

// heldConnections open connections and keep them: a pipe whose other end says
// nothing more.
const heldConnections = `# hold NODE NAME TEXT COMMAND...: says TEXT and keeps the connection open
hold() {
  node=$1 name=$2 text=$3
  shift 3
  # All of it is in the node, so that down ends it; and in a group of its own.
  ip netns exec "$node" setsid sh -c 'text=$1; shift; { printf %s "$text"; sleep 3600; } | "$@"' \
    sh "$text" "$@" >/dev/null 2>&1 &
  echo "$! $node $name" >>"$state/held"
  sleep 0.2
}

# release NODE|- NAME|-
release() {
  [ -e "$state/held" ] || return 0
  while read -r pid node name; do
    [ "$1" = - ] || [ "$1" = "$node" ] || continue
    [ "$2" = - ] || [ "$2" = "$name" ] || continue
    kill -- "-$pid" 2>/dev/null || :
  done <"$state/held"
}
`

// pythonServices are the stand-ins; a function for each service calls them.
const pythonServices = `# SERVICE NODE PORT ADDRESS RANGE, see serve_with_python
server_py=$(
  cat <<'PYTHON'
import re, socket, struct, sys, threading

kind, node, port, address, ports = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]
port4 = lambda n: (n >> 8, n & 255)


def plain(ip):
    return ip[7:] if ip.startswith("::ffff:") else ip


def filled(peer, said):
    line = f"{node} {plain(peer)}\n".encode()
    bulk = re.fullmatch(rb"bytes (\d+)\s*", said)
    return line if not bulk else (line + b"." * int(bulk[1]))[: int(bulk[1])]


def lines(c, peer):
    for said in c.makefile("rb"):
        c.sendall(filled(peer, said))


def smtp(c, peer):
    say = lambda s: c.sendall((s + "\r\n").encode())
    data, count = False, 0
    say(f"220 {node} ESMTP")
    for raw in c.makefile("rb"):
        line = raw.decode("utf-8", "replace").strip()
        word = line[:4].upper()
        if data:
            if line == ".":
                data, count = False, count + 1
                say(f"250 2.0.0 {node} {plain(peer)} took mail {count}")
        elif word == "DATA":
            data = True
            say("354 go on")
        elif word == "QUIT":
            say("221 bye")
            return
        else:
            say("250 ok" if word in ("EHLO", "HELO", "MAIL", "RCPT", "RSET", "NOOP") else "500 what?")


def ftp(c, peer):
    say = lambda s: c.sendall((s + "\r\n").encode())
    me, six = c.getsockname(), ":" in plain(c.getsockname()[0])
    passive = active = None
    say(f"220 {node} serves files; your address is {plain(peer)}")
    for raw in c.makefile("rb"):
        word, _, arg = raw.decode("utf-8", "replace").strip().partition(" ")
        word = word.upper()
        if word == "USER":
            say("331 any password")
        elif word == "PASS":
            say("230 welcome")
        elif word in ("PASV", "EPSV"):
            first, last = map(int, ports.split("-")) if ports != "-" else (0, 0)
            for p in range(first, last + 1):
                try:
                    passive = socket.create_server((me[0], p), family=c.family)
                    break
                except OSError:
                    continue
            at = passive.getsockname()[1]
            if word == "EPSV":
                say(f"229 here (|||{at}|)")
            else:
                say("227 here (%s,%d,%d)" % ((plain(me[0]).replace(".", ","),) + port4(at)))
        elif word == "PORT":
            n = arg.split(",")
            active = (".".join(n[:4]), int(n[4]) * 256 + int(n[5]))
            say("200 ok")
        elif word == "EPRT":
            n = arg.split(arg[0])
            active = (n[2], int(n[3]))
            say("200 ok")
        elif word in ("LIST", "NLST", "RETR"):
            line = f"{node} {plain(peer)}\n".encode()
            text = line
            bulk = re.search(r"/bytes/(\d+)$", arg)
            if word == "LIST":
                text = f"-r--r--r-- 1 {node} {plain(peer)} {len(line)} Jan  1  1970 {node}\r\n".encode()
            elif word == "NLST":
                text = f"{node}\r\n".encode()
            elif bulk:
                text = filled(peer, f"bytes {bulk[1]}".encode())
            say("150 here it comes")
            if active:
                d = socket.socket(socket.AF_INET6 if ":" in active[0] else socket.AF_INET)
                d.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                d.bind((plain(me[0]), port - 1))
                d.connect(active)
            else:
                d, _ = passive.accept()
                passive.close()
            d.sendall(text)
            d.close()
            passive = active = None
            say("226 that was all")
        elif word == "QUIT":
            say("221 bye")
            return
        elif word in ("TYPE", "CWD", "NOOP"):
            say("200 ok")
        elif word == "PWD":
            say('257 "/"')
        elif word == "SYST":
            say("215 UNIX Type: L8")
        else:
            say("500 what?")


def dns(q, peer):
    end = q.index(b"\0", 12) + 5
    texts = [s.encode() for s in (node, plain(peer))]
    rdata = b"".join(bytes([len(s)]) + s for s in texts)
    txt = struct.unpack("!H", q[end - 4 : end - 2])[0] == 16
    answer = b"\xc0\x0c" + struct.pack("!HHIH", 16, 1, 0, len(rdata)) + rdata
    head = q[:2] + b"\x84\x00" + struct.pack("!HHHH", 1, int(txt), 0, 0)
    return head + q[12:end] + (answer if txt else b"")


def dns_stream(c, peer):
    f = c.makefile("rb")
    while len(head := f.read(2)) == 2:
        a = dns(f.read(struct.unpack("!H", head)[0]), peer)
        c.sendall(struct.pack("!H", len(a)) + a)


def one(c, peer, serve):
    try:
        with c:
            serve(c, peer[0])
    except OSError:
        pass


def streams(s, serve):
    while True:
        c, peer = s.accept()
        threading.Thread(target=one, args=(c, peer, serve), daemon=True).start()


def datagrams(s, answer):
    # The answer comes from the address that was asked (IP_PKTINFO).
    six = s.family == socket.AF_INET6
    level, get, put = (41, 49, 50) if six else (0, 8, 8)
    s.setsockopt(level, get, 1)
    while True:
        try:
            said, info, _, peer = s.recvmsg(65535, 256)
        except OSError:
            continue
        back = []
        for l, t, data in info:
            if l == level and t == put:
                back = [(l, t, data[:16] + bytes(4) if six else bytes(4) + data[8:12] + bytes(4))]
        s.sendmsg([answer(said, peer[0])], back, 0, peer)


protocols = {"udp": ["udp"], "dns": ["udp", "tcp"], "sctp": ["sctp"]}.get(kind, ["tcp"])
serve = {"tcp": lines, "sctp": lines, "smtp": smtp, "ftp": ftp, "dns": dns_stream}.get(kind)
answer = dns if kind == "dns" else lambda said, peer: filled(peer, said)
threads = []
for protocol in protocols:
    for at in ("0.0.0.0", "::") if address == "-" else (address,):
        family = socket.AF_INET6 if ":" in at else socket.AF_INET
        how = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        try:
            s = socket.socket(family, how, 132 if protocol == "sctp" else 0)
        except OSError:
            if at == "::":
                continue
            raise
        if family == socket.AF_INET6:
            s.setsockopt(41, 26, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(protocol != "udp"))
        s.bind((at, port))
        if protocol != "udp":
            s.listen(128)
        target = (datagrams, (s, answer)) if protocol == "udp" else (streams, (s, serve))
        threads.append(threading.Thread(target=target[0], args=target[1]))
for t in threads:
    t.start()
PYTHON
)

# serve_with_python SERVICE PROTOCOL NODE PORT [ADDRESS|- [- [FIRST-LAST]]]
serve_with_python() {
  in_background "$1" "$3" "$4" "$2" python3 -c "$server_py" "$1" "$3" "$4" "${5:--}" "${7:--}"
}
serve_tcp() { serve_with_python tcp tcp "$@"; }
serve_udp() { serve_with_python udp udp "$@"; }
serve_sctp() { serve_with_python sctp sctp "$@"; }
serve_dns() { serve_with_python dns udp "$@"; }
serve_smtp() { serve_with_python smtp tcp "$@"; }
serve_ftp() { serve_with_python ftp tcp "$@"; }

# stop_SERVICE NODE PORT
stop_tcp() { end_background tcp "$1" "$2" tcp; }
stop_udp() { end_background udp "$1" "$2" udp; }
stop_sctp() { end_background sctp "$1" "$2" sctp; }
stop_dns() { end_background dns "$1" "$2" udp; }
stop_smtp() { end_background smtp "$1" "$2" tcp; }
stop_ftp() { end_background ftp "$1" "$2" tcp; }
`
