"""The identity of a run: what changes it, and what must not."""

from __future__ import annotations

import copy
import json
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.results.store import Store
from wcordbench.suite import Run, Suite, expand, load_suite
from wcordbench.suite.protocol import Train
from wcordbench.suite.runs import Cell, digest

Load = Callable[[dict[str, Any]], Suite]
PLUGINS = Path(__file__).parents[1] / "plugins"

TINY = {
    "dataset": {"name": "digits", "options": {}, "size": None, "mean": [0.3], "std": [0.4]},
    "model": "resnet8",
    "teacher": {"model": "resnet14", "run": "0123456789abcdef"},
    "method": {
        "name": "kd",
        "gamma": 0.1,
        "terms": [{"name": "kd", "weight": 0.9, "options": {"temperature": 4.0}}],
    },
    "train": {
        "epochs": 1,
        "batch_size": 64,
        "learning_rate": 0.05,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "nesterov": False,
        "schedule": {"type": "one_cycle", "warmup": 0.25},
        "augment": {"crop_padding": 4, "flip": True},
        "precision": "fp32",
    },
    "seed": 0,
}

#: another value for every number of the protocol
PROTOCOL: dict[str, Any] = {
    "epochs": 11,
    "batch_size": 65,
    "learning_rate": 0.06,
    "momentum": 0.8,
    "weight_decay": 1e-4,
    "nesterov": True,
    "schedule.type": {"type": "one_cycle"},
    "schedule.milestones": [4, 9],
    "schedule.factor": 0.2,
    "schedule.warmup": {"type": "one_cycle", "warmup": 0.5},
    "augment.crop_padding": 2,
    "augment.flip": True,
    "precision": "bf16",
    "first_stage.epochs": 31,
    "first_stage.learning_rate": 0.06,
    "augment.transforms": ["rand_augment"],
    "schedule.final_rate": {"type": "cosine", "final_rate": 0.001},
    "optimizer.type": {"type": "adamw"},
    "optimizer.betas": {"type": "adamw", "betas": [0.8, 0.99]},
    "optimizer.eps": {"type": "adamw", "eps": 1e-6},
    "optimizer.decay_norms_and_biases": False,
    "warmup_epochs": 1,
    "label_smoothing": 0.1,
    "clip_norm": 1.0,
    "ema.decay": 0.9,
    "mixup": 0.2,
    "cutmix": 1.0,
}


def change(suite: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    suite = copy.deepcopy(suite)
    target = suite
    *parents, last = path.split(".")
    if isinstance(value, dict):  # of a schedule
        *parents, last = parents
    for part in parents:
        target = target[int(part)] if isinstance(target, list) else target.setdefault(part, {})
    target[int(last) if isinstance(target, list) else last] = value  # type: ignore[index]
    return suite


def ids(suite: Suite, method: str | None = None) -> list[str]:
    return [c.run.id for c in expand(suite) if method in (None, c.method and c.method.name)]


def trained(suite: Suite, method: str = "kd", pair: int = 0) -> Run:
    cells = [c for c in expand(suite) if c.method is not None and c.method.name == method]
    return next(c.run for c in cells if c.pair == suite.pairs[pair])


def leaves(model: type[BaseModel]) -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        asked = [field.annotation, *typing.get_args(field.annotation)]
        parts = [a for a in asked if isinstance(a, type) and issubclass(a, BaseModel)]
        found |= {f"{name}.{leaf}" for p in parts for leaf in leaves(p)} or {name}
    return found


def test_every_number_of_the_protocol_is_tried() -> None:
    assert set(PROTOCOL) == leaves(Train)


@pytest.mark.parametrize("key", PROTOCOL)
def test_every_number_of_the_protocol_changes_every_run(
    key: str, base: dict[str, Any], load: Load
) -> None:
    before = load(base)
    after = load(change(base, f"train.{key}", PROTOCOL[key]))
    if key.startswith("first_stage"):  # changes what has a first stage
        assert not set(ids(before, "ab")) & set(ids(after, "ab"))
        plain = [m for m in ("student", "kd") for _ in range(2)]
        assert all(ids(before, m) == ids(after, m) for m in plain)
    else:
        assert not set(ids(before)) & set(ids(after))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("dataset.size", 7),
        ("dataset.mean", [0.31]),
        ("dataset.std", [0.41]),
        ("seeds", [2, 3]),
        ("pairs.0.teacher.seed", 4),
        ("pairs.0.teacher.train", {"train": {"epochs": 9}}),
        ("pairs.0.teacher.model", "resnet20"),
        ("pairs.0.student", "resnet14"),
        ("pairs.0.train", {"weight_decay": 0.5}),
        ("methods.1", {"name": "kd", "temperature": 3}),
        ("methods.1", {"name": "kd", "beta": 0.8}),
        ("methods.1", {"name": "kd", "gamma": 0.8}),
        ("methods.1", {"name": "kd", "train": {"momentum": 0.5}}),
    ],
)
def test_what_else_changes_a_run(path: str, value: Any, base: dict[str, Any], load: Load) -> None:
    before = trained(load(base))
    if path == "pairs.0.teacher.train":
        base["pairs"][0]["teacher"].update(value)
    else:
        target: Any = base
        *parents, last = path.split(".")
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target[part]
        target[int(last) if isinstance(target, list) else last] = value
    assert trained(load(base)).id != before.id


def test_the_weight_of_an_added_term_changes_a_run(base: dict[str, Any], load: Load) -> None:
    before = trained(load(base), "crd+kd")
    base["methods"][2]["alpha"] = 0.5
    assert trained(load(base), "crd+kd").id != before.id


def test_options_of_a_dataset_change_a_run(base: dict[str, Any], load: Load) -> None:
    base["dataset"] = {"name": "imagefolder", "mean": [0.5], "std": [0.5]}
    seen = []
    for options in (
        {"folder": "a"},
        {"folder": "b"},
        {"folder": "a", "image_size": 16},
        {"folder": "a", "grayscale": True},
        {"folder": "a", "image_size": 32, "grayscale": False},  # the defaults
    ):
        base["dataset"]["options"] = options
        seen.append(trained(load(base)).id)
    assert seen[4] == seen[0]
    assert len(set(seen)) == 4


def test_a_checkpoint_is_known_by_its_content(
    base: dict[str, Any], load: Load, tmp_path: Path
) -> None:
    (tmp_path / "a.pth").write_bytes(b"weights")
    (tmp_path / "b.pth").write_bytes(b"weights")
    (tmp_path / "c.pth").write_bytes(b"others")
    runs = []
    for name in "abc":
        base["pairs"][0]["teacher"]["checkpoint"] = str(tmp_path / f"{name}.pth")
        runs.append(trained(load(base)))
    assert runs[0].id == runs[1].id != runs[2].id
    assert [r.checkpoint for r in runs] == [str(tmp_path / f"{n}.pth") for n in "abc"]
    assert all(r.teacher is None for r in runs)


@pytest.mark.parametrize(
    ("role", "what"),
    [
        ("dataset", "dataset stripes"),
        ("model", "model speck"),
        ("teacher", "model speck"),
        ("method", "method pull"),
    ],
)
def test_the_text_of_a_plugin_changes_what_is_made_of_it(
    tmp_path: Path, role: str, what: str
) -> None:
    """A formula may be anything: the file decides, wherever it lies and whatever its line ends."""
    text = (PLUGINS / "tiny.py").read_text()
    method = "{name: pull, power: 2}" if role == "method" else "kd"
    teacher = "speck" if role == "teacher" else "resnet8"
    student = "speck" if role == "model" else "resnet8"
    dataset = "stripes" if role == "dataset" else "digits"
    (tmp_path / "t.pth").write_bytes(b"weights")
    suite = (
        (PLUGINS / "tiny.yaml").read_text().split("dataset:")[0]
        + f"dataset: {{name: {dataset}, mean: [0.5], std: [0.5]}}\n"
        "train: {epochs: 1, batch_size: 8, learning_rate: 0.1, schedule: {type: one_cycle}}\n"
        "seeds: [0]\n"
        f"pairs: [{{teacher: {{model: {teacher}, checkpoint: {tmp_path / 't.pth'}}},"
        f" student: {student}}}]\n"
        f"methods: [{method}, {{name: at, label: Other}}]\n"
    )
    seen = []
    for i, content in enumerate((text, text.replace("\n", "\r\n"), text.replace("5, ", "25, "))):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "tiny.py").write_bytes(content.encode())
        (folder / "tiny.yaml").write_text(suite)
        first, other = (c.run for c in expand(load_suite(folder / "tiny.yaml")))
        seen.append(first.id)
        assert list(first.config["plugins"]) == [what]
        assert ("plugins" in other.config) == (role != "method")
        registry.forget_plugins()
    assert seen[0] == seen[1] != seen[2]


def test_what_does_not_change_a_run(base: dict[str, Any], load: Load, tmp_path: Path) -> None:
    before = set(ids(load(base)))

    def same(suite: dict[str, Any]) -> None:
        assert set(ids(load(suite))) == before

    same({k: base[k] for k in reversed(base)})
    same({**base, "train": {k: base["train"][k] for k in reversed(base["train"])}})
    same({**base, "pairs": base["pairs"][::-1]})
    same({**base, "methods": base["methods"][::-1]})
    same({**base, "seeds": base["seeds"][::-1]})
    same({**base, "name": "other", "title": "Another"})
    same({**base, "methods": [*base["methods"][:3], {"name": "ab", "label": "Boundaries"}]})
    same({**base, "methods": ["student", {"name": "kd", "temperature": 4}, *base["methods"][2:]]})
    same({**base, "methods": ["student", {"name": "kd", "beta": 0.9}, *base["methods"][2:]]})
    same({**base, "train": {**base["train"], "momentum": 0.9, "precision": "fp32"}})
    same({**base, "pairs": [{**p, "train": {"learning_rate": 0.05}} for p in base["pairs"]]})

    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "renamed.yml"
    (tmp_path / "suite.yaml").rename(moved)
    assert set(ids(load_suite(moved))) == before
    run = expand(load_suite(moved))[0].run
    assert Store("a").folder(run).path.name == Store("b/c").folder(run).path.name == run.name


def test_whole_numbers_and_fractions_are_one_number(base: dict[str, Any], load: Load) -> None:
    base["train"]["learning_rate"] = 1
    whole = ids(load(base))
    base["train"]["learning_rate"] = 1.0
    assert ids(load(base)) == whole


def test_a_plain_student_is_shared_by_its_teachers(base: dict[str, Any], load: Load) -> None:
    base["pairs"] = [
        {"teacher": "resnet14", "student": "resnet8"},
        {"teacher": "resnet20", "student": "resnet8"},
    ]
    cells = [c for c in expand(load(base)) if c.method is not None and c.seed == 0]
    by_pair = {(c.pair.teacher.model, c.method.name): c.run for c in cells if c.method is not None}
    assert by_pair["resnet14", "student"] == by_pair["resnet20", "student"]
    assert by_pair["resnet14", "student"].config["teacher"] is None
    assert by_pair["resnet14", "kd"] != by_pair["resnet20", "kd"]


def test_a_teacher_is_a_plain_run_of_its_model(base: dict[str, Any], load: Load) -> None:
    teachers = [c for c in expand(load(base)) if c.is_teacher]
    assert [(c.run.config["model"], c.seed) for c in teachers] == [("resnet14", 3), ("wrn_16_2", 0)]
    alone = {
        **base,
        "seeds": [3],
        "methods": ["student"],
        "pairs": [{"teacher": "resnet110", "student": "resnet14"}],
    }
    assert trained(load(alone), "student").id == teachers[0].run.id
    taught = trained(load(base))
    assert taught.config["teacher"] == {"model": "resnet14", "run": teachers[0].run.id}
    assert taught.teacher == teachers[0].run


def test_a_teacher_is_expanded_once_for_several_pairs(base: dict[str, Any], load: Load) -> None:
    base["pairs"] = [
        {"teacher": "resnet14", "student": "resnet8"},
        {"teacher": "resnet14", "student": "wrn_16_1"},
    ]
    teachers = {c.run for c in expand(load(base)) if c.is_teacher}
    assert len(teachers) == 1


def test_overrides_apply_where_they_stand(base: dict[str, Any], load: Load) -> None:
    base["pairs"][0]["train"] = {"learning_rate": 0.01, "augment": {"flip": True}}
    base["pairs"][0]["teacher"]["train"] = {"epochs": 12}
    base["methods"][1] = {"name": "kd", "train": {"learning_rate": 0.02}}
    base["methods"][3] = {
        "name": "ab",
        "train": {"first_stage": {"epochs": 5}, "schedule": {"type": "one_cycle"}},
    }
    suite = load(base)

    def protocol(method: str, pair: int) -> dict[str, Any]:
        config: dict[str, Any] = trained(suite, method, pair).config["train"]
        return config

    plain, kd, ab = (protocol(m, 0) for m in ("student", "kd", "ab"))
    assert plain["learning_rate"] == 0.01
    assert kd["learning_rate"] == 0.02  # the method's comes last
    assert protocol("student", 1)["learning_rate"] == 0.05
    assert plain["augment"] == {"crop_padding": 1, "flip": True}  # its other key stays
    assert protocol("student", 1)["augment"] == {"crop_padding": 1, "flip": False}
    assert ab["first_stage"] == {"epochs": 5, "learning_rate": 0.05}
    assert ab["schedule"] == {"type": "one_cycle", "warmup": 0.25}  # replaced as a whole
    assert "first_stage" not in plain
    teacher = trained(suite).teacher
    assert teacher is not None
    assert teacher.config["train"]["epochs"] == 12
    assert teacher.config["train"]["learning_rate"] == 0.05  # the pair's override is not its
    assert plain["epochs"] == 10


def test_terms_and_weights(base: dict[str, Any], load: Load) -> None:
    base["methods"] = [
        "student",
        "kd",
        {"name": "crd+kd", "negatives": 64, "temperature": 0.1, "alpha": 0.5, "beta": 0.7},
        {"name": "crd", "beta": 0},
    ]
    methods = [c.run.config["method"] for c in expand(load(base)) if c.method and c.seed == 0][:4]
    assert methods[0] == {"name": "student", "gamma": 1.0, "terms": []}
    assert (methods[1]["gamma"], methods[1]["terms"][0]["weight"]) == (0.1, 0.9)
    crd, kd = methods[2]["terms"]
    assert (methods[2]["gamma"], crd["weight"], kd["weight"]) == (1.0, 0.7, 0.5)
    assert (crd["options"]["negatives"], crd["options"]["temperature"]) == (64, 0.1)
    assert kd["options"] == {"temperature": 4.0}  # an option goes to the first that has it
    assert methods[3]["terms"] == []


def test_identities_are_those_of_the_first_release() -> None:
    """Results are found again by these: a change here orphans every result there is."""
    assert digest(TINY) == "e0ac825b72feea8b"
    assert Run(TINY).id == "e0ac825b72feea8b"
    assert Run(TINY).name == "digits_resnet14-resnet8_kd_s0_e0ac825b"
    assert digest(json.loads(json.dumps(TINY))) == digest(TINY)


def test_a_suite_gives_the_configuration_of_the_first_release(load: Load) -> None:
    suite = load(
        {
            "name": "tiny",
            "dataset": {"name": "digits", "mean": [0.3], "std": [0.4]},
            "train": {
                "epochs": 1,
                "batch_size": 64,
                "learning_rate": 0.05,
                "schedule": {"type": "one_cycle"},
            },
            "seeds": [0],
            "pairs": [{"teacher": "resnet14", "student": "resnet8"}],
            "methods": ["kd"],
        }
    )
    teacher, student = (c.run for c in expand(suite))
    assert student.config == {**TINY, "teacher": {"model": "resnet14", "run": teacher.id}}
    assert teacher.id == "5f1a99c792b0143c"
    assert student.id == "766d4ce2c368975a"


def test_a_configuration_is_plain_json(base: dict[str, Any], load: Load) -> None:
    for cell in expand(load(base)):
        assert json.loads(json.dumps(cell.run.config, allow_nan=False)) == cell.run.config


def test_names_are_folders(base: dict[str, Any], load: Load) -> None:
    base["pairs"] = [{"teacher": "timm:resnet10t.c3_in1k", "student": "resnet8"}]
    names = {c.run.name for c in expand(load(base))}
    assert len(names) == len({c.run.id for c in expand(load(base))})
    assert all(set("/:\\ ").isdisjoint(name) for name in names)


def test_cells_are_complete_and_ordered(base: dict[str, Any], load: Load) -> None:
    suite = load(base)
    cells = expand(suite)
    assert [c.is_teacher for c in cells] == [True] * 2 + [False] * 16

    def place(c: Cell) -> tuple[int, int, int]:
        assert c.method is not None
        return suite.pairs.index(c.pair), suite.methods.index(c.method), suite.seeds.index(c.seed)

    places = [place(c) for c in cells[2:]]
    assert places == sorted(places)
    assert len(set(places)) == 16


def test_a_missing_checkpoint_is_named(base: dict[str, Any], load: Load) -> None:
    base["pairs"][1] = {
        "teacher": {"model": "resnet20", "checkpoint": "none.pth"},
        "student": "resnet8",
    }
    with pytest.raises(
        UserError, match=r"suite.yaml: key 'pairs.1.teacher.checkpoint': /.*/none.pth"
    ):
        expand(load(base))
