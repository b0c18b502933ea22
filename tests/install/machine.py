# SPDX-License-Identifier: Apache-2.0
"""A root that is booted: systemd is its process 1, and starts the services of its packages.

It has a network namespace of its own, and a cgroup, which is removed in the end.  The
caller's mount namespace is a private one, in which /sys/fs/cgroup is cgroup v2: systemd of
Debian 13 refuses to start with v1.
"""
import contextlib
import glob
import os
import subprocess
import sys
import time

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../..')
sys.path.append(TOP + '/tests/system')
from lab import end_process, run, wait_for  # noqa: E402

CGROUPS = '/sys/fs/cgroup'


def use_cgroup2():
    """Mounts cgroup v2 where systemd looks for it, unless it is there."""
    if not os.path.exists(CGROUPS + '/cgroup.procs'):
        run('mount', '-t', 'cgroup2', 'cgroup2', CGROUPS)


def remove_cgroup(path):
    for below in glob.glob(path + '/*/'):
        remove_cgroup(below)
    os.rmdir(path)


class Machine:
    """'root' is one of root.Roots, with systemd in it.

        with Machine(root) as machine:
            machine.run('systemctl', 'restart', 'ovs-vswitchd')
    """

    def __init__(self, root, patience=1):
        """'patience': how many times as long as usual it may take to boot."""
        self.root, self.patience = root, patience
        # Of an earlier run that was killed, one may be left.
        self.cgroup = '%s/ovs-offload-xdp-%d-%d' % (CGROUPS, os.getpid(), time.time_ns())
        self.process, self.leader = None, None

    def __enter__(self):
        self.root.unmount_below()       # nspawn mounts its own, and ends if they are there.
        os.mkdir(self.cgroup)
        with open('/dev/null') as nothing, open(
                self.root.path + '.console', 'w') as console:
            self.process = subprocess.Popen([
                'sh', '-c', 'echo $$ > %s/cgroup.procs; exec "$@"' % self.cgroup, '-',
                'systemd-nspawn', '--quiet', '--directory', self.root.path, '--boot',
                '--machine=managed', '--private-network', '--capability=all',
                '--system-call-filter=bpf perf_event_open', '--register=no',
                '--keep-unit', '--console=pipe'],
                stdin=nothing, stdout=console, stderr=console,
                env=dict(os.environ, SYSTEMD_NSPAWN_API_VFS_WRITABLE='yes'))
        try:
            self.leader = wait_for('systemd in the machine', self.find_leader,
                                   60 * self.patience)
            wait_for('the services', self.is_up, 120 * self.patience, 0.5)
            # As udev and systemd do where it is not in a container.
            self.run('chmod', '666', '/dev/net/tun')
            self.run('mkdir', '-p', '/sys/fs/bpf')
            self.run('mount', '-t', 'bpf', '-o', 'mode=700', 'bpf', '/sys/fs/bpf')
        except Exception:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        end_process(self.process)
        wait_for('an empty cgroup', lambda: not self.remaining(self.cgroup),
                 20 * self.patience)
        remove_cgroup(self.cgroup)

    @staticmethod
    def remaining(path):
        """Processes that are in a cgroup or in one below."""
        found = []
        for name in glob.glob(path + '/**/cgroup.procs', recursive=True):
            with contextlib.suppress(OSError):      # It may have gone meanwhile.
                with open(name) as f:
                    found += f.readlines()
        return found

    def find_leader(self):
        """systemd's pid here, when nspawn has started it."""
        self.check_nspawn()
        try:
            with open('/proc/%d/task/%d/children' % (2 * (self.process.pid,))) as f:
                children = f.read().split()
            return next((c for c in children if 'systemd' in os.readlink(
                '/proc/%s/exe' % c) and 'nspawn' not in os.readlink(
                    '/proc/%s/exe' % c)), None)
        except OSError:
            return None

    def check_nspawn(self):
        if self.process.poll() is not None:
            with open(self.root.path + '.console') as console:
                raise RuntimeError('systemd-nspawn has ended: ' + console.read()[-2000:])

    def is_up(self):
        self.check_nspawn()
        state = self.run('systemctl', 'is-system-running', check=False).strip()
        return state in ('running', 'degraded')

    def run(self, *command, check=True):
        """Runs a command in the machine and returns what it printed."""
        return run('nsenter', '--target', str(self.leader), '--mount', '--uts', '--ipc',
                   '--net', '--pid', 'env', '-i', '-C', '/root',
                   'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/root', 'LC_ALL=C.UTF-8',
                   *command, check=check)
