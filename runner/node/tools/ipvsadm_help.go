package tools

// ipvsadmHelp is what ipvsadm -h prints below its version: the grammar of
// ipvsadm(8).
const ipvsadmHelp = `Usage:
  ipvsadm -A|-E SERVICE [-s SCHEDULER] [-p [SECONDS]] [-M NETMASK] [-o] [--pe ENGINE] [-b FLAG,FLAG]
  ipvsadm -D SERVICE
  ipvsadm -C                                       clear the table
  ipvsadm -R | -S [-n]                             rules from the input, rules to the output
  ipvsadm -a|-e SERVICE -r HOST[:PORT] [-g|-i|-m] [-w WEIGHT] [-x UPPER] [-y LOWER]
          [--tun-type ipip|gue|gre [--tun-port PORT] [--tun-nocsum|--tun-csum|--tun-remcsum]]
  ipvsadm -d SERVICE -r HOST[:PORT]
  ipvsadm -L|-l [SERVICE] [-n] [--stats|--rate|--thresholds|--persistent-conn|--tun-info] [--exact] [--nosort]
  ipvsadm -L [-n] -c | --timeout | --daemon        connections, timeouts, sync daemons
  ipvsadm -Z [SERVICE]                             counters to zero
  ipvsadm --set TCP TCPFIN UDP                     timeouts in seconds
  ipvsadm --start-daemon master|backup [--mcast-interface DEVICE] [--syncid N] [--sync-maxlen BYTES]
          [--mcast-group ADDRESS] [--mcast-port PORT] [--mcast-ttl TTL]
  ipvsadm --stop-daemon master|backup
  ipvsadm -v | -h
SERVICE is -t|-u|--sctp-service ADDRESS[:PORT], or -f MARK [-6]
-g direct routing (the default), -i tunnelling, -m address translation
`
