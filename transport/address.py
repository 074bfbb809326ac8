"""Addresses, as ZeroMQ takes them: checked here, since it takes port 99999 for 34463 and waits for `tcp://:5`."""

from __future__ import annotations

import re
import socket
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from secagg.errors import LocalProtocolError

_TCP = re.compile(r"tcp://(?P<host>\*|\[[^\]]*\]|[^:\[\]]*):(?P<port>\*|[0-9]+)")
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?")
_MAX_PATH = 107  # bytes of a Unix socket's path on Linux, whose sun_path has 108 with a zero byte at the end


def speaks_ipv6(address: str, *, listening: bool) -> bool:
    """Whether the socket for this address has to be one for IPv6; a name is that only if it has no other.

    address: tcp://HOST:PORT or, on one machine, ipc://PATH. listening: HOST may be *, for all of IPv4, and
    PORT may be *, for a free one.

    Raises: LocalProtocolError for anything else, with what is wrong with it.
    """
    if address.startswith("ipc://"):
        if not 0 < len(address.removeprefix("ipc://").encode()) <= _MAX_PATH:
            raise LocalProtocolError(f"{address}: the path of a socket has 1 to {_MAX_PATH} bytes")
        return False
    match = _TCP.fullmatch(address)
    if match is None:
        example = "tcp://*:5555" if listening else "tcp://host:5555"
        raise LocalProtocolError(
            f"{address}: it should look like {example}, and in IPv6 like tcp://[::1]:5555"
        )
    host, port = match["host"], match["port"]
    if not listening and "*" in (host, port):
        raise LocalProtocolError(f"{address}: * is for whoever listens: name the server's host and port")
    lowest = 0 if listening else 1  # 0 is for the system to choose, as * is
    if port != "*" and not lowest <= int(port) <= 65535:
        raise LocalProtocolError(f"{address}: a port is 1 to 65535, not {port}")
    if host == "*":
        return False
    try:
        if host.startswith("["):
            IPv6Address(host[1:-1])
            return True
        if re.fullmatch(r"[0-9.]+", host):
            IPv4Address(host)
            return False
    except AddressValueError as error:
        raise LocalProtocolError(f"{address}: there is no host {host}: {error}") from None
    if not _NAME.fullmatch(host):
        raise LocalProtocolError(f"{address}: a host's name has letters, digits, dots and hyphens")
    return not listening and _is_ipv6_alone(host)


def _is_ipv6_alone(name: str) -> bool:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # ZeroMQ goes on asking, for as long as somebody has patience
        return False
    return all(family == socket.AF_INET6 for family, *_ in found)
