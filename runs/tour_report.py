"""The tour's last stage: frozen-feature scores, a plot of the losses, and report.md.

    python runs/tour_report.py tour

Reads what the stages before it wrote (evaluation.json, run/log.jsonl, trained.parquet,
random.parquet, corpus/metadata.csv, stages.tsv) and prints no number that is not from there. The
probe is scikit-learn's ridge classifier on standardised track embeddings; its penalty is chosen on
the validation split. The library's own probes are another issue's.
"""

import csv
import json
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mulap.data.manifest import read_manifest
from mulap.tasks.bootstrap import bootstrap_interval
from mulap.vectors.table import read_embeddings

LABELS = ("instrument_family", "has_drums", "style_family")
PENALTIES = (10.0, 100.0, 1_000.0, 10_000.0)
BACKBONES = {"trained": "trained.parquet", "random": "random.parquet"}


def read_labels(corpus: Path) -> dict[str, dict[str, str]]:
    """Return the rows of the corpus by the name of the audio file."""
    with open(corpus / "metadata.csv", encoding="utf-8", newline="") as file:
        return {Path(row["file_name"]).name: row for row in csv.DictReader(file)}


def probe(
    features: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
) -> tuple[np.ndarray, float]:
    """Train a probe on frozen features and test it.

    Args:
        features: by split, (tracks, D).
        labels: by split, (tracks,).

    Returns:
        Whether each test track was classified correctly (tracks,), and the penalty chosen on valid.
    """
    fitted = {
        penalty: make_pipeline(StandardScaler(), RidgeClassifier(alpha=penalty)).fit(
            features["train"], labels["train"]
        )
        for penalty in PENALTIES
    }
    best = max(PENALTIES, key=lambda alpha: fitted[alpha].score(features["valid"], labels["valid"]))
    return fitted[best].predict(features["test"]) == labels["test"], best


def probe_all(folder: Path) -> list[dict[str, object]]:
    """Probe every label with every backbone; return a row each."""
    corpus = folder / "corpus"
    rows = read_labels(corpus)
    clips = {clip.audio_path.name: clip for clip in read_manifest(corpus).clips}
    results: list[dict[str, object]] = []
    for label in LABELS:
        for backbone, file in BACKBONES.items():
            table = read_embeddings(folder / file)
            names = [Path(name).name for name in table.files]
            splits = np.array([clips[name].split for name in names])
            groups = np.array([clips[name].group for name in names])
            values = np.array([rows[name][label] for name in names])
            by_split = {split: splits == split for split in ("train", "valid", "test")}
            is_right, penalty = probe(
                {split: table.embeddings[mask] for split, mask in by_split.items()},
                {split: values[mask] for split, mask in by_split.items()},
            )
            _, counts = np.unique(values[by_split["train"]], return_counts=True)
            most_frequent = np.unique(values[by_split["train"]])[counts.argmax()]
            results.append(
                {
                    "label": label,
                    "backbone": backbone,
                    "accuracy": is_right.mean(),
                    "interval": bootstrap_interval(is_right, groups[by_split["test"]]),
                    "chance": (values[by_split["test"]] == most_frequent).mean(),
                    "classes": len(np.unique(values)),
                    "tracks": len(is_right),
                    "penalty": penalty,
                }
            )
    return results


def plot_losses(log: list[dict[str, float]], path: Path) -> list[str]:
    """Draw each objective's loss over the steps; return the objectives' names."""
    first = next(record for record in log if "loss" in record)  # few steps: validation comes first
    names = [key for key in first if key.startswith("loss/")]
    figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 2.8), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        train = [(row["step"], row[name]) for row in log if name in row]
        valid = [(row["step"], row[f"valid/{name}"]) for row in log if f"valid/{name}" in row]
        axis.plot(*zip(*train, strict=True), label="train", color="#7a9cc6")
        axis.plot(*zip(*valid, strict=True), "o-", label="valid", color="#c0504d", markersize=3)
        axis.set_title(name.removeprefix("loss/"))
        axis.set_xlabel("step")
        axis.set_ylim(bottom=0)
    axes[0][0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    return [name.removeprefix("loss/") for name in names]


def loss_table(log: list[dict[str, float]], names: list[str]) -> list[str]:
    """Write first and last validation losses as table rows."""
    evaluations = [row for row in log if "valid/loss" in row]
    first, last = evaluations[0], evaluations[-1]
    lines = [
        f"| validation | after epoch {first['epoch']:g} | after epoch {last['epoch']:g} |",
        "|---|---|---|",
    ]
    for name in names:
        key = f"valid/loss/{name}"
        lines.append(f"| {name} | {first[key]:.3f} | {last[key]:.3f} |")
    return lines


def matching_table(figures: dict[str, dict[str, float]]) -> list[str]:
    """Write matching and retrieval of the trained and untrained model as table rows."""
    trained, untrained = figures["trained"], figures["untrained"]
    lines = ["| held-out clips | trained | untrained | chance |", "|---|---|---|---|"]
    lines.append(
        "| matching accuracy over all pairs (95% interval over groups) "
        f"| {_with_interval(trained)} | {_with_interval(untrained)} | 50 % |"
    )
    for key in trained:
        match = re.fullmatch(r"retrieval/(atm|contrastive)/(to_text/)?(R@\d+|median_rank)", key)
        if not match:
            continue
        head, to_text, what = match.groups()
        values = trained[key], untrained[key], trained[f"retrieval/chance/{what}"]
        cells = [f"{value:g}" if what == "median_rank" else f"{value:.1%}" for value in values]
        way = "audio to text" if to_text else "text to audio"
        lines.append(f"| {way} by the {head} head, {what} | {' | '.join(cells)} |")
    return lines


def _with_interval(values: dict[str, float]) -> str:
    low, high = values["atm/pair_accuracy/95%"]  # pyright: ignore[reportGeneralTypeIssues]
    return f"{values['atm/pair_accuracy']:.1%} ({low:.1%} to {high:.1%})"


def probe_table(results: list[dict[str, object]]) -> list[str]:
    """Write the probes' scores as table rows."""
    lines = [
        "| label (classes) | trained | random backbone | most frequent class |",
        "|---|---|---|---|",
    ]
    for label in LABELS:
        mine = {row["backbone"]: row for row in results if row["label"] == label}
        cells = []
        for backbone in BACKBONES:
            low, high = mine[backbone]["interval"]
            cells.append(f"{mine[backbone]['accuracy']:.1%} ({low:.1%} to {high:.1%})")
        chance = f"{mine['trained']['chance']:.1%}"
        name = f"{label} ({mine['trained']['classes']})"
        lines.append(f"| {name} | {' | '.join(cells)} | {chance} |")
    return lines


def main(folder: Path) -> None:
    """Write report.md and losses.png."""
    log = [json.loads(line) for line in (folder / "run" / "log.jsonl").open(encoding="utf-8")]
    figures = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    stages = [line.split("\t") for line in (folder / "stages.tsv").read_text().splitlines()]
    names = plot_losses(log, folder / "losses.png")
    results = probe_all(folder)
    spread = [row["feature_spread"] for row in log if "feature_spread" in row]
    lines = [
        "# The tour",
        "",
        "Measured in this run, on a demo corpus rendered from packages: a check that every part",
        "works and learns, not a result about music. Intervals are 95% bootstrap intervals over",
        "groups: the clips of one groove or tune are drawn together.",
        "",
        "## Losses",
        "",
        "![losses](losses.png)",
        "",
        *loss_table(log, names),
        "",
        f"Spread of the backbone's features over a batch: {spread[0]:.2f} at the start, "
        f"{spread[-1]:.2f} at the end (0 would be a collapse).",
        "",
        f"## Matching and retrieval on {figures['num_clips']} held-out clips",
        "",
        f"Pairs and retrieval: {figures['trained']['retrieval/atm/pool']:.0f} clips, "
        "one per group.",
        "",
        *matching_table(figures),
        "",
        f"## Frozen features on {results[0]['tracks']} held-out tracks",
        "",
        "Ridge classifier on the mean of a track's segment features, penalty chosen on valid.",
        "",
        *probe_table(results),
        "",
        "## Stages",
        "",
        "| stage | seconds |",
        "|---|---|",
        *(f"| {name}: {what} | {seconds} |" for name, what, seconds in stages),
        "",
    ]
    (folder / "report.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
