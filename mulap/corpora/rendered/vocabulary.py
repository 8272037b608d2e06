"""Words for the captions of rendered music: genres, families, tempi, moods, effects, history."""

GENRE_WORDS = {
    "latin": ("Latin music", "Latin dance music"),
    "tango": ("tango music",),
    "caribbean": ("Caribbean music",),
    "jazz": ("jazz", "jazz music"),
    "dance band": ("ballroom dance music", "dance band music"),
    "ragtime": ("ragtime music",),
    "waltz": ("waltz music",),
    "march": ("marching music",),
    "polka": ("polka music",),
    "show tune": ("Broadway music", "musical theatre"),
    "blues": ("blues", "blues music"),
    "country": ("country", "country music"),
    "folk": ("folk", "folk music"),
    "gospel": ("gospel", "church music"),
    "ballad": ("ballad",),
    "rock": ("rock", "rock music"),
    "pop": ("pop", "pop music"),
    "electronic": ("electronic music",),
    "folk melody": ("folk music", "traditional music"),
    "folk dance": ("folk dance music", "traditional dance tune", "folk music"),
    "classical": ("classical music",),
    "drums": ("drums",),
}
FAMILY_WORDS = {
    "keyboard": ("keyboard",),
    "mallet": ("mallet percussion",),
    "organ": ("organ",),
    "guitar": ("guitar",),
    "bass": ("bass",),
    "strings": ("strings",),
    "plucked": ("plucked string instrument",),
    "voice": ("voices",),
    "brass": ("brass",),
    "flute": ("wind instrument",),
    "reed": ("wind instrument",),
    "synth": ("synth", "synthesizer"),
    "drums": ("percussion",),
}
"""Family of an instrument -> what a listener may call it."""

TEMPO_WORDS = {
    "slow": ("slow", "slow", "slow-paced", "unhurried"),
    "medium": ("mid-tempo", "medium-tempo", "moderate"),
    "fast": ("fast", "fast", "quick", "lively", "upbeat"),
}
MOODS = {
    ("minor", "slow"): ("sad", "melancholic", "mournful", "wistful", "sombre"),
    ("minor", "fast"): ("tense", "dark", "restless", "urgent"),
    ("major", "slow"): ("calm", "peaceful", "gentle", "relaxing", "tender"),
    ("major", "fast"): ("happy", "cheerful", "bright", "joyful"),
}
METRES = {
    "3/4": ("in 3/4", "in triple time"),
    "6/8": ("in 6/8", "in six-eight time"),
    "5/4": ("in 5/4",),
}
EFFECT_PHRASES = {
    "reverb": ("with reverb", "in a reverberant room"),
    "long reverb": ("with long reverb", "in a large, echoing hall", "drenched in reverb"),
    "dry": ("with a dry sound", "recorded dry, without reverb"),
    "lo-fi": ("with a lo-fi sound", "with the muffled sound of a worn tape"),
    "telephone": ("with a thin, tinny sound", "as if heard over the telephone"),
    "noise": ("with background hiss", "in a noisy recording"),
    "crackle": ("with vinyl crackle", "like a crackling old record"),
    "echo": ("with echo", "with a repeating echo"),
}
EFFECT_TAGS = {
    "reverb": "reverb", "long reverb": "spacious", "lo-fi": "lo-fi", "telephone": "tinny",
    "noise": "noisy recording", "crackle": "vinyl crackle", "echo": "echo",
}  # fmt: skip
PERIODS = {
    "Baroque": "Baroque", "Classical": "classical", "Romantic": "Romantic",
    "Renaissance": "Renaissance", "medieval": "medieval",
}  # fmt: skip
COMPOSERS = {
    "Johann Sebastian Bach": "Bach",
    "Ludwig van Beethoven": "Beethoven",
    "Joseph Haydn": "Haydn",
    "Wolfgang Amadeus Mozart": "Mozart",
    "Robert Schumann": "Schumann",
    "Claudio Monteverdi": "Monteverdi",
    "Carl Maria von Weber": "Weber",
    "Carl Philipp Emanuel Bach": "C. P. E. Bach",
    "Arcangelo Corelli": "Corelli",
}
"""Composers -> how they are usually called; others by their whole name."""

NOUN_STYLES = frozenset(
    "waltz march polka tango rumba rhumba beguine mambo bolero samba merengue foxtrot quickstep "
    "charleston rag ballad study lullaby hymn spiritual tune twist shuffle calypso jig reel "
    "hornpipe strathspey air song melody dance chorale madrigal quartet fugue sonata concertino "
    "polonaise piece music".split()
)
"""Last words of a style that need no "tune" or "piece" behind them."""

SINGULAR_WITHOUT_ARTICLE = frozenset(
    ("brass", "synth brass", "percussion", "whistling", "clapping", "a person whistling")
)
HAS_NO_ARTICLE = SINGULAR_WITHOUT_ARTICLE | frozenset(
    "strings,pizzicato strings,plucked strings,tremolo strings,orchestral strings,slow strings,"
    "synth strings,choir voices,wordless voices,choir aahs,voice oohs,bells,church bells,"
    "bagpipes,pipes,vibes,steel drums,steel pans,drums,panpipes,tubular bells,kettledrums,timpani,"
    "bongos,congas,timbales,hand claps,maracas,claves,wooden sticks,cymbal crashes,agogo bells,"
    "brushed drums,synth chords,noise drums,8-bit drums,triangle percussion".split(",")
)
"""Names of instruments and players without "a" before them; a verb after most takes no s."""
