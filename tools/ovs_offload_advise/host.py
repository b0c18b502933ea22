# SPDX-License-Identifier: Apache-2.0
"""What a host has, and lacks, for the offload: nothing is changed."""
import gzip
import os
import platform
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

from .daemon import Daemon
from .dump import Dump, Port, first
from .verdict import judge_devices, may_serve

TIMEOUT = 30                         # Seconds.
OLDEST_KERNEL = (6, 1)
RELEASES = {'3.1': 'userspace and kernel datapath', '3.5': 'userspace datapath',
            '4.0': 'userspace datapath'}
TAGS_REMEDY = 'ethtool -K %s %s off'
# docs/design.md, "Memory": with the defaults.
MEMORY_MIB, MEMORY_MIB_PER_ROW, MAX_ROWS = 47, 2.9, 5


class Finding(NamedTuple):
    state: str                       # ok, note, or bad: it cannot work, or not there.
    what: str
    text: str
    remedy: str = ''


def read(path: str) -> str:
    try:
        if path.endswith('.gz'):
            with gzip.open(path, 'rt') as f:
                return f.read()
        with open(path, encoding='utf-8') as f:
            return f.read()
    except OSError:
        return ''


# -- The kernel ---------------------------------------------------------------

def kernel() -> Iterator[Finding]:
    release = platform.release()
    version = tuple(int(n) for n in re.findall(r'\d+', release)[:2])
    if platform.machine() != 'x86_64':
        yield Finding('bad', 'machine', platform.machine(), 'Only x86-64 is supported.')
    if version < OLDEST_KERNEL:
        yield Finding('bad', 'kernel', 'Linux ' + release,
                      'Linux %d.%d or newer is needed.' % OLDEST_KERNEL)
    else:
        yield Finding('ok', 'kernel', 'Linux ' + release)
    yield from kernel_config(release)
    if read('/proc/sys/net/core/bpf_jit_enable').strip() == '0':
        yield Finding('bad', 'BPF', 'programs are interpreted',
                      'sysctl net.core.bpf_jit_enable=1')
    if ' /sys/fs/bpf bpf ' not in read('/proc/self/mounts'):
        yield Finding('note', 'BPF', 'no BPF file system is mounted on /sys/fs/bpf: '
                      'flows in XDP will end with ovs-vswitchd',
                      'mount -t bpf bpf /sys/fs/bpf')


def kernel_config(release: str) -> Iterator[Finding]:
    paths = ['/proc/config.gz'] + [
        p % release for p in ('/boot/config-%s', '/lib/modules/%s/config')]
    found = [p for p in paths if read(p)]
    if not found:
        yield Finding('note', 'kernel config', 'none of %s can be read' % ', '.join(paths))
        return
    config = read(found[0]).splitlines()
    for option, needed_by, state in (
            ('CONFIG_BPF_SYSCALL', 'the offload', 'bad'),
            ('CONFIG_BPF_JIT', 'speed', 'bad'),
            ('CONFIG_XDP_SOCKETS', 'ports of type afxdp', 'note')):
        if option + '=y' not in config:
            yield Finding(state, 'kernel config', '%s lacks %s=y, which %s needs' % (
                found[0], option, needed_by))


def count_cpus(which: str) -> int:
    """By a list such as "0-3,8"."""
    n = 0
    for part in read('/sys/devices/system/cpu/' + which).strip().split(','):
        first_and_last = [int(number) for number in re.findall(r'\d+', part)] or [0]
        n += first_and_last[-1] - first_and_last[0] + 1
    return n


def memory() -> Iterator[Finding]:
    n_online, n_possible = count_cpus('online'), count_cpus('possible')
    rows = min(MAX_ROWS, n_online + (n_online < n_possible))
    need = MEMORY_MIB + MEMORY_MIB_PER_ROW * rows
    m = re.search(r'^MemAvailable: *(\d+) kB', read('/proc/meminfo'), re.MULTILINE)
    text = '%.0f MiB are needed (%d of %d possible CPUs are online)' % (
        need, n_online, n_possible)
    if m and int(m[1]) / 1024 < 2 * need:
        yield Finding('bad', 'memory', text + ', %d MiB are available' % (
            int(m[1]) // 1024), 'Set other_config:xdp-offload-max-flows lower.')
    else:
        yield Finding('ok', 'memory', text)


# -- Open vSwitch -------------------------------------------------------------

def dumps(ovs: Daemon) -> dict[str, Dump]:
    """The flows and ports of each datapath, by its name."""
    found = {}
    for name in ovs.ask('dpctl/dump-dps').split():
        dump = found[name] = Dump()
        dump.read(ovs.ask('dpctl/show', name).splitlines())
        dump.read(ovs.ask('dpctl/dump-flows', '-m', '--names', name).splitlines())
    return found


def open_vswitch(ovs: Daemon) -> Iterator[Finding]:
    version = first(r'(\d+\.\d+\.\d+)', ovs.ask('version')) or 'unknown version'
    release = '.'.join(version.split('.')[:2])
    if release in RELEASES:
        yield Finding('ok', 'Open vSwitch', '%s: %s' % (version, RELEASES[release]))
    else:
        yield Finding('bad', 'Open vSwitch', version, 'There are patches for %s only.'
                      % ', '.join(RELEASES))
    if 'xdp-offload/show' in ovs.ask('list-commands'):
        yield Finding('note', 'Open vSwitch', 'has loaded the plugin already: what of '
                      'the flows is in XDP now says "ovs-appctl xdp-offload/show"')


# -- Ports --------------------------------------------------------------------

def driver(name: str) -> str:
    try:
        return os.path.basename(os.readlink('/sys/class/net/%s/device/driver' % name))
    except OSError:
        return ''


def ports(dump: Dump) -> Iterator[Finding]:
    """Of all ports that could be served, and a line for those that cannot."""
    all_ports = sorted(dump.declared.values())
    served = [p for p in all_ports if may_serve(p, dump.type)]
    devices = [p for p in served if p.type not in ('geneve', 'vxlan')]
    judged = judge_devices([p.name for p in devices])
    if judged.get('why_programs_overlap'):
        yield Finding('bad', 'kernel', judged['why_programs_overlap'])
    if judged.get('why_unknown'):
        yield Finding('note', 'ports', judged['why_unknown'], 'Run this as root.')
    for port in devices:
        if port.name in judged.get('devices', {}):
            yield from judge_port(port, judged['devices'][port.name], dump.type)
    others = [p for p in all_ports if p not in served]
    if others:
        yield Finding('note', 'ports', 'not for XDP: ' + ', '.join(
            '%s (%s)' % (p.name, p.type) for p in others))


def judge_port(port: Port, device: dict[str, Any],
               datapath: Optional[str]) -> Iterator[Finding]:
    what = 'port ' + port.name
    if not device['exists'] or 'unknown' in device:
        yield Finding('note', what, device.get('unknown', 'has no device here'))
        return
    kind = 'veth' if device['is_veth'] else driver(port.name) or 'no driver named'
    text = '%s, %s, frames of up to %d bytes' % (
        kind, plural(device['queues'], 'queue'), device['max_frame_bytes'])
    trouble = [(key, device[key]) for key in ('why_unsuited', 'why_no_transmit')
               if device[key]]
    yield Finding('note' if trouble else 'ok', what, text)
    for key, why in trouble:
        yield Finding('note', what, ('cannot be an output in XDP: ' if
                                     key == 'why_no_transmit' else '') + why)
    if datapath == 'netdev' and port.type == 'system':
        yield Finding('note', what, 'is of type system',
                      'ovs-vsctl set interface %s type=afxdp' % port.name)
    if device['why_no_tags']:
        yield Finding('note', what, device['why_no_tags'],
                      'The plugin switches that off itself.' if datapath == 'system' else
                      'If there are VLANs: ' + TAGS_REMEDY % (
                          'PEER' if device['is_veth'] else port.name,
                          'txvlan' if device['is_veth'] else 'rxvlan'))
    if datapath == 'system' and device['handled_before_ovs']:
        yield Finding('note', what, 'its flows stay in the kernel: '
                      + device['handled_before_ovs'])


def plural(n: int, what: str) -> str:
    return '%d %s%s' % (n, what, '' if n == 1 else 's')
