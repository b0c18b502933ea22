# SPDX-License-Identifier: Apache-2.0
"""OVN on a Lab's Open vSwitch: databases, ovn-northd and an ovn-controller.

The lab's bridge br0 is OVN's integration bridge.  Everything is in the lab's
directory and ends with it, by pid.

    with Ovn(lab, ovn_dir) as ovn:
        ovn.nb('ls-add', 'sw0')
        ovn.plug('sw0', host)
        ovn.settle()
"""
import contextlib
import functools
import os
import re
import subprocess

from lab import end_process, run, wait_for
from suite import tail

CHASSIS = 'chassis-1'
FAR_CHASSIS = 'chassis-2'
PATIENCE = 60           # In seconds, as long as a machine may be busy.


def works(predicate):
    with contextlib.suppress(RuntimeError):
        return predicate()
    return False


class Ovn:
    """'address' is the local one of the chassis's tunnels."""

    def __init__(self, lab, ovn_dir, address='127.0.0.1'):
        self.lab, self.dir, self.address = lab, ovn_dir, address
        self.env = dict(lab.ovs.env, OVN_RUNDIR=lab.tmp, OVN_LOGDIR=lab.tmp,
                        OVN_DBDIR=lab.tmp)
        self.processes = {}

    def __enter__(self):
        for database in ('nb', 'sb'):
            self.start_database(database)
        self.spawn('ovn-northd', '--ovnnb-db=' + self.socket('nb'),
                   '--ovnsb-db=' + self.socket('sb'))
        self.join(CHASSIS, self)
        # From here on all of them answer, so who does not is named.
        for what, is_up in self.links().items():
            wait_for(what, functools.partial(works, is_up), PATIENCE)
        return self

    def join(self, chassis, central):
        """Starts a controller for the databases of 'central'."""
        ids = {'system-id': chassis, 'ovn-remote': central.socket('sb'),
               'ovn-encap-type': 'geneve', 'ovn-encap-ip': self.address,
               'ovn-bridge': 'br0',
               'ovn-bridge-datapath-type': self.lab.ovs.datapath}
        self.lab.ovs.vsctl('set', 'Open_vSwitch', '.', *(
            'external_ids:%s="%s"' % item for item in ids.items()))
        self.start_controller()
        wait_for(chassis, lambda: chassis in central.sb('list', 'Chassis'),
                 PATIENCE)

    def __exit__(self, *_):
        for name in list(reversed(self.processes)):
            end_process(self.processes.pop(name))

    def socket(self, database):
        return 'unix:%s/%s.sock' % (self.lab.tmp, database)

    def spawn(self, name, *args, program=None):
        command = ['ip', 'netns', 'exec', self.lab.switch,
                   program or '%s/usr/bin/%s' % (self.dir, name),
                   '--pidfile=%s/%s.pid' % (self.lab.tmp, name),
                   '--log-file=%s/%s.log' % (self.lab.tmp, name),
                   '-vconsole:off', *args]
        self.processes[name] = subprocess.Popen(
            command, env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True)

    def start_database(self, name):
        tool = self.lab.ovs.tool
        path = '%s/ovn%s.db' % (self.lab.tmp, name)
        run(tool('ovsdb-tool'), 'create', path,
            '%s/usr/share/ovn/ovn-%s.ovsschema' % (self.dir, name))
        self.spawn('ovsdb-' + name, path, '--remote=p' + self.socket(name),
                   '--unixctl=%s/%s.ctl' % (self.lab.tmp, name),
                   program=tool('ovsdb-server'))
        wait_for(name, lambda: os.path.exists(
            '%s/%s.sock' % (self.lab.tmp, name)))

    def start_controller(self):
        self.spawn('ovn-controller', 'unix:%s/db.sock' % self.lab.tmp)

    def kill_controller(self):
        process = self.processes.pop('ovn-controller')
        process.kill()
        process.wait()

    def ctl(self, database, *args):
        return run('%s/usr/bin/ovn-%sctl' % (self.dir, database),
                   '--timeout=60', '--db=' + self.socket(database), *args,
                   env=self.env)

    def nb(self, *args):
        return self.ctl('nb', *args)

    def sb(self, *args):
        return self.ctl('sb', *args)

    def plug(self, switch, host, addresses=None, secure=True):
        """The host becomes a port, of its own name, of a logical switch."""
        addresses = addresses or '%s %s %s' % (host.mac, host.ip4, host.ip6)
        self.nb('lsp-add', switch, host.port, '--', 'lsp-set-addresses',
                host.port, addresses)
        if secure:
            self.nb('lsp-set-port-security', host.port, addresses)
        host.lab.ovs.vsctl('set', 'Interface', host.port,
                           'external_ids:iface-id=' + host.port)

    def links(self):
        """What must be up before the chassis does anything: by name, is it?"""
        return {
            'ovs-vswitchd': lambda: self.lab.ovs.appctl('version'),
            'ovn-northd, active': lambda: 'active' in self.appctl(
                'ovn-northd', 'status'),
            'ovn-controller, with the southbound database': lambda: (
                self.appctl('ovn-controller', 'connection-status').strip()
                == 'connected'),
            # It has removed the bridge's first rule, which would do as well.
            'ovn-controller, with rules in br0': lambda: (
                'table=37' in self.lab.ovs.ofctl('dump-flows', 'br0'))}

    def appctl(self, daemon, *args):
        """What it says; nothing if it does not."""
        return run('%s/usr/bin/ovn-appctl' % self.dir, '--timeout=5', '-t',
                   daemon, *args, env=self.env, check=False)

    def zones(self):
        """Names of the connection tracker's zones, by their number."""
        names = {}
        for line in self.appctl('ovn-controller', 'ct-zone-list').splitlines():
            name, number = line.split()
            names[number] = name
        # A router's are named after its datapath's UUID.
        for line in self.sb('--bare', '--no-headings', '--format=csv',
                            '--columns=_uuid,external_ids', 'list',
                            'Datapath_Binding').splitlines():
            uuid, ids = line.split(',', 1)
            datapath = re.search(r'name=(\S+)', ids)[1].strip('"')
            names = {k: v.replace(uuid, datapath) for k, v in names.items()}
        return names

    def settle(self):
        """Waits until the chassis does what the northbound database says."""
        try:
            self.nb('--wait=hv', 'sync')
        except RuntimeError as e:
            raise RuntimeError('%s\n%s' % (e, self.progress())) from e

    def progress(self):
        """How far a change has come, and what is not up, in words."""
        down = [what for what, is_up in self.links().items() if not works(is_up)]
        text = 'not up: %s\n' % (', '.join(down) or 'nothing')
        # In the order in which one tells the next.
        for ask, table, columns in (
                (self.nb, 'NB_Global', 'nb_cfg,sb_cfg,hv_cfg'),
                (self.sb, 'SB_Global', 'nb_cfg'),
                (self.sb, 'Chassis_Private', 'name,nb_cfg')):
            text += '%s: %s' % (table, ask('--format=csv', '--columns=' + columns,
                                           'list', table).replace('\n', ' | '))
            text += '\n'
        for name in self.processes:
            text += '%s.log:\n%s' % (name, tail('%s/%s.log' % (
                self.lab.tmp, name), 8))
        return text


class FarChassis(Ovn):
    """Another chassis of the same OVN, which has only a controller."""

    def __init__(self, lab, central, address):
        super().__init__(lab, central.dir, address)
        self.central = central

    def __enter__(self):
        self.join(FAR_CHASSIS, self.central)
        return self
