"""Views, tasks, pretrained teachers and sweeps as a suite says them, and the suites that do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from wcordbench import models
from wcordbench.errors import UserError
from wcordbench.suite import Suite, expand, load_suite
from wcordbench.suite.check import check_shapes, remarks

Load = Callable[[dict[str, Any]], Suite]
SUITES = Path(__file__).parents[2] / "suites"


@pytest.fixture
def viewed(base: dict[str, Any]) -> dict[str, Any]:
    return {
        **base,
        "task": {"positive": ["5", 6]},
        "views": {"teacher": {"size": 16, "mean": [0.1], "std": [0.2]}, "student": {"size": 4}},
        "metric": "auc",
        "pairs": [{"teacher": "resnet14", "student": "resnet8"}],
        "methods": ["student", "kd"],
    }


def test_each_run_has_the_view_of_its_own_network(viewed: dict[str, Any], load: Load) -> None:
    teacher, student, kd = (c.run.config for c in expand(load(viewed)) if c.seed == 0)
    assert teacher["view"] == {"size": 16, "mean": [0.1], "std": [0.2]}
    assert student["view"] == kd["view"] == {"size": 4}
    assert kd["teacher"]["view"] == teacher["view"] and student["teacher"] is None
    assert all(c["metric"] == "auc" for c in (teacher, student, kd))
    assert kd["dataset"]["task"] == {"positive": ["5", 6]}


def test_what_is_not_said_changes_no_identity(base: dict[str, Any], load: Load) -> None:
    plain = [c.run.id for c in expand(load(base))]
    base["views"] = {"teacher": {"size": 8, "mean": [0.3054], "std": [0.376]}, "student": {}}
    base["metric"] = "top5"
    base["pairs"][0]["teacher"]["pretrained"] = False
    assert [c.run.id for c in expand(load(base))] == plain


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"task": {}}, ["'task'", "either 'positive'"]),
        ({"task": {"positive": []}}, ["task.positive", "at least one class"]),
        ({"task": {"positive": ["1", "1"]}}, ["task.positive.1", "remove one"]),
        ({"task": {"groups": {"a": ["1"]}}}, ["task.groups", "two groups"]),
        ({"views": {"student": {"size": 0}}}, ["views.student.size"]),
        ({"views": {"student": {"noise": -1}}}, ["views.student.noise"]),
        ({"views": {"student": {"blurr": 1}}}, ["unknown key", "did you mean 'blur'"]),
        ({"views": {"teacher": {"mean": [0.5]}}}, ["views.teacher", "both or neither"]),
        ({"views": {"teacher": {"mean": [0.5] * 3, "std": [0.5] * 3}}}, ["has 3 values"]),
        ({"metric": "au"}, ["'metric'", "auc"]),
    ],
)
def test_mistakes_are_one_sentence(
    change: dict[str, Any], parts: list[str], base: dict[str, Any], load: Load
) -> None:
    with pytest.raises(UserError) as error:
        load({**base, **change})
    assert all(part in str(error.value) for part in parts) and "\n" not in str(error.value)


def pretrained(base: dict[str, Any], value: Any, model: str = "resnet14", **more: Any) -> Any:
    teacher = {"model": model, "pretrained": value, **more}
    return {**base, "pairs": [{"teacher": teacher, "student": "resnet8"}], "methods": ["kd"]}


@pytest.mark.parametrize(
    ("value", "more", "parts"),
    [
        (True, {}, ["teacher.pretrained", "'resnet14' is none", "timm:resnet18"]),
        (3, {}, ["teacher.pretrained", "true or the path of a file, not 3"]),
        ("", {}, ["teacher.pretrained", "true or the path of a file"]),
        ([], {}, ["teacher.pretrained", "an empty list"]),
        ("a.pth", {"checkpoint": "b.pth"}, ["teacher.pretrained", "one of the two"]),
    ],
)
def test_what_a_teacher_cannot_begin_with(
    value: Any, more: dict[str, Any], parts: list[str], base: dict[str, Any], load: Load
) -> None:
    with pytest.raises(UserError) as error:
        load(pretrained(base, value, **more))
    assert all(part in str(error.value) for part in parts)


def test_a_file_enters_the_identity_by_its_content(
    base: dict[str, Any], load: Load, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    torch.save(models.create("resnet14", 5, 8, 1).state_dict(), tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes((tmp_path / "a.pth").read_bytes())
    one, two = (load(pretrained(base, str(tmp_path / f"{n}.pth"))) for n in "ab")
    assert not check_shapes(one)
    runs = [[c.run for c in expand(s)] for s in (one, two)]
    assert [r.id for r in runs[0]] == [r.id for r in runs[1]]
    teacher, student = runs[0][:2]
    digest = hashlib.sha256((tmp_path / "a.pth").read_bytes()).hexdigest()
    assert teacher.config["pretrained"] == digest
    assert teacher.checkpoint == str(tmp_path / "a.pth")
    assert student.checkpoint is None and student.config["teacher"]["run"] == teacher.id
    with pytest.raises(UserError, match=r"teacher\.pretrained.*does not exist"):
        expand(load(pretrained(base, str(tmp_path / "c.pth"))))
    (tmp_path / "b.pth").write_text("<html>404</html>")
    with pytest.raises(UserError, match=r"teacher\.pretrained.*damaged"):
        check_shapes(load(pretrained(base, str(tmp_path / "b.pth"))))
    with pytest.raises(UserError, match=r"teacher\.pretrained.*another architecture"):
        check_shapes(load(pretrained(base, str(tmp_path / "a.pth"), "resnet20")))


def test_a_librarys_weights_are_not_fetched_by_a_check(
    base: dict[str, Any], load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", download)
    suite = load(pretrained(base, True, "timm:mobilenetv3_small_050"))
    assert not check_shapes(suite)
    assert expand(suite)[0].run.config["pretrained"] is True
    (remark,) = remarks(suite)  # ImageNet's normalisation, averaged over the colours
    assert "mean [0.449] and std [0.226]" in remark and "views.teacher" in remark
    base["views"] = {"teacher": {"mean": [0.449], "std": [0.226]}}
    assert not remarks(load(pretrained(base, True, "timm:mobilenetv3_small_050")))
    base["views"] = {"teacher": {"size": 256}}
    with pytest.raises(UserError, match=r"teacher.*no pretrained weights of 'botnet50ts_256'"):
        check_shapes(load(pretrained(base, True, "timm:botnet50ts_256")))


def test_a_sweep_is_one_method_a_value(base: dict[str, Any], load: Load) -> None:
    base["methods"] = [{"name": "wcord", "lambda1": {"sweep": [0, 0.5]}, "lambda2": 0.1}]
    suite = load(base)
    assert [m.title for m in suite.methods] == ["WCoRD (lambda1 = 0)", "WCoRD (lambda1 = 0.5)"]
    options = [m.terms()[0].options for m in suite.methods]
    assert [(o["lambda1"], o["lambda2"]) for o in options] == [(0, 0.1), (0.5, 0.1)]
    base["methods"][0]["lambda2"] = {"sweep": [1, 2, 3]}
    assert len(load(base).methods) == 6


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ({"sweep": []}, "must be a list of values"),
        ({"sweep": 3}, "must be a list of values"),
        ({"sweep": [1, 1]}, "stands in the sweep already"),
        ({"sweep": [[1]]}, "must be a single value"),
        ({"sweep": [1], "step": 2}, "the key 'step' beside 'sweep'"),
        ({"sweep": ["x"]}, "must be a number"),
    ],
)
def test_what_is_no_sweep(value: Any, part: str, base: dict[str, Any], load: Load) -> None:
    base["methods"] = ["student", {"name": "wcord", "lambda1": value}]
    with pytest.raises(UserError, match=r"methods\.1\.lambda1") as error:
        load(base)
    assert part in str(error.value)


def test_the_papers_sweep_at_full_scale() -> None:
    """The supplement's Table 2: nine values of λ1 at λ2 = 0.1, five seeds, one teacher."""
    suite = load_suite(SUITES / "privileged.yaml")
    cells = expand(suite)
    assert len(cells) == len({c.run.id for c in cells}) == 1 + 9 * 5
    (method,) = {s.number for s in suite.swept.values()}
    values = [dict(s.values)["lambda1"] for s in suite.swept.values()]
    assert method == 0 and values == [0, 0.05, 0.07, 0.1, 0.15, 0.2, 0.5, 0.8, 1.0]
    assert {m.terms()[0].options["lambda2"] for m in suite.methods} == {0.1}
    teacher = cells[0].run.config
    assert teacher["model"] == "timm:inception_v3.tv_in1k" and teacher["pretrained"] is True
    assert teacher["view"] == {"size": 299} and suite.pairs[0].student == "resnet8x4"
    assert not remarks(suite)
