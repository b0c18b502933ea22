# SPDX-License-Identifier: Apache-2.0
"""Which room of flowxlate/ and of bpf/, and which file of flowerd/, may include which,
and who may speak to the kernel or know the hook.

    python3 tests/includes.py [TOP]

Prints what breaks a rule, and how many rules hold: "N passed, N failed, N skipped".
"""
import os
import re
import sys

ABI = 'ovs-plugin/ovs_offload_abi.h'        # The host and the plugin.


def datapath(*names):
    """Of what the program and user space agree on, the headers with these names."""
    return ['bpf/abi/%s.h' % name for name in names]


# What a room may include besides itself: rooms, or files.  Nobody includes front.
ROOMS = {
    'base':      [ABI],
    'translate': [ABI, 'base'] + datapath('counters', 'flow', 'key', 'packet', 'tunnel'),
    'tables':    [ABI, 'bpf/abi', 'base'],
    'kernel':    [ABI, 'bpf/abi', 'base', 'tables'],
    'engine':    [ABI, 'base', 'translate', 'tables', 'kernel/datapath.h']
                 + datapath('counters', 'flow', 'handover', 'key', 'port', 'tunnel'),
    'report':    [ABI, 'base', 'translate', 'tables', 'engine']
                 + datapath('conn', 'counters', 'flow', 'key', 'packet', 'port', 'tunnel'),
    'front':     ['ovs_offload_abi.h', 'base', 'engine', 'report'] + datapath('capture'),
}

# The same of bpf/, where '' is for the programs themselves.  All may have arrays and
# constants (bpf/maps.h), and include their hook by one name, which a program chooses.
HOOK = 'hook/hook.h'
PROGRAM_ROOMS = {
    'abi':    [],
    'hook':   ['abi', 'maps.h'],
    'packet': ['abi', 'maps.h', HOOK],
    'table':  ['abi', 'maps.h', HOOK, 'packet'],
    'act':    ['abi', 'maps.h', HOOK, 'packet', 'table'],
    'conn':   ['abi', 'maps.h', HOOK, 'packet', 'table'],
    'run':    ['abi', 'maps.h', HOOK, 'packet', 'table', 'act', 'conn'],
    '':       ['abi', 'maps.h', 'hook', 'packet', 'table', 'act', 'conn', 'run'],
}
# What only a hook, or a program, may say.
OF_A_HOOK = r'\bctx->|\bxdp_md\b|\bbpf_xdp_\w+\(|\b__sk_buff\b|\bbpf_skb_\w+\(|\bbpf_redirect\w*\('

# What only one room may say: the kernel has many faces, and we have one for it.
ONLY = [
    ('kernel', 'libbpf', r'#include <bpf/'),
    ('kernel', 'libxdp', r'#include <xdp/'),
    ('kernel', 'libmnl', r'#include <libmnl/'),
    ('kernel', 'BPF skeletons', r'#include ".*\.skel\.h"'),
    ('kernel', 'ioctl', r'#include <sys/ioctl\.h>|\bioctl\('),
    ('report', 'JSON', r'#include <nlohmann/'),
]

# Who breaks a rule today, and why.  A row that nobody needs any more is a fault.
EXCEPTIONS = {
    ('engine/binder.h', 'kernel/entrance.h'):
        'check_entrance() judges a flow by values that the kernel room has asked for',
    ('engine/ports.h', 'kernel/attach.h'): 'a port owns its attachment',
    ('engine/attachments.h', 'kernel/attach.h'): 'it makes them',
    ('engine/attachments.cc', 'kernel/conntrack_rst.h'): 'what some of them need is set',
    ('engine/hooks.h', 'kernel/attach.h'): 'the same',
    ('engine/device_watch.h', 'kernel/devices.h'): 'it asks the kernel about them',
    ('engine/ports.h', 'kernel/devices.h'): 'a port has its device\'s state, a value',
    ('engine/losses.h', 'kernel/redirect_errors.h'): 'the errors are values',
    ('engine/loss_watch.h', 'kernel/redirect_errors.h'): 'it asks the kernel for them',
    ('engine/shaping_watch.h', 'kernel/shaping.h'): 'the same, of limits',
    ('engine/ports.h', 'kernel/shaping.h'): 'the same, of its limits',
    ('engine/ports.h', 'kernel/tag_offload.h'): 'the same, of what was switched off',
    ('engine/offload.cc', 'kernel/realtime.h'): 'Offload sets everything up',
    ('engine/core.h', 'kernel/bpf_maps.h'): 'Core owns what parts of the engine speak to the kernel by',
    ('engine/core.h', 'kernel/clock.h'): 'the same',
    ('engine/core.h', 'kernel/devices.h'): 'the same',
    ('engine/core.h', 'kernel/features.h'): 'the same',
    ('engine/core.h', 'kernel/pins.h'): 'the same',
    ('engine/core.h', 'kernel/shared_program.h'): 'the same',
    ('report/trace.cc', 'kernel/trace_program.h'): 'it runs a program',
    ('engine/takeover.cc', 'kernel/ingress_filter.h'):
        'filters that an earlier process has left belong to no attachment',
    ('base/types.h', 'bpf/abi/flow.h'): 'nearly all files that include it need both',
}

# The daemon of TC has files for rooms: each may include those that it lists, and of the
# library what anybody has who links it; netlink's wrapper, too, but only one file.
LIBRARY = ['flowxlate/base/types.h', 'flowxlate/base/netlink_attr.h',
           'flowxlate/base/resource.h']
DAEMON_FILES = {
    'fields':  [],
    'filter':  ['fields', 'action'],
    'action':  ['fields', 'filter'],
    'overlap': ['fields', 'filter'],
    'edits':   ['fields', 'filter'],
    'rules':   ['fields', 'filter', 'edits'],
    'xdp':     ['filter', 'rules', 'flowxlate/front/flowxlate.h',
                'flowxlate/kernel/features.h'],
    'device':  ['filter', 'overlap', 'rules', 'xdp', 'bpf/abi/hash.h'],
    'tc':      ['filter', 'flowxlate/kernel/netlink.h'],
    'daemon':  ['filter', 'overlap', 'rules', 'xdp', 'device', 'tc'],
    'commands': ['filter', 'xdp', 'device', 'daemon'],
    'control': [],
    'compose': ['flowxlate/translate/describe.h'],
    'packets': ['flowxlate/translate/describe.h'],
    'main':    ['xdp', 'daemon', 'commands', 'compose', 'control', 'packets'],
}
# What only one of them may say.
DAEMON_ONLY = [
    ('xdp', 'the library\'s C face', r'\bovs_offload_\w+'),
    ('tc', 'netlink sockets', r'\bAF_NETLINK\b|\bput_tc_header\('),
    ('commands', 'JSON', r'#include <nlohmann/'),
    ('packets', 'libpcap', r'#include <pcap'),
]

# Lines that must be refused, by any of the rules: this test can fail.
PLANTED = [
    ('base/types.h', '#include "tables/flow_table.h"'),
    ('translate/match.cc', '#include "tables/flow_table.h"'),
    ('tables/flow_table.h', '#include "translate/match.h"'),
    ('tables/flow_table.cc', '#include <bpf/bpf.h>'),
    ('kernel/shaping.cc', '#include "engine/offload.h"'),
    ('engine/flows.h', '#include "kernel/bpf_maps.h"'),
    ('engine/ports.cc', '    return ioctl(fd, SIOCETHTOOL, &request);'),
    ('engine/offload.cc', '#include "report/stats_json.h"'),
    ('engine/sources.h', '#include <nlohmann/json.hpp>'),
    ('report/trace.cc', '#include "front/flowxlate.h"'),
    ('report/trace.cc', '#include "flowxlate/tables/flow_table.h"'),
    ('engine/flows.cc', '#include "bpf/abi/maps.def"'),
    ('engine/flows.cc', '#include "bpf/abi/packet.h"'),
    ('translate/match.cc', '#include "bpf/abi/conn.h"'),
    ('report/trace.cc', '#include "../tables/flow_table.h"'),
    ('astray.cc', ''),
]
DAEMON_PLANTED = [
    ('rules.cc', '#include "flowerd/overlap.h"'),
    ('overlap.h', '#include "flowxlate/tables/flow_table.h"'),
    ('device.cc', '#include "flowxlate/front/flowxlate.h"'),
    ('device.cc', '    ovs_offload_flow flow;'),
    ('daemon.cc', '    socket(AF_NETLINK, SOCK_RAW, 0);'),
    ('astray.cc', ''),
]
PROGRAM_PLANTED = [
    ('abi/key.h', '#include "bpf/maps.h"'),
    ('abi/key.h', '#include <bpf/bpf_helpers.h>'),
    ('abi/flow.h', '#include "flowxlate/base/types.h"'),
    ('maps.h', '#include "bpf/hook/hook.h"'),
    ('hook/xdp.h', '#include "bpf/packet/parse.h"'),
    ('packet/parse.h', '#include "bpf/table/lookup.h"'),
    ('packet/parse.h', '#include "parse.h"'),
    ('packet/parse.h', '#include "bpf/hook/xdp.h"'),
    ('packet/checksum.h', '    if (bpf_xdp_adjust_head(ctx, 4))'),
    ('table/lookup.h', '#include "bpf/act/plan.h"'),
    ('act/plan.h', '#include "bpf/conn/track.h"'),
    ('act/output.h', '    action = bpf_redirect_map(&xf_tx_ports, slot, 0);'),
    ('conn/track.h', 'track(struct xdp_md *ctx, const struct xf_packet *p)'),
    ('run/pipeline.h', 'run_pipeline(struct __sk_buff *ctx, __u32 cpu)'),
    ('run/skb.h', '    bool is_tagged = ctx->vlan_present;'),
    ('run/pipeline.h', '#include "ovs-plugin/ovs_offload_abi.h"'),
    ('astray/parse.h', ''),
]


def sources(top):
    """All files of the rooms, by their path below flowxlate/."""
    folder = os.path.join(top, 'flowxlate')
    for where, _, names in os.walk(folder):
        for name in names:
            if name.endswith(('.cc', '.h')):
                path = os.path.join(where, name)
                with open(path, encoding='utf-8') as f:
                    yield os.path.relpath(path, folder), f.read()


def without_comments(text):
    return re.sub(r'//[^\n]*|/\*.*?\*/', '', text, flags=re.DOTALL)


def may_include(path, other):
    room = path.split('/')[0]
    return any(other == allowed or other.startswith(allowed + '/')
               for allowed in [room] + ROOMS[room])


def broken_rules(path, text, used):
    """What a file breaks; notes in 'used' the exceptions that it needs."""
    room = path.split('/')[0]
    if room not in ROOMS or path.count('/') != 1:
        yield '%s: is in none of the rooms %s' % (path, ', '.join(ROOMS))
        return
    for other in re.findall(r'^\s*#\s*include "(.*)"', text, re.MULTILINE):
        if other.endswith('.skel.h') or may_include(path, other):
            continue
        if (path, other) in EXCEPTIONS:
            used.add((path, other))
        else:
            yield '%s: %s may not include "%s"' % (path, room, other)
    for owner, what, pattern in ONLY:
        if room != owner and re.search(pattern, text):
            yield '%s: only %s knows %s' % (path, owner, what)


def program_sources(top):
    """The files of bpf/, by their path below it."""
    folder = os.path.join(top, 'bpf')
    for where, _, names in os.walk(folder):
        for name in names:
            if name.endswith(('.c', '.h', '.def')):
                path = os.path.join(where, name)
                with open(path, encoding='utf-8') as f:
                    yield os.path.relpath(path, folder), without_comments(f.read())


def program_room(path):
    """Its room, or what it is if it is in none; None if it is nothing known."""
    if path == 'maps.h':
        return 'abi'                 # It knows no more than those.
    room = os.path.dirname(path)
    return room if room in PROGRAM_ROOMS else None


def broken_program_rules(path, text):
    """What a file of bpf/ breaks."""
    room = program_room(path)
    if room is None:
        yield 'bpf/%s: is in none of the rooms %s' % (path, ', '.join(PROGRAM_ROOMS))
        return
    allowed = ['bpf/' + other for other in [room or '.'] + PROGRAM_ROOMS[room]]
    if not room:
        # A program may be another one with something more.
        allowed.append('bpf/' + path.replace('_kernel', '_offload'))
    for other in re.findall(r'^\s*#\s*include "(.*)"', text, re.MULTILINE):
        if not any(other == a or other.startswith(a + '/') for a in allowed):
            yield 'bpf/%s: may not include "%s"' % (path, other)
    if path != 'maps.h' and room == 'abi' and '#include <bpf/' in text:
        yield 'bpf/%s: user space includes it, and has no <bpf/...>' % path
    if room not in ('hook', '') and re.search(OF_A_HOOK, text):
        yield 'bpf/%s: only a hook knows of %s' % (path, re.search(OF_A_HOOK, text)[0])


def daemon_sources(top):
    """The files of flowerd/, by their name."""
    folder = os.path.join(top, 'flowerd')
    for name in sorted(os.listdir(folder)):
        if name.endswith(('.cc', '.h')):
            with open(os.path.join(folder, name), encoding='utf-8') as f:
                yield name, without_comments(f.read())


def broken_daemon_rules(name, text):
    """What a file of flowerd/ breaks."""
    own = name.rsplit('.', 1)[0]
    if own not in DAEMON_FILES:
        yield 'flowerd/%s: is none of %s' % (name, ', '.join(DAEMON_FILES))
        return
    allowed = LIBRARY + [other if '/' in other else 'flowerd/%s.h' % other
                         for other in [own] + DAEMON_FILES[own]]
    for other in re.findall(r'^\s*#\s*include "(.*)"', text, re.MULTILINE):
        if other not in allowed:
            yield 'flowerd/%s: may not include "%s"' % (name, other)
    for owner, what, pattern in DAEMON_ONLY:
        if own != owner and re.search(pattern, text):
            yield 'flowerd/%s: only %s knows %s' % (name, owner, what)


def contract_faults(top):
    """The host's header includes nothing of ours."""
    with open(os.path.join(top, ABI), encoding='utf-8') as f:
        for other in re.findall(r'^\s*#\s*include "(.*)"', f.read(), re.MULTILINE):
            yield '%s: may not include "%s"' % (ABI, other)


def check(files):
    used = set()
    found = [fault for path, text in files
             for fault in broken_rules(path, text, used)]
    return found + ['%s no longer includes "%s": the exception can go' % row
                    for row in EXCEPTIONS if row not in used]


def main():
    top = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), '..')
    files = [(path, without_comments(text)) for path, text in sources(top)]
    programs = list(program_sources(top))
    found = check(files) + list(contract_faults(top))
    for path, text in programs:
        found += broken_program_rules(path, text)
    daemon = list(daemon_sources(top))
    for name, text in daemon:
        found += broken_daemon_rules(name, text)
    for name, line in DAEMON_PLANTED:
        if not list(broken_daemon_rules(name, line + '\n')):
            found.append('not seen: %s in flowerd/%s' % (line, name))
    for path, line in PLANTED:
        if not list(broken_rules(path, line + '\n', set())):
            found.append('not seen: %s in %s' % (line, path))
    for path, line in PROGRAM_PLANTED:
        if not list(broken_program_rules(path, line + '\n')):
            found.append('not seen: %s in bpf/%s' % (line, path))
    for fault in found:
        print(fault)
    n_checked = (len(files) + len(PLANTED) + len(programs) + len(PROGRAM_PLANTED)
                 + len(daemon) + len(DAEMON_PLANTED))
    n_passed = max(0, n_checked - len(found))
    print('%d passed, %d failed, 0 skipped' % (n_passed, len(found)))
    sys.exit(1 if found or not files or not programs or not daemon else 0)


if __name__ == '__main__':
    main()
