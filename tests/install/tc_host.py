# SPDX-License-Identifier: Apache-2.0
"""A host that forwards by TC, without Open vSwitch, and has the package xdp-flowerd.

  host 1, eth0 -veth- p1   the machine   p2 -veth- eth0, host 2

The machine is booted (machine.py), so systemd runs the package's unit.

  tc_host.py ROOT   uses the package that is installed in a root, and purges it: where the
                    kernel has flower, so perhaps in an emulated machine
"""
import json
import os
import subprocess
import sys

from machine import Machine, use_cgroup2

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../..')
sys.path.append(TOP + '/tests/system')
from lab import run, wait_for  # noqa: E402
from suite import expect  # noqa: E402

PACKAGES = ('dbus', 'ethtool', 'iproute2', 'iputils-ping', 'systemd-sysv')
UNIT = 'xdp-flowerd'
CONFIG = '/etc/xdp-flowerd.conf'
PINGS = 100
PATIENCE = 10                   # In an emulated machine.
MODULES = ('veth', 'sch_ingress', 'cls_flower', 'act_mirred')
LIMIT = 2400                    # Seconds.

NETWORK = """
for i in 1 2; do
    ip netns add h$i
    ip link add p$i type veth peer name eth0 netns h$i
    ip -n h$i link set eth0 address 02:00:00:00:00:0$i up
    ip -n h$i addr add 10.0.0.$i/24 dev eth0
    ip -n h$i neigh add 10.0.0.$((3 - i)) lladdr 02:00:00:00:00:0$((3 - i)) dev eth0
    ip netns exec h$i ethtool -K eth0 gro on
    ethtool -K p$i gro on
    ip link set p$i up
    tc qdisc add dev p$i clsact
done
"""
FILTERS = """
for i in 1 2; do
    tc filter add dev p$i ingress pref 10 protocol ip flower dst_ip 10.0.0.$((3 - i)) \\
        action mirred egress redirect dev p$((3 - i))
done
"""


class TcHost:
    def __init__(self, machine):
        self.machine = machine
        machine.run('sh', '-ec', NETWORK)

    def systemctl(self, *args, check=True):
        return self.machine.run('systemctl', *args, check=check).strip()

    def state(self):
        return self.systemctl('is-active', UNIT, check=False)

    def configure(self):
        self.machine.run('sh', '-ec', "printf 'device p1\\ndevice p2\\n' >> " + CONFIG)

    def stats(self):
        return json.loads(self.machine.run('xdp-flowerd', 'stats', '--json'))

    def ping(self):
        """The replies all come; how many packets XDP has executed of them."""
        before = self.stats()['packets'] if self.state() == 'active' else 0
        out = self.machine.run('ip', 'netns', 'exec', 'h1', 'ping', '-qn', '-c', str(PINGS),
                               '-i', '0.01', '10.0.0.2')
        expect('%d received' % PINGS in out, '%s', out)
        return self.stats()['packets'] - before if self.state() == 'active' else 0

    def expect_in_xdp(self):
        def explained():
            text = self.machine.run('xdp-flowerd', 'explain', check=False)
            return text.count(': in XDP') == 2
        wait_for('both filters in XDP', explained, 20)
        n = self.ping()
        expect(n == 2 * PINGS, 'XDP has executed %d of %d packets', n, 2 * PINGS)

    def programs(self):
        """Devices that have one."""
        links = json.loads(self.machine.run('ip', '-j', 'link'))
        return [link['ifname'] for link in links if 'xdp' in link]

    def use(self):
        """From the installed package to filters in XDP, also after a restart."""
        machine = self.machine
        expect(self.systemctl('is-enabled', UNIT, check=False) == 'disabled', 'it is enabled')
        self.systemctl('start', UNIT)
        wait_for('the end of one without devices', lambda: self.state() == 'failed', 20)
        log = machine.run('journalctl', '-u', UNIT, '--no-pager', '-o', 'cat')
        expect('no device is named in ' + CONFIG in log, 'the log:\n%s', log)
        self.configure()
        self.systemctl('reset-failed', UNIT)
        self.systemctl('start', UNIT)
        machine.run('sh', '-ec', FILTERS)
        self.expect_in_xdp()
        self.systemctl('restart', UNIT)
        self.expect_in_xdp()
        self.systemctl('kill', '--kill-whom=main', '--signal=KILL', UNIT)
        wait_for('the next one', lambda: self.systemctl(
            'show', '-p', 'NRestarts', '--value', UNIT) == '1' and self.state() == 'active', 20)
        self.expect_in_xdp()
        expect(self.programs() == ['p1', 'p2'] or self.programs() == ['p2', 'p1'],
               'programs on %s', self.programs())

    def purge(self):
        """Nothing is left, and TC forwards as before."""
        machine = self.machine
        machine.run('rm', '/usr/sbin/policy-rc.d')      # It forbids to stop services.
        machine.run('dpkg', '--purge', UNIT)
        expect(self.state() != 'active', 'the daemon is %s', self.state())
        expect(not self.programs(), 'programs on %s', self.programs())
        left = machine.run('sh', '-c', 'find / -xdev \\( -path /proc -o -path "/*.deb" '
                           '-o -path /var/log/journal \\) -prune -o '
                           '-name "*flowerd*" -print; ls -A /sys/fs/bpf; ls -d /run/*flowerd*',
                           check=False)
        expect(not left, 'left:\n%s', left)
        self.ping()


def has_flower():
    """Does this kernel have what TC takes?"""
    name = 'flower-%d' % os.getpid()
    for module in MODULES:
        run('modprobe', module, check=False)
    run('ip', 'netns', 'add', name)
    try:
        run('ip', '-n', name, 'link', 'add', 'p1', 'type', 'veth', 'peer', 'name', 'p2')
        tc = ('ip', 'netns', 'exec', name, 'tc')
        run(*tc, 'qdisc', 'add', 'dev', 'p1', 'clsact')
        return subprocess.run([*tc, *'filter add dev p1 ingress flower action mirred egress '
                               'redirect dev p1'.split()], stderr=subprocess.DEVNULL
                              ).returncode == 0
    finally:
        run('ip', 'netns', 'del', name)


class Directory:
    """A root in which nothing is mounted."""

    def __init__(self, path):
        self.path = path

    def unmount_below(self):
        pass


def use_and_purge(root, patience=1):
    with Machine(root, patience) as machine:
        host = TcHost(machine)
        host.use()
        host.purge()


def use_elsewhere(root):
    """The same in an emulated machine, which sees this one's files, and changes none."""
    root.unmount_below()
    run(TOP + '/tests/vm/run', '--timeout', str(LIMIT), '/usr/bin/python3',
        os.path.abspath(__file__), root.path)


def main():
    for module in MODULES:
        run('modprobe', module, check=False)
    use_cgroup2()
    use_and_purge(Directory(sys.argv[1]), PATIENCE)


if __name__ == '__main__':
    main()
