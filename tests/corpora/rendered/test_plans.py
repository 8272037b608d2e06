"""What clips are made of: rates, groups and splits."""

import re
from collections import Counter
from itertools import islice

import pytest

from mulap.corpora.rendered.banks import HELD_OUT_BANK, PULSES
from mulap.corpora.rendered.plans import HELD_OUT_STYLES, KIND_RATES, Plan, plan_music
from mulap.corpora.rendered.scores import Groove
from mulap.corpora.rendered.styles import STYLES

NUM_PLANS = 1500


@pytest.fixture(scope="module")
def plans(packages) -> list[Plan]:
    found, left_out = plan_music(0, packages)
    assert left_out == {}
    return list(islice(found, NUM_PLANS))


def test_kinds_keep_to_their_rates(plans):
    counts = Counter(plan.kind for plan in plans)
    for kind, rate in KIND_RATES.items():
        spread = (NUM_PLANS * rate * (1 - rate)) ** 0.5
        assert abs(counts[kind] - NUM_PLANS * rate) < 4 * spread, kind


def test_no_group_is_in_two_splits_and_every_split_has_every_kind_of_music(plans):
    splits: dict[str, set[str]] = {}
    for plan in plans:
        splits.setdefault(plan.group, set()).add(plan.split)
    assert [group for group, found in splits.items() if len(found) > 1] == []
    shares = Counter(plan.split for plan in plans)
    assert 0.02 < shares["valid"] / NUM_PLANS < 0.10
    assert 0.08 < shares["test"] / NUM_PLANS < 0.25
    assert {plan.kind for plan in plans if plan.split == "test"} >= {
        "accompaniment", "folk melody", "solo passage", "single notes", "drum hits",
    }  # fmt: skip


def test_seeds_agree_on_the_split_of_a_group(plans, packages):
    known = {plan.group: plan.split for plan in plans}
    others = [plan for plan in islice(plan_music(1, packages)[0], 300) if plan.group in known]
    assert len(others) > 50
    assert all(plan.split == known[plan.group] for plan in others)


def test_the_held_out_bank_and_styles_are_only_in_test(plans):
    assert HELD_OUT_STYLES <= {style.words[0] for style in STYLES}
    seen = set()
    for plan in plans:
        style = plan.material.style.words[0] if isinstance(plan.material, Groove) else ""
        if plan.bank == HELD_OUT_BANK or style in HELD_OUT_STYLES:
            assert plan.split == "test"
            seen.add(plan.bank if plan.bank == HELD_OUT_BANK else "style")
    assert seen == {HELD_OUT_BANK, "style"}


def test_every_bank_is_used_to_train_and_the_console_synthesizer_now_and_then(plans):
    banks = Counter(plan.bank for plan in plans if plan.split == "train")
    assert HELD_OUT_BANK not in banks
    assert 0.02 < banks.pop(PULSES) / NUM_PLANS < 0.1
    assert len(banks) == 3
    assert min(banks.values()) > 0.7 * max(banks.values())


def test_chorale_tunes_and_chorale_scores_of_one_number_share_a_group(plans):
    groups = {
        plan.kind: plan.group
        for plan in plans
        if plan.kind == "chorale" or (plan.kind == "score" and "bach" in plan.group)
    }
    assert set(groups) == {"chorale", "score"}
    for group in groups.values():
        assert re.fullmatch(r"work bach bwv[1-9]\d*", group)
