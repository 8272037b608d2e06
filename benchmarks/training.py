"""Tables of pre-training: the whole step, and what it is made of."""

from benchmarks.measure import Conditions, Contestant, Spread, race
from benchmarks.problems import CLIP_SEGMENTS, TOKENS, make_model
from benchmarks.sizes import Sizes
from benchmarks.tables import Goal, Table, format_memory

FUSED_NOTE = "The fused front end is `mulap.fast.timbral`; alone: `python -m benchmarks.timbral`."


def measure_step(conditions: Conditions, sizes: Sizes) -> Table:
    """Time one step of pre-training on the paper's model, and hold memory against memory."""
    num_parameters = sum(each.numel() for each in make_model(sizes.is_toy).parameters())
    state_mib = 16 * num_parameters / 2**20  # weights, gradients and two averages, 4 bytes each
    libraries = Contestant("libraries", "benchmarks.ours:load_libraries")
    libraries_mib = race([libraries], conditions, 1)["libraries"].peak_mib
    floor = (
        f"libraries ({format_memory(libraries_mib)}) and these alone take "
        f"{format_memory(libraries_mib + state_mib)}"
    )
    rows, goals, all_outcomes, halves = [], [], [], []
    for batch_size, rounds in sizes.batches:
        arguments = {"batch_size": batch_size, "is_toy": sizes.is_toy}
        contestants = [
            Contestant(f"{name}, {batch_size}", f"benchmarks.{module}:train", arguments, batch_size)
            for name, module in (("mulap", "ours"), ("authors", "authors"))
        ]
        ours, authors = race(contestants, conditions, rounds).values()
        memory = authors.peak_mib / max(ours.peak_mib, 1)
        rows.append(
            [
                f"batch {batch_size}",
                f"{ours.rate().format()}; {format_memory(ours.peak_mib)}",
                f"{authors.rate().format()}; {format_memory(authors.peak_mib)}",
                ours.times(authors).format(),
                f"1 / {memory:.1f}",
            ]
        )
        what = f"training step at batch {batch_size}"
        goals += [
            Goal(f"{what}, against the authors'", 8, ours.times(authors)),
            Goal(f"{what}, the authors' memory over ours", 2, Spread(memory, memory, memory)),
        ]
        all_outcomes += [ours, authors]
        halves.append(f"{format_memory(authors.peak_mib / 2)} at batch {batch_size}")
    notes = [
        f"The paper's model, {num_parameters / 1e6:.0f} million parameters, without a pretrained "
        f"BERT (which changes no cost); clips of 20 s as {CLIP_SEGMENTS} segments; captions of "
        f"{TOKENS[0]} to {TOKENS[1]} tokens. A step is log-mels, forward, backward, clipping and "
        "AdamW; ours with its collator. Decoding is in neither. Memory is all that the process has "
        f"held; {format_memory(state_mib)} of it are weights, gradients and AdamW's averages, in "
        f"both. Half of the authors' memory is {' and '.join(halves)}; {floor}.",
    ]
    head = ["", "mulap, pairs/s", "authors, pairs/s", "mulap ÷ authors", "memory"]
    title = "Pre-training step"
    return Table("step", title, head, rows, notes, goals, all_outcomes)


def measure_backbone(conditions: Conditions, sizes: Sizes) -> Table:
    """Time a forward and a backward pass of the `port` musicnn."""
    number = {"num_segments": sizes.pass_segments}
    target = "benchmarks.passes:backbone"
    amount = float(sizes.pass_segments)
    contestants = [
        Contestant("plain torch", target, number, amount),
        Contestant("channels_last", target, number | {"is_channels_last": True}, amount),
        Contestant("fused front end (mulap)", target, number | {"is_fused": True}, amount),
    ]
    return _compare(
        "backbone",
        "musicnn `port`, forward and backward",
        contestants,
        conditions,
        f"A 3-second segment of {sizes.pass_segments}. {FUSED_NOTE}",
    )


def measure_text(conditions: Conditions, sizes: Sizes) -> Table:
    """Time the text side, plain and with each of three changes."""
    plain = {"num_captions": sizes.text_batch, "is_toy": sizes.is_toy}
    changes = {
        "captions padded to the batch's longest": {"is_padded": False},
        "words scored where they are hidden": {"scores_all": False},
        "torch's fused attention (SDPA)": {"attention": "sdpa"},
    }
    together = {key: value for change in changes.values() for key, value in change.items()}
    rows = {"plain": {}} | changes | {"all three (mulap)": together}
    contestants = [
        Contestant(name, "benchmarks.passes:text", plain | change, sizes.text_batch)
        for name, change in rows.items()
    ]
    note = f"A caption of a batch of {sizes.text_batch}, {TOKENS[0]} to {TOKENS[1]} tokens each."
    return _compare("text", "Text side, forward and backward", contestants, conditions, note)


def measure_optimizer(conditions: Conditions, sizes: Sizes) -> Table:
    """Time AdamW in torch's three ways."""
    target, toy = "benchmarks.passes:optimizer", {"is_toy": sizes.is_toy}
    contestants = [
        Contestant("torch's default (a loop on the CPU)", target, toy),
        Contestant("foreach", target, toy | {"foreach": True}),
        Contestant("fused (mulap)", target, toy | {"fused": True}),
    ]
    note = "A step over all parameters of the paper's model."
    return _compare("adamw", "AdamW", contestants, conditions, note)


def _compare(
    key: str, title: str, contestants: list[Contestant], conditions: Conditions, note: str
) -> Table:
    """Hold each contestant against the first."""
    outcomes = list(race(contestants, conditions).values())
    plain = outcomes[0]
    rows = [
        [
            outcome.contestant.name,
            outcome.milliseconds(outcome.contestant.amount).format(),
            "1" if outcome is plain else outcome.times(plain).format(),
            format_memory(outcome.peak_mib),
        ]
        for outcome in outcomes
    ]
    head = ["", "ms", "times as fast", "memory"]
    return Table(key, title, head, rows, [note], outcomes=outcomes)
