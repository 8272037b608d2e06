"""The tour's report reads what `mulap evaluate --json` writes, both directions of retrieval."""

import importlib.util
from pathlib import Path

import numpy as np

from mulap.training.pretrain.comparison import RunEvaluation
from mulap.training.pretrain.evaluate import Evaluation

SCRIPT = Path(__file__).resolve().parents[2] / "runs" / "tour_report.py"


def evaluation(rank):
    groups = np.arange(4)
    ranks = {name: np.full(4, rank) for name in ("atm", "atm/to_text", "contrastive")}
    figures = {"retrieval/atm/pool": 4.0}
    for name in (*ranks, "chance"):
        figures |= {f"retrieval/{name}/R@1": 1 / rank, f"retrieval/{name}/median_rank": rank}
    figures["atm/pair_accuracy"] = 0.5
    return Evaluation(figures, np.full(4, 0.5), ranks, groups, groups)


def test_each_head_and_direction_has_its_rows():
    spec = importlib.util.spec_from_file_location("tour_report", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    figures = RunEvaluation("test", 4, evaluation(1.0), evaluation(2.0), []).as_dict()
    rows = script.matching_table(figures)[3:]
    assert rows == [
        f"| {way} by the {head} head, {what} | {cells} |"
        for head, way in [
            ("atm", "text to audio"),
            ("atm", "audio to text"),
            ("contrastive", "text to audio"),
        ]
        for what, cells in [("R@1", "100.0% | 50.0% | 100.0%"), ("median_rank", "1 | 2 | 1")]
    ]
