"""The tables behind the demo corpus: styles, instruments and regions, with the words people use.

A style row names a groove file of the MMA library and what a listener would call it; the grooves
themselves and their one-line descriptions are read from the installed library when a corpus is
made, so nothing of MMA is copied here. Instruments are General MIDI programs. Nothing here knows
about files, notes or sentences: `scores` and `text` do.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """One groove file of the MMA library.

    Attributes:
        file: its path in the library, without ending.
        words: what people call the style; the first one is the label.
        family: the broad class, the label for probes.
        slowest_bpm, fastest_bpm: felt beats a minute between which the tempo is drawn.
        metre: as heard, for instance "3/4".
        beats_per_bar: MMA's own beats in a bar.
        mma_beats_per_beat: MMA's beats in one felt beat (3 where MMA counts eighths in 6/8).
    """

    file: str
    words: tuple[str, ...]
    family: str
    slowest_bpm: int
    fastest_bpm: int
    metre: str = "4/4"
    beats_per_bar: int = 4
    mma_beats_per_beat: int = 1


@dataclass(frozen=True)
class Instrument:
    """One instrument that the demo puts into a clip on its own account.

    Attributes:
        name: the label.
        program: General MIDI program, from 0.
        family: a class much like NSynth's.
        lowest, highest: MIDI pitches between which it sounds like itself.
        roles: letters out of L (lead), C (chords) and D (drone).
    """

    name: str
    program: int
    family: str
    lowest: int
    highest: int
    roles: str


# file | words | family | slowest fastest | metre, MMA beats a bar, MMA beats a felt beat
_STYLE_ROWS = """
stdlib/bossanova|bossa nova,bossa|latin|110 160
kara/kbossa|bossa nova,bossa|latin|105 140
yamaha/jazzbossa|jazz bossa,bossa nova|latin|110 150
stdlib/samba|samba|latin|150 210
yamaha/quando-g.s280|samba|latin|110 160
stdlib/rhumba|rumba,rhumba|latin|95 135
stdlib/jazzrhumba|rumba,rhumba|latin|95 135
stdlib/beguine|beguine|latin|95 130
stdlib/mambo|mambo|latin|140 190
yamaha/mambo|mambo|latin|140 190
stdlib/chacha|cha-cha,cha cha cha|latin|105 135
stdlib/salsa|salsa|latin|150 200
yamaha/salsa1|salsa|latin|150 200
yamaha/salsa2|salsa|latin|150 200
stdlib/son|Cuban son|latin|110 160
stdlib/merengue|merengue|latin|120 165
stdlib/bolero|bolero|latin|75 110
stdlib/slowbolero|bolero|latin|60 85
stdlib/tango|tango|tango|100 135
stdlib/lighttango|tango|tango|95 130
stdlib/lfusion|Latin fusion|latin|110 160
casio/latinfusion|Latin fusion|latin|110 150
stdlib/calypso|calypso|caribbean|120 180
stdlib/ska|ska|caribbean|110 165
stdlib/zydeco|zydeco,Cajun|caribbean|120 180
stdlib/swing|swing,swing jazz|jazz|120 200
stdlib/fastswing|swing,swing jazz|jazz|190 240
casio/swing|swing,swing jazz|jazz|120 190
casio/slowswing|swing,swing jazz|jazz|70 105
stdlib/bigband|big band,big band swing|jazz|120 190
casio/fastbigband|big band,big band swing|jazz|170 220
casio/slowbigband|big band,big band swing|jazz|65 100
yamaha/jazzbasie|big band,big band swing|jazz|110 170
stdlib/bebop|bebop,bop|jazz|190 250
stdlib/jazzcombo|jazz,small-group jazz|jazz|120 190
stdlib/jazzguitar|jazz,easy jazz|jazz|90 160
stdlib/slowjazz|jazz,late-night jazz|jazz|55 85
stdlib/mellowjazz|jazz,mellow jazz|jazz|55 85
stdlib/nitejazz|jazz,late-night jazz|jazz|55 80
stdlib/modernjazz|modern jazz|jazz|100 160
yamaha/jazztrio|jazz,jazz trio|jazz|120 180
yamaha/jazzswing|swing,swing jazz|jazz|120 180
stdlib/gypsyjazz|gypsy jazz,hot club jazz|jazz|170 230
stdlib/jazz-54|five-four jazz|jazz|130 180|5/4 5 1
stdlib/foxtrot|foxtrot|dance band|110 140
stdlib/quickstep|quickstep|dance band|180 220
stdlib/charleston|charleston,twenties dance|dance band|180 240
stdlib/softshoe|soft shoe|dance band|90 120
stdlib/ragtime|ragtime,rag|ragtime|140 200
stdlib/waltz|waltz|waltz|90 150|3/4 3 1
stdlib/fastwaltz|waltz|waltz|170 220|3/4 3 1
stdlib/frenchwaltz|French waltz,musette waltz|waltz|130 180|3/4 3 1
stdlib/vienesewaltz|Viennese waltz|waltz|160 200|3/4 3 1
stdlib/jazzwaltz|jazz waltz|waltz|110 170|3/4 3 1
stdlib/latinwaltz|Latin waltz|waltz|100 150|3/4 3 1
stdlib/broadwaywaltz|stage waltz,waltz|waltz|110 170|3/4 3 1
stdlib/rockwaltz|rock waltz|waltz|90 140|3/4 3 1
casio/popwaltz|pop waltz|waltz|90 140|3/4 3 1
stdlib/arpeggiowaltz|arpeggio study,broken-chord study|study|90 150|3/4 3 1
stdlib/arpeggio44|arpeggio study,broken-chord study|study|70 130
stdlib/arpeggio68|arpeggio study,broken-chord study|study|50 80|6/8 6 3
stdlib/march|march|march|100 130
casio/march1|march|march|100 130
casio/germanmarch|German march,march|march|105 130
stdlib/68march|march|march|100 130|6/8 2 1
stdlib/polka|polka|polka|110 150
casio/polka|polka|polka|110 150
casio/polkafox|polka|polka|105 145
stdlib/broadway|show tune,Broadway tune|show tune|170 240
stdlib/slowbroadway|show tune,Broadway tune|show tune|80 120
stdlib/showtune|show tune,stage tune|show tune|120 180
stdlib/blues|blues|blues|85 140
casio/blues|blues|blues|80 130
stdlib/fastblues|blues|blues|150 200
stdlib/slowblues|blues|blues|55 80
stdlib/countryblues|country blues|blues|75 120
stdlib/blues128|blues in triplets,blues|blues|50 80
stdlib/boggiewoggie|boogie-woogie,boogie|blues|130 180
stdlib/shuffleboggie|shuffle blues,boogie|blues|110 150
stdlib/bluegrass|bluegrass|country|110 160
yamaha/western|western,country and western|country|110 160
stdlib/westernswing|western swing|country|120 180
stdlib/slowcountry|country|country|65 95
stdlib/hillcountry|hillbilly country,country|country|110 160
stdlib/folk|folk|folk|90 140
stdlib/folkballad|folk ballad|folk|65 100
stdlib/bluefolk|blue folk,folk|folk|75 115
stdlib/lullaby|lullaby|folk|60 90
stdlib/hymn|hymn|gospel|65 100
stdlib/spiritual|spiritual,gospel|gospel|120 180
stdlib/slowspiritual|spiritual,gospel|gospel|60 90
stdlib/popballad|pop ballad|ballad|60 95
stdlib/rockballad|rock ballad|ballad|60 90
stdlib/ballad128|ballad in triplets,ballad|ballad|50 75
casio/8beatballad1|ballad|ballad|60 90
kara/kwestballad|western ballad,ballad|ballad|65 100
stdlib/stringballad|ballad|ballad|55 85
stdlib/50srock|fifties rock,rock and roll|rock|120 180
stdlib/60srock|sixties rock|rock|120 165
stdlib/basicrock|rock|rock|105 150
casio/rock1|rock|rock|105 150
stdlib/softrock|soft rock|rock|85 125
stdlib/folkrock|folk rock|rock|100 140
casio/heavymetal|heavy metal,metal|rock|125 175
casio/shufflerock|shuffle rock|rock|110 150
stdlib/twist|twist,fifties twist|rock|140 180
casio/60spop|sixties pop|pop|110 150
casio/80spop|eighties pop|pop|105 140
casio/popshuffle1|pop shuffle|pop|100 140
stdlib/bubblerock|bubblegum pop|pop|110 150
casio/electricpop|electropop|pop|110 140
stdlib/rb|rhythm and blues,R&B|soul and funk|85 120
casio/soul|soul|soul and funk|90 130
kara/8beatmotown|Motown soul,soul|soul and funk|100 140
casio/funk1|funk|soul and funk|90 125
kara/Kfunk1|funk|soul and funk|90 120
stdlib/bvfunk|funk|soul and funk|90 125
casio/discosoul|disco|electronic|108 130
casio/house|house|electronic|118 132
casio/techno|techno|electronic|125 150
alexis/teamtechno|techno|electronic|125 150
casio/rave|rave|electronic|135 160
stdlib/trance|trance|electronic|128 145
casio/trance1|trance|electronic|128 145
casio/triphop|trip hop|electronic|75 100
alexis/hiphop|hip hop|electronic|80 105
casio/ambient1|ambient|electronic|60 90
"""

# name | program | family | lowest highest | roles
_INSTRUMENT_ROWS = """
piano|0|keyboard|48 96|LC
electric piano|4|keyboard|48 88|LC
harpsichord|6|keyboard|48 84|LC
celesta|8|mallet|67 100|L
vibraphone|11|mallet|55 88|LC
marimba|12|mallet|52 88|LC
xylophone|13|mallet|67 100|L
organ|16|organ|48 84|LCD
church organ|19|organ|48 84|LCD
accordion|21|reed|55 86|LCD
harmonica|22|reed|60 84|L
classical guitar|24|guitar|45 79|LC
acoustic guitar|25|guitar|45 79|LC
electric guitar|27|guitar|45 82|LC
distorted guitar|30|guitar|45 79|L
violin|40|strings|58 93|L
cello|42|strings|38 69|LD
strings|48|strings|48 86|LCD
pizzicato strings|45|strings|50 84|LC
harp|46|plucked|45 91|LC
choir|52|voice|50 79|LCD
trumpet|56|brass|55 82|L
trombone|57|brass|42 70|L
french horn|60|brass|43 74|L
brass section|61|brass|48 79|LC
saxophone|65|reed|50 80|L
oboe|68|reed|58 86|L
bassoon|70|reed|38 67|L
clarinet|71|reed|52 86|L
flute|73|flute|62 93|L
recorder|74|flute|65 93|L
pan flute|75|flute|62 90|L
ocarina|79|flute|60 91|L
synthesizer|81|synth|50 86|L
sitar|104|plucked|50 79|L
banjo|105|plucked|50 81|LC
koto|107|plucked|50 81|L
bagpipes|109|reed|55 79|L
steel drums|114|mallet|57 84|L
"""

# For parts that keep the program MMA gives them: first-last program | name.
# Programs that have no name here are heard, but neither labelled nor mentioned.
_PROGRAM_NAMES = """
0-3|piano;4-5|electric piano;6-6|harpsichord;7-7|clavinet;8-8|celesta;9-9|glockenspiel
11-11|vibraphone;12-12|marimba;13-13|xylophone;14-14|tubular bells;15-15|dulcimer;16-18|organ
19-19|church organ;20-20|organ;21-21|accordion;22-22|harmonica;23-23|accordion
24-24|classical guitar;25-25|acoustic guitar;26-28|electric guitar;29-30|distorted guitar
32-32|double bass;33-37|electric bass;38-39|synth bass;40-40|violin;41-41|viola;42-42|cello
43-43|double bass;44-44|strings;45-45|pizzicato strings;46-46|harp;47-47|timpani;48-51|strings
52-54|choir;56-56|trumpet;57-57|trombone;58-58|tuba;59-59|trumpet;60-60|french horn
61-63|brass section;64-67|saxophone;68-68|oboe;70-70|bassoon;71-71|clarinet;72-72|piccolo
73-73|flute;74-74|recorder;75-75|pan flute;78-78|whistle;79-79|ocarina;80-103|synthesizer
104-104|sitar;105-105|banjo;106-106|shamisen;107-107|koto;108-108|kalimba;109-109|bagpipes
110-110|violin;114-114|steel drums
"""
_OTHER_FAMILIES = {
    "clavinet": "keyboard", "glockenspiel": "mallet", "tubular bells": "mallet",
    "dulcimer": "plucked", "viola": "strings", "timpani": "drums", "tuba": "brass",
    "piccolo": "flute", "ocarina": "flute", "shamisen": "plucked", "kalimba": "plucked",
    "double bass": "bass", "electric bass": "bass", "synth bass": "bass", "drums": "drums",
}  # fmt: skip

# File-name start in the Essen collection | country or region | its adjective | how often drawn
_REGION_ROWS = """
deut|Germany|German|8
han|China|Chinese|6
shanx|Shanxi in China|Chinese|4
natmn|China|Chinese|2
oestr|Austria|Austrian|3
suisse|Switzerland|Swiss|3
elsass|Alsace|Alsatian|3
neder|the Netherlands|Dutch|3
lothr|Lorraine|Lorraine|2
jugos|Yugoslavia|Yugoslav|3
magyar|Hungary|Hungarian|3
czech|the Czech lands|Czech|3
ussr|the former Soviet Union|Soviet|2
romani|Romania|Romanian|2
polska|Poland|Polish|2
tirol|Tyrol|Tyrolean|1
france|France|French|1
ukrain|Ukraine|Ukrainian|1
sverig|Sweden|Swedish|1
steier|Styria|Styrian|1
"""


def _rows(table: str) -> list[list[str]]:
    return [line.split("|") for line in table.strip().splitlines()]


def _style(cells: list[str]) -> Style:
    file, words, family, tempo = cells[:4]
    slowest, fastest = (int(bpm) for bpm in tempo.split())
    if len(cells) == 4:
        return Style(file, tuple(words.split(",")), family, slowest, fastest)
    metre, beats, ratio = cells[4].split()
    return Style(
        file, tuple(words.split(",")), family, slowest, fastest, metre, int(beats), int(ratio)
    )


def _instrument(cells: list[str]) -> Instrument:
    name, program, family, pitches, roles = cells
    lowest, highest = (int(pitch) for pitch in pitches.split())
    return Instrument(name, int(program), family, lowest, highest, roles)


def _program_names() -> dict[int, str]:
    names: dict[int, str] = {}
    for entry in _PROGRAM_NAMES.strip().replace("\n", ";").split(";"):
        programs, name = entry.split("|")
        first, last = (int(program) for program in programs.split("-"))
        names.update(dict.fromkeys(range(first, last + 1), name))
    return names


STYLES = tuple(_style(cells) for cells in _rows(_STYLE_ROWS))
INSTRUMENTS = {cells[0]: _instrument(cells) for cells in _rows(_INSTRUMENT_ROWS)}
PROGRAM_NAMES = _program_names()
FAMILY_OF = {name: instrument.family for name, instrument in INSTRUMENTS.items()} | _OTHER_FAMILIES
# start of the file name -> (place, adjective, weight)
REGIONS = {start: (place, word, int(weight)) for start, place, word, weight in _rows(_REGION_ROWS)}
