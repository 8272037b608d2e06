"""A service with a library, to be asked."""

import pytest
from library.asked import make_library
from web.served import SMALL, client, no_model

from mulap.library.library import Library
from mulap.web.service import make_app


@pytest.fixture(scope="session")
def songs(tmp_path_factory):
    """A folder with a model, six songs and their library."""
    return make_library(tmp_path_factory.mktemp("songs"))


@pytest.fixture(scope="module")
def asked(songs):
    """A client of a service with a library and the page."""
    app = make_app(no_model, Library(songs / "lib", "cpu"), has_page=True, limits=SMALL)
    with client(app) as opened:
        yield opened


@pytest.fixture
def song(songs):
    """The bytes of a song that is in the library."""
    return (songs / "music" / "1.flac").read_bytes()
