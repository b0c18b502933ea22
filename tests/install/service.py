#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Starts Open vSwitch as its packages' services do, and sends traffic through it.

To be run where the packages are installed: it uses the database and the run directory of
the system.  There need not be an init system: the commands are read from the units.

  service.py traffic   what the quickstart sends and shows
  service.py stock     ping through an ovs-vswitchd that may be any
"""
import glob
import os
import pwd
import re
import shlex
import shutil
import sys

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../..')
sys.path[:0] = [TOP + '/tests/system', TOP + '/ovs-plugin']
from lab import Lab, Ovs, ping, run, wait_for  # noqa: E402
import quickstart  # noqa: E402

CONFIG = ('hw-offload=true', 'hw-offload-plugin=xdp')


class Unit:
    """What a unit and its drop-ins say of commands and privileges."""

    def __init__(self, name):
        self.text = ''
        for path in ['/lib/systemd/system/%s.service' % name, *glob.glob(
                '/etc/systemd/system/%s.service.d/*.conf' % name)]:
            with open(path) as f:
                self.text += f.read().replace('\\\n', ' ')

    def get(self, key):
        values = re.findall(r'^%s=(.+)$' % key, self.text, re.MULTILINE)
        return values[-1] if values else ''

    def command(self, key):
        """The command of ExecStart or ExecStop, with the unit's privileges."""
        command = [word for word in shlex.split(self.get(key))
                   if word != '$OVS_CTL_OPTS']
        user = self.get('User')
        if not user:
            return command
        only = ','.join(['-all'] + [
            c.lower().replace('cap_', '+')
            for c in self.get('AmbientCapabilities').split()])
        return ['setpriv', '--reuid', user, '--regid', user, '--init-groups',
                '--inh-caps', only, '--ambient-caps', only, '--bounding-set',
                only, '--no-new-privs', *command]


class ServiceOvs(Ovs):
    """The system's Open vSwitch, in the network namespace of a Lab."""

    def __init__(self, lab):
        super().__init__(lab, '/usr', None)
        self.env = {k: v for k, v in self.env.items() if not k.startswith('OVS_')}
        self.log = '/var/log/openvswitch/ovs-vswitchd.log'

    def ctl(self, unit, key):
        # 'ip netns exec' hides the BPF file system, which services see.
        return run('ip', 'netns', 'exec', self.lab.switch, 'sh', '-ec',
                   'mount -t bpf bpf /sys/fs/bpf; exec "$@"', '-',
                   *Unit(unit).command(key), env=self.env)

    def start(self, *_, **__):
        os.makedirs('/run/openvswitch', exist_ok=True)  # RuntimeDirectory=
        user = Unit('ovsdb-server').get('User')
        if user:
            shutil.chown('/run/openvswitch', user, user)
        print(self.ctl('ovsdb-server', 'ExecStart'))
        self.vsctl('--no-wait', 'set', 'Open_vSwitch', '.',
                   *('other_config:' + item for item in CONFIG))
        print(self.ctl('ovs-vswitchd', 'ExecStart'))
        self.vsctl('add-br', 'br0', '--', 'set', 'bridge', 'br0',
                   'datapath_type=netdev')

    def stop(self):
        if os.path.exists('/run/openvswitch/ovs-vswitchd.pid'):
            self.vsctl('--if-exists', 'del-br', 'br0')
        for unit in ('ovs-vswitchd', 'ovsdb-server'):
            self.ctl(unit, 'ExecStop')

    def vsctl(self, *args):
        return run('ovs-vsctl', '--timeout=30', *args, env=self.env)


def stock(lab):
    """Ping, and what a stock ovs-vswitchd says of itself."""
    lab.ovs.start()
    hosts = [lab.add_host(), lab.add_host()]
    wait_for('a path', lambda: ping(*hosts, 1))
    print('replies: %d' % ping(*hosts, 10))
    print(lab.ovs.appctl('list-commands'))
    return 0


def main():
    with Lab('/usr', None) as lab:
        lab.ovs = ServiceOvs(lab)
        try:
            if sys.argv[1] == 'stock':
                return stock(lab)
            status = quickstart.demonstrate(lab)
            with open('/run/openvswitch/ovs-vswitchd.pid') as f:
                owner = os.stat('/proc/' + f.read().strip()).st_uid
            print('ovs-vswitchd runs as ' + pwd.getpwuid(owner).pw_name)
            return status
        finally:
            print('\n'.join(lab.ovs.log_lines('offload|WARN|ERR')))


if __name__ == '__main__':
    sys.exit(main())
