"""English words of music are known; other scripts, emoji and other languages are named."""

import pytest

import mulap
from mulap.encoders.known_words import warning
from mulap.encoders.zero_shot import default_tags


@pytest.fixture(scope="module")
def hardly_known():
    return mulap.load("mulap-small").joint.hardly_known


def test_english_words_of_music_are_known(hardly_known):
    queries = [
        *("calm piano with strings, no drums", "8-bit", "dubstep", "drum'n'bass", "r&b"),
        *("a slow waltz by a string quartet in a minor key", "warm rhodes, slow groove"),
        *("90s eurodance with female vocals", "pizzicato strings play arpeggios", "kick drum"),
        *("a folk reel at about 210 beats per minute", "gregorian chant", "soft, sad and slow"),
    ]
    assert hardly_known(queries) == []
    assert hardly_known(default_tags()) == []


@pytest.mark.parametrize(
    "text",
    [
        *("ночь", "静かなピアノ", "ήρεμο πιάνο", "🎹", "rock 🎸", "musique calme au piano"),
        *("ruhige Klaviermusik", "trauriges Lied mit Geige", "música tranquila", "Volksmusik"),
        *("canzone triste con violino", "samba alegre para dançar", "rustige pianomuziek"),
        *("spokojna muzyka", "snabb rock med trummor", "RUHIGE MUSIK"),
    ],
)
def test_other_scripts_emoji_and_languages_are_named(hardly_known, text):
    assert hardly_known(["piano", text]) == [text]


def test_nothing_is_wrong_with_no_text_and_with_signs_alone(hardly_known):
    assert hardly_known([]) == []
    assert hardly_known(["", "8", "!?"]) == []


def test_one_line_warns_of_any_number_of_texts():
    assert warning(["ночь"]).startswith("'ночь': the text model hardly knows such words;")
    assert warning(list("abcde")).startswith("'a', 'b', 'c' and 2 more: the text model hardly")
    assert warning(["a"]).count("\n") == 0
