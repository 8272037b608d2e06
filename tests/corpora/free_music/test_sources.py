"""The table of packages that ships with mulap."""

from collections import Counter
from dataclasses import replace

import pytest

from mulap.corpora.free_music.sources import (
    MACHINE_MADE,
    is_free,
    read_sources,
)
from mulap.data.splits import SPLITS


def test_every_package_has_a_free_licence_an_attribution_and_a_split():
    sources = read_sources()
    for source in sources:
        assert source.registry in ("debian", "npm")
        assert (source.registry == "npm") == bool(source.version)
        assert source.split in (*SPLITS, MACHINE_MADE)
        assert is_free(source.licence), source.package
        assert source.attribution, source.package
        assert source.about, source.package
    assert len(sources) > 90
    assert max(Counter(source.package for source in sources).values()) == 1


def test_valid_and_test_have_several_packages_and_no_composer_of_each_other():
    by_split = {name: [] for name in ("train", "valid", "test", MACHINE_MADE)}
    for source in read_sources():
        by_split[source.split].append(source)
    assert min(len(sources) for sources in by_split.values()) >= 5
    composers = [{s.composer for s in by_split[name]} - {""} for name in ("valid", "test")]
    assert not composers[0] & composers[1]


def test_music_of_a_generator_is_for_evaluation_only_and_has_a_style():
    made = [source for source in read_sources() if source.registry == "npm"]
    assert {source.split for source in made} == {MACHINE_MADE}
    assert len({source.style for source in made}) == 10
    assert all("generated" in source.attribution for source in made)


def test_packages_are_chosen_by_name_in_the_table_s_order():
    names = [source.package for source in read_sources(["zaz-data", "0ad-data"])]
    assert names == ["0ad-data", "zaz-data"]
    with pytest.raises(ValueError, match=r"uqm-music: is not in the table .* Choose from: 0ad"):
        read_sources(["uqm-music"])


@pytest.mark.parametrize(
    "licence",
    [
        *("GPL-2+", "GPL-3", "LGPL-2.1", "CC0-1.0", "CC-BY-SA-3.0", "CC-BY-4.0", "public-domain"),
        *("GPL-2+ OR CC-BY-SA", "CC-BY-NC-4.0 or GPL-3", "GPL-3+ and CC-BY-SA-3.0", "Expat"),
        *("BSD-2-clause", "Free-Art-License-1.2", "Zlib", "CC-BY-SA-3.0+", "GPL"),
    ],
)
def test_free_licences(licence):
    assert is_free(licence)


@pytest.mark.parametrize(
    "licence",
    ["", "CC-BY-NC-3.0", "CC-BY-ND-4.0", "CC-BY-NC-SA-3.0", "Drascula-License", "proprietary"]
    + ["GPL-2 and CC-BY-NC-3.0", "not-for-sale", "ETHYMONICS-FREE-MUSIC-LICENSE"],
)
def test_other_licences_are_not_used(licence):
    assert not is_free(licence)


def test_effects_are_no_music_unless_the_table_says_so():
    plain = replace(read_sources()[0], files="")
    assert plain.uses("usr/share/games/x/data/song.ogg")
    assert not plain.uses("usr/share/games/x/Sounds/song.ogg")
    assert plain.uses("usr/share/games/x/sounds/music/song.ogg")
    assert replace(plain, files="sounds/stg").uses("usr/share/games/x/sounds/stg1.ogg")
    assert not replace(plain, files="sounds/stg").uses("usr/share/games/x/music/song.ogg")
