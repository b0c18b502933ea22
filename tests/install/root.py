# SPDX-License-Identifier: Apache-2.0
"""Clean roots: a minimal Debian to build and to install packages in.

A root is an overlay.  Below is what debootstrap makes, once, and for building a second
layer with the build dependencies; both are kept in a cache, named after what went into
them.  Above is a tmpfs, so that nothing outlives the caller's mount namespace, which
must be a private one.  Packages come from where this machine's own apt gets them, those of
another suite from the same mirrors.
"""
import fcntl
import hashlib
import inspect
import os
import re
import shutil
import stat
import subprocess
import tempfile

SUITES = {'bookworm': 12, 'trixie': 13, 'forky': 14}
CACHE = os.path.join(
    os.environ.get('OVS_OFFLOAD_CACHE') or os.path.join(
        os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'),
        'ovs-offload-xdp'), 'install')
APT = ('apt-get', '-qy', '-o', 'Dpkg::Use-Pty=0', '--no-install-recommends')


def run(*command, **kwargs):
    """Runs a command and returns what it printed; its end, if it fails."""
    done = subprocess.run(command, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          errors='replace', **kwargs)
    if done.returncode:
        # Of several that make runs, the one that failed may have ended long before.
        errors = re.findall(r'^.*(?:error:|\*\*\* ).*$', done.stdout[:-4000], re.MULTILINE)
        raise RuntimeError('%s: exit status %d:\n%s' % (
            ' '.join(command), done.returncode,
            '\n'.join([*errors[:10], done.stdout[-4000:]])))
    return done.stdout


def own_suite():
    """The suite of the Debian that this machine has."""
    with open('/etc/os-release') as f:
        return next((line.split('=')[1].strip() for line in f
                     if line.startswith('VERSION_CODENAME=')), '')


def sources(suite):
    """The machine's own Debian sources as those of 'suite', as lines of a sources.list."""
    own = own_suite()
    targets = run('apt-get', 'indextargets', '--format',
                  '$(REPO_URI) $(CODENAME) $(COMPONENT)', 'Created-By: Packages',
                  'Origin: Debian', 'Component: main')
    found = sorted({'deb %s %s %s' % (uri, suite + codename[len(own):], component)
                    for uri, codename, component in map(str.split, targets.splitlines())
                    if re.fullmatch(own + '(-.+)?', codename)})
    if not found:
        raise RuntimeError('this machine has no sources of Debian packages')
    return found


def mount_overlay(where, lower, upper, work):
    for directory in (where, upper, work):
        os.makedirs(directory, exist_ok=True)
    run('mount', '-t', 'overlay', 'overlay', where, '-o',
        'lowerdir=%s,upperdir=%s,workdir=%s' % (':'.join(lower), upper, work))


class Root:
    """A root that is mounted; what is written there is forgotten."""

    def __init__(self, path):
        self.path = path
        shutil.copy('/etc/resolv.conf', self.file('/etc/resolv.conf'))
        for kind, where in (('proc', '/proc'), ('sysfs', '/sys'),
                            ('tmpfs', '/run'), ('tmpfs', '/tmp')):
            run('mount', '-t', kind, kind, self.file(where))
        # /dev is the few devices that debootstrap makes, and this one.
        tun = self.file('/dev/net/tun')
        if not os.path.exists(tun):
            os.makedirs(os.path.dirname(tun), exist_ok=True)
            os.mknod(tun, 0o666 | stat.S_IFCHR, os.makedev(10, 200))
            os.chmod(tun, 0o666)

    def file(self, path):
        return self.path + path

    def run(self, *command, **environment):
        return run('chroot', self.path, *command, env=dict(
            PATH='/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
            HOME='/root', LC_ALL='C.UTF-8', DEBIAN_FRONTEND='noninteractive',
            **environment))

    def apt(self, *args):
        return self.run(*APT, *args)

    def unmount_below(self):
        """What is mounted in it, but not the root itself."""
        for where in ('/tmp', '/run', '/sys', '/proc'):
            run('umount', '--recursive', self.file(where))

    def unmount(self):
        run('umount', '--recursive', self.path)


def lock_cache():
    """Waits until the cache is nobody else's; it is ours while what is returned is open."""
    os.makedirs(CACHE, exist_ok=True)
    lock = open(os.path.join(CACHE, 'lock'), 'w')
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


class Roots:
    """Makes roots of a suite below 'top', a directory of a tmpfs that is nobody else's.

    The caller has lock_cache().
    """

    def __init__(self, top, source, suite, say):
        self.top, self.source, self.suite, self.say = top, source, suite, say
        self.base = self.entry('base', self.make_base, *sources(suite))
        with open(os.path.join(source, 'debian/control')) as f:
            control = f.read()
        self.deps = self.entry('deps', self.make_deps, self.base, control)

    def entry(self, kind, make, *ingredients):
        """Returns the directory of a cache entry, which is complete or not there."""
        kind = '%s-%s' % (kind, self.suite)
        text = '\n'.join([inspect.getsource(make), *ingredients])
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        final = os.path.join(CACHE, '%s-%s' % (kind, key))
        if not os.path.exists(final):
            for old in os.listdir(CACHE):
                if old.startswith((kind + '-', '.new')):
                    shutil.rmtree(os.path.join(CACHE, old))
            new = tempfile.mkdtemp(dir=CACHE, prefix='.new')
            make(new)
            os.rename(new + '/root', final)
            shutil.rmtree(new)
        return final

    def make_base(self, new):
        self.say('making a minimal Debian %d (once)' % SUITES[self.suite])
        mirror = next(line.split()[1] for line in sources(self.suite)
                      if line.split()[2] == self.suite)
        root = new + '/root'
        # A script by name, as debootstrap of Debian 12 does not know the suites after 13.
        run('debootstrap', '--variant=minbase', self.suite, root, mirror,
            '/usr/share/debootstrap/scripts/sid')
        with open(root + '/etc/apt/sources.list', 'w') as f:
            f.write('\n'.join(sources(self.suite)) + '\n')
        # How this machine gets packages: proxies, and what it says of dates.
        with open(root + '/etc/apt/apt.conf.d/90machine', 'w') as f:
            f.write(run('apt-config', 'dump', 'Acquire'))
        # Nothing is started by packages.
        with open(root + '/usr/sbin/policy-rc.d', 'w') as f:
            f.write('#!/bin/sh\nexit 101\n')
        os.chmod(root + '/usr/sbin/policy-rc.d', 0o755)

    def make_deps(self, new):
        self.say('adding what is needed to build (once)')
        mount_overlay(new + '/mnt', [self.base], new + '/root', new + '/work')
        root = Root(new + '/mnt')
        os.makedirs(root.file('/tmp/source'))
        shutil.copytree(os.path.join(self.source, 'debian'),
                        root.file('/tmp/source/debian'))
        root.apt('update')
        root.apt('install', 'build-essential', 'lintian', 'man-db')
        root.apt('build-dep', '/tmp/source')
        root.apt('clean')
        root.unmount()

    def make(self, name, to_build=False):
        """Mounts a new root."""
        lower = [self.deps, self.base] if to_build else [self.base]
        where = [os.path.join(self.top, name, d) for d in ('mnt', 'up', 'work')]
        mount_overlay(where[0], lower, *where[1:])
        root = Root(where[0])
        root.apt('update')
        return root
