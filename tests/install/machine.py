# SPDX-License-Identifier: Apache-2.0
"""A root that is booted: systemd is its process 1, and starts the services of its packages.

It has a network namespace of its own, and a cgroup, which is removed in the end.
"""
import glob
import os
import subprocess
import sys

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../..')
sys.path.append(TOP + '/tests/system')
from lab import end_process, run, wait_for  # noqa: E402

# systemd's hierarchies, of cgroup v2 alone and of v1 with v2 beside it.
HIERARCHIES = ('/sys/fs/cgroup/systemd', '/sys/fs/cgroup/unified', '/sys/fs/cgroup')


def own_cgroups():
    """A new cgroup in each of systemd's hierarchies."""
    here = [h for h in HIERARCHIES if os.path.exists(h + '/cgroup.procs')]
    made = ['%s/ovs-offload-xdp-%d' % (h, os.getpid()) for h in here]
    for path in made:
        os.mkdir(path)
    return made


def remove_cgroups(path):
    for below in glob.glob(path + '/*/'):
        remove_cgroups(below)
    os.rmdir(path)


class Machine:
    """'root' is one of root.Roots, with systemd in it.

        with Machine(root) as machine:
            machine.run('systemctl', 'restart', 'ovs-vswitchd')
    """

    def __init__(self, root):
        self.root = root
        self.cgroups, self.process, self.leader = [], None, None

    def __enter__(self):
        self.root.unmount_below()       # nspawn mounts its own, and ends if they are there.
        self.cgroups = own_cgroups()
        with open('/dev/null') as nothing, open(
                self.root.path + '.console', 'w') as console:
            self.process = subprocess.Popen([
                'sh', '-c', 'for cgroup in %s; do echo $$ > $cgroup/cgroup.procs; '
                'done; exec "$@"' % ' '.join(self.cgroups), '-',
                'systemd-nspawn', '--quiet', '--directory', self.root.path, '--boot',
                '--machine=managed', '--private-network', '--capability=all',
                '--system-call-filter=bpf perf_event_open', '--register=no',
                '--keep-unit', '--console=pipe'],
                stdin=nothing, stdout=console, stderr=console,
                env=dict(os.environ, SYSTEMD_NSPAWN_API_VFS_WRITABLE='yes'))
        try:
            self.leader = wait_for('systemd in the machine', self.find_leader, 20)
            wait_for('the services', self.is_up, 120, 0.5)
            # As systemd does where it is not in a container.
            self.run('mkdir', '-p', '/sys/fs/bpf')
            self.run('mount', '-t', 'bpf', '-o', 'mode=700', 'bpf', '/sys/fs/bpf')
        except Exception:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        end_process(self.process)
        for path in self.cgroups:
            wait_for('an empty cgroup', lambda path=path: not os.path.exists(path)
                     or not self.remaining(path), 20)
            remove_cgroups(path)

    @staticmethod
    def remaining(path):
        """Processes that are in a cgroup or in one below."""
        return [line for name in glob.glob(path + '/**/cgroup.procs', recursive=True)
                for line in open(name)]

    def find_leader(self):
        """systemd's pid here, when nspawn has started it."""
        try:
            with open('/proc/%d/task/%d/children' % (2 * (self.process.pid,))) as f:
                children = f.read().split()
            return next((c for c in children if 'systemd' in os.readlink(
                '/proc/%s/exe' % c) and 'nspawn' not in os.readlink(
                    '/proc/%s/exe' % c)), None)
        except OSError:
            return None

    def is_up(self):
        if self.process.poll() is not None:
            with open(self.root.path + '.console') as console:
                raise RuntimeError('systemd-nspawn has ended: ' + console.read()[-2000:])
        state = self.run('systemctl', 'is-system-running', check=False).strip()
        return state in ('running', 'degraded')

    def run(self, *command, check=True):
        """Runs a command in the machine and returns what it printed."""
        return run('nsenter', '--target', str(self.leader), '--mount', '--uts', '--ipc',
                   '--net', '--pid', 'env', '-i', '-C', '/root',
                   'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/root', 'LC_ALL=C.UTF-8',
                   *command, check=check)
