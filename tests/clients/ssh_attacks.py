"""Says to an SSH server what no client may say before it has logged in.

ssh_attacks.py HOST PORT USER: one line for each, with what came of it. Ends with 1 when one of them has got somewhere.
"""

import socket, sys, threading, time
from concurrent.futures import ThreadPoolExecutor

import paramiko
from paramiko import Message

host, port, user = sys.argv[1:]
CHANNEL_OPEN, CHANNEL_OPEN_CONFIRMATION, CHANNEL_REQUEST, GLOBAL_REQUEST = 90, 91, 98, 80
USERAUTH_REQUEST, USERAUTH_SUCCESS, USERAUTH_BANNER = 50, 52, 53
DISCONNECT, SERVICE_REQUEST, NEWKEYS = 1, 5, 21


def message(kind, *fields):
    built = Message()
    built.add_byte(bytes([kind]))
    for field in fields:
        if isinstance(field, bool):
            built.add_boolean(field)
        elif isinstance(field, int):
            built.add_int(field)
        else:
            built.add_string(field)
    return built


channel_open = message(CHANNEL_OPEN, "session", 0, 1 << 20, 1 << 15)
subsystem = message(CHANNEL_REQUEST, 0, "subsystem", True, "sftp")
service = message(SERVICE_REQUEST, "ssh-userauth")
ATTACKS = {
    "channel": [channel_open, subsystem],
    "channel behind the service": [service, channel_open, subsystem],
    "request of a channel that is not there": [service, subsystem],
    "global request": [service, message(GLOBAL_REQUEST, "tcpip-forward", True, "127.0.0.1", 0)],
    "direct-tcpip": [message(CHANNEL_OPEN, "direct-tcpip", 0, 1 << 20, 1 << 15, "127.0.0.1", 22, "127.0.0.1", 1)],
    "success out of order": [message(USERAUTH_SUCCESS), channel_open, subsystem],
    "success out of order behind the service": [service, message(USERAUTH_SUCCESS), channel_open, subsystem],
    "success behind a login that fails": [
        service,
        message(USERAUTH_REQUEST, user, "ssh-connection", "none"),
        message(USERAUTH_SUCCESS),
        channel_open,
        subsystem,
    ],
    "a banner from the client": [service, message(USERAUTH_BANNER, "hello", "en"), channel_open],
    "another service": [message(SERVICE_REQUEST, "ssh-connection"), channel_open, subsystem],
    "keys that nobody agreed on": [message(NEWKEYS), channel_open],
    "a message that nobody knows": [message(255), channel_open],
    "an empty login": [service, message(USERAUTH_REQUEST), channel_open],
    "a login with a length beyond its end": [service, Message(b"\x32\xff\xff\xff\xff"), channel_open],
}


def tried(messages):
    """The kinds of messages that came for these, until the server has ended the connection or answered a login."""
    transport = paramiko.Transport(socket.create_connection((host, int(port)), 20))
    seen, over = [], threading.Event()
    read = transport.packetizer.read_message

    def spied():
        try:
            kind, told = read()
        except BaseException:
            over.set()
            raise
        seen.append(kind)
        if kind == DISCONNECT:
            over.set()
        return kind, told

    transport.packetizer.read_message = spied
    transport.start_client(timeout=20)
    assert transport.agreed_on_strict_kex
    del seen[:]
    try:
        for sent in messages:
            transport._send_message(sent)
        # Its answer comes behind all others.
        transport._send_message(service)
        transport._send_message(message(USERAUTH_REQUEST, user, "ssh-connection", "password", False, "wrong"))
    except (OSError, EOFError):
        pass
    # It ends by itself, or by the server's patience with those who do not log in.
    until = time.monotonic() + 20
    while not over.wait(0.05) and transport.is_active():
        if time.monotonic() > until:
            raise AssertionError(f"it stays open: {seen}")
    transport.close()
    return seen


def told(name):
    seen = tried(ATTACKS[name])
    bad = {CHANNEL_OPEN_CONFIRMATION, 99, 81, USERAUTH_SUCCESS} & set(seen)
    print(f"{name}: {seen}", "GOT SOMEWHERE" if bad else "")
    return bool(bad)


with ThreadPoolExecutor(len(ATTACKS)) as pool:
    sys.exit(any(list(pool.map(told, ATTACKS))))
