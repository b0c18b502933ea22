# SPDX-License-Identifier: Apache-2.0
"""What Debian's ovs-bugtool collects with our plug-in."""
import os
import re
import shutil
import subprocess
import tarfile

from lab import ping, run
from suite import expect

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGING = os.path.join(HERE, '../../packaging/bugtool')
INSTALLED = '/usr/share/openvswitch'

# What is in a file of the bundle, of a lab with traffic.
WANTED = (
    ('xdp-offload-show', 'native XDP'),
    ('xdp-offload-explain', 'action/userspace'),
    ('xdp-offload-rejects', 'action/userspace: 1'),
    ('xdp-offload-stats', '"plugin_version"'),
    ('xdp-offload-top-flows', '"flows":[{'),
    ('xdp-offload-flows', 'dp:xdp'),
    ('xdp-offload-bpftool-net', 'xdp:'),
    ('xdp-offload-bpftool-link', 'xdp'),
    ('xdp-offload-bpftool-prog', 'xdp'),
    ('xdp-offload-devices', 'generic-receive-offload'),
    ('xdp-offload-devices', 'rx_queue_0_xdp_packets'),
    ('xdp-offload-pins', 'ovs-offload-xdp'),
    ('xdp-offload-status', ''),
)


def prepare(tmp, programs):
    """ovs-bugtool, with its own plug-ins and ours where it looks for them, and for
    programs."""
    package = run(HERE + '/get-package', 'openvswitch-common').strip()
    plugins, scripts = tmp + '/bugtool-plugins', tmp + '/scripts'
    shutil.copytree(package + INSTALLED + '/bugtool-plugins', plugins)
    shutil.copytree(package + INSTALLED + '/scripts', scripts)
    shutil.copy(PACKAGING + '/ovs-bugtool-xdp-offload-devices', scripts)
    for source, target in (
            (PACKAGING + '/ovs-offload-xdp.xml',
             plugins + '/network-status/ovs-offload-xdp.xml'),
            (package + '/usr/sbin/ovs-bugtool', tmp + '/ovs-bugtool')):
        with open(source) as f, open(target, 'w') as out:
            out.write(f.read().replace(INSTALLED, tmp).replace(
                "'/usr/local/sbin:", "'%s:/usr/local/sbin:" % programs))


def test_bugtool(context):
    """ovs-bugtool --yestoall has all that explains the offload"""
    with context.lab() as lab:
        a, b = lab.hosts
        prepare(lab.tmp, context.ovs_dir + '/bin')
        lab.ovs.ofctl('add-flow', 'br0', 'priority=9,icmp6,actions=CONTROLLER')
        a.run('ping', '-6', '-c', '2', '-W', '1', b.ip6, check=False)
        ping(a, b)
        bundle = lab.tmp + '/bundle.tar'
        subprocess.run(
            ['ip', 'netns', 'exec', lab.switch, '/usr/bin/python3', lab.tmp + '/ovs-bugtool',
             '--yestoall', '--silent', '--entries=network-status', '--output=tar',
             '--outfile=' + bundle, '--ovs', '--delay=1'],
            env=lab.ovs.env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with tarfile.open(bundle) as tar:
            texts = {os.path.basename(m.name): tar.extractfile(m).read().decode()
                     for m in tar.getmembers() if 'xdp-offload' in m.name}
    for label, part in WANTED:
        found = [text for name, text in texts.items()
                 if re.fullmatch(label + r'\.out', name)]
        expect(len(found) == 1 and found[0] and part in found[0], '%s: no %s in %s', label, part,
               found or sorted(texts))
    context.note('%d files, %d KiB', len(texts), sum(map(len, texts.values())) // 1024)


TESTS = [('bugtool', test_bugtool)]
