"""Are words such that the text model knows them? It was trained on English in Latin letters.

One sign is enough: a character that the vocabulary lacks; an accent; a common word of another
European language; words that the tokenizer can only spell, most of them or one in many pieces,
unless they are among the tags that come with mulap. How often that errs is in docs/zero-shot.md.
"""

import re
from collections.abc import Sequence
from functools import cache

from mulap.encoders.tokens import Tokenizer
from mulap.encoders.zero_shot import default_tags

_SPELT_PIECES = 5  # of one word in a phrase; most English words of music have fewer
_SHOWN = 3
_WORD = re.compile(r"[^\W\d_]+")
# No word here is also one of English, or of the music that it names ("son", "de", "die", "canto").
_FOREIGN = frozenset(
    """
    au aux avec dans des du est et les pour sans sur une
    musique guitare batterie voix homme femme triste lente rapide douce calme orgue violon
    rythme cordes harpe trompette danse tambours
    auf das der ein eine einen ist mit ohne und von zum zur für
    musik klavier gitarre schlagzeug stimme geige traurig traurige schnell schnelle langsam langsame
    rhythmus chor harfe streicher trompete trommeln tanz
    al con del el las los para por sin una uno y
    música canción guitarra batería voz hombre mujer rápida tranquila suave violín órgano
    ritmo coro cuerdas arpa trompeta baile tambores
    che di della gli il nel
    musica canzone chitarra batteria voce uomo donna veloce lenta dolce violino organo
    archi tromba ballo tamburi
    ao com da dos em na um uma
    canção bateria homem mulher calma violão
    cordas dança
    een en het met om voor zonder
    muziek gitaar stem droevig snel snelle langzaam zacht rustig rustige
    koor harde dansen trommels
    och med som utan till att
    muzyka piosenka gitara perkusja skrzypce smutna szybka spokojna głos
    """.split()
)


def hardly_known(texts: Sequence[str], tokenizer: Tokenizer) -> list[str]:
    """Return those of some texts whose words the text model hardly knows.

    Args:
        texts: tags, queries or sentences.
        tokenizer: of the text model.
    """
    return [text for text in texts if _is_hardly_known(text, tokenizer)]


def _is_hardly_known(text: str, tokenizer: Tokenizer) -> bool:
    if tokenizer.unknown in tokenizer.pieces(text):
        return True
    words = _WORD.findall(text.lower())
    if not text.isascii() and any(not word.isascii() for word in words):
        return True
    if not _FOREIGN.isdisjoint(words):
        return True
    pieces = [1 if word in _own_words() else len(tokenizer.pieces(word)) for word in words]
    if len(words) < 2:
        return sum(pieces) >= _SPELT_PIECES - 1
    return max(pieces) >= _SPELT_PIECES or 2 * sum(count > 1 for count in pieces) > len(words)


@cache
def _own_words() -> frozenset[str]:
    return frozenset(word for tag in default_tags() for word in _WORD.findall(tag))


def warning(texts: Sequence[str]) -> str:
    """Return one line about texts from `hardly_known`; the remedy is in it."""
    some = ", ".join(f"'{text}'" for text in texts[:_SHOWN])
    more = f" and {len(texts) - _SHOWN:,} more" if len(texts) > _SHOWN else ""
    return (
        f"{some}{more}: the text model hardly knows such words; what it finds says little. "
        "Use plain English."
    )
