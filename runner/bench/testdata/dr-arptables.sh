#!/bin/sh
# The lab dr/arptables by hand, with the usual tools: what a person would write
# who wants to see the same things proved. It runs as root, in a kernel of its
# own, and says nothing but what went wrong.
set -eu
dir=$(mktemp -d)
lan=172.25.12 vip=172.25.12.100
servers='' sniffer=''

clean() {
	[ -z "$sniffer" ] || kill "$sniffer" 2>/dev/null || true
	for pid in $servers; do kill "$pid" 2>/dev/null || true; done
	for ns in client director web1 web2 lan; do ip netns del "$ns" 2>/dev/null || true; done
	rm -rf "$dir"
}
trap clean EXIT

fail() { echo "FAIL: $*" >&2; exit 1; }
in_() { ns=$1; shift; ip netns exec "$ns" "$@"; }

# --- the network ------------------------------------------------------------
ip netns add lan
in_ lan sysctl -qw net.ipv6.conf.default.disable_ipv6=1 2>/dev/null || true
ip -n lan link add br0 up type bridge mcast_snooping 0

machine() { # name, last byte of its address
	ip netns add "$1"
	ip -n "$1" link set lo up
	in_ "$1" sysctl -qw net.ipv4.ip_forward=0 \
		net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
		net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.default.arp_ignore=0 \
		net.ipv4.conf.all.arp_announce=0 net.ipv4.conf.default.arp_announce=0 \
		net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0
	ip -n lan link add "$1-eth0" master br0 up type veth peer name eth0 netns "$1"
	ip -n "$1" link set eth0 up
	ip -n "$1" addr add "$lan.$2/24" dev eth0
}
machine client 250
machine director 1
machine web1 2
machine web2 3

# --- the service ------------------------------------------------------------
for n in director web1 web2; do ip -n "$n" addr add $vip/24 dev eth0; done
i=2
for n in web1 web2; do
	in_ $n arptables-legacy -A INPUT -d $vip -j DROP
	in_ $n arptables-legacy -A OUTPUT -s $vip -j mangle --mangle-ip-s $lan.$i
	i=$((i + 1))
	mkdir "$dir/$n"
	echo $n >"$dir/$n/index.html"
	ip netns exec $n busybox httpd -f -vv -p 80 -h "$dir/$n" >/dev/null 2>"$dir/$n.log" &
	servers="$servers $!"
done
in_ director ipvsadm -A -t $vip:80 -s rr
in_ director ipvsadm -a -t $vip:80 -r $lan.2:80 -g
in_ director ipvsadm -a -t $vip:80 -r $lan.3:80 -g

mac() { ip -n "$1" -o link show eth0 | sed 's/.*ether \([0-9a-f:]*\).*/\1/'; }
director_mac=$(mac director)

for n in web1 web2; do # until it listens
	until in_ $n ss -Hltn 'sport = :80' | grep -q .; do sleep 0.01; done
done

# --- how to ask and to look ---------------------------------------------------
flush() { for ns in "$@"; do ip -n "$ns" neigh flush all; done; }

get() { # so many requests; who answered goes to $dir/answers
	n=$1
	while [ "$n" -gt 0 ]; do
		in_ client curl -s -m 5 http://$vip/ >>"$dir/answers" || fail "a request failed"
		n=$((n - 1))
	done
}

begin() {
	: >"$dir/answers"
	for n in web1 web2; do : >"$dir/$n.log"; done
	ip netns exec client tcpdump -n -e -l --immediate-mode -i eth0 arp >"$dir/arp" 2>"$dir/arp.err" &
	sniffer=$!
	until grep -q 'listening on' "$dir/arp.err"; do sleep 0.01; done
}

end() { # the capture holds all that was sent by now
	kill "$sniffer"
	wait "$sniffer" || true
	sniffer=''
}

rotation() { # so many answers, no two in a row by one server
	[ "$(wc -l <"$dir/answers")" -eq "$1" ] || fail "$(wc -l <"$dir/answers") answers, wanted $1"
	[ "$(uniq "$dir/answers" | wc -l)" -eq "$1" ] || fail "no rotation: $(tr '\n' ' ' <"$dir/answers")"
	[ "$(sort -u "$dir/answers" | tr '\n' ' ')" = 'web1 web2 ' ] || fail "not both servers answered"
}

arp_owner() { # nobody but the director says where the virtual IP is
	grep -q "Reply $vip is-at $director_mac" "$dir/arp" || fail "the director does not answer ARP for $vip"
	! grep "Reply $vip is-at" "$dir/arp" | grep -qv "is-at $director_mac" || fail "somebody else answers ARP for $vip"
}

neighbour() {
	ip -n client neigh show to $vip dev eth0 | grep -q "lladdr $director_mac" || fail "the client's neighbour entry is not the director's"
}

connections() { # Conns InPkts OutPkts, in all; what ipvsadm shows, and the sum ~, may be two seconds old
	in_ director cat /proc/net/ip_vs_stats_percpu | {
		c=0 i=0 o=0
		while read -r cpu conns inpkts outpkts rest && [ "$cpu" != '~' ]; do
			case $cpu in [0-9A-F] | [0-9A-F][0-9A-F])
				c=$((c + 0x$conns)) i=$((i + 0x$inpkts)) o=$((o + 0x$outpkts)) ;;
			esac
		done
		echo $c $i $o
	}
}

# --- 1. with cold caches --------------------------------------------------------
begin
get 4
end
rotation 4
for n in web1 web2; do
	! grep -o '[0-9.]*:[0-9]*: url' "$dir/$n.log" | grep -qv "^$lan.250:" || fail "$n saw another peer than the client"
done
arp_owner
neighbour
connections >"$dir/first"
read -r conns inpkts outpkts <"$dir/first"
[ "$conns" -eq 4 ] && [ "$inpkts" -gt 8 ] && [ "$outpkts" -eq 0 ] || fail "the director counted $conns $inpkts $outpkts"

# --- 2. what the OUTPUT rule is for -----------------------------------------------
begin
flush client director web1 web2
get 4
end
for i in 2 3; do
	grep -q "who-has $lan.250.* tell $lan.$i," "$dir/arp" || fail "$lan.$i asked for the client in nobody's name"
done
for n in web1 web2; do
	! grep "$(mac $n) >" "$dir/arp" | grep -q "tell $vip," || fail "$n asked as $vip"
done
rotation 4
arp_owner

# --- 3. flush after flush -----------------------------------------------------------
connections >"$dir/second"
begin
flush client director web1 web2
get 4
flush client director
get 4
flush web1 web2
get 4
end
rotation 12
arp_owner
neighbour
connections >"$dir/third"
read -r before rest <"$dir/second"
read -r after rest <"$dir/third"
[ $((after - before)) -eq 12 ] || fail "the director counted $((after - before)) connections, wanted 12"
