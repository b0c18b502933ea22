# SPDX-License-Identifier: Apache-2.0
"""Other programs, broken plugins and missing rights: OVS works as ever."""
import contextlib
import os
import shutil
import subprocess
import tempfile

from lab import (ForeignProgram, attached_program, ping, run, tcp_transfer,
                 wait_for)
from suite import (Skipped, expect, introduce, ran_in_xdp, wait_offloaded)

HERE = os.path.dirname(os.path.abspath(__file__))
LOG_MODULE = r'netdev_offload_plugin\|'


def foreign_on_afxdp(context, offload, link):
    """Adds an afxdp port whose device has a foreign program.

    Returns (error of the port or '', the program's name or None).
    """
    with context.lab(offload=offload) as lab, \
            contextlib.closing(ForeignProgram()) as foreign:
        a, b = lab.hosts
        ping(a, b, 2)
        c = lab.add_host(port=False)
        foreign.attach(lab, c.port, link)
        error = ''
        try:
            lab.ovs.add_port(c.port)
        except RuntimeError as e:
            error = str(e)
        if offload:
            wait_offloaded(lab, a, b)
            expect(ran_in_xdp(lab, a, lambda: ping(a, b, 30)) == 30,
                   'ping between other ports')
        else:
            expect(ping(a, b) == 5, 'ping between other ports')
        _, name = attached_program(lab, c.port) or (None, None)
        is_foreign = name == foreign.name
        lab.ovs.vsctl('del-port', c.port)
        if is_foreign:
            _, name = attached_program(lab, c.port) or (None, None)
            expect(name == foreign.name, 'del-port removed it: now %s', name)
        return bool(error), is_foreign


def test_foreign_afxdp(context):
    """Somebody else's program on an afxdp port: it fares as without us."""
    for link in (False, True):
        with_us = foreign_on_afxdp(context, True, link)
        without = foreign_on_afxdp(context, False, link)
        context.note('attached by %s: port %s, program %s',
                     'BPF link' if link else 'netlink',
                     'fails' if without[0] else 'works',
                     'stays' if without[1] else 'removed by OVS')
        expect(with_us == without, 'attached by %s: (port fails, program '
               'stays) is %s with offload, %s without',
               'BPF link' if link else 'netlink', with_us, without)


def test_foreign_system(context):
    """Somebody else's program on a system port: refused, and it stays."""
    with context.lab(kind='system',
                     config=['xdp-offload-system-ports=true']) as lab:
        a, b = lab.hosts
        for link in (False, True):
            c = lab.add_host(port=False)
            with contextlib.closing(ForeignProgram()) as foreign:
                foreign.attach(lab, c.port, link)
                before = attached_program(lab, c.port)
                expect(before and before[1] == foreign.name, 'attach: %s',
                       before)
                lab.ovs.add_port(c.port, 'system')
                lines = lab.ovs.log_lines(
                    LOG_MODULE + 'WARN.*%s: not offloaded.*%s'
                    % (c.port, foreign.name))
                expect(len(lines) == 1, '%d lines about the foreign program: '
                       '%s', len(lines), lines)
                introduce(lab.hosts)
                expect(ping(c, a, 3) == 3, 'the port does not work')
                expect(attached_program(lab, c.port) == before,
                       'the program is gone')
                expect(c.port not in lab.ovs.offload_show()[1],
                       'the port is offloaded')
                ping(a, b, 2)
                wait_offloaded(lab, a, b)
                expect(ran_in_xdp(lab, a, lambda: ping(a, b, 30)) == 30,
                       'ping')
                lab.ovs.vsctl('del-port', c.port)
                expect(attached_program(lab, c.port) == before,
                       'the program is gone after del-port')
        # Nobody can take the place of our program by accident.
        with contextlib.closing(ForeignProgram()) as foreign:
            ours = attached_program(lab, a.port)
            with contextlib.suppress(OSError):
                foreign.attach(lab, a.port)
            expect(attached_program(lab, a.port) == ours, 'replaced')


def compile_fake(directory, name, *switches):
    """Builds tests/system/fake_plugin.c as the plugin 'name'."""
    run('cc', '-shared', '-fPIC', '-I' + os.path.join(HERE, '..', '..',
                                                      'ovs-plugin'),
        '-o', '%s/ovs-offload-%s.so' % (directory, name),
        '-DFAKE_TYPE=' + name, *switches, os.path.join(HERE, 'fake_plugin.c'))


@contextlib.contextmanager
def plugin_directory():
    directory = tempfile.mkdtemp(prefix='ovs-offload-xdp.')
    os.chmod(directory, 0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def expect_refused(lab, name, reason, earlier=0):
    """Checks that there is one new line, an error, after 'earlier' others."""
    def lines():
        return lab.ovs.log_lines(LOG_MODULE + '(WARN|ERR|EMER)')[earlier:]

    wait_for('a line about plugin ' + name, lines, 5)
    expect(ping(*lab.hosts, 3) == 3, 'plugin %s: ping', name)
    expect(len(lines()) == 1 and '|ERR|' in lines()[0]
           and name in lines()[0] and reason in lines()[0],
           'plugin %s: not one line with "%s": %s', name, reason, lines())


def test_bad_plugins(context):
    """Plugins that are missing, broken or not safe: one ERR line, OVS works.
    """
    with plugin_directory() as directory:
        with open(directory + '/ovs-offload-garbage.so', 'w') as f:
            f.write('This is not a shared object.\n' * 100)
        switches = {
            'wrongabi': ('ABI version', '-DFAKE_WRONG_ABI'),
            'small': ('table of operations', '-DFAKE_SMALL_TABLE'),
            'incomplete': ('incomplete', '-DFAKE_MISSING_OP'),
            'nosymbol': ('ovs_offload_plugin_get', '-DFAKE_MISSING_SYMBOL'),
            'initfails': ('initialization failed', '-DFAKE_INIT_FAILS')}
        for name, (_, switch) in switches.items():
            compile_fake(directory, name, switch)
        compile_fake(directory, 'othertype')
        shutil.copy(directory + '/ovs-offload-othertype.so',
                    directory + '/ovs-offload-misnamed.so')
        shutil.copy(directory + '/ovs-offload-othertype.so',
                    directory + '/ovs-offload-writable.so')
        os.chmod(directory + '/ovs-offload-writable.so', 0o666)
        shutil.copy(directory + '/ovs-offload-othertype.so',
                    directory + '/ovs-offload-stranger.so')
        os.chown(directory + '/ovs-offload-stranger.so', 1234, 1234)
        os.symlink(directory + '/ovs-offload-othertype.so',
                   directory + '/ovs-offload-link.so')
        cases = {
            'missing': 'No such file', 'garbage': 'ELF', 'misnamed': 'type',
            'writable': 'writable', 'stranger': 'another user',
            'link': 'regular file', '../evil': 'not a plugin name',
            **{name: reason for name, (reason, _) in switches.items()}}
        with context.lab(offload=False, plugin=directory) as lab:
            lab.ovs.vsctl('set', 'Open_vSwitch', '.',
                          'other_config:hw-offload=true')
            for n, (name, reason) in enumerate(cases.items()):
                lab.ovs.vsctl('set', 'Open_vSwitch', '.',
                              'other_config:hw-offload-plugin="%s"' % name)
                expect_refused(lab, name, reason, n)
            expect(tcp_transfer(*lab.hosts), 'TCP')
        # In a directory that others can write to, from the start.
        shutil.copy(context.plugin_dir + '/ovs-offload-xdp.so', directory)
        for mode, owner, reason in ((0o777, 0, 'directory is writable'),
                                    (0o775, 0, 'directory is writable'),
                                    (0o755, 1234, 'directory belongs to')):
            os.chmod(directory, mode)
            os.chown(directory, owner, -1)
            with context.lab(plugin=directory) as lab:
                for host in lab.hosts:
                    host.run('ethtool', '-K', 'eth0', 'tx', 'off')
                expect_refused(lab, 'xdp', reason)
                expect(tcp_transfer(*lab.hosts), 'TCP')


def test_no_capability(context):
    """Without CAP_BPF and CAP_SYS_ADMIN: one clear message, OVS works."""
    wrapper = ['setpriv', '--bounding-set=-bpf,-sys_admin,-perfmon',
               '--inh-caps=-bpf,-sys_admin,-perfmon']
    if subprocess.run([*wrapper, 'true'], stderr=subprocess.DEVNULL,
                      check=False).returncode:
        raise Skipped('setpriv cannot drop CAP_BPF here')
    # AF_XDP ports need these rights themselves.
    with context.lab(kind='system', wrapper=wrapper) as lab:
        a, b = lab.hosts
        for host in lab.hosts:
            host.run('ethtool', '-K', 'eth0', 'tx', 'off')
        pid = lab.ovs.processes['ovs-vswitchd'].pid
        with open('/proc/%d/status' % pid) as f:
            caps = int(next(line for line in f if line.startswith('CapEff'))
                       .split()[1], 16)
        expect(not caps & (1 << 39 | 1 << 21), 'it has the capabilities')
        expect(ping(a, b) == 5 and tcp_transfer(a, b), 'OVS does not work')
        lines = lab.ovs.log_lines(LOG_MODULE + '(WARN|ERR)')
        expect(1 <= len(lines) <= 2 and any('ermi' in line for line in lines),
               'messages: %s', lines)
        context.note('"%s"', lines[0].split('|', 4)[-1])
        expect(not attached_program(lab, a.port), 'a program is attached')


def test_slow_port(context):
    """No thread waits for memory while a plugin takes its time to add a port."""
    with plugin_directory() as directory:
        compile_fake(directory, 'slow', '-DFAKE_ADD_SECONDS=3')
        with context.lab(hosts=0, offload=False, plugin=directory) as lab:
            lab.ovs.vsctl('set', 'Open_vSwitch', '.',
                          'other_config:hw-offload=true',
                          'other_config:hw-offload-plugin=slow',
                          'other_config:max-idle=500')
            a, b = lab.add_host(), lab.add_host()
            wait_for('ping', lambda: ping(a, b, 2) == 2)
            # Its flows end, and are to be freed, while the next port is added.
            lab.add_host()
            added = lab.ovs.log_lines('fake: port_add p')
            expect(len(added) == 3, 'ports: %s', added)
            # OVS says so after a second.
            late = lab.ovs.log_lines('waiting for main to quiesce')
            expect(not late, 'log: %s', late)


TESTS = [
    ('foreign-afxdp', test_foreign_afxdp),
    ('foreign-system', test_foreign_system),
    ('bad-plugins', test_bad_plugins),
    ('slow-port', test_slow_port),
    ('no-capability', test_no_capability),
]
