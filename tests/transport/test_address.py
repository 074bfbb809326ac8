"""Which addresses there are, whoever gives them; and that one of IPv6 is one."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from secagg import Bounded, LocalProtocolError, Masking
from transport import join, serve
from transport.address import speaks_ipv6
from transport.connections import _peer
from transport.processes import lay_out_keys


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "it should look like tcp://host:5555, and in IPv6 like tcp://[::1]:5555"),
        ("host:5555", "it should look like"),
        ("tcp://host", "it should look like"),
        ("tcp://::1:5555", "it should look like"),
        ("tcp://[::1]", "it should look like"),
        ("tcp://host:5555/", "it should look like"),
        ("tcp://host:-1", "it should look like"),
        ("tcp://host: 80", "it should look like"),
        ("tcp://host:²", "it should look like"),
        ("udp://host:5555", "it should look like"),
        ("inproc://here", "it should look like"),
        ("tcp://host:0", "a port is 1 to 65535, not 0"),
        ("tcp://host:65536", "a port is 1 to 65535, not 65536"),
        ("tcp://*:5555", "* is for whoever listens"),
        ("tcp://host:*", "* is for whoever listens"),
        ("tcp://:5555", "a host's name has letters, digits, dots and hyphens"),
        ("tcp://a b:5555", "a host's name has"),
        ("tcp://me@host:5555", "a host's name has"),
        ("tcp://1.2.3:5555", "there is no host 1.2.3: Expected 4 octets"),
        ("tcp://1.2.3.256:5555", "there is no host 1.2.3.256: Octet 256"),
        ("tcp://[::g]:5555", "there is no host [::g]: Only hex digits"),
        ("ipc://", "the path of a socket has 1 to 107 bytes"),
        ("ipc://" + "x" * 108, "the path of a socket has 1 to 107 bytes"),
    ],
)
def test_what_is_no_address(address: str, says: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        speaks_ipv6(address, listening=False)
    assert str(caught.value).startswith(f"{address}: {says}")


@pytest.mark.parametrize(
    ("address", "listening", "ipv6"),
    [
        ("tcp://*:*", True, False),
        ("tcp://0.0.0.0:0", True, False),
        ("tcp://eth0:65535", True, False),
        ("tcp://[::]:5555", True, True),
        ("tcp://127.0.0.1:1", False, False),
        ("tcp://[fe80::1%eth0]:5555", False, True),
        ("tcp://old.example:5555", False, False),
        ("tcp://both.example:5555", False, False),
        ("tcp://new.example:5555", False, True),
        ("tcp://not-yet.example:5555", False, False),
        ("ipc:///tmp/socket", True, False),
    ],
)
def test_what_is_one_of_ipv6(
    monkeypatch: pytest.MonkeyPatch, address: str, listening: bool, ipv6: bool
) -> None:
    hosts = {
        "old.example": [socket.AF_INET],
        "both.example": [socket.AF_INET6, socket.AF_INET],
        "new.example": [socket.AF_INET6],
    }

    def getaddrinfo(host: str, port: None, **_: object) -> list[tuple[int]]:
        if host not in hosts:
            raise socket.gaierror
        return [(family,) for family in hosts[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert speaks_ipv6(address, listening=listening) is ipv6


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_connection_over_ipv6_is_told_from_others_by_its_whole_address() -> None:
    """Else the server would not know again which one it is to break."""
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as server,
        socket.create_connection(server.getsockname()[:2]),
    ):
        accepted, peer = server.accept()
        with accepted:
            assert _peer(accepted.fileno()) == peer


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize(
    ("bind", "connect"),
    [
        ("tcp://[::1]:*", lambda endpoint: endpoint),
        ("tcp://[::]:*", lambda endpoint: endpoint.replace("[::]", "127.0.0.1")),
    ],
)
def test_a_sum_over_ipv6(tmp_path: Path, bind: str, connect: Callable[[str], str]) -> None:
    server, clients = lay_out_keys(tmp_path, 3)
    with (
        serve(bind, server / "server.key", server / "roster") as cohort,
        ThreadPoolExecutor(3) as threads,
    ):
        endpoint = connect(cohort.endpoint)

        def contribute(own: Path) -> None:
            with join(endpoint, own / "client.key", own / "server.pub", own / "roster") as peer:
                peer.contribute(lambda task: {"": np.ones(5)})

        for own in clients:
            threads.submit(contribute, own)
        vectors = {"": Bounded(length=5, bound=1.0)}
        scheme = Masking.for_cohort(3, vectors, roster=cohort.roster.identities)
        np.testing.assert_allclose(cohort.aggregate(scheme).mean[""], np.ones(5))
