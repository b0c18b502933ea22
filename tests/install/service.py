#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Starts Open vSwitch as its packages' services do, and sends traffic through it.

To be run where the packages are installed: it uses the database and the run directory of
the system.  There need not be an init system: the commands are read from the units.

  service.py traffic   what the quickstart sends and shows
  service.py kept      traffic while the services are restarted as other users: the
                       drop-ins are put in place and removed as docs/install.md says
  service.py stock     ping through an ovs-vswitchd that may be any
"""
import glob
import json
import os
import pwd
import re
import shlex
import shutil
import sys

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../..')
sys.path[:0] = [TOP + '/tests/system', TOP + '/ovs-plugin']
from lab import Lab, Ovs, Stream, ping, run, wait_for  # noqa: E402
import quickstart  # noqa: E402

CONFIG = ('hw-offload=true', 'hw-offload-plugin=xdp')
BPF_FS = '/sys/fs/bpf'
DROP_INS = '/usr/share/doc/openvswitch-offload-xdp/examples/systemd'
UNITS = '/etc/systemd/system'
DIRECTORIES = ['/etc/openvswitch', '/var/lib/openvswitch',
               '/var/log/openvswitch', '/run/openvswitch']


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

    def preparations(self):
        """The commands of ExecStartPre that are of our package."""
        return [shlex.split(line.lstrip('-+')) for line in re.findall(
            '^ExecStartPre=(.+)$', self.text, re.MULTILINE)
                if 'offload-xdp' in line]

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
        return run('nsenter', '--net=/run/netns/' + self.lab.switch,
                   *Unit(unit).command(key), env=self.env)

    def start(self, *_, **__):
        self.start_database()
        self.vsctl('--no-wait', 'set', 'Open_vSwitch', '.',
                   *('other_config:' + item for item in CONFIG))
        self.start_vswitchd()
        self.vsctl('add-br', 'br0', '--', 'set', 'bridge', 'br0',
                   'datapath_type=netdev')

    def start_database(self):
        unit = Unit('ovsdb-server')
        if unit.get('RuntimeDirectory') == 'openvswitch':
            os.makedirs('/run/openvswitch', exist_ok=True)
            user = unit.get('User') or 'root'
            shutil.chown('/run/openvswitch', user, user)
        print(self.ctl('ovsdb-server', 'ExecStart'))

    def start_vswitchd(self):
        for command in Unit('ovs-vswitchd').preparations():
            run(*command)
        print(self.ctl('ovs-vswitchd', 'ExecStart'))

    def stop(self):
        if os.path.exists('/run/openvswitch/ovs-vswitchd.pid'):
            self.vsctl('--if-exists', 'del-br', 'br0')
        self.stop_services()

    def stop_services(self):
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


def owner():
    """The user as whom ovs-vswitchd runs."""
    with open('/run/openvswitch/ovs-vswitchd.pid') as f:
        uid = os.stat('/proc/' + f.read().strip()).st_uid
    return pwd.getpwuid(uid).pw_name


def change_user(user):
    """As docs/install.md says."""
    if user == 'root':
        for name in os.listdir(DROP_INS):
            os.unlink('%s/%s/unprivileged.conf' % (UNITS, name))
    else:
        shutil.copytree(DROP_INS, UNITS, dirs_exist_ok=True)
    run('chown', '-R', user + ':', *DIRECTORIES)


def has_taken_over(lab):
    text, ports = lab.ovs.offload_show()
    return len(ports) == len(lab.hosts) and 'taking over' not in text


def kept(lab):
    """Flows go on while ovs-vswitchd is restarted, also as another user."""
    lab.ovs.start()
    a, b = lab.add_host(), lab.add_host()
    a.know(b)
    b.know(a)
    with Stream(a, b, pps=200) as there, Stream(b, a, pps=200,
                                                port=7001) as back:
        for user in ('root', 'openvswitch', 'openvswitch', 'root'):
            wait_for('flows', lambda: len(lab.ovs.flows('xdp')) >= 2)
            lab.ovs.stop_services()
            if user != 'root' or os.path.isdir(UNITS + '/ovs-vswitchd.service.d'):
                change_user(user)
            lab.ovs.start_database()
            lab.ovs.start_vswitchd()
            wait_for('the next ovs-vswitchd', lambda: has_taken_over(lab), 60)
            print('%s: %s, %s pins' % (owner(), re.search(
                'restarts: .*', lab.ovs.offload_show()[0])[0], len(lab.pins())))
    print('lost: %d of %d' % (there.lost + back.lost, there.sent + back.sent))
    return 0


def main():
    if not os.path.ismount(BPF_FS):  # As systemd does.
        run('mount', '-t', 'bpf', '-o', 'mode=700', 'bpf', BPF_FS)
    with Lab('/usr', None) as lab:
        lab.ovs = ServiceOvs(lab)
        try:
            if sys.argv[1] == 'stock':
                return stock(lab)
            if sys.argv[1] == 'kept':
                return kept(lab)
            status = quickstart.demonstrate(lab)
            print('ovs-vswitchd runs as ' + owner())
            print('ovs-offload-top shows: %s' % ', '.join(p['name'] for p in json.loads(
                run('ovs-offload-top', '--once', '--json', env=lab.ovs.env))['ports']))
            return status
        finally:
            print('\n'.join(lab.ovs.log_lines('offload|WARN|ERR')))


if __name__ == '__main__':
    sys.exit(main())
