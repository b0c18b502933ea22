# SPDX-License-Identifier: Apache-2.0
"""Privileges: what ovs-vswitchd needs to have flows executed in XDP.

WORKS and LACKS have the capabilities of an ovs-vswitchd that does not run as root.
docs/install.md says the same.
"""
from lab import ping, wait_for
from suite import Failed, expect, ran_in_xdp

NOBODY = '65534'

# As root: what belongs to root and is in the way of an other user.  Systems that have
# udev let everybody open /dev/net/tun.
PREPARE = '''chmod 777 "$OVS_RUNDIR" "$OVS_RUNDIR/db.sock"
[ -e "$OVS_RUNDIR/tun" ] || mknod -m 666 "$OVS_RUNDIR/tun" c 10 200
mount --bind "$OVS_RUNDIR/tun" /dev/net/tun
exec "$@"'''

WORKS = [
    ('system', 'bpf perfmon net_admin net_raw'),
    ('afxdp', 'sys_admin net_admin net_raw ipc_lock'),
]
LACKS = [
    ('perfmon net_admin net_raw', 'CAP_BPF'),
    ('bpf net_admin net_raw', 'CAP_PERFMON'),
    ('bpf perfmon net_raw', 'CAP_NET_ADMIN'),
    ('net_admin net_raw', 'CAP_BPF, CAP_PERFMON'),
]


def unprivileged(capabilities):
    """Runs a command as nobody with these capabilities and no others."""
    only = ','.join(['-all', *('+' + c for c in capabilities.split())])
    return ['sh', '-ec', PREPARE, '-', 'setpriv', '--reuid', NOBODY, '--regid',
            NOBODY, '--clear-groups', '--inh-caps', only, '--ambient-caps', only,
            '--bounding-set', only]


def add_hosts(lab, kind):
    for _ in range(2):
        host = lab.add_host(port=False)
        # Where ports of type system would have their tags beside the frame.
        host.run('ethtool', '-K', 'eth0', 'txvlan', 'off')
        lab.ovs.add_port(host.port, kind)
    return lab.hosts


def test_enough(context):
    """With few capabilities, and not as root, flows are executed in XDP."""
    for kind, capabilities in WORKS:
        with context.lab(hosts=0, config=['xdp-offload-system-ports=true'],
                         wrapper=unprivileged(capabilities)) as lab:
            a, b = add_hosts(lab, kind)
            expect(ping(a, b, 5), 'no ping: %s, %s', kind, capabilities)
            replies = ran_in_xdp(lab, a, lambda: ping(a, b, 50))
            expect(replies == 50, '%d replies: %s, %s', replies, kind,
                   capabilities)
            lines = lab.ovs.log_lines('not known whether redirected frames are lost')
            expect(not lines, '%s, %s: %s', kind, capabilities, lines)


def expect_refusal(lab, missing):
    """OVS runs, and has said why without the plugin."""
    wait_for('a line that names ' + missing, lambda: lab.ovs.log_lines(
        r'cannot load .* \(missing: %s\)' % missing))
    expect(lab.ovs.appctl('version'), 'OVS does not run without %s', missing)


def test_lacking(context):
    """If a capability is missing, the log names it."""
    for capabilities, missing in LACKS:
        # Without CAP_NET_ADMIN there is no bridge either, and ovs-vsctl of 4.0 fails.
        with context.lab(hosts=0, datapath=None,
                         wrapper=unprivileged(capabilities)) as lab:
            expect_refusal(lab, missing)


def test_afxdp(context):
    """Without CAP_SYS_ADMIN, OVS itself refuses ports of type afxdp."""
    with context.lab(hosts=0, wrapper=unprivileged(
            'bpf perfmon net_admin net_raw ipc_lock')) as lab:
        expect(lab.ovs.log_lines('loaded offload plugin'), 'no plugin loaded')
        try:
            add_hosts(lab, 'afxdp')
        except RuntimeError as e:
            expect('could not add network device' in str(e), '%s', e)
        else:
            raise Failed('a port was added')


def test_user(context):
    """ovs-vswitchd --user drops what the plugin needs, and the log says so."""
    with context.lab(hosts=0, wrapper=[
            'sh', '-ec', PREPARE.replace('"$@"', '"$@" --user nobody:nogroup'),
            '-']) as lab:
        expect_refusal(lab, 'CAP_BPF, CAP_PERFMON')


TESTS = [
    ('privileges', test_enough),
    ('privileges-lacking', test_lacking),
    ('privileges-afxdp', test_afxdp),
    ('privileges-user', test_user),
]
