# SPDX-License-Identifier: Apache-2.0
"""A daemon of Open vSwitch, asked by Open vSwitch's own library and found as ovs-appctl
finds it: by a run directory and a target."""
import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from typing import Any, NoReturn

# Nobody is there.
NOBODY = (errno.ENOENT, errno.ESRCH, errno.ECONNREFUSED)


class Unavailable(Exception):
    """Nobody has answered.  Says what was tried."""


class NotACommand(Unavailable):
    """The daemon has answered that it has no such command."""


class TimeIsUp(Exception):
    """No OSError, as TimeoutError is: Open vSwitch's library keeps these to itself."""


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def end(*_: Any) -> NoReturn:
        raise TimeIsUp
    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Daemon:
    def __init__(self, target: str, timeout: int) -> None:
        """'target': a name, or the path of a control socket.  'timeout': seconds."""
        try:
            import ovs.dirs
            import ovs.unixctl.client
            import ovs.util
        except ModuleNotFoundError as e:
            raise Unavailable('the package python3-openvswitch is needed: %s' % e) from None
        self.ovs = ovs
        self.target, self.timeout = target, timeout

    def ask(self, command: str, *args: str) -> str:
        """What the command prints."""
        try:
            with time_limit(self.timeout):
                return self.transact(command, list(args))
        except TimeIsUp:
            raise self.failed('has not answered %s within %d s'
                              % (command, self.timeout)) from None

    def transact(self, command: str, args: list[str]) -> str:
        path = self.socket_path()
        error, client = self.ovs.unixctl.client.UnixctlClient.create(path)
        if error:
            raise self.absent('cannot connect to ' + path, error)
        with contextlib.closing(client):
            error, refusal, text = client.transact(command, args)
        if error:
            raise self.failed('has not answered %s: %s' % (
                command, self.ovs.util.ovs_retval_to_string(error)))
        if refusal is None:
            return str(text)
        if 'is not a valid command' in refusal:
            raise NotACommand('%s has no command %s' % (self.target, command))
        raise self.failed('refuses %s: %s' % (command, refusal.strip()))

    def socket_path(self) -> str:
        # Not by the library, which locks the file for a moment: an ovs-vswitchd that
        # starts then takes the lock for that of another one, and gives up.
        if self.target.startswith('/'):
            return self.target
        path = '%s/%s.pid' % (self.ovs.dirs.RUNDIR, self.target)
        try:
            with open(path, encoding='ascii') as f:
                pid = int(f.readline())
        except OSError as e:
            raise self.absent('cannot read ' + path, e.errno or 0) from None
        except ValueError:
            raise self.failed('cannot be asked: no process id in ' + path) from None
        return '%s/%s.%d.ctl' % (self.ovs.dirs.RUNDIR, self.target, pid)

    def absent(self, what: str, error: int) -> Unavailable:
        found = 'does not run, or not there' if error in NOBODY else 'cannot be asked'
        return self.failed('%s: %s: %s' % (found, what, os.strerror(error)))

    def failed(self, what: str) -> Unavailable:
        return Unavailable('%s %s (run directory %s, target %s: OVS_RUNDIR and -t choose '
                           'others)' % (self.target, what, self.ovs.dirs.RUNDIR,
                                        self.target))
