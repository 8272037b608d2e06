"""What people call what is heard: by word, its wordings."""

# What a word is called: alone, and before a noun.
GENRES_ALONE = {
    "classical": ("classical music",),
    "techno": ("techno", "techno music"),
    "electronic": ("electronic music", "electronica"),
    "ambient": ("ambient music", "ambient"),
    "house": ("house", "house music"),
    "dance": ("dance music",),
    "new age": ("new age music", "new age"),
    "indie": ("indie music",),
    "rock": ("rock", "rock music"),
    "pop": ("pop", "pop music"),
    "folk": ("folk", "folk music"),
    "country": ("country", "country music"),
    "jazz": ("jazz", "jazz music"),
    "hip-hop": ("hip-hop", "hip hop", "hip-hop music"),
    "R&B": ("R&B", "rhythm and blues"),
    "Indian": ("Indian music",),
    "experimental": ("experimental music",),
    **{
        word: (f"{word} music",)
        for word in (
            "alternative Celtic club contemporary industrial Latin medieval minimal "
            "orchestral progressive psychedelic symphonic world improvised old-time "
            "international".split()
        )
    },
    "easy listening": ("easy listening", "easy-listening music"),
}
ADJECTIVES = {
    "easy listening": ("easy-listening",),
    "hip-hop": ("hip-hop", "hip hop"),
    "chilled": ("chilled", "laid-back", "relaxing"),
    "sad": ("sad", "melancholy"),
    "happy": ("happy", "cheerful"),
    "strange": ("strange", "weird"),
    "soft": ("soft", "gentle"),
    "slow": ("slow", "slow-paced", "unhurried"),
    "fast": ("fast", "fast-paced", "quick"),
    "old": ("vintage", "old-time"),
    "60s": ("60s-style", "60s"),
    "70s": ("70s-style", "70s"),
    "80s": ("80s-style", "80s"),
    "90s": ("90s-style", "90s"),
}
INSTRUMENTS = {
    "synthesizer": ("synthesizer", "synth"),
    "drums": ("drums", "drums", "percussion"),
    "strings": ("strings", "strings", "a string section"),
    "a beat": ("a beat", "beats"),
}
NO_ARTICLE = ("drums", "percussion", "strings", "beats", "bells", "pads", "brass")
VOICES = {
    "female": ("female vocals", "a female voice", "a female singer", "a woman singing"),
    "male": ("male vocals", "a male voice", "a male singer", "a man singing"),
    "singing": ("vocals", "singing", "a singer"),
    "choir": ("a choir", "choir voices", "choral singing"),
}
SINGERS = {
    "female": ("a woman", "a female singer"),
    "male": ("a man", "a male singer"),
    "singing": ("a singer",),
    "choir": ("a choir",),
}
MODES = {"minor": ("in a minor key", "in minor"), "major": ("in a major key", "in major")}
CHANGES = {
    "louder": ("that grows louder", "that starts quietly and gets louder"),
    "softer": ("that gets quieter towards the end", "that dies down"),
}
