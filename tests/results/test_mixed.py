"""Runs that are not of one kind are refused, or named as not comparable: other teachers, images,
precisions. The runs are made up; what they were trained by is what the records say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from wcordbench.errors import UserError
from wcordbench.reporting.remarks import cautions
from wcordbench.reporting.table import build
from wcordbench.results import evaluations, sealed, teachers
from wcordbench.results.merge import merge
from wcordbench.results.remove import check_removable
from wcordbench.results.store import Store
from wcordbench.results.verify import verify
from wcordbench.suite import Run, Suite, expand, load_suite

SUITE = """
name: tiny
dataset: {{name: digits, mean: [0.3], std: [0.4]}}
train: {{epochs: 1, batch_size: 256, learning_rate: 0.05, schedule: {{type: one_cycle}}, precision: {0}}}
seeds: [0, 1, 2, 3]
pairs: [{{teacher: resnet8, student: resnet8}}]
methods: [student, kd]
"""  # noqa: E501


def suite_of(folder: Path, precision: str = "fp32") -> Suite:
    (folder / "tiny.yaml").write_text(SUITE.format(precision))
    return load_suite(folder / "tiny.yaml")


def finish(store: Store, run: Run, taught_by: str = "A", **says: Any) -> None:
    """Store a made-up result whose teacher, where it has one, is the network ``taught_by``."""
    folder = store.folder(run)
    folder.begin(run)
    epoch = {"test_top1": 50.0, "test_top5": 90.0}
    folder.write_metrics([epoch])
    is_teacher = run.config["seed"] == 0 and run.config["teacher"] is None
    weights = taught_by if is_teacher else run.name
    folder.write_bytes("student.pt", weights.encode())
    sha = hashlib.sha256(weights.encode()).hexdigest()
    taught = hashlib.sha256(taught_by.encode()).hexdigest() if run.config["teacher"] else None
    folder.finish(
        {
            "id": run.id, "config": run.config, "weights_sha256": sha, "teacher_sha256": taught,
            "scores": {"top1": 50.0, "top5": 90.0, "best_top1": 50.0},
            "dataset_fingerprint": "a" * 16, **says,
        }
    )  # fmt: skip


def runs_of(suite: Suite, *seeds: int) -> list[Run]:
    """The teacher, which the plain student of seed 0 is as well, and KD's runs."""
    found = [c.run for c in expand(suite) if c.method is None or c.seed in seeds]
    return list(dict.fromkeys(r for r in found if r.config["teacher"] or r.config["seed"] == 0))


def remarks_of(suite: Suite, store: Store) -> str:
    return " ".join(build(suite, expand(suite), store, None).remarks)


def test_students_of_another_teacher_are_not_taken_in(tmp_path: Path) -> None:
    suite = suite_of(tmp_path)
    ours, theirs = Store(tmp_path / "ours"), Store(tmp_path / "theirs")
    for run in runs_of(suite, 0, 1):
        finish(ours, run)
    for run in runs_of(suite, 2, 3):
        finish(theirs, run, "B")
    assert not verify(ours)[1] and not verify(theirs)[1]
    found = merge(theirs, ours)
    assert not found.taken
    said = {f.reason for f in found.refused}
    assert len(found.refused) == 3 and any("taught by other weights" in s for s in said)
    assert not verify(ours)[1]


def test_a_teacher_that_did_not_teach_the_students_here_is_not_taken_in(tmp_path: Path) -> None:
    suite = suite_of(tmp_path)
    ours, theirs = Store(tmp_path / "ours"), Store(tmp_path / "theirs")
    teacher, *students = runs_of(suite, 0, 1)
    for run in students:
        finish(ours, run)
    finish(theirs, teacher, "B")
    (refused,) = merge(theirs, ours).refused
    assert "other weights than those that taught the students" in refused.reason
    finish(theirs, teacher, "A")
    assert len(merge(theirs, ours).taken) == 1


def test_the_images_of_the_runs_here_are_what_counts(tmp_path: Path) -> None:
    suite = suite_of(tmp_path)
    ours, theirs = Store(tmp_path / "ours"), Store(tmp_path / "theirs")
    finish(ours, runs_of(suite)[0])
    for run in runs_of(suite, 1, 2, 3)[1:]:
        finish(theirs, run, dataset_fingerprint="b" * 16)
    found = merge(theirs, ours)
    assert not found.taken and len(found.refused) == 3


def test_students_of_two_teachers_are_named(tmp_path: Path) -> None:
    suite, store = suite_of(tmp_path), Store(tmp_path / "results")
    for run in runs_of(suite, 0, 1, 2):
        finish(store, run)
    assert "NOT comparable" not in remarks_of(suite, store)
    (other,) = runs_of(suite, 3)[1:]
    finish(store, other, "B")
    assert "resnet8 were taught by other weights than" in remarks_of(suite, store)
    assert [f.path.parent.name for f in verify(store)[1]] == [other.name]
    # without the teacher's folder most students say who it was
    for path in store.folder(runs_of(suite)[0]).path.iterdir():
        path.unlink()
    store.folder(runs_of(suite)[0]).path.rmdir()
    assert [f.path.parent.name for f in verify(store)[1]] == [other.name]
    assert "were taught by other weights" in remarks_of(suite, store)


def test_a_precision_that_the_device_chose_is_named_where_it_differs(tmp_path: Path) -> None:
    for written, said in (("auto", True), ("fp32", False)):
        suite, store = suite_of(tmp_path, written), Store(tmp_path / written)
        for run in runs_of(suite, 0, 1):
            finish(store, run, environment={"precision": "fp32"})
        for run in runs_of(suite, 2, 3)[1:]:
            finish(store, run, environment={"precision": "bf16" if said else "fp32"})
        assert ("'precision: auto' was bf16 in some runs and fp32 in others" in
                remarks_of(suite, store)) == said  # fmt: skip


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, None),
        ({"device": "cuda", "tf32": True}, "on CUDA with TF32, some on a CPU: "),
        ({"device": "cuda", "tf32": True, "precision": "bf16"}, "on CUDA, some on a CPU: "),
        ({"compile": "default"}, "on a CPU, some on a CPU under --compile default: "),
    ],
)
def test_what_computed_the_runs_is_said_where_it_is_mixed(
    tmp_path: Path, other: dict[str, Any], said: str | None
) -> None:
    suite, store = suite_of(tmp_path), Store(tmp_path / "results")
    usual = {"device": "cpu", "tf32": None, "precision": "fp32", "compile": "off"}
    for run in runs_of(suite, 0, 1):
        finish(store, run, environment=usual)
    for run in runs_of(suite, 2, 3)[1:]:
        finish(store, run, environment=usual | other)
    text = remarks_of(suite, store)
    assert ("round" in text) == (said is not None)
    assert said is None or f"Some runs were trained {said}" in text
    cautioned = cautions(build(suite, expand(suite), store, None).remarks)
    assert any("Some runs were trained" in line for line in cautioned) == (said is not None)


def test_the_teacher_of_a_begun_student_stays(tmp_path: Path) -> None:
    suite, store = suite_of(tmp_path), Store(tmp_path / "results")
    teacher, student = runs_of(suite, 1)
    finish(store, teacher)
    store.folder(student).begin(student)
    check_removable([store.folder(teacher)], store)  # nothing of it is trained yet
    with store.folder(student).lease(), pytest.raises(UserError, match="which stays"):
        check_removable([store.folder(teacher)], store)  # it is being trained for the first time
    store.folder(student).write_sealed("checkpoint.pt", b"half a training")
    with pytest.raises(UserError, match=f"taught {student.name}, which stays"):
        check_removable([store.folder(teacher)], store)
    check_removable([store.folder(teacher), store.folder(student)], store)


CHANGED: dict[str, Any] = {"higher": 19.2, "no share": 171.0, "negative": -3, "a word": "much"}


@pytest.mark.parametrize("value", CHANGED.values(), ids=CHANGED)
def test_a_changed_score_of_a_measurement_is_named(tmp_path: Path, value: Any) -> None:
    store = Store(tmp_path / "results")
    run = runs_of(suite_of(tmp_path))[0]
    finish(store, run)
    folder = store.folder(run)
    weights = folder.result()["weights_sha256"]
    evaluations.add(folder, "photos", {"scores": {"top1": 91.2}, "weights_sha256": weights})
    assert not verify(store)[1]
    path = folder.path / evaluations.FILE
    record = json.loads(path.read_text())
    record["evaluations"]["photos"]["scores"]["top1"] = value
    path.write_text(json.dumps(record))
    (finding,) = verify(store)[1]
    assert "was changed after it was written ('photos'" in finding.reason


@pytest.mark.parametrize("value", CHANGED.values(), ids=CHANGED)
def test_a_changed_score_of_a_given_teacher_is_named(tmp_path: Path, value: Any) -> None:
    store = Store(tmp_path / "results")
    run = runs_of(suite_of(tmp_path), 1)[1]
    config = {**run.config, "teacher": {"model": "resnet8", "checkpoint": "c" * 64}}
    teachers.write(store, config, {"top1": 91.2}, "a" * 16, "teacher.pth")
    assert not verify(store)[1] and teachers.read(store, config) is not None
    path = teachers.place(store, config)
    record = json.loads(path.read_text())
    record["scores"]["top1"] = value
    path.write_text(json.dumps(record))
    (finding,) = verify(store)[1]
    assert "was changed after it was written" in finding.reason
    assert teachers.read(store, config) is None


def test_a_student_of_another_file_than_its_configuration_says_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    run = runs_of(suite_of(tmp_path), 1)[1]
    given = Run({**run.config, "teacher": {"model": "resnet8", "checkpoint": "c" * 64}})
    finish(store, given, teacher_sha256="c" * 64)
    assert not verify(store)[1]
    finish(store, given, teacher_sha256="d" * 64)
    (finding,) = verify(store)[1]
    assert "taught by other weights than the file's in its configuration" in finding.reason


def test_a_record_of_an_older_version_has_no_digest() -> None:
    old = {"scores": {"top1": 50.0}}
    assert sealed.changed(old) is None
    assert sealed.changed({**sealed.sealed(old), "scores": {"top1": 50.1}}) is not None
