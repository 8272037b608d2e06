"""What captions are worth beside those that people or programs gave the same clips.

BLEU is sacrebleu's over all clips, ROUGE-L rouge-score's of the nearest reference, mean over clips;
METEOR (`mulap.use.meteor`) is there where WordNet is installed. Case does not count. Other clips'
captions are scored beside them: what is common to all captions gets that much. Intervals are drawn
over whole groups.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from mulap.data.clips import Clip
from mulap.data.manifest import read_manifest
from mulap.tasks.bootstrap import bootstrap_counts, bootstrap_interval, interval_of_draws
from mulap.use.meteor import score_meteor

HUMAN = "human"  # the source of captions by people, of MusicCaps and Song Describer


def evaluate_captions(
    path: str | os.PathLike[str], data: str | os.PathLike[str], split: str = "test"
) -> tuple[dict[str, Any], list[str]]:
    """Score a file of captions on a split of a corpus.

    Args:
        path: JSON lines with `file` and `caption`, as `mulap caption --json` prints them.
        data: the corpus, as `read_manifest` takes it. Where people captioned its clips, theirs are
            the references, and all captions elsewhere.
        split: train, valid or test.

    Returns:
        Figures by name: `captions` and `others`, the floor, are those of `score_captions`; and the
        files of the clips that have no caption.

    Raises:
        ValueError: the file cannot be read, or no clip of the split has a caption in it.
    """
    given = read_captions(path)
    clips = list(read_manifest(data).split(split))
    captions, used, missing = [], [], []
    times = Counter(clip.audio_path.name for clip in clips)
    for clip in clips:
        name = clip.audio_path.name
        caption = given.get(os.path.realpath(clip.audio_path))
        if caption is None and times[name] == 1:
            caption = given.get(name)
        if caption is None:
            missing.append(os.fspath(clip.audio_path))
        else:
            captions.append(caption)
            used.append(clip)
    if not used:
        raise ValueError(
            f"{path}: names no file of the {split} split of {data}. Caption the corpus's own files."
        )
    references = [references_of(clip) for clip in used]
    groups = np.unique([clip.group for clip in used], return_inverse=True)[1]
    figures = {
        "split": split,
        "num_clips": len(used),
        "num_references": sum(map(len, references)),
        "groups": len(np.unique(groups)),
        "captions": score_captions(captions, references, groups),
        "others": score_captions(others_captions(captions, groups), references, groups),
    }
    return figures, missing


def read_captions(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read captions from JSON lines.

    Returns:
        File -> caption, by its real path, and by its name as well where only one file has it.

    Raises:
        ValueError: a line is no object with `file` and `caption`.
    """
    rows: list[tuple[str, str]] = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            file, caption = row["file"], row["caption"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: line {number} is no JSON object with file and caption. Make it with "
                "mulap caption --json."
            ) from error
        rows.append((str(file), str(caption)))
    times = Counter(os.path.basename(file) for file, _ in rows)
    by_name = {os.path.basename(file): caption for file, caption in rows}
    captions = {name: caption for name, caption in by_name.items() if times[name] == 1}
    return captions | {os.path.realpath(file): caption for file, caption in rows}


def references_of(clip: Clip) -> list[str]:
    """Return a clip's captions by people, or all where there are none."""
    if HUMAN in clip.caption_sources:
        both = zip(clip.captions, clip.caption_sources, strict=True)
        return [caption for caption, source in both if source == HUMAN]
    return list(clip.captions)


def score_captions(
    captions: Sequence[str], references: Sequence[Sequence[str]], groups: np.ndarray
) -> dict[str, Any]:
    """Score one caption per clip.

    Args:
        captions: of n clips.
        references: of each, one or more.
        groups: of each, from 0 (n,).

    Returns:
        `bleu`, `rouge_l` and, where WordNet is installed, `meteor`, between 0 and 100; their
        intervals, such as `bleu/95%`, None if there is one group; `words`, the mean length;
        `different`, how many captions differ.
    """
    bleu, scorer = BLEU(lowercase=True, effective_order=True), RougeScorer(["rougeL"])
    rows = []  # of each clip: matches and n-grams of four orders, lengths
    rouge = np.empty(len(captions))
    for index, (caption, own) in enumerate(zip(captions, references, strict=True)):
        counts = bleu.sentence_score(caption, own)
        rows.append([*counts.counts, *counts.totals, counts.sys_len, counts.ref_len])
        rouge[index] = 100 * scorer.score_multi(own, caption)["rougeL"].fmeasure
    sums = np.array(rows)
    draws = bootstrap_counts(groups) @ sums
    of_draws = np.array([_bleu(each) for each in draws])
    means = {"rouge_l": rouge, "meteor": score_meteor(captions, references)}
    of_means = {name: values for name, values in means.items() if values is not None}
    return {
        "bleu": _bleu(sums.sum(0)),
        "bleu/95%": interval_of_draws(of_draws, groups),
        **{name: float(values.mean()) for name, values in of_means.items()},
        **{f"{name}/95%": bootstrap_interval(each, groups) for name, each in of_means.items()},
        "words": float(np.mean([len(caption.split()) for caption in captions])),
        "different": len(set(captions)),
    }


def _bleu(sums: np.ndarray) -> float:
    """Return the corpus's BLEU from sums over its clips, as sacrebleu does."""
    values = sums.tolist()
    return BLEU.compute_bleu(values[:4], values[4:8], values[8], values[9], "exp").score


def others_captions(captions: Sequence[str], groups: np.ndarray) -> list[str]:
    """Return for each clip the caption of another one, of another group if half are."""
    order = np.argsort(groups, kind="stable")
    chosen = np.empty(len(order), np.int64)
    chosen[order] = np.roll(order, len(order) // 2)
    return [captions[index] for index in chosen.tolist()]
