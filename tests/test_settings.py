"""Values of YAML become dataclasses, or one line says where they do not."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from mulap.settings import build_settings


@dataclass(frozen=True)
class Shelf:
    books: list[str]
    colour: Literal["red", "blue"] | None = None
    height: float | None = None

    def __post_init__(self) -> None:
        if self.colour == "red" and not self.books:
            raise ValueError("a red shelf is never empty")


@dataclass(frozen=True)
class House:
    shelves: list[str | Shelf]
    owner: str | list[str] = "nobody"
    street: Path | None = None
    cellar: Shelf = field(default_factory=lambda: Shelf([]))


def build(**values) -> House:
    return build_settings(House, values, "house.yaml")


def test_lists_choices_paths_and_sections_have_the_types_of_their_settings(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    house = build(
        shelves=["plain", {"books": ["a"], "colour": "blue", "height": "1e2"}],
        owner=["Ann", "Bob"],
        street="~/street",
        cellar={"books": []},
    )
    assert house.shelves == ["plain", Shelf(["a"], "blue", 100.0)]
    assert (house.owner, house.street) == (["Ann", "Bob"], Path("/home/ann/street"))
    assert build(shelves=[], owner="Ann", street=None) == House([], "Ann")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "house.yaml: 'shelves' is missing. Add it"),
        ({"shelves": "plain"}, r"house.yaml: 'shelves' is 'plain'. Give a list, such as \[str\]"),
        ({"shelves": [{}]}, r"house.yaml: 'shelves\[1\].books' is missing. Add it"),
        ({"shelves": ["x", 3]}, r"house.yaml: 'shelves\[2\]' is 3. Give text"),
        ({"shelves": [], "owner": [3]}, r"house.yaml: 'owner\[1\]' is 3. Give text"),
        ({"shelves": [], "street": 3}, "house.yaml: 'street' is 3. Give a path"),
        ({"shelves": [], "cellar": {"book": []}}, "Did you mean 'cellar.books'"),
        (
            {"shelves": [], "cellar": {"books": [], "colour": "green"}},
            "house.yaml: 'cellar.colour' is 'green'. Choose one of red, blue",
        ),
        (
            {"shelves": [{"books": [], "colour": "red"}]},
            r"house.yaml: in shelves\[1\]: a red shelf is never empty",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(values, message):
    with pytest.raises(ValueError, match=message):
        build(**values)
