"""Copyright files as Debian's packages have them."""

from mulap.corpora.free_music.licences import find_paragraph, parse_copyright

TEXT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Game

Files: *
Copyright: 2001-2010, The Game Team
License: GPL-2+

Files: base/music/*.ogg
 base/extra.ogg
Copyright: 2005 Ann Composer <ann@example.org>
           2007-2009, Bob
License: CC-BY-SA-3.0
 The full text
 of the licence.

Files: base/music/sad.ogg
Copyright: Cy
License: CC0-1.0

Files: debian/*
Copyright: Someone Else
License: Expat

License: CC-BY-SA-3.0
 Again.
"""


def licence_of(path: str) -> tuple[str, str]:
    found = find_paragraph(parse_copyright(TEXT), path)
    assert found is not None
    return found.licence, found.holders


def test_the_last_paragraph_that_fits_the_end_of_the_path_wins():
    assert licence_of("usr/share/games/game/base/music/gay.ogg") == (
        "CC-BY-SA-3.0",
        "Ann Composer, Bob",
    )
    assert licence_of("usr/share/games/game/base/music/sad.ogg") == ("CC0-1.0", "Cy")
    assert licence_of("usr/share/games/game/voices/a.ogg") == ("GPL-2+", "The Game Team")


def test_first_folders_of_the_source_may_be_missing_where_it_is_installed():
    assert licence_of("usr/share/games/game/music/gay.ogg")[0] == "CC-BY-SA-3.0"
    assert licence_of("usr/share/games/game/extra.ogg")[0] == "CC-BY-SA-3.0"


def test_a_pattern_is_not_cut_down_to_an_ending():
    assert licence_of("usr/share/games/game/speech/other.ogg")[0] == "GPL-2+"


def test_the_packaging_s_licence_is_not_that_of_the_music():
    assert licence_of("usr/share/games/debian/x.ogg")[0] == "GPL-2+"


def test_a_copyright_file_in_free_words_has_no_paragraphs():
    assert parse_copyright("This package was debianized by X.\n\nLicense: GPL\n") == []
    assert find_paragraph([], "a.ogg") is None
