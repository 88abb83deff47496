"""Classes of a task made of a dataset's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wcordbench.data.base import Dataset, Images
from wcordbench.data.task import apply_task
from wcordbench.errors import UserError

NAMES = ("ant", "bee", "cow", "dog", "eel")


def numbered(labels: list[int]) -> Images:
    """The pixel of an image is its place in the list."""
    pixels = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Images(pixels, np.asarray(labels, np.int64))


def dataset() -> Dataset:
    return Dataset(numbered([0, 1, 2, 3, 4, 0, 1]), numbered([4, 3, 2, 1, 0]), NAMES)


def test_some_classes_against_all_others() -> None:
    for positive in (["bee", "eel"], [1, 4], ["bee", 4]):
        made = apply_task(dataset(), {"positive": positive})
        assert made.classes == ("other", "positive")
        assert made.train.labels.tolist() == [0, 1, 0, 0, 1, 0, 1]
        assert made.test.labels.tolist() == [1, 0, 0, 1, 0]
        assert made.train.pixels is not None and len(made.train.pixels) == 7


def test_groups_in_the_order_of_the_file_and_the_rest_left_out() -> None:
    made = apply_task(dataset(), {"groups": {"legs": ["dog", "ant"], "none": ["eel"]}})
    assert made.classes == ("legs", "none")
    assert made.train.labels.tolist() == [0, 0, 1, 0]
    assert made.train.pixels.ravel().tolist() == [0, 3, 4, 5]
    assert made.test.labels.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ({"positive": ["be"]}, ["task.positive", "'be'", "did you mean bee?"]),
        ({"positive": ["zzzz"]}, ["task.positive", "it has ant, bee, cow"]),
        ({"positive": [5]}, ["5 is no class", "0 to 4"]),
        ({"positive": [-1]}, ["-1 is no class"]),
        ({"positive": list(NAMES)}, ["names every class", "leave some out"]),
        ({"groups": {"a": ["ant"], "b": ["bee", 0]}}, ["'ant' is in both 'a' and 'b'"]),
        ({"groups": {"a": ["ant"], "b": [7]}}, ["task.groups.b", "7 is no class"]),
    ],
)
def test_what_is_no_task_is_one_sentence(task: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(UserError) as error:
        apply_task(dataset(), task)
    assert all(part in str(error.value) for part in parts) and "\n" not in str(error.value)


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    assigned=st.lists(st.sampled_from(["x", "y", "z", None]), min_size=5, max_size=5),
)
def test_every_image_keeps_its_pixels_and_goes_where_its_class_does(
    labels: list[int], assigned: list[str | None]
) -> None:
    groups: dict[str, list[str | int]] = {}
    for number, group in enumerate(assigned):
        if group is not None:
            groups.setdefault(group, []).append(number if number % 2 else NAMES[number])
    split = numbered(labels)
    made = apply_task(Dataset(split, split, NAMES), {"groups": groups})
    kept = [i for i, label in enumerate(labels) if assigned[label] is not None]
    assert made.train.pixels.ravel().tolist() == kept
    assert [made.classes[i] for i in made.train.labels] == [assigned[labels[i]] for i in kept]
