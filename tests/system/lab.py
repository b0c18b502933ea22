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
import glob
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
SO_NETNS_COOKIE = 71
PACKET_IGNORE_OUTGOING = 23
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

    def checksum_errors(self):
        """TCP and UDP packets that were dropped for their checksum."""
        errors = 0
        lines = self.run('cat', '/proc/net/snmp').splitlines()
        for names, values in zip(lines[::2], lines[1::2]):
            if names.split()[0] in ('Tcp:', 'Udp:'):
                errors += int(dict(zip(names.split(), values.split()))
                              ['InCsumErrors'])
        for line in self.run('cat', '/proc/net/snmp6').splitlines():
            if line.startswith('Udp6InCsumErrors'):
                errors += int(line.split()[1])
        return errors

    def know(self, *others):
        """Gives the host permanent neighbour entries for 'others'."""
        for other in others:
            for ip in (other.ip4, other.ip6):
                run('ip', '-n', self.netns, 'neigh', 'replace', ip, 'lladdr',
                    other.mac, 'dev', 'eth0', 'nud', 'permanent')

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


def receive_tag(s, timeout):
    """Returns (frame, None or its outer VLAN tag's (TPID, TCI))."""
    s.settimeout(timeout)
    frame, ancillary, _, _ = s.recvmsg(65536, 256)
    for level, kind, data in ancillary:
        if level == SOL_PACKET and kind == PACKET_AUXDATA:
            status, _, _, _, _, tci, tpid = struct.unpack('=IIIHHHH',
                                                          data[:20])
            if status & TP_STATUS_VLAN_VALID:
                return frame, (tpid, tci)
    return frame, None


def receive_frame(s, timeout):
    """Returns (frame, VLAN TCI or None) as they were on the wire."""
    frame, tag = receive_tag(s, timeout)
    return frame, tag and tag[1]


def receive_whole(s, timeout):
    """Returns a frame as it was on the wire, with its VLAN tags."""
    frame, tag = receive_tag(s, timeout)
    return frame[:12] + struct.pack('!HH', *tag) + frame[12:] if tag else frame


def checksum(data):
    """The Internet checksum of 'data'."""
    if len(data) % 2:
        data += b'\0'
    s = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff


def udp_frame(src, dst, vlan=None, sport=4000, dport=4001, payload=b'x' * 64):
    """A whole IPv4 UDP frame from one Host to another."""
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


def end_process(process):
    """Ends a process that we have started, if need be by force."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Ovs:
    """ovsdb-server and ovs-vswitchd of a Lab."""

    def __init__(self, lab, ovs_dir, plugin_dir):
        self.lab = lab
        self.env = dict(os.environ)
        for key in ('RUNDIR', 'DBDIR', 'LOGDIR', 'SYSCONFDIR'):
            self.env['OVS_' + key] = lab.tmp
        self.use(ovs_dir)
        if plugin_dir:               # Else where ovs-vswitchd looks by itself.
            self.env['OVS_OFFLOAD_PLUGIN_DIR'] = plugin_dir
        self.database = lab.tmp + '/conf.db'
        self.log = lab.tmp + '/ovs-vswitchd.log'
        self.processes = {}
        self.wrapper = []  # Runs ovs-vswitchd, if not empty.
        self.datapath = 'netdev'

    def use(self, ovs_dir):
        """What is started from here on is of 'ovs_dir'."""
        self.dir = ovs_dir
        self.env['OVS_PKGDATADIR'] = ovs_dir + '/share/openvswitch'

    def tool(self, name):
        for sub in ('bin', 'sbin'):
            path = os.path.join(self.dir, sub, name)
            if os.path.exists(path):
                return path
        raise RuntimeError('no %s in %s' % (name, self.dir))

    def spawn(self, name, *args):
        command = ['ip', 'netns', 'exec', self.lab.switch]
        if name == 'ovs-vswitchd':
            command += self.wrapper
        command += [self.tool(name), '--pidfile', '--no-chdir', *args]
        output = open('%s/%s.out' % (self.lab.tmp, name), 'a')
        self.processes[name] = subprocess.Popen(
            command, env=self.env, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, start_new_session=True)
        output.close()

    def start(self, offload=True, other_config=(), datapath='netdev'):
        """Starts both daemons with the bridge br0, if there is a 'datapath'."""
        self.datapath = datapath
        run(self.tool('ovsdb-tool'), 'create', self.database,
            self.dir + '/share/openvswitch/vswitch.ovsschema', env=self.env)
        self.start_database()
        config = list(other_config)
        if offload:
            config += ['hw-offload=true', 'hw-offload-plugin=xdp']
        for item in config:
            self.vsctl('--no-wait', 'set', 'Open_vSwitch', '.',
                       'other_config:' + item)
        self.start_vswitchd()
        if datapath:
            self.vsctl('add-br', 'br0', '--', 'set', 'bridge', 'br0',
                       'datapath_type=' + datapath, 'other_config:hwaddr='
                       '02:00:00:00:ff:00')

    def start_database(self):
        self.spawn('ovsdb-server', self.database, '--remote=punix:%s/db.sock'
                   % self.lab.tmp)
        wait_for('ovsdb-server', lambda: os.path.exists(
            self.lab.tmp + '/db.sock'))
        self.vsctl('--no-wait', 'init')

    def spawn_vswitchd(self):
        self.spawn('ovs-vswitchd', '--log-file=' + self.log,
                   '-vconsole:off', 'unix:%s/db.sock' % self.lab.tmp)

    def start_vswitchd(self):
        self.spawn_vswitchd()
        wait_for('ovs-vswitchd', lambda: run(
            self.tool('ovs-appctl'), '-t', 'ovs-vswitchd', 'version',
            env=self.env, check=False))

    def vswitchd_pid(self):
        with open(self.lab.tmp + '/ovs-vswitchd.pid') as f:
            return int(f.read())

    def kill_vswitchd(self, sig=signal.SIGKILL):
        process = self.processes.pop('ovs-vswitchd')
        process.send_signal(sig)
        return process.wait()

    def stop(self):
        for name in ('ovs-vswitchd', 'ovsdb-server'):
            process = self.processes.pop(name, None)
            if process:
                end_process(process)

    def vsctl(self, *args):
        return run(self.tool('ovs-vsctl'), '--timeout=30',
                   '--db=unix:%s/db.sock' % self.lab.tmp, *args, env=self.env)

    def appctl(self, *args):
        return run(self.tool('ovs-appctl'), '--timeout=30', '-t',
                   'ovs-vswitchd', *args, env=self.env)

    def answers(self, bridge):
        """Can the bridge be asked by OpenFlow?"""
        return run(self.tool('ovs-ofctl'), '--timeout=30', 'show', bridge,
                   env=self.env, check=False)

    def ofctl(self, *args):
        return run(self.tool('ovs-ofctl'), '--timeout=30', *args,
                   env=self.env)

    def version(self):
        return self.appctl('version').split()[-1]

    def add_port(self, name, kind=None, bridge='br0', **options):
        kind = kind or ('afxdp' if self.datapath == 'netdev' else 'system')
        settings = ['options:%s=%s' % (k.replace('_', '-') if k != 'n_rxq'
                                       else k, v)
                    for k, v in options.items()]
        self.vsctl('add-port', bridge, name, '--', 'set', 'interface', name,
                   'type=' + kind, *settings)
        error = self.vsctl('get', 'interface', name, 'error').strip()
        if error not in ('[]', '""'):
            raise RuntimeError('port %s: %s' % (name, error))

    def of_port(self, name):
        return int(self.vsctl('get', 'interface', name, 'ofport'))

    def flows(self, kind=None, raw=False):
        """The datapath flows as a list of dictionaries."""
        args = ['dpctl/dump-flows', '-m', '--names']
        try:
            text = self.appctl(*args, *(['type=' + kind] if kind else []))
        except RuntimeError as e:
            # An ovs-vswitchd that has just started has no datapath, and no such command.
            if 'is not a valid command' not in str(e):
                raise
            text = ''
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
            m = re.match(r'  (\S+): (ifindex|tunnel)', line)
            if m:
                port = {}
                if m[2] == 'ifindex':   # A tunnel's packets come through others.
                    ports[m[1]] = port
            m = re.search(r'entered: packets:(\d+), bytes:(\d+)', line)
            if m:
                port['packets'], port['bytes'] = int(m[1]), int(m[2])
            if line.startswith('    passed to OVS:'):
                port['passed'] = {k: int(v) for k, v in re.findall(
                    r' ([a-z-]+):(\d+)', line[len('    passed to OVS'):])}
            m = re.match(r'    (attached|transmit|enter): (.*)', line)
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

    def pins(self, kind='link'):
        """Links of programs that are to survive ovs-vswitchd, or arrays by which
        ports call a program that they share ('shared')."""
        if not os.path.exists('/run/netns/' + self.switch):
            return []
        with in_netns(self.switch), socket.socket(socket.AF_UNIX) as any_:
            cookie = int.from_bytes(any_.getsockopt(
                socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), 'little')
        return glob.glob('/sys/fs/bpf/ovs-offload-xdp/%s-%d-*' % (kind, cookie))

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
        for pin in self.pins() + self.pins('shared'):
            os.unlink(pin)
        while self.namespaces:
            run('ip', 'netns', 'del', self.namespaces.pop(), check=False)
        shutil.rmtree(self.tmp, ignore_errors=True)
        atexit.unregister(self.remove)


# -- Counters -----------------------------------------------------------------

# A veth that feeds XDP counts the frames that it sends without their header.
ETH_HLEN = 14


def counters(lab, hosts):
    """What everybody has counted of what each of the hosts has sent.

    A dictionary by port: 'sent', 'openflow' and 'xdp' are (packets, bytes),
    'passed' is the number of packets passed to OVS.
    """
    openflow = lab.ovs.openflow_counters()
    _, ports = lab.ovs.offload_show()
    result = {}
    for host in hosts:
        host_counters = host.counters()
        packets = host_counters['tx_packets']
        port = ports[host.port]
        # A veth whose peer has NAPI, as with an XDP program, counts no Ethernet
        # headers.
        at_tc = port.get('attached', '').startswith("TC's ingress")
        result[host.port] = {
            'sent': (packets,
                     host_counters['tx_bytes']
                     + (0 if at_tc else ETH_HLEN) * packets),
            'openflow': openflow.get(lab.ovs.of_port(host.port), (0, 0)),
            'xdp': (port['packets'], port['bytes']),
            'passed': sum(port['passed'].values())}
    return result


def settled_counters(lab, hosts, interval=0.6, timeout=15):
    """Waits until nothing moves, so that all counters speak of the same."""
    last = counters(lab, hosts)
    deadline = time.monotonic() + timeout
    while True:
        time.sleep(interval)
        now = counters(lab, hosts)
        if now == last:
            return now
        if time.monotonic() > deadline:
            raise RuntimeError('counters do not settle: %s' % now)
        last = now


# -- Traffic ------------------------------------------------------------------

def ping(src, dst, count=5, version=4, interval=0.05, size=56):
    """Returns the number of replies."""
    out = src.run('ping', '-%d' % version, '-n', '-c', str(count),
                  '-i', str(interval), '-W', '1', '-s', str(size),
                  dst.ip4 if version == 4 else dst.ip6, check=False)
    m = re.search(r'(\d+) received', out)
    return int(m[1]) if m else 0


def address(host, version):
    if version == 4:
        return socket.AF_INET, host.ip4
    return socket.AF_INET6, host.ip6


def tcp_transfer(src, dst, size=1 << 20, version=4, port=5000, timeout=20, ip=None):
    """Sends 'size' bytes over TCP; True if they arrived as they were sent.  'ip': what
    'src' knows 'dst' by."""
    family, own = address(dst, version)
    data = os.urandom(min(size, 1 << 16)) * max(1, size >> 16)
    got = bytearray()
    server = dst.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((own, port))
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
        client.connect((ip or own, port))
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
    server.settimeout(0.02)
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


def send_burst(sender, frame, count, interval):
    """Sends a frame 'count' times, the first one early enough to make the flow."""
    for i in range(count):
        sender.send(frame)
        time.sleep(interval if i else 0.1)


def vlan_frames(src, dst, vlan=100, count=20, interval=0.01, settle=0.5):
    """Sends tagged UDP frames; returns how many arrived with their tag."""
    sender, receiver = src.raw_socket(), dst.raw_socket()
    frame = udp_frame(src, dst, vlan)
    without = frame[:12] + frame[16:]
    arrived = 0
    send_burst(sender, frame, count, interval)
    deadline = time.monotonic() + settle
    while arrived < count and time.monotonic() < deadline:
        with contextlib.suppress(socket.timeout):
            got, tci = receive_frame(receiver, settle)
            arrived += got == without and tci == vlan
    sender.close()
    receiver.close()
    return arrived


def exchange(src, dst, frame, count=50, interval=0.002, settle=0.3):
    """Sends 'frame' 'count' times.

    Returns the different (frame, TCI) of UDP that arrived at 'dst' from the
    sender's MAC address, with their number.
    """
    sender, receiver = src.raw_socket(), dst.raw_socket()
    arrived = {}
    send_burst(sender, frame, count, interval)
    deadline = time.monotonic() + settle
    while time.monotonic() < deadline:
        with contextlib.suppress(socket.timeout):
            got = receive_frame(receiver, settle)
            if got[0][6:12] == frame[6:12] and got[0][23:24] == b'\x11':
                arrived[got] = arrived.get(got, 0) + 1
    sender.close()
    receiver.close()
    return arrived


class Stream:
    """A steady stream of numbered UDP datagrams from one host to another.

        with Stream(a, b, pps=1000) as stream:
            ...
        stream.sent, stream.lost, stream.longest_gap
    """

    def __init__(self, src, dst, pps=1000, port=7000, size=100, version=4):
        self.sent = 0        # Datagrams that send() has taken.
        self.refused = 0     # Others: the interface was down or not there.
        self.received = 0    # Different ones.
        self.duplicates = 0
        self.longest_gap = 0.0  # Seconds between two arrivals.
        self.last_arrival = None
        self.family, self.ip = address(dst, version)
        self.port, self.pps, self.size = port, pps, size
        self.sender = src.socket(self.family, socket.SOCK_DGRAM)
        self.receiver = dst.socket(self.family, socket.SOCK_DGRAM)
        self.receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        self.receiver.settimeout(0.1)
        self.receiver.bind(('', port))
        self.stop_sending = threading.Event()
        self.stop_receiving = threading.Event()
        self.threads = [threading.Thread(target=self.send),
                        threading.Thread(target=self.receive)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        if not self.stop_receiving.is_set():
            self.stop()

    def stop(self, settle=0.4):
        self.stop_sending.set()
        self.threads[0].join()
        time.sleep(settle)
        self.stop_receiving.set()
        self.threads[1].join()
        self.sender.close()
        self.receiver.close()

    @property
    def lost(self):
        return self.sent - self.received

    def send(self):
        begin, n = time.monotonic(), 0
        payload = b'u' * self.size
        while not self.stop_sending.is_set():
            try:
                self.sender.sendto(n.to_bytes(8, 'big') + payload,
                                   (self.ip, self.port))
                self.sent += 1
            except OSError:
                self.refused += 1
            n += 1
            delay = begin + n / self.pps - time.monotonic()
            if delay > 0:
                time.sleep(delay)

    def receive(self):
        seen = set()
        while not self.stop_receiving.is_set():
            try:
                number = self.receiver.recv(65536)[:8]
            except OSError:
                continue
            now = time.monotonic()
            if self.last_arrival:
                self.longest_gap = max(self.longest_gap,
                                       now - self.last_arrival)
            self.last_arrival = now
            if number in seen:
                self.duplicates += 1
            else:
                seen.add(number)
                self.received += 1

    def __str__(self):
        return '%d of %d lost, longest gap %.2f s' % (
            self.lost, self.sent, self.longest_gap)


# -- Programs -----------------------------------------------------------------

def attached_program(lab, port):
    """The id and name of the XDP program on a port's device, or None."""
    link = json.loads(run('ip', '-n', lab.switch, '-d', '-j', 'link', 'show',
                          port))[0]
    if 'xdp' not in link:
        return None
    xdp = link['xdp']
    if 'attached' in xdp and len(xdp['attached']) > 1:
        raise RuntimeError('several XDP programs on %s: %s' % (port, xdp))
    prog = xdp.get('prog') or xdp['attached'][0]['prog']
    return prog['id'], prog.get('name', '')


class ForeignProgram:
    """Somebody else's XDP program, which passes everything."""

    XDP_PASS = 2
    BPF_PROG_TYPE_XDP = 6
    BPF_XDP = 37
    XDP_FLAGS_DRV_MODE = 4
    name = 'somebody_elses'

    def __init__(self):
        self.lib = ctypes.CDLL('libbpf.so.1', use_errno=True)
        self.lib.libbpf_set_print(None)
        instructions = struct.pack('=BBhiBBhi', 0xb7, 0, 0, self.XDP_PASS,
                                   0x95, 0, 0, 0)
        self.fd = self.check(self.lib.bpf_prog_load(
            self.BPF_PROG_TYPE_XDP, self.name.encode(), b'GPL', instructions,
            ctypes.c_size_t(2), None))
        self.links = []

    @staticmethod
    def check(result):
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    def attach(self, lab, port, link=False):
        """Attaches the program by netlink, or by a BPF link."""
        with in_netns(lab.switch):
            ifindex = socket.if_nametoindex(port)
            if link:
                self.links.append(self.check(self.lib.bpf_link_create(
                    self.fd, ifindex, self.BPF_XDP, None)))
            else:
                self.check(self.lib.bpf_xdp_attach(
                    ifindex, self.fd, self.XDP_FLAGS_DRV_MODE, None))

    def close(self):
        for fd in [*self.links, self.fd]:
            os.close(fd)
        self.links, self.fd = [], None
