"""Make the folder of a bundled name out of a run's best model, such as mulap/weights/mulap-small.

    python scripts/ship_weights.py RUN/best mulap/weights/mulap-small --data CORPUS

What changes: matrices are stored in half precision (they are loaded as float32); words of other
scripts than Latin, and the unused ones, leave the vocabulary; the code that a checkpoint carries
stays out. What is added: the average track (`reference.safetensors`), of the corpus's training
clips; checksums; the licence; a model card.
"""

import argparse
import csv
import json
import shutil
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import BertTokenizer

from mulap.data.manifest import read_manifest
from mulap.embedding.cache import cache_vectors
from mulap.encoders.backbones import load_whole
from mulap.encoders.embedder import Embedder
from mulap.encoders.zero_shot import Reference, default_tags, hash_sentences
from mulap.graphs.write import write_graphs
from mulap.model.bundled import write_sums
from mulap.model.pretraining import MulapForPreTraining
from mulap.model.processor import MulapProcessor
from mulap.training.checkpoints import SETTINGS_FILE
from mulap.training.pretrain.features import FEATURES_FOLDER, features_folder
from mulap.training.pretrain.settings import load_settings

WEIGHTS, CONFIG = "model.safetensors", "config.json"
LARGEST_FOLDER = 60 * 2**20  # bytes
# A row a word: the embeddings, and the head that may share them.
WORD_ROWS = (
    "mulap.text_encoder.embeddings.word_embeddings.weight",
    "mlm_head.decoder.weight",
    "mlm_head.decoder.bias",
)
ROOT = Path(__file__).resolve().parent.parent
CARD = """\
---
license: apache-2.0
library_name: mulap
pipeline_tag: zero-shot-classification
language: en
tags: [music, audio, embeddings, zero-shot, music-information-retrieval]
---

# {name}

A MuLaP model: two music taggers' networks side by side and all-MiniLM-L6-v2, joined by a space that
audio and sentences share, and by co-attention.

```python
import mulap

mulap.load("{name}").tag("song.mp3", tags=["jazz", "metal", "8-bit"]).top()
mulap.load("{name}", space="joint").embed("song.mp3", level="track")
```

- Size: {num_parameters:,} parameters, {num_bytes:,} bytes; matrices in half precision, loaded as
  float32. Checksums: `SHA256SUMS`.
- Input: 16 kHz mono, 3 s a segment; English sentences in Latin letters.
- The average track of zero-shot probes: {num_reference:,} clips of the training corpus.
{results}
## Sources

The weights are Apache-2.0; see `LICENSE` for the parts made by others. Whether and how the licences
of training data bear on weights is not settled in law; so each source is named.

| source | licence | clips |
|---|---|---|
| musicnn's public weights (Pons and Serra, 2019): start of the audio networks | ISC | |
| all-MiniLM-L6-v2 (sentence-transformers): start of the text network | Apache-2.0 | |
{sources}

## Limits

The sentences it was trained on were mostly made by machines, from tags that musicnn hears, titles
and rendered music: it knows their words, and little beyond. Scores of tags are percentiles among
neutral sentences (docs/zero-shot.md). It heard little speech and little music
from outside Europe and America.
"""


def is_kept(token: str) -> bool:
    """Whether a word stays in the vocabulary: none that is unused, or of another script."""
    letters = [char for char in token.removeprefix("##") if char.isalpha()]
    return not token.startswith("[unused") and all(
        unicodedata.name(char, "").startswith("LATIN") for char in letters
    )


def shrink_vocabulary(
    weights: dict[str, torch.Tensor], tokenizer: BertTokenizer
) -> tuple[dict[str, torch.Tensor], BertTokenizer]:
    """Leave words out of the weights and of the tokenizer; ids change, text in Latin does not."""
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    kept = [(word, index) for word, index in words if is_kept(word)]
    rows = torch.tensor([index for _, index in kept])
    weights = weights | {name: weights[name][rows] for name in WORD_ROWS if name in weights}
    smaller = BertTokenizer(
        vocab={word: index for index, (word, _) in enumerate(kept)},
        do_lower_case=tokenizer.init_kwargs.get("do_lower_case", True),
        model_max_length=tokenizer.model_max_length,
    )
    return weights, smaller


def halve(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cast matrices and kernels; what is a row (biases, statistics) is small and stays as it is."""
    halved = {}
    for name, value in weights.items():
        is_matrix = value.ndim >= 2 and value.dtype == torch.float32
        halved[name] = value.half() if is_matrix else value
        if not torch.isfinite(halved[name]).all():
            raise ValueError(f"{name}: has numbers that half precision cannot hold")
    return halved


def write_model(source: Path, out: Path) -> int:
    """Write weights, config and processor; return the number of parameters."""
    load_whole(MulapForPreTraining, source)  # refuses what is not whole
    processor = MulapProcessor.from_pretrained(source)
    weights, tokenizer = shrink_vocabulary(load_file(source / WEIGHTS), processor.tokenizer)
    MulapProcessor(processor.feature_extractor, tokenizer).save_pretrained(out)
    save_file(halve(weights), out / WEIGHTS, metadata={"format": "pt"})
    for code in out.glob("*.py"):
        code.unlink()
    config = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    config["text_config"] |= {
        "_name_or_path": "",
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
    }
    (out / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for path in out.glob("*.json"):
        if path.name != "tokenizer.json":
            values = without_code(json.loads(path.read_text(encoding="utf-8")))
            path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return sum(value.numel() for value in weights.values())


def without_code(values: object) -> object:
    """Take out, at any depth, which code of the folder loads it: there is none."""
    if not isinstance(values, dict):
        return values
    return {name: without_code(value) for name, value in values.items() if name != "auto_map"}


def make_reference(source: Path, data: Path, out: Path, num_clips: int, cache: Path) -> int:
    """Write the average track, of training clips spread evenly; return how many."""
    clips = read_manifest(data).split("train")
    chosen = [
        clips[index]
        for index in np.linspace(0, len(clips) - 1, min(num_clips, len(clips))).astype(int)
    ]
    cached = cache_vectors([c.audio_path for c in chosen], Embedder.from_pretrained(source), cache)
    means = [
        cached.vectors[np.arange(start, start + count)].mean(0, dtype=np.float64)
        for start, count in zip(cached.starts, cached.counts, strict=True)
        if count
    ]
    space = Embedder.from_pretrained(out).joint  # of the weights as they ship
    reference = Reference.of(space.project(np.stack(means).astype(np.float32)))
    tags = default_tags()
    reference._replace(
        tag_points=space.embed_tags(tags), sentences_sha256=hash_sentences(tags)
    ).save(out)
    return len(means)


def list_sources(data: Path) -> str:
    """Return the sources of the training clips as rows of a table, most clips first."""
    table = data / "metadata.csv" if data.is_dir() else data
    with open(table, encoding="utf-8", newline="") as file:
        rows = (row for row in csv.DictReader(file) if (row.get("split") or "train") == "train")
        counts = Counter((r.get("source") or "", r.get("licence") or "") for r in rows)
    lines = [
        f"| {source or 'not named'} | {licence or 'not named'} | {count:,} |"
        for (source, licence), count in counts.most_common()
    ]
    return "\n".join(lines)


def write_licence(out: Path) -> None:
    """Write Apache-2.0, and the licences of the parts that were made by others."""
    musicnn = (ROOT / "mulap/weights/musicnn-mtt/LICENSE").read_text(encoding="utf-8")
    text = (
        (ROOT / "LICENSE").read_text(encoding="utf-8")
        + "\n\nThe text network began as all-MiniLM-L6-v2 of sentence-transformers, Apache-2.0."
        + "\n\nThe audio networks began as musicnn's public weights, under this licence:\n\n"
        + musicnn
    )
    (out / "LICENSE").write_text(text, encoding="utf-8")


def main() -> None:
    """Write the folder, and print what it holds."""
    parser = argparse.ArgumentParser(description="Make the folder of a bundled name out of a run.")
    parser.add_argument("source", type=Path, help="RUN/best")
    parser.add_argument("out", type=Path, help="mulap/weights/NAME; replaced")
    parser.add_argument("--data", type=Path, required=True, help="the corpus of the run")
    parser.add_argument("--clips", type=int, default=4_000, help="of the average track, at most")
    parser.add_argument("--results", type=Path, help="Markdown about its worth, for the model card")
    arguments = parser.parse_args()
    out = arguments.out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    num_parameters = write_model(arguments.source, out)
    run = arguments.source.parent
    cache = run / FEATURES_FOLDER
    if (run / SETTINGS_FILE).is_file():  # several runs may share one
        cache = features_folder(load_settings(run / SETTINGS_FILE), run)
    num_reference = make_reference(arguments.source, arguments.data, out, arguments.clips, cache)
    write_licence(out)
    write_graphs(out)
    write_sums(out)
    results = ""
    if arguments.results:
        results = (
            f"\n## What it is worth\n\n{arguments.results.read_text(encoding='utf-8').strip()}\n"
        )
    num_bytes = sum(path.stat().st_size for path in out.iterdir())
    card = CARD.format(
        name=out.name,
        num_parameters=num_parameters,
        num_bytes=num_bytes,
        num_reference=num_reference,
        results=results,
        sources=list_sources(arguments.data),
    )
    (out / "README.md").write_text(card, encoding="utf-8")
    sizes = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
    print(json.dumps({**sizes, "all": sum(sizes.values()), "clips": num_reference}, indent=2))
    if sum(sizes.values()) > LARGEST_FOLDER:
        sys.exit(f"{out}: is larger than {LARGEST_FOLDER:,} bytes. Train narrower layers.")


if __name__ == "__main__":
    main()
