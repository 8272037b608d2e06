"""Hosts, origins, tokens and the headers that browsers obey."""

import pytest
from web.served import SMALL, client, no_model

from mulap.library.library import Library
from mulap.web.guard import Hosts, check_token, cookie_of, is_loopback
from mulap.web.service import make_app


def test_only_loopback_is_this_machine():
    assert all(map(is_loopback, ["127.0.0.1", "127.1.2.3", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "192.168.1.5", "example.org", ""]))


@pytest.mark.parametrize(
    ("host", "is_trusted"),
    [
        ("127.0.0.1", True),
        ("localhost:8642", True),
        ("[::1]:8642", True),
        ("evil.test", False),
        ("127.0.0.1.evil.test", False),
        ("192.168.1.5", False),
        ("", False),
        ("[::1", False),
    ],
)
def test_a_server_of_this_machine_answers_to_its_own_names_only(host, is_trusted):
    assert Hosts.of("127.0.0.1").trust(host) == is_trusted


def test_a_server_of_the_network_answers_to_addresses_and_to_names_that_it_was_given():
    hosts = Hosts.of("0.0.0.0", ["NAS.local"])
    assert hosts.trust("192.168.1.5:8642")
    assert hosts.trust("[fe80::1]:8642")
    assert hosts.trust("nas.local:8642")
    assert not hosts.trust("evil.test")  # rebound to this machine


def test_a_server_of_the_network_needs_a_token_that_is_long_enough():
    check_token("127.0.0.1", "")
    check_token("0.0.0.0", "x" * 16)
    with pytest.raises(ValueError, match="others can reach it"):
        check_token("0.0.0.0", "")
    for token in ("x" * 15, "x" * 20 + " ", "x" * 20 + "\n", "ü" * 20):
        with pytest.raises(ValueError, match="too short, or holds a space"):
            check_token("127.0.0.1", token)


def test_a_cookie_does_not_give_the_token_away():
    assert "secret" not in cookie_of("secret" * 3)
    assert cookie_of("a") != cookie_of("b")


@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1.evil.test:80", "192.168.1.5"])
def test_a_foreign_host_is_refused_also_for_the_page(asked, host):
    for path in ("/", "/page.js", "/healthz", "/v1/library"):
        answer = asked.get(path, headers={"host": host})
        assert answer.status_code == 421
        assert "--allow-host" in answer.json()["remedy"]


@pytest.mark.parametrize(
    "origin", ["http://evil.test", "null", "http://127.0.0.1:9", "http://[", ""]
)
def test_a_foreign_origin_may_not_post(asked, origin):
    answer = asked.post("/v1/search", json={"query": "x"}, headers={"origin": origin})
    assert answer.status_code == 403


def test_the_own_origin_may_post(asked):
    for origin in ("http://127.0.0.1", "HTTP://127.0.0.1"):
        answer = asked.post("/v1/search", json={"query": "x"}, headers={"origin": origin})
        assert answer.status_code == 200


def test_another_site_may_link_to_the_page_and_read_nothing(asked):
    foreign = {"sec-fetch-site": "cross-site"}
    assert asked.get("/", headers=foreign).status_code == 200
    assert asked.get("/v1/library", headers=foreign).status_code == 403
    assert asked.get("/audio/x", headers=foreign).status_code == 403


def test_every_answer_tells_browsers_to_load_nothing_from_elsewhere(asked):
    for answer in (asked.get("/"), asked.get("/nope"), asked.get("/", headers={"host": "x"})):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_a_wrong_cookie_does_not_open(songs):
    app = make_app(no_model, Library(songs / "lib", "cpu"), token="x" * 16, limits=SMALL)
    with client(app) as asked:
        for value in ("", "x" * 16, cookie_of("y" * 16)):
            answer = asked.get("/v1/library", headers={"cookie": f"mulap={value}"})
            assert answer.status_code == 401
