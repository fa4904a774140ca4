# NODES: one bridge and so many namespaces with a link and an address, up and
# down, with ip(8), as a person would write it who knows its -batch and that
# sysctls need one process a namespace. It begins in a mount namespace of its own.
set -eu
mount -t tmpfs none /run
mount -t sysfs none /sys
n=$1
ip netns add lan
ip netns exec lan sysctl -qw net.ipv6.conf.default.disable_ipv6=1 || true
ip -n lan link add br0 up type bridge mcast_snooping 0
i=0
while [ $i -lt "$n" ]; do
	ip netns add n$i
	ip netns exec n$i sysctl -qe net.ipv4.ip_forward=0 net.ipv4.tcp_synack_retries=0 \
		net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
		net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.default.arp_ignore=0 \
		net.ipv4.conf.all.arp_announce=0 net.ipv4.conf.default.arp_announce=0 \
		net.ipv4.conf.all.arp_filter=0 net.ipv4.conf.default.arp_filter=0 \
		net.ipv4.conf.all.accept_local=0 net.ipv4.conf.default.accept_local=0 \
		net.ipv4.conf.all.proxy_arp=0 net.ipv4.conf.default.proxy_arp=0 \
		net.ipv4.conf.all.send_redirects=1 net.ipv4.conf.default.send_redirects=1 \
		net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
	ip -n lan link add p$i master br0 up type veth peer name eth0 netns n$i
	j=$((i + 1))
	ip -n n$i -batch - <<END
link set lo up
link set eth0 up
addr add 10.0.$((j / 250)).$((j % 250 + 1))/16 dev eth0
END
	i=$((i + 1))
done
while [ $i -gt 0 ]; do
	i=$((i - 1))
	ip netns del n$i
done
ip netns del lan
