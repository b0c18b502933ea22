# SPDX-License-Identifier: Apache-2.0
"""A private lab: a real Open vSwitch with test hosts around it.

A Lab has a switch in a network namespace of its own and any number of hosts,
each a namespace with one veth whose other end is a port of the switch.  The
names are unique to the process; leaving the Lab's context removes everything,
also after an exception or a signal.  Open vSwitch runs with its own database,
run directory and logs in a temporary directory, and is ended by pid.

    with Lab(ovs_dir, plugin_dir) as lab:
        lab.ovs.start()
        a, b = lab.add_host(), lab.add_host()
        ...
"""
import atexit
import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

CLONE_NEWNET = 0x40000000
SOL_PACKET = 263
PACKET_AUXDATA = 8
SO_RCVBUFFORCE = 33
TP_STATUS_VLAN_VALID = 1 << 4
ETH_P_ALL = 0x0003

libc = ctypes.CDLL(None, use_errno=True)


def run(*command, check=True, **kwargs):
    """Runs a command and returns what it printed."""
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, **kwargs)
    if check and done.returncode:
        raise RuntimeError('%s: exit status %d: %s' % (
            ' '.join(command), done.returncode,
            (done.stderr or done.stdout).strip()))
    return done.stdout


def wait_for(what, predicate, timeout=10.0, interval=0.05):
    """Waits until 'predicate()' is true and returns its value."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise RuntimeError('waited %g s in vain for: %s' % (timeout, what))
        time.sleep(interval)


@contextlib.contextmanager
def in_netns(name):
    """Sockets made in this context belong to the namespace 'name'."""
    here = os.open('/proc/thread-self/ns/net', os.O_RDONLY)
    there = os.open('/run/netns/' + name, os.O_RDONLY)
    try:
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), 'setns ' + name)
        yield
    finally:
        libc.setns(here, CLONE_NEWNET)
        os.close(here)
        os.close(there)


class Host:
    """A namespace with one interface, 'eth0', a veth to a port of the switch.

    gro=True lets the switch redirect frames to it: a veth takes redirected
    frames only if the end that receives has GRO (or an XDP program).
    """

    def __init__(self, lab, number, gro=True, queues=1, mtu=1500):
        self.lab = lab
        self.number = number
        self.netns = '%s-h%d' % (lab.name, number)
        self.port = 'p%d' % number
        self.mac = '02:00:00:00:00:%02x' % number
        self.ip4 = '10.77.0.%d' % number
        self.ip6 = 'fd77::%d' % number
        lab.add_netns(self.netns)
        for key in ('accept_dad', 'accept_ra', 'router_solicitations'):
            self.run('sysctl', '-qw', 'net.ipv6.conf.default.%s=0' % key)
        self.create_link(gro, queues, mtu)

    def create_link(self, gro=True, queues=1, mtu=1500):
        n = str(queues)
        run('ip', '-n', self.lab.switch, 'link', 'add', self.port,
            'mtu', str(mtu), 'numrxqueues', n, 'numtxqueues', n,
            'type', 'veth', 'peer', 'name', 'eth0', 'netns', self.netns,
            'address', self.mac, 'mtu', str(mtu),
            'numrxqueues', n, 'numtxqueues', n)
        if gro:
            self.run('ethtool', '-K', 'eth0', 'gro', 'on')
        run('ip', '-n', self.lab.switch, 'link', 'set', self.port, 'up')
        run('ip', '-n', self.netns, 'link', 'set', 'lo', 'up')
        run('ip', '-n', self.netns, 'link', 'set', 'eth0', 'up')
        run('ip', '-n', self.netns, 'addr', 'add', self.ip4 + '/24',
            'dev', 'eth0')
        run('ip', '-n', self.netns, 'addr', 'add', self.ip6 + '/64',
            'dev', 'eth0', 'nodad')

    def run(self, *command, **kwargs):
        return run('ip', 'netns', 'exec', self.netns, *command, **kwargs)

    def counters(self):
        """What the interface has sent and received."""
        stats = json.loads(run('ip', '-n', self.netns, '-s', '-j', 'link',
                               'show', 'eth0'))[0]['stats64']
        return {'tx_packets': stats['tx']['packets'],
                'tx_bytes': stats['tx']['bytes'],
                'rx_packets': stats['rx']['packets'],
                'rx_bytes': stats['rx']['bytes']}

    def socket(self, family, kind, proto=0):
        with in_netns(self.netns):
            return socket.socket(family, kind, proto)

    def raw_socket(self):
        """Sends and receives whole frames on eth0."""
        s = self.socket(socket.AF_PACKET, socket.SOCK_RAW,
                        socket.htons(ETH_P_ALL))
        with in_netns(self.netns):
            s.bind(('eth0', ETH_P_ALL))
        s.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        # Each frame that came by XDP takes a page of the buffer.
        s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        return s


def receive_frame(s, timeout):
    """Returns (frame, VLAN TCI or None) as they were on the wire."""
    s.settimeout(timeout)
    frame, ancillary, _, _ = s.recvmsg(65536, 256)
    for level, kind, data in ancillary:
        if level == SOL_PACKET and kind == PACKET_AUXDATA:
            status, _, _, _, _, tci, _ = struct.unpack('=IIIHHHH', data[:20])
            if status & TP_STATUS_VLAN_VALID:
                return frame, tci
    return frame, None


def udp_frame(src, dst, vlan=None, sport=4000, dport=4001, payload=b'x' * 64):
    """A whole IPv4 UDP frame from one Host to another."""
    def checksum(data):
        if len(data) % 2:
            data += b'\0'
        s = sum(struct.unpack('!%dH' % (len(data) // 2), data))
        while s >> 16:
            s = (s & 0xffff) + (s >> 16)
        return ~s & 0xffff

    macs = bytes.fromhex((dst.mac + src.mac).replace(':', ''))
    addresses = socket.inet_aton(src.ip4) + socket.inet_aton(dst.ip4)
    length = 8 + len(payload)
    udp = struct.pack('!HHHH', sport, dport, length, 0)
    pseudo = addresses + struct.pack('!BBH', 0, 17, length)
    udp = udp[:6] + struct.pack('!H', checksum(pseudo + udp + payload))
    ip = struct.pack('!BBHHHBBH', 0x45, 0, 20 + length, 0, 0, 64, 17, 0)
    ip = ip[:10] + struct.pack('!H', checksum(ip + addresses)) + addresses
    tag = b'' if vlan is None else struct.pack('!HH', 0x8100, vlan)
    return macs + tag + b'\x08\x00' + ip + udp + payload


class Ovs:
    """ovsdb-server and ovs-vswitchd of a Lab."""

    def __init__(self, lab, ovs_dir, plugin_dir):
        self.lab = lab
        self.dir = ovs_dir
        self.env = dict(os.environ)
        for key in ('RUNDIR', 'DBDIR', 'LOGDIR', 'SYSCONFDIR'):
            self.env['OVS_' + key] = lab.tmp
        self.env['OVS_PKGDATADIR'] = ovs_dir + '/share/openvswitch'
        self.env['OVS_OFFLOAD_PLUGIN_DIR'] = plugin_dir
        self.log = lab.tmp + '/ovs-vswitchd.log'
        self.processes = {}

    def tool(self, name):
        for sub in ('bin', 'sbin'):
            path = os.path.join(self.dir, sub, name)
            if os.path.exists(path):
                return path
        raise RuntimeError('no %s in %s' % (name, self.dir))

    def spawn(self, name, *args):
        command = ['ip', 'netns', 'exec', self.lab.switch, self.tool(name),
                   '--pidfile', '--no-chdir', *args]
        output = open('%s/%s.out' % (self.lab.tmp, name), 'a')
        self.processes[name] = subprocess.Popen(
            command, env=self.env, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, start_new_session=True)
        output.close()

    def start(self, offload=True, other_config=()):
        """Starts both daemons with the bridge br0."""
        db = self.lab.tmp + '/conf.db'
        run(self.tool('ovsdb-tool'), 'create', db,
            self.dir + '/share/openvswitch/vswitch.ovsschema', env=self.env)
        self.spawn('ovsdb-server', db, '--remote=punix:%s/db.sock'
                   % self.lab.tmp)
        wait_for('ovsdb-server', lambda: os.path.exists(
            self.lab.tmp + '/db.sock'))
        self.vsctl('--no-wait', 'init')
        config = list(other_config)
        if offload:
            config += ['hw-offload=true', 'hw-offload-plugin=xdp']
        for item in config:
            self.vsctl('--no-wait', 'set', 'Open_vSwitch', '.',
                       'other_config:' + item)
        self.start_vswitchd()
        self.vsctl('add-br', 'br0', '--', 'set', 'bridge', 'br0',
                   'datapath_type=netdev', 'other_config:hwaddr='
                   '02:00:00:00:ff:00')

    def start_vswitchd(self):
        self.spawn('ovs-vswitchd', '--log-file=' + self.log,
                   '-vconsole:off', 'unix:%s/db.sock' % self.lab.tmp)
        wait_for('ovs-vswitchd', lambda: run(
            self.tool('ovs-appctl'), '-t', 'ovs-vswitchd', 'version',
            env=self.env, check=False))

    def kill_vswitchd(self, sig=signal.SIGKILL):
        process = self.processes.pop('ovs-vswitchd')
        process.send_signal(sig)
        process.wait()

    def stop(self):
        for name in ('ovs-vswitchd', 'ovsdb-server'):
            process = self.processes.pop(name, None)
            if not process:
                continue
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def vsctl(self, *args):
        return run(self.tool('ovs-vsctl'), '--timeout=30',
                   '--db=unix:%s/db.sock' % self.lab.tmp, *args, env=self.env)

    def appctl(self, *args):
        return run(self.tool('ovs-appctl'), '--timeout=30', '-t',
                   'ovs-vswitchd', *args, env=self.env)

    def ofctl(self, *args):
        return run(self.tool('ovs-ofctl'), '--timeout=30', *args,
                   env=self.env)

    def version(self):
        return self.appctl('version').split()[-1]

    def add_port(self, name, kind='afxdp', **options):
        settings = ['options:%s=%s' % (k.replace('_', '-') if k != 'n_rxq'
                                       else k, v)
                    for k, v in options.items()]
        self.vsctl('add-port', 'br0', name, '--', 'set', 'interface', name,
                   'type=' + kind, *settings)
        error = self.vsctl('get', 'interface', name, 'error').strip()
        if error not in ('[]', '""'):
            raise RuntimeError('port %s: %s' % (name, error))

    def of_port(self, name):
        return int(self.vsctl('get', 'interface', name, 'ofport'))

    def flows(self, kind=None, raw=False):
        """The datapath flows as a list of dictionaries."""
        args = ['dpctl/dump-flows', '-m', '--names']
        text = self.appctl(*args, *(['type=' + kind] if kind else []))
        if raw:
            return text
        flows = []
        for line in text.splitlines():
            m = re.match(r'ufid:(\S+), (.*), packets:(\d+), bytes:(\d+), '
                         r'used:(\S+?), (?:flags:(\S+), )?(.*)actions:(.*?)'
                         r'(?:, dp-extra-info.*)?$', line)
            if m:
                flows.append({
                    'ufid': m[1], 'match': m[2], 'packets': int(m[3]),
                    'bytes': int(m[4]), 'used': m[5], 'flags': m[6] or '',
                    'attrs': m[7], 'actions': m[8],
                    'offloaded': 'offloaded:yes' in m[7]})
        return flows

    def openflow_counters(self):
        """Packets and bytes of br0's OpenFlow flows by their in_port."""
        # Statistics reach OpenFlow when the revalidators have looked.
        self.appctl('revalidator/wait')
        counters = {}
        for line in self.ofctl('dump-flows', 'br0', '--no-names').splitlines():
            m = re.search(r'n_packets=(\d+), n_bytes=(\d+),.*in_port=(\d+)',
                          line)
            if m:
                counters[int(m[3])] = (int(m[1]), int(m[2]))
        return counters

    def offload_show(self):
        """xdp-offload/show: the text, and its counters by port."""
        text = self.appctl('xdp-offload/show')
        ports = {}
        port = None
        for line in text.splitlines():
            m = re.match(r'  (\S+): ifindex', line)
            if m:
                port = ports[m[1]] = {}
            m = re.search(r'entered: packets:(\d+), bytes:(\d+)', line)
            if m:
                port['packets'], port['bytes'] = int(m[1]), int(m[2])
            if line.startswith('    passed to OVS:'):
                port['passed'] = {k: int(v) for k, v in re.findall(
                    r' ([a-z-]+):(\d+)', line[len('    passed to OVS'):])}
            m = re.match(r'    (attached|transmit): (.*)', line)
            if m:
                port[m[1]] = m[2]
        return text, ports

    def log_lines(self, pattern):
        with open(self.log) as f:
            return [line.rstrip() for line in f if re.search(pattern, line)]


class Lab:
    """See the module's text."""

    counter = 0

    def __init__(self, ovs_dir, plugin_dir):
        Lab.counter += 1
        self.name = 'xo%d.%d' % (os.getpid(), Lab.counter)
        self.switch = self.name + '-sw'
        self.namespaces = []
        self.hosts = []
        self.keep = False
        self.tmp = tempfile.mkdtemp(prefix='ovs-offload-xdp.')
        self.ovs = Ovs(self, ovs_dir, plugin_dir)

    def __enter__(self):
        atexit.register(self.remove)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(1))
        self.add_netns(self.switch)
        run('ip', '-n', self.switch, 'link', 'set', 'lo', 'up')
        return self

    def __exit__(self, *_):
        if not self.keep:
            self.remove()

    def add_netns(self, name):
        run('ip', 'netns', 'add', name)
        self.namespaces.append(name)

    def add_host(self, port=True, gro=True, queues=1, mtu=1500, **options):
        """Adds a host and, if 'port', its port to the switch."""
        host = Host(self, len(self.hosts) + 1, gro, queues, mtu)
        self.hosts.append(host)
        if port:
            self.ovs.add_port(host.port, **options)
        return host

    def remove(self):
        if self.keep:
            return
        self.ovs.stop()
        while self.namespaces:
            run('ip', 'netns', 'del', self.namespaces.pop(), check=False)
        shutil.rmtree(self.tmp, ignore_errors=True)
        atexit.unregister(self.remove)


# -- Traffic ------------------------------------------------------------------

def ping(src, dst, count=5, version=4, interval=0.05):
    """Returns the number of replies."""
    out = src.run('ping', '-%d' % version, '-n', '-c', str(count),
                  '-i', str(interval), '-W', '1',
                  dst.ip4 if version == 4 else dst.ip6, check=False)
    m = re.search(r'(\d+) received', out)
    return int(m[1]) if m else 0


def address(host, version):
    if version == 4:
        return socket.AF_INET, host.ip4
    return socket.AF_INET6, host.ip6


def tcp_transfer(src, dst, size=1 << 20, version=4, port=5000, timeout=20):
    """Sends 'size' bytes over TCP; True if they arrived as they were sent."""
    family, ip = address(dst, version)
    data = os.urandom(min(size, 1 << 16)) * max(1, size >> 16)
    got = bytearray()
    server = dst.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((ip, port))
    server.listen(1)
    server.settimeout(timeout)

    def serve():
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            connection.settimeout(timeout)
            while True:
                chunk = connection.recv(1 << 16)
                if not chunk:
                    break
                got.extend(chunk)
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    client = src.socket(family, socket.SOCK_STREAM)
    client.settimeout(timeout)
    try:
        client.connect((ip, port))
        client.sendall(data)
        client.close()
    except OSError:
        return False
    finally:
        client.close()
        thread.join(timeout)
        server.close()
    return bytes(got) == data


def udp_echo(src, dst, count=50, version=4, port=6000, size=200, timeout=1.0,
             interval=0.0):
    """Sends datagrams that 'dst' sends back; returns how many came back."""
    family, ip = address(dst, version)
    server = dst.socket(family, socket.SOCK_DGRAM)
    server.bind((ip, port))
    server.settimeout(0.2)
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            with contextlib.suppress(socket.timeout):
                data, peer = server.recvfrom(65536)
                server.sendto(data, peer)

    thread = threading.Thread(target=serve)
    thread.start()
    client = src.socket(family, socket.SOCK_DGRAM)
    client.settimeout(timeout)
    back = 0
    try:
        for i in range(count):
            data = i.to_bytes(4, 'big') + b'u' * size
            client.sendto(data, (ip, port))
            with contextlib.suppress(OSError):
                back += client.recvfrom(65536)[0] == data
            if interval:
                time.sleep(interval)
    finally:
        stop.set()
        thread.join()
        client.close()
        server.close()
    return back


def vlan_frames(src, dst, vlan=100, count=20, interval=0.01, settle=0.5):
    """Sends tagged UDP frames; returns how many arrived with their tag."""
    sender, receiver = src.raw_socket(), dst.raw_socket()
    frame = udp_frame(src, dst, vlan)
    without = frame[:12] + frame[16:]
    arrived = 0
    for _ in range(count):
        sender.send(frame)
        time.sleep(interval)
    deadline = time.monotonic() + settle
    while arrived < count and time.monotonic() < deadline:
        with contextlib.suppress(socket.timeout):
            got, tci = receive_frame(receiver, settle)
            arrived += got == without and tci == vlan
    sender.close()
    receiver.close()
    return arrived
