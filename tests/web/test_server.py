"""Ports and addresses."""

import socket

import pytest

from mulap.web.server import address_of, open_socket


def test_a_port_in_use_is_one_line_with_a_remedy():
    with open_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match="the port is in use") as caught:
            open_socket("127.0.0.1", port)
    assert "--port" in str(caught.value)


def test_an_address_is_one_that_a_browser_opens():
    with open_socket("127.0.0.1", 0) as listening:
        assert address_of(listening) == f"http://127.0.0.1:{listening.getsockname()[1]}/"
    with open_socket("0.0.0.0", 0) as listening:
        assert address_of(listening).startswith("http://127.0.0.1:")


def test_answers_do_not_wait_for_more_to_send():
    with open_socket("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP  # asyncio sets TCP_NODELAY on no other


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_an_address_of_ipv6_has_brackets():
    with open_socket("::1", 0) as listening:
        assert address_of(listening).startswith("http://[::1]:")


@pytest.mark.parametrize("host", ["no such host", "x" * 300, "203.0.113.1"])
def test_a_host_that_is_not_of_this_machine_is_one_line(host):
    with pytest.raises(ValueError, match=r"--host|cannot listen here"):
        open_socket(host, 0)
