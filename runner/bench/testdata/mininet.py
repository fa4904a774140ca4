# NODES: one Linux bridge and so many hosts, up and down, by Mininet's API.
import subprocess, sys

subprocess.check_call(["mount", "-t", "proc", "none", "/proc"])
subprocess.check_call(["mount", "-t", "sysfs", "none", "/sys"])
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge

net = Mininet(switch=LinuxBridge, controller=None, ipBase="10.0.0.0/16")
switch = net.addSwitch("s1")
for i in range(int(sys.argv[1])):
    net.addLink(net.addHost("n%d" % i), switch)
net.start()
net.stop()
