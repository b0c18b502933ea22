# SPDX-License-Identifier: Apache-2.0
"""Which room of flowxlate/ may include which, and who may speak to the kernel.

    python3 tests/includes.py [TOP]

Prints what breaks a rule, and how many rules hold: "N passed, N failed, N skipped".
"""
import os
import re
import sys

ABI = 'ovs-plugin/ovs_offload_abi.h'        # The host and the plugin.
DATAPATH_ABI = 'bpf/xdp_flow_abi.h'         # The program and user space.
MAPS = 'bpf/maps.def'                       # The same: their arrays.
ERRORS = 'bpf/redirect_errors_abi.h'         # Another program and user space.

# What a room may include besides itself: rooms, or files.  Nobody includes front.
ROOMS = {
    'base':      [ABI],
    'translate': [ABI, DATAPATH_ABI, 'base'],
    'tables':    [ABI, DATAPATH_ABI, MAPS, 'base'],
    'kernel':    [ABI, DATAPATH_ABI, MAPS, ERRORS, 'base', 'tables'],
    'engine':    [ABI, DATAPATH_ABI, 'base', 'translate', 'tables', 'kernel/datapath.h'],
    'report':    [ABI, DATAPATH_ABI, 'base', 'translate', 'tables', 'engine'],
    'front':     ['ovs_offload_abi.h', 'base', 'engine'],
}

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
    ('engine/ports.h', 'kernel/devices.h'): 'a port has its device\'s state, a value',
    ('engine/losses.h', 'kernel/redirect_errors.h'): 'the errors are values',
    ('engine/ports.h', 'kernel/shaping.h'): 'the same, of its limits',
    ('engine/ports.h', 'kernel/tag_offload.h'): 'the same, of what was switched off',
    ('engine/offload.cc', 'kernel/realtime.h'): 'Offload sets everything up',
    ('engine/offload.h', 'kernel/attach.h'): 'Offload owns all that speaks to the kernel',
    ('engine/offload.h', 'kernel/bpf_maps.h'): 'the same',
    ('engine/offload.h', 'kernel/clock.h'): 'the same',
    ('engine/offload.h', 'kernel/devices.h'): 'the same',
    ('engine/offload.h', 'kernel/pins.h'): 'the same',
    ('engine/offload.h', 'kernel/redirect_errors.h'): 'the same',
    ('engine/offload.h', 'kernel/shaping.h'): 'the same',
    ('engine/offload.h', 'kernel/tag_offload.h'): 'the same',
    ('engine/offload.h', 'kernel/trace_program.h'): 'the same',
    ('base/types.h', DATAPATH_ABI): 'nearly all files that include it need both',
}

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
    ('engine/stats.h', '#include <nlohmann/json.hpp>'),
    ('report/trace.cc', '#include "front/flowxlate.h"'),
    ('report/trace.cc', '#include "flowxlate/tables/flow_table.h"'),
    ('engine/flows.cc', '#include "bpf/maps.def"'),
    ('report/trace.cc', '#include "../tables/flow_table.h"'),
    ('astray.cc', ''),
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


def program_faults(top):
    """The program, and what both sides share, include nothing of user space."""
    folder = os.path.join(top, 'bpf')
    for name in sorted(os.listdir(folder)) + [os.path.join('..', ABI)]:
        if not name.endswith(('.c', '.h')):
            continue
        with open(os.path.join(folder, name), encoding='utf-8') as f:
            others = re.findall(r'^\s*#\s*include "(.*)"', f.read(), re.MULTILINE)
        is_shared = name in (os.path.basename(DATAPATH_ABI), os.path.join('..', ABI))
        for other in others:
            if is_shared or '/' in other:
                yield 'bpf/%s: may not include "%s"' % (name, other)


def check(files):
    used = set()
    found = [fault for path, text in files
             for fault in broken_rules(path, text, used)]
    return found + ['%s no longer includes "%s": the exception can go' % row
                    for row in EXCEPTIONS if row not in used]


def main():
    top = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), '..')
    files = [(path, without_comments(text)) for path, text in sources(top)]
    found = check(files) + list(program_faults(top))
    for path, line in PLANTED:
        if not list(broken_rules(path, line + '\n', set())):
            found.append('not seen: %s in %s' % (line, path))
    for fault in found:
        print(fault)
    n_passed = max(0, len(files) + len(PLANTED) - len(found))
    print('%d passed, %d failed, 0 skipped' % (n_passed, len(found)))
    sys.exit(1 if found or not files else 0)


if __name__ == '__main__':
    main()
