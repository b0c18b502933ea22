# SPDX-License-Identifier: Apache-2.0
"""What runs in the virtual machines of the test tap-machine, and beside them.

  guest.py serve           answers TCP and UDP with what it gets, until it is
                           ended
  guest.py talk ADDRESS    talks to such a one; fails if an answer is wrong
"""
import os
import socket
import sys
import threading

PORT = 5000
SIZE = 1 << 20              # Of what goes over TCP, and comes back.
DATAGRAMS = (1, 2, 17, 1400, 1471) * 10
TIMEOUT = 30


def answer_datagrams(s):
    while True:
        data, peer = s.recvfrom(65536)
        s.sendto(data, peer)


def answer_stream(connection):
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


def serve():
    datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagrams.bind(('', PORT))
    threading.Thread(target=answer_datagrams, args=[datagrams],
                     daemon=True).start()
    server = socket.create_server(('', PORT), family=socket.AF_INET6,
                                  dualstack_ipv6=True)
    print('serving', flush=True)
    while True:
        answer_stream(server.accept()[0])


def talk_stream(address):
    data, got = os.urandom(SIZE), bytearray()
    with socket.create_connection((address, PORT), TIMEOUT) as s:
        sender = threading.Thread(target=s.sendall, args=[data])
        sender.start()
        while len(got) < SIZE:
            chunk = s.recv(65536)
            if not chunk:
                break
            got += chunk
        sender.join()
    return got == data


def talk_datagrams(address):
    family, kind, _, _, where = socket.getaddrinfo(
        address, PORT, type=socket.SOCK_DGRAM)[0]
    back = 0
    with socket.socket(family, kind) as s:
        s.settimeout(TIMEOUT / 10)
        for size in DATAGRAMS:
            data = os.urandom(size)
            s.sendto(data, where)
            back += s.recv(65536) == data
    return back == len(DATAGRAMS)


def main():
    if sys.argv[1] == 'serve':
        serve()
    address = sys.argv[2]
    if not talk_stream(address):
        sys.exit('TCP to %s: not what was sent' % address)
    if not talk_datagrams(address):
        sys.exit('UDP to %s: not what was sent' % address)


if __name__ == '__main__':
    main()
