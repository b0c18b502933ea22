#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the Debian packages in a clean root, installs them in another, and uses them.

Needs root, debootstrap and Debian's package archive.  Everything happens in mount and
process namespaces of its own: when this ends, however, all of it is gone.
"""
import argparse
import contextlib
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time
import traceback

import root
from machine import Machine, use_cgroup2
import tc_host

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), '../..'))
sys.path.append(TOP + '/tests/system')
from suite import Failed, expect  # noqa: E402

BUILD = '/build/ovs-offload-xdp'       # In the root in which packages are built.
OURS = '/usr/lib/openvswitch-offload-xdp/ovs-vswitchd'
STOCK = '/usr/lib/openvswitch-switch/ovs-vswitchd'
PACKAGE = 'openvswitch-offload-xdp'
ADVISE = 'openvswitch-offload-advise'
FLOWERD = 'xdp-flowerd'
TIMER = 'ovs-offload-metrics.timer'
# Of service.py, and systemd-analyze.
TOOLS = ('ethtool', 'iproute2', 'iputils-ping', 'python3', 'systemd')
# A container host as it was before, and what configures it.
CONTAINER_HOST = ('ansible', 'dbus', 'ethtool', 'iproute2', 'iputils-ping',
                  'openvswitch-switch', 'python3-apt', 'systemd-sysv')


class Context:
    def __init__(self, roots, before=None):
        self.roots = roots
        self.before = before            # Those of the suite to upgrade from, if any.
        self.builder = self.target = None
        self.debs = []
        self.notes = []

    def note(self, text, *args):
        self.notes.append(text % args if args else text)


def chosen(target):
    """The program that /usr/sbin/ovs-vswitchd leads to."""
    return target.run('readlink', '-f', '/usr/sbin/ovs-vswitchd').strip()


def copy_source(target, path='/src'):
    """Gives a root the source tree, without what was made in it."""
    shutil.copytree(TOP, target.file(path),
                    ignore=shutil.ignore_patterns('build', '.git', '__pycache__'))


def service(target, *args):
    return target.run('python3', '/src/tests/install/service.py', *args)


# -- The tests, in the order in which they are run ----------------------------

def build(roots):
    """Returns a root in which the packages were built, and where they are."""
    builder = roots.make('builder', to_build=True)
    copy_source(builder, BUILD)
    # Open vSwitch takes minutes, so what this root made of it is kept.
    ovs = os.path.join(root.CACHE, 'ovs')
    os.makedirs(ovs, exist_ok=True)
    os.makedirs(builder.file('/ovs'))
    root.run('mount', '--bind', ovs, builder.file('/ovs'))
    builder.run('sh', '-c', 'cd %s && dpkg-buildpackage -us -uc -b' % BUILD,
                OVS_OFFLOAD_CACHE='/ovs',
                DEB_BUILD_OPTIONS='parallel=%d' % os.cpu_count())
    return builder, sorted(d for d in glob.glob(builder.file('/build/*.deb'))
                           if 'dbgsym' not in d)


def test_build(context):
    """dpkg-buildpackage makes the packages in a clean root"""
    context.builder, context.debs = build(context.roots)
    names = [os.path.basename(d).split('_')[0] for d in context.debs]
    expect(names == ['libflowxlate-dev', 'libflowxlate0', ADVISE, PACKAGE, FLOWERD],
           'packages: %s', names)


def test_lintian(context):
    """lintian --pedantic finds nothing, but what debian/*.lintian-overrides have reasons for"""
    # Other than that the project has no mail address, and one version for all suites,
    # which need not have the same overrides, nor tags.
    out = context.builder.run(
        'sh', '-c', 'lintian --allow-root --fail-on none --pedantic --display-info '
        '--suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog,'
        'out-of-date-standards-version '
        '/build/*.changes')
    bad = [line for line in out.splitlines() if line[:2] in ('E:', 'W:', 'I:', 'P:')
           and 'unused-override' not in line and 'alien-tag' not in line]
    expect(not bad, '\n'.join(bad))


def test_paths(context):
    """What is installed names no directory in which it was built"""
    directories = [b'/build/', b'/tmp/build-ovs', b'/ovs/']
    n = 0
    for deb in context.debs:
        out = deb + '.d'
        root.run('dpkg-deb', '-x', deb, out)
        for path in glob.glob(out + '/**', recursive=True):
            if os.path.isfile(path) and not os.path.islink(path):
                n += 1
                with open(path, 'rb') as f:
                    text = f.read()
                found = [d.decode() for d in directories if d in text]
                expect(not found, '%s names %s', path[len(out):], found)
    context.note('%d files', n)
    expect(n > 15, 'hardly any file')


LIBRARY_USER = '''
#include <stdio.h>
#include <flowxlate/flowxlate.h>
int main(void) {
    const struct ovs_offload_ops *ops = flowxlate_ops();
    return printf("%s %d\\n", ops->type, ops->abi == OVS_OFFLOAD_ABI) < 0;
}
'''


def test_library(context):
    """A program is built with libflowxlate, shared and static, by pkg-config"""
    builder = context.builder
    builder.apt('install', *('/build/' + os.path.basename(d)
                             for d in context.debs if 'libflowxlate' in d))
    with open(builder.file('/tmp/user.c'), 'w') as f:
        f.write(LIBRARY_USER)
    static = '-Wl,-Bstatic -lflowxlate -Wl,-Bdynamic'
    for libs in ('$(pkg-config --libs flowxlate)',
                 '$(pkg-config --static --libs flowxlate '
                 '| sed "s/-lflowxlate/%s/")' % static):
        out = builder.run('sh', '-ec', 'cd /tmp && cc -Wall -Werror user.c '
                          '$(pkg-config --cflags flowxlate) %s -o user && ./user'
                          % libs)
        expect(out == 'xdp 1\n', 'the program printed: %s', out)
        linked = 'libflowxlate' in builder.run('ldd', '/tmp/user')
        expect(linked == ('--static' not in libs), 'libflowxlate linked: %s', linked)


def test_install(context):
    """apt installs the packages with what they need; ours is the ovs-vswitchd"""
    target = context.target = context.roots.make('target')
    for deb in context.debs:
        shutil.copy(deb, target.file('/'))
    target.apt('install', *('/' + os.path.basename(d) for d in context.debs))
    expect(chosen(target) == OURS, 'ovs-vswitchd is %s', chosen(target))
    version = target.run('ovs-vswitchd', '--version').splitlines()[0]
    context.note('%s', version)
    compiled = target.run('sh', '-c', 'ls /usr/share/ovs-offload-xdp/*/__pycache__/main.*.pyc')
    expect(len(compiled.splitlines()) == 2, 'compiled modules: %s', compiled)
    target.apt('install', *TOOLS)
    # The modules of this machine's kernel are not for ovs-ctl to load.
    for name in ('modprobe', 'rmmod'):
        os.symlink('/bin/true', target.file('/usr/local/sbin/' + name))
    copy_source(target)


def test_advise(context):
    """ovs-offload-advise judges saved flows with what its package has (debian/tests)"""
    out = context.target.run('sh', '-c', 'cd /src && debian/tests/advise')
    context.note('%s', out.strip())


def test_units(context):
    """systemd accepts the units for Prometheus, and nothing has enabled them"""
    target = context.target
    out = target.run('systemd-analyze', 'verify', '--man=no',
                     '/lib/systemd/system/' + TIMER)
    expect(not out, 'systemd-analyze: %s', out)
    state = target.run('sh', '-c', 'systemctl is-enabled %s || :' % TIMER)
    expect(state.strip() == 'disabled', 'the timer is %s', state)


def test_traffic(context):
    """Started as the services start it, OVS executes the quickstart's traffic in XDP"""
    out = service(context.target, 'traffic')
    expect('dp:xdp' in out and 'offloaded:yes' in out, 'no flow in XDP:\n%s', out)
    loaded = re.search(r"loaded offload plugin 'xdp' from (\S+)", out)
    expect(loaded and loaded[1].startswith('/usr/lib/'), 'no plugin loaded:\n%s', out)
    expect('ovs-offload-top shows: p1, p2' in out, 'ovs-offload-top:\n%s', out)
    context.note('%s', re.search(r'\d+ packets executed in XDP.*', out)[0])


DIRECTORIES = '/etc/openvswitch /var/lib/openvswitch /var/log/openvswitch'


def use_drop_ins(target):
    """Does as docs/install.md says."""
    target.run('sh', '-ec', """
        cp -r /usr/share/doc/%s/examples/systemd/* /etc/systemd/system/
        getent passwd openvswitch > /dev/null || useradd --system --user-group --no-create-home --home-dir /run/openvswitch \\
            --shell /usr/sbin/nologin openvswitch
        chown -R openvswitch: %s""" % (PACKAGE, DIRECTORIES))


@contextlib.contextmanager
def drop_ins(target):
    """Does as docs/install.md says, and undoes it."""
    use_drop_ins(target)
    try:
        yield
    finally:
        target.run('sh', '-ec', """
            rm -rf /etc/systemd/system/ovs*.d
            chown -R root: /run/openvswitch %s""" % DIRECTORIES)


def test_unprivileged(context):
    """The same where the drop-ins give the daemons a user and few capabilities"""
    with drop_ins(context.target):
        out = context.target.run('systemd-analyze', 'verify', '--man=no',
                                 '/lib/systemd/system/ovs-vswitchd.service')
        expect(not out, 'systemd-analyze: %s', out)
        out = service(context.target, 'traffic')
    expect('dp:xdp' in out and 'ovs-vswitchd runs as openvswitch' in out,
           'no flow in XDP, or not this user:\n%s', out)


def test_kept(context):
    """Flows survive restarts of the services as root, as another user, and as root"""
    with drop_ins(context.target):
        context.target.run('sh', '-c', 'rm -r /etc/systemd/system/ovs*.service.d')
        out = service(context.target, 'kept')
    users = re.findall(r'^(\w+): restarts: flows survive ovs-vswitchd .*, 2 pins$',
                       out, re.MULTILINE)
    expect(users == ['root', 'openvswitch', 'openvswitch', 'root'], '%s', out)
    lost = re.search(r'lost: (\d+) of \d+', out)
    expect(lost and lost[1] == '0', '%s', out)
    context.note('%s', lost[0])


def test_quickstart(context):
    """quickstart --installed shows the same in directories of its own (debian/tests)"""
    out = context.target.run('sh', '-c', 'cd /src && debian/tests/traffic')
    context.note('%s', re.search(r'\d+ packets executed in XDP.*', out)[0])


def test_choice(context):
    """The administrator may go back to Debian's ovs-vswitchd, and forth"""
    target = context.target
    target.run('update-alternatives', '--set', 'ovs-vswitchd', STOCK)
    expect(chosen(target) == STOCK, 'ovs-vswitchd is %s', chosen(target))
    target.run('update-alternatives', '--auto', 'ovs-vswitchd')
    expect(chosen(target) == OURS, 'ovs-vswitchd is %s', chosen(target))


def test_upgrade(context):
    """A newer package and a reinstalled Open vSwitch leave ours in place"""
    target = context.target
    deb = '/' + next(os.path.basename(d) for d in context.debs if PACKAGE in d)
    target.run('sh', '-ec', 'dpkg-deb -R %s /tmp/newer && '
               'sed -i "s/^Version: .*/&+newer/" /tmp/newer/DEBIAN/control && '
               'dpkg-deb -b /tmp/newer /newer.deb' % deb)
    target.apt('install', '/newer.deb')
    version = target.run('dpkg-query', '-W', '-f', '${Version}', PACKAGE)
    expect(version.endswith('+newer'), 'version %s', version)
    expect(chosen(target) == OURS, 'ovs-vswitchd is %s', chosen(target))
    target.apt('install', '--reinstall', 'openvswitch-switch')
    expect(chosen(target) == OURS, 'ovs-vswitchd is %s', chosen(target))


def test_removal(context):
    """When the package is purged, Debian's ovs-vswitchd is back and nothing is left"""
    target = context.target
    target.run('dpkg', '--purge', PACKAGE, ADVISE, FLOWERD, 'libflowxlate-dev',
               'libflowxlate0')
    expect(chosen(target) == STOCK, 'ovs-vswitchd is %s', chosen(target))
    left = target.run('sh', '-c', 'find / -xdev \\( -path /src -o -path /proc '
                      '-o -path /sys -o -path "/*.deb" \\) -prune -o '
                      '\\( -name "*offload-xdp*" -o -name "*flowxlate*" '
                      '-o -path "*/openvswitch/offload*" \\) -print')
    expect(not left, 'left:\n%s', left)


def test_stock(context):
    """Debian's Open vSwitch starts with the same database, and forwards"""
    out = service(context.target, 'stock')
    expect('replies: 10' in out, 'no replies:\n%s', out)
    expect('xdp-offload/show' not in out, 'it has our commands:\n%s', out)


CONTAINERS = """
ovs-vsctl add-br br0 -- set bridge br0 datapath_type=netdev
for i in 1 2 3; do
    ip netns add c$i
    ip link add veth-c$i type veth peer name eth0 netns c$i
    ip netns exec c$i ethtool -K eth0 gro on
    ip -n c$i addr add 10.0.0.$i/24 dev eth0
    ip -n c$i link set eth0 up
    ip link set veth-c$i up
    ovs-vsctl add-port br0 veth-c$i -- set interface veth-c$i type=afxdp
done
"""

START_OFFLOAD = """
ovs-vsctl --no-wait set Open_vSwitch . other_config:hw-offload=true \\
    other_config:hw-offload-plugin=xdp
systemctl restart openvswitch-switch ovs-vswitchd
"""


def purge_with_timer(machine):
    """The timer, which nobody has enabled but the administrator, ends with its package."""
    def state(what):
        return machine.run('systemctl', what, TIMER, check=False).strip()

    machine.run('rm', '-f', '/usr/sbin/policy-rc.d')    # It forbids to start and stop.
    expect(state('is-active') == 'inactive', 'the timer is %s', state('is-active'))
    machine.run('systemctl', 'enable', '--now', TIMER)
    expect(state('is-active') == 'active', 'the timer is %s', state('is-active'))
    machine.run('dpkg', '--purge', PACKAGE)
    expect(state('is-active') == 'inactive', 'the timer is %s', state('is-active'))
    left = machine.run('find', '/etc/systemd', '/var/lib/systemd', '-name',
                       '*ovs-offload-metrics*')
    expect(not left, 'left:\n%s', left)


def test_reboot(context):
    """As the drop-ins say, systemd starts all as another user; the timer ends with its package"""
    rebooted = context.roots.make('rebooted')
    rebooted.apt('install', *(t for t in CONTAINER_HOST if 'ansible' not in t))
    for deb in context.debs:
        shutil.copy(deb, rebooted.file('/'))
    rebooted.apt('install', *('/' + os.path.basename(d) for d in context.debs))
    use_drop_ins(rebooted)
    with Machine(rebooted) as machine:
        for command in (START_OFFLOAD, CONTAINERS):
            machine.run('sh', '-ec', command)
        for daemon in ('ovsdb-server', 'ovs-vswitchd'):
            user = machine.run('sh', '-c', 'stat -c %U /proc/$(cat '
                               '/run/openvswitch/' + daemon + '.pid)').strip()
            expect(user == 'openvswitch', '%s runs as %s', daemon, user)
        machine.run('ip', 'netns', 'exec', 'c1', 'ping', '-c', '20', '-i', '0.02',
                    '10.0.0.2')
        flows = machine.run('ovs-appctl', 'dpctl/dump-flows', '-m', 'type=offloaded')
        expect('dp:xdp' in flows, 'no flow in XDP:\n%s', flows)
        purge_with_timer(machine)


# What is asked for; does it change the host, and does it restart ovs-vswitchd?
PLAYS = [
    ({}, True, True),
    ({}, False, False),
    ({'left_out': ['veth-c3']}, True, False),
    ({'left_out': ['veth-c3']}, False, False),
    ({}, True, False),
    ({'enabled': False}, True, False),
    ({}, True, False),
    ({'keys': {'xdp-offload-max-flows': 1024}, 'may_restart': False,
      'accept': [1]}, True, False),
    ({'keys': {'xdp-offload-max-flows': 1024}}, True, True),
    ({'keys': {'xdp-offload-max-flows': 1024}}, False, False),
    ({'state': 'absent'}, True, True),
    ({'state': 'absent'}, False, False),
]


def play(machine, debs, wanted):
    """Runs the playbook; returns whether it has changed and restarted anything."""
    variables = {'ovs_offload_xdp_' + k: v for k, v in dict(
        {'debs': debs}, **wanted).items()}
    pid = machine.run('cat', '/run/openvswitch/ovs-vswitchd.pid')
    out = machine.run('sh', '-c', 'exec "$@" 2>&1', '-', 'ansible-playbook', '-i',
                      '/src/packaging/ansible/this_host.yml',
                      '/src/packaging/ansible/site.yml', '-e', json.dumps(variables))
    return (int(re.search(r'changed=(\d+)', out)[1]) > 0,
            machine.run('cat', '/run/openvswitch/ovs-vswitchd.pid') != pid)


def test_ansible(context):
    """The Ansible role does what is asked, nothing the second time, and undoes it"""
    managed = context.roots.make('managed')
    managed.apt('install', *CONTAINER_HOST)
    for deb in context.debs:
        shutil.copy(deb, managed.file('/'))
    debs = ['/' + os.path.basename(d) for d in context.debs if PACKAGE in d]
    managed.apt('install', '--download-only', *debs)    # In the machine is no network.
    copy_source(managed)
    with Machine(managed) as machine:
        machine.run('sh', '-ec', CONTAINERS)
        for wanted, changes, restarts in PLAYS:
            done = play(machine, debs, wanted)
            expect(done == (changes, restarts), '%s: changed and restarted: %s',
                   wanted, done)
            machine.run('ip', 'netns', 'exec', 'c1', 'ping', '-c', '20', '-i', '0.02',
                        '10.0.0.2')
            if wanted == {}:
                expect('dp:xdp' in machine.run(
                    'ovs-appctl', 'dpctl/dump-flows', '-m', 'type=offloaded'),
                       'no flow in XDP')
        context.note('%d plays', len(PLAYS))
        expect(not machine.run('ls', '/sys/fs/bpf/ovs-offload-xdp', check=False),
               'programs are kept for a next one of ours')
    expect(chosen(managed) == STOCK, 'ovs-vswitchd is %s', chosen(managed))


def test_flowerd(context):
    """xdp-flowerd without Open vSwitch: its unit has TC's filters in XDP, and leaves nothing"""
    host = context.roots.make('tc')
    deb = next(d for d in context.debs if os.path.basename(d).startswith(FLOWERD + '_'))
    shutil.copy(deb, host.file('/'))
    host.apt('install', *tc_host.PACKAGES, '/' + os.path.basename(deb))
    out = host.run('systemd-analyze', 'verify', '--man=no',
                   '/lib/systemd/system/%s.service' % FLOWERD)
    expect(not out, 'systemd-analyze: %s', out)
    others = host.run('sh', '-c', 'dpkg-query -W "openvswitch*" 2> /dev/null || :')
    expect(not others, 'it takes %s', others)
    if tc_host.has_flower():
        tc_host.use_and_purge(host)
    else:
        tc_host.use_elsewhere(host)
        context.note('under another kernel, since this one has no flower')


def ovs_of(target):
    """The release of the ovs-vswitchd that is installed, as 3.5."""
    text = target.run('ovs-vswitchd', '--version')
    return re.search(r'Open vSwitch\) (\d+\.\d+)', text)[1]


def use_suite(host, context):
    """Gives 'host' the tested suite's packages, ours among them, as apt's only sources."""
    context.builder.run('sh', '-ec', 'cd /build && dpkg-scanpackages . > Packages')
    shutil.copytree(context.builder.file('/build'), host.file('/repository'),
                    ignore=lambda where, names: [n for n in names if '.deb' not in n
                                                 and n != 'Packages'])
    with open(host.file('/etc/apt/sources.list'), 'w') as f:
        f.write('\n'.join([*root.sources(context.roots.suite),
                           'deb [trusted=yes] file:/repository ./', '']))
    host.apt('update')


def test_full_upgrade(context):
    """A host of the suite before is upgraded by apt, and has ours for the new Open vSwitch"""
    _, debs = build(context.before)
    host = context.before.make('upgraded')
    for deb in debs:
        shutil.copy(deb, host.file('/'))
    host.apt('install', *TOOLS, *('/' + os.path.basename(d) for d in debs))
    copy_source(host)
    before = ovs_of(host)
    use_suite(host, context)
    host.apt('full-upgrade')
    after = ovs_of(host)
    expect(chosen(host) == OURS, 'ovs-vswitchd is %s', chosen(host))
    expect(after != before, 'it is Open vSwitch %s as before', after)
    version = host.run('dpkg-query', '-W', '-f', '${Version}', PACKAGE)
    expect(version.endswith('+ovs' + after), 'Open vSwitch %s, and ours is %s', after, version)
    out = service(host, 'traffic')
    expect('dp:xdp' in out and 'offloaded:yes' in out, 'no flow in XDP:\n%s', out)
    context.note('Open vSwitch %s to %s', before, after)


TESTS = [test_build, test_lintian, test_paths, test_library, test_install,
         test_advise, test_units, test_traffic, test_unprivileged, test_kept, test_quickstart,
         test_choice, test_upgrade, test_removal, test_stock, test_reboot, test_ansible,
         test_flowerd, test_full_upgrade]
NEEDED = (test_build, test_install)    # Without what these make, no other can run.


def run_test(number, function, context):
    """True if it passed."""
    begin = time.monotonic()
    context.notes = []
    name, text = function.__name__[len('test_'):], function.__doc__
    error = None
    try:
        function(context)
    except Exception as e:  # Each test is reported, whatever has become of it.
        error, text = e, str(e) or type(e).__name__
    print('%s %d %s (%.1f s): %s' % (
        'FAILED' if error else 'ok', number, name, time.monotonic() - begin,
        '; '.join([text, *context.notes])), flush=True)
    if error and not isinstance(error, (Failed, RuntimeError)):
        traceback.print_exception(error)
    return not error


def say(text):
    print(text, flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--suite', choices=root.SUITES, default=root.own_suite(),
                        help="Debian's release (default: this machine's own, %(default)s)")
    parser.add_argument('--from', dest='before', choices=root.SUITES, metavar='SUITE',
                        help='build for this suite as well, and upgrade a host of it')
    parser.add_argument('--only', metavar='NAME', nargs='+', default=[],
                        help='of the tests, but for what all of them need')
    parser.add_argument('--inside', action='store_true', help=argparse.SUPPRESS)
    if os.geteuid():
        sys.exit('run_tests.py: needs root')
    args = parser.parse_args()
    if args.suite not in root.SUITES:
        parser.error('--suite is needed: this machine is none of these')
    if not args.inside:
        # All ends with this process.  The shell is the new namespace's process 1,
        # which buries daemons.
        return subprocess.call([
            'setpriv', '--pdeathsig', 'KILL', 'unshare', '--mount', '--pid',
            '--fork', '--kill-child', '--mount-proc', 'sh', '-c', '"$@"; exit $?', '-',
            sys.executable, *sys.argv, '--inside'])
    top = '/mnt'
    root.run('mount', '-t', 'tmpfs', 'tmpfs', top)
    use_cgroup2()
    begin = time.monotonic()
    lock = root.lock_cache()
    context = Context(*(root.Roots(os.path.join(top, suite), TOP, suite, say)
                        for suite in (args.suite, args.before) if suite))
    passed = 0
    tests = [t for t in TESTS if t in NEEDED or not args.only
             or t.__name__[len('test_'):] in args.only]
    if not args.before:
        tests = [t for t in tests if t is not test_full_upgrade]
    for number, function in enumerate(tests, 1):
        good = run_test(number, function, context)
        passed += good
        if not good and function in NEEDED:
            print('skip %d and all after it: nothing to test with' % (number + 1))
            break
    print('%d s' % (time.monotonic() - begin))
    print('%d passed, %d failed, %d skipped' % (passed, number - passed,
                                                len(tests) - number))
    lock.close()
    return 0 if passed == len(tests) else 1


if __name__ == '__main__':
    sys.exit(main())
