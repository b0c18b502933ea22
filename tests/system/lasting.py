# SPDX-License-Identifier: Apache-2.0
"""Connections that last, between hosts, with ports that are always the same.

A connection is made once and used as often as one likes, so that packets of
established connections can be counted without those that make them.

    with Connections() as connections:
        connections.between(a, b)
        connections.use(20)
"""
import collections
import contextlib
import hashlib
import json
import select
import socket
import struct
import threading
import time
from typing import Optional

from lab import checksum, run

CHUNK = 16 << 10        # Of TCP: a dozen segments in a row, each way.
SEGMENTS = 12


def make_socket(host, family, kind, port):
    s = host.socket(family, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind(('', port))
    return s


class Server:
    """Sends back what comes to a port of a host."""

    def __init__(self, host, family, port):
        self.host = host
        self.served = collections.Counter()     # Messages by the peer's port.
        self.stop = threading.Event()
        self.threads = []
        self.socket = make_socket(host, family, self.kind, port)
        self.socket.settimeout(0.1)
        if self.kind == socket.SOCK_STREAM:
            self.socket.listen(8)
        self.spawn(self.run)

    def spawn(self, target, *args):
        thread = threading.Thread(target=target, args=args)
        thread.start()
        self.threads.append(thread)

    def run(self):
        while not self.stop.is_set():
            with contextlib.suppress(OSError):
                self.serve_once()

    def close(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        self.socket.close()


class UdpServer(Server):
    kind = socket.SOCK_DGRAM

    def serve_once(self):
        data, peer = self.socket.recvfrom(2048)
        self.served[peer[1]] += 1
        self.socket.sendto(data, peer)


class TcpServer(Server):
    kind = socket.SOCK_STREAM

    def serve_once(self):
        s, peer = self.socket.accept()
        self.spawn(self.serve, s, peer[1])

    def serve(self, s, peer_port):
        with s, contextlib.suppress(OSError):
            while not self.stop.is_set():
                if select.select([s], [], [], 0.1)[0]:
                    data = s.recv(CHUNK)
                    if not data:            # The client is the first to close.
                        return
                    self.served[peer_port] += 1
                    s.settimeout(20)
                    s.sendall(data)


class Connection:
    """From a host's port to an address and port, behind which there are servers."""

    server: Optional[type[Server]] = None
    protocol = ''

    def __init__(self, src, servers, ip, port, sport):
        self.src, self.servers = src, servers
        self.family = socket.AF_INET6 if ':' in ip else socket.AF_INET
        self.ip, self.port, self.sport = ip, port, sport
        self.name = '%s from %s, %d, to %s' % (
            self.protocol, src.port, sport, ip)
        self.client = self.open()

    def served(self):
        """By which hosts."""
        return sorted(s.host.port for s in self.servers if s.served[self.sport])

    def close(self):
        self.client.close()


class Datagrams(Connection):
    """Each message is sent when the last one has come back, or is late."""

    def use(self, rounds, timeout=1.0):
        """Returns how many came back."""
        return sum(self.ask(number, timeout) for number in range(rounds))

    def ask(self, number, timeout):
        with contextlib.suppress(OSError):      # ECONNREFUSED, for one.
            # A raw socket has got everybody's replies meanwhile: until it is full.
            while select.select([self.client], [], [], 0)[0]:
                self.client.recv(2048)
            sent = self.send(number)
            deadline = time.monotonic() + timeout
            while select.select([self.client], [], [], max(
                    0, deadline - time.monotonic()))[0]:
                if self.is_answer(self.client.recv(2048), sent):
                    return True
        return False


class Udp(Datagrams):
    protocol = 'UDP'
    server = UdpServer

    def open(self):
        s = make_socket(self.src, self.family, socket.SOCK_DGRAM, self.sport)
        s.connect((self.ip, self.port))
        return s

    def send(self, number):
        data = struct.pack('!I', number) + b'u' * 200
        self.client.send(data)
        return data

    @staticmethod
    def is_answer(data, sent):
        return data == sent


class Icmp(Datagrams):
    """Echo requests of one identifier, to which the other's kernel replies."""

    protocol = 'ICMP'
    # By family: protocol, types of a request and a reply, bytes before them.
    FAMILIES = {socket.AF_INET: (socket.IPPROTO_ICMP, 8, 0, 20),
                socket.AF_INET6: (socket.IPPROTO_ICMPV6, 128, 129, 0)}

    def open(self):
        proto, self.request, self.reply, self.skip = self.FAMILIES[self.family]
        return self.src.socket(self.family, socket.SOCK_RAW, proto)

    def send(self, number):
        body = struct.pack('!HH', self.sport, number) + b'i' * 56
        # Of ICMPv6 the kernel makes the checksum.
        head = struct.pack('!BBH', self.request, 0, 0)
        if self.family == socket.AF_INET:
            head = struct.pack('!BBH', self.request, 0, checksum(head + body))
        self.client.sendto(head + body, (self.ip, 0))
        return body

    def is_answer(self, data, sent):
        data = data[self.skip:]
        return data[0] == self.reply and data[4:] == sent


class Tcp(Connection):
    """Chunks of data, each sent when the last one has come back."""

    protocol = 'TCP'
    server = TcpServer

    def open(self):
        s = make_socket(self.src, self.family, socket.SOCK_STREAM, self.sport)
        s.settimeout(10)
        with contextlib.suppress(OSError):          # use() will tell.
            s.connect((self.ip, self.port))
        return s

    def use(self, rounds, timeout=20.0):
        """As many packets as 'rounds', about: returns how many chunks came back."""
        self.client.settimeout(timeout)
        for i in range(-(-rounds // SEGMENTS)):
            data = hashlib.sha512(b'%d' % i).digest() * (CHUNK // 64)
            try:
                self.client.sendall(data)
                if self.read(len(data)) != data:
                    return i
            except OSError:
                return i
        return -(-rounds // SEGMENTS)

    def read(self, size):
        got = b''
        while len(got) < size:
            data = self.client.recv(size - len(got))
            if not data:
                break
            got += data
        return got


PROTOCOLS = {'TCP': Tcp, 'UDP': Udp, 'ICMP': Icmp}
FIRST_PORT = 40001


class Connections(contextlib.ExitStack):
    """Several of them, each with a source port or identifier of its own."""

    def __init__(self):
        super().__init__()
        self.all, self.servers = [], {}

    def add(self, protocol, src, servers, ip, port=5001, server_port=None):
        """One to 'port' of 'ip', which are of one of the hosts 'servers' in the end."""
        kind = PROTOCOLS[protocol]
        running = [] if not kind.server else [
            self.serve(kind.server, host, ip, server_port or port)
            for host in servers]
        connection = kind(src, running, ip, port, FIRST_PORT + len(self.all))
        self.callback(connection.close)
        self.all.append(connection)
        return connection

    def serve(self, kind, host, ip, port):
        family = socket.AF_INET6 if ':' in ip else socket.AF_INET
        key = kind, host.port, family, port
        if key not in self.servers:
            self.servers[key] = kind(host, family, port)
            self.callback(self.servers[key].close)
        return self.servers[key]

    def between(self, src, dst, versions=(4, 6), protocols=tuple(PROTOCOLS)):
        """One of each protocol and version from a host to a host."""
        for version in versions:
            for protocol in protocols:
                self.add(protocol, src, [dst],
                         dst.ip4 if version == 4 else dst.ip6)

    def use(self, rounds, protocols=tuple(PROTOCOLS)):
        """Uses all, one after the other: what came back, by name."""
        return {c.name: c.use(rounds) for c in self.all
                if c.protocol in protocols}

    def finish(self):
        """The clients close."""
        for connection in self.all:
            connection.close()


def learn(connections, protocols=tuple(PROTOCOLS)):
    """Has OVS make the flows of all connections, so that XDP has them.

    That takes some milliseconds, in which hosts exchange a hundred packets: a
    measurement without it is about how short it is.
    """
    connections.use(12, protocols)
    time.sleep(0.5)


def keep_neighbours(host):
    """The host asks for nobody's MAC address again."""
    for entry in json.loads(run('ip', '-n', host.netns, '-j', 'neigh', 'show')):
        if 'lladdr' in entry:
            host.run('ip', 'neigh', 'replace', entry['dst'], 'lladdr',
                     entry['lladdr'], 'dev', entry['dev'], 'nud', 'permanent')


def complete(connections, back):
    """Has everything come back?"""
    return all(back[c.name] == (1 if c.protocol == 'TCP' else 12)
               for c in connections.all)
