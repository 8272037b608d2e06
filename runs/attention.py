"""What the co-attention looks at, by kinds of words, and whether that is what its answer rests on.

    python runs/attention.py CORPUS OUT [--clips 150] [--split test] [--model mulap-small]

CORPUS is an audiofolder with captions. OUT gets attention.json and attention.png. For each caption
of each clip it asks two questions: which words the audio stream looks at (1: as if evenly), and how
much the log-odds of a match fall when words are left out. Intervals are over groups.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mulap.data.manifest import read_manifest
from mulap.encoders.engine import Engine, load_engine
from mulap.encoders.zero_shot import tags_by_kind
from mulap.tasks.bootstrap import bootstrap_interval
from mulap.use.explain import explain_features

OTHER = "other words"
CAPTIONS_OF_A_CLIP = 2
LONGEST_PHRASE = 4  # words


def words_of(tokens: tuple[str, ...]) -> list[tuple[str, list[int]]]:
    """Join the pieces of words: each word and its tokens' places; [CLS] and [SEP] left out."""
    words: list[tuple[str, list[int]]] = []
    for place, token in enumerate(tokens):
        if token.startswith("##") and words:
            before, places = words[-1]
            words[-1] = (before + token[2:], [*places, place])
        elif token not in ("[CLS]", "[SEP]"):
            words.append((token, [place]))
    return words


def phrases(words: list[str], kinds: dict[tuple[str, ...], str]) -> Iterator[tuple[int, int, str]]:
    """Yield where phrases that have a kind begin and end, the longest first, and other words."""
    start = 0
    while start < len(words):
        for length in range(min(LONGEST_PHRASE, len(words) - start), 0, -1):
            if kind := kinds.get(tuple(words[start : start + length])):
                break
        else:
            length, kind = 1, OTHER
        if kind != OTHER or words[start].isalnum():
            yield start, start + length, kind
        start += length


def log_odds(engine: Engine, features: np.ndarray, texts: list[str]) -> np.ndarray:
    """Return the log-odds of a match, float64 (N,)."""
    scores = engine.match(features, texts).astype(np.float64)
    return np.log(scores / (1 - scores))


def interval(values: list[float], groups: list[str]) -> list[float]:
    """Return the mean, and its 95 % interval over whole groups."""
    ends = bootstrap_interval(np.array(values), np.array(groups))
    return [float(np.mean(values)), *(ends or (float("nan"), float("nan")))]


def analyse(engine: Engine, corpus: Path, split: str, num_clips: int) -> dict:
    """Ask both questions of the captions of some clips, spread evenly."""
    clips = read_manifest(corpus).split(split)
    chosen = np.linspace(0, len(clips) - 1, min(num_clips, len(clips))).astype(int)
    kinds = {}
    for kind, tag in ((kind, tag) for kind, tags in tags_by_kind().items() for tag in tags):
        tokens = tuple(engine.vocabulary.words[index] for index in engine.tokenize([tag]).ids[0])
        kinds[tuple(word for word, _ in words_of(tokens))] = kind
    found, asked = defaultdict(list), defaultdict(list)
    for clip in (clips[index] for index in chosen.tolist()):
        features = engine.backbone.embed(clip.audio_path).embeddings
        for text in clip.captions[:CAPTIONS_OF_A_CLIP]:
            attention = engine.attend(features, text)
            weights = attention.of_audio.mean((0, 1, 2)) * len(attention.tokens)
            words = words_of(attention.tokens)
            spans = list(phrases([word for word, _ in words], kinds))
            if len(spans) < 2:
                continue
            without = [
                " ".join(word for word, _ in words[:first] + words[last:])
                for first, last, _ in spans
            ]
            odds = log_odds(engine, features, [text, *without])
            for (first, last, kind), left in zip(spans, odds[1:], strict=True):
                places = [place for _, each in words[first:last] for place in each]
                found[kind].append((weights[places].mean(), odds[0] - left, clip.group))
            for by in ("joint", "match"):
                of_clip = explain_features(engine, features, text, by)
                if of_clip.agreement is None:
                    continue
                effects = np.array([part.effect for part in of_clip.parts])
                looked = int(np.argmax([part.attention for part in of_clip.parts]))
                numbers = (of_clip.agreement, effects[looked], effects.mean(), effects.max())
                asked[by].append((*numbers, clip.group))
    result: dict = {"clips": len(chosen), "kinds": {}, "segments": {}}
    for kind, rows in found.items():
        looks, effects, groups = zip(*rows, strict=True)
        result["kinds"][kind] = {
            "phrases": len(rows),
            "attention": interval(looks, groups),
            "effect": interval(effects, groups),
            "correlation": float(np.corrcoef(looks, effects)[0, 1]),
        }
    for by, rows in asked.items():
        *columns, groups = zip(*rows, strict=True)
        names = ("agreement", "lost_most_looked_at", "lost_any", "lost_most")
        result["segments"][by] = {
            name: interval(column, groups) for name, column in zip(names, columns, strict=True)
        }
    return result


def draw(result: dict, path: Path) -> None:
    """Draw attention and effect of each kind of words, with intervals."""
    kinds = sorted(result["kinds"], key=lambda kind: -result["kinds"][kind]["effect"][0])
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    titles = {
        "attention": "what the audio looks at (1: as if evenly)",
        "effect": "what the log-odds of a match lose without",
    }
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        mean, low, high = np.array([result["kinds"][kind][name] for kind in kinds]).T
        error = [(mean - low).clip(0), (high - mean).clip(0)]
        axis.barh(range(len(kinds)), mean, xerr=error, color="#2a6f97", ecolor="#444444")
        axis.axvline(1 if name == "attention" else 0, color="#999999", linewidth=0.8)
        axis.set_xlabel(title)
        axis.spines[["top", "right"]].set_visible(False)
    labels = [f"{kind} ({result['kinds'][kind]['phrases']})" for kind in kinds]
    axes[0].set_yticks(range(len(kinds)), labels)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=130, metadata={"Software": None})


def main() -> None:
    """Write the numbers and the figure."""
    parser = argparse.ArgumentParser(
        description="What the co-attention looks at, by kinds of words."
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=150)
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", default="mulap-small")
    arguments = parser.parse_args()
    engine = load_engine(arguments.model)
    result = analyse(engine, arguments.corpus, arguments.split, arguments.clips)
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2)
    (arguments.out / "attention.json").write_text(text + "\n", encoding="utf-8")
    draw(result, arguments.out / "attention.png")
    print(text)


if __name__ == "__main__":
    main()
