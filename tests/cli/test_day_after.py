"""What one does with trained runs: find, load, export, remove, merge and train them again."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wcordbench
from wcordbench.cli.main import main
from wcordbench.data.digits import digits
from wcordbench.errors import UserError
from wcordbench.results.evaluations import FILE
from wcordbench.results.sealed import sealed
from wcordbench.results.store import Store
from wcordbench.suite import expand, load_suite

SUITE = """
name: tiny
dataset: {name: digits, mean: [0.3058], std: [0.3764]}
views: {student: {size: 4, blur: 0.5}}
train:
  epochs: 1
  batch_size: 64
  learning_rate: 0.05
  schedule: {type: one_cycle}
  augment: {crop_padding: 1, flip: false}
seeds: [0, 1]
pairs: [{teacher: resnet14, student: resnet8}]
methods: [student, kd]
"""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.yaml and its results: a teacher and four students."""
    import torch

    from wcordbench.suite.plan import cohorts
    from wcordbench.training.cohort import Cohort

    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(SUITE)
    store = Store(folder / "results")
    runs = dict.fromkeys(c.run for c in expand(load_suite(folder / "tiny.yaml")))
    for job in cohorts(runs):
        Cohort(list(job.runs), store, folder, torch.device("cpu")).train()
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the current folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wcordbench", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return command


def names(folder: Path, part: str = "") -> list[str]:
    return sorted(p.name for p in (folder / "results" / "runs").iterdir() if part in p.name)


def measured(folder: Path, name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(
        (folder / "results" / "runs" / name / "result.json").read_text()
    )
    return record


# --- best -----------------------------------------------------------------------


def test_best_lists_finished_runs_by_score(folder: Path, command: Command) -> None:
    code, out, _ = command("best", "--format", "json", "--top", "0")
    rows = json.loads(out)
    assert code == 0 and len(rows) == 4
    assert [r["score"] for r in rows] == sorted((r["score"] for r in rows), reverse=True)
    assert all(r["score"] == measured(folder, r["run"])["scores"]["top1"] for r in rows)
    rows = json.loads(command("best", "tiny.yaml", "--method", "kd", "--format", "json")[1])
    assert {r["method"] for r in rows} == {"KD"} and len(rows) == 2
    rows = json.loads(command("best", "tiny.yaml", "--teachers", "--format", "json")[1])
    assert "Teacher" in {r["method"] for r in rows}
    text = command("best", "--method", "kd", "--seed", "1", "--pair", "resnet14->resnet8")[1]
    assert text.splitlines()[-1].endswith(names(folder, "kd_s1")[0])
    assert "2 of 4 finished runs" in command("best", "--top", "2")[1]
    assert "digits at 4 pixels" in command("best", "--top", "1")[1]
    scores = json.loads(command("best", "--score", "top5", "--format", "json")[1])
    assert scores[0]["score"] == measured(folder, scores[0]["run"])["scores"]["top5"]


def test_best_lists_teachers_only_where_asked_and_a_pairs_plain_students(
    folder: Path, command: Command
) -> None:
    """With and without a suite alike."""
    for words in ([], ["tiny.yaml"]):

        def listed(*more: str, words: list[str] = words) -> list[str]:
            code, out, err = command("best", *words, "--top", "0", "--format", "json", *more)
            assert code == 0, err
            return sorted(row["run"] for row in json.loads(out))

        students = names(folder, "kd_") + names(folder, "digits_resnet8_student")
        teacher = names(folder, "digits_resnet14_student")
        assert len(students) == 4 and len(teacher) == 1
        assert listed() == sorted(students)
        assert listed("--teachers") == sorted(students + teacher)
        assert listed("--pair", "resnet14->resnet8") == sorted(students)
        assert listed("--method", "student") == names(folder, "digits_resnet8_student")
        seeds = listed("--method", "kd", "--seed", "1", "--teachers")
        assert seeds == sorted(names(folder, "kd_s1") + teacher)
    code, _, err = command("best", "--pair", "resnet20->resnet14")
    assert code == 2 and "fits the selection" in err


@pytest.mark.parametrize("flag", [["--seed", "0"], ["--method", "kd"], ["--set", "seeds=[0]"]])
def test_a_selection_is_of_one_suite(folder: Path, command: Command, flag: list[str]) -> None:
    code, out, err = command("table", *flag)
    assert (code, out) == (2, "") and f"{flag[0]} is of one suite; name the suite" in err


def test_best_refuses_what_it_cannot_list(folder: Path, command: Command) -> None:
    for arguments, sentence in (
        (["--score", "auc"], "no finished run in results has a auc"),
        (["--score", "f1"], "--score 'f1' is unknown"),
        (["--set", "train.epochs=2"], "name the suite as well"),
        (["--results", "gone"], "results folder gone does not exist"),
        (["tiny.yaml", "--method", "crd"], "--method 'crd' is not in the suite"),
    ):
        code, _, err = command("best", *arguments)
        assert code == 2 and sentence in err


# --- the trained network --------------------------------------------------------


def test_a_stored_student_is_the_one_that_was_measured(folder: Path) -> None:
    """Its accuracy on the test images, through the public path, is the recorded one."""
    (name,) = names(folder, "kd_s0")
    student = wcordbench.load_student(name)
    test = digits(folder).test
    images = torch.from_numpy(test.pixels).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        hits = student(images).argmax(1) == torch.from_numpy(test.labels)
    assert 100 * hits.double().mean().item() == pytest.approx(
        measured(folder, name)["scores"]["top1"]
    )
    assert student.card.classes == tuple("0123456789")
    ranked = student.classify(test.pixels[0, :, :, 0], top=10)
    assert [c for c, _ in ranked][:1] == [student.card.classes[int(student(images[:1]).argmax())]]
    assert sum(p for _, p in ranked) == pytest.approx(1)
    assert not student.training and not any(p.requires_grad for p in student.parameters())


def test_images_of_other_sizes_and_files_are_taken(folder: Path) -> None:
    from PIL import Image

    student = wcordbench.load_student(names(folder, "kd_s0")[0])
    big = np.kron(digits(folder).test.pixels[3, :, :, 0], np.ones((4, 4), np.uint8))
    Image.fromarray(big).save(folder / "digit.png")
    assert student.classify(folder / "digit.png") == student.classify(big)
    (folder / "text.png").write_text("no image")
    for wrong in (folder / "text.png", folder / "gone.png", np.zeros((8, 8, 3), np.uint8)):
        with pytest.raises(UserError, match="image"):
            student.classify(wrong)


def test_what_cannot_be_loaded_says_why(folder: Path) -> None:
    (name,) = names(folder, "kd_s0")
    path = folder / "results" / "runs" / name
    with pytest.raises(UserError, match="there is no such run"):
        wcordbench.load_student("gone")
    with pytest.raises(UserError, match="2 runs are called like that"):
        wcordbench.load_student("digits_resnet14-resnet8_kd")
    weights = (path / "student.pt").read_bytes()
    (path / "student.pt").write_bytes(weights[:-1] + b"x")
    with pytest.raises(UserError, match="is not the file whose SHA-256"):
        wcordbench.load_student(path)
    (path / "student.pt").unlink()
    with pytest.raises(UserError, match=r"student\.pt is missing; copy it"):
        wcordbench.load_student(name)
    (path / "result.json").unlink()
    with pytest.raises(UserError, match="is not finished"):
        wcordbench.load_student(name)


def test_a_result_without_class_names_takes_them_from_its_images(folder: Path) -> None:
    """Records of before held none; other images than the recorded ones are refused."""
    (name,) = names(folder, "kd_s0")
    path = folder / "results" / "runs" / name / "result.json"
    record = json.loads(path.read_text())
    del record["images"]
    path.write_text(json.dumps(record))
    assert wcordbench.load_student(name).card.classes == tuple("0123456789")
    path.write_text(json.dumps({**record, "dataset_fingerprint": "0" * 16}))
    with pytest.raises(UserError, match="holds other images than it was trained on"):
        wcordbench.load_student(name)


@pytest.fixture
def images(folder: Path) -> torch.Tensor:
    return torch.from_numpy(digits(folder).test.pixels[:7]).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("form", ["state_dict", "safetensors", "torchscript", "onnx"])
def test_each_format_gives_the_students_logits(
    form: str, folder: Path, command: Command, images: torch.Tensor
) -> None:
    (name,) = names(folder, "kd_s0")
    code, out, err = command("export", name, "--format", form, "--out", "net")
    assert code == 0, err
    assert "wrote net: resnet8, 10 classes, images of 8×8 pixels with 1 channel" in out
    student = wcordbench.load_student(name)
    own = student(images)
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession("net", providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        card = session.get_modelmeta().custom_metadata_map["wcordbench"]
    elif form == "torchscript":
        files = {"wcordbench.json": ""}
        found = torch.jit.load("net", _extra_files=files)(images)
        card = files["wcordbench.json"]
    else:
        from wcordbench import models

        if form == "state_dict":
            content = torch.load("net", weights_only=True)
            state, card = content["model"], json.dumps(content["wcordbench"])
        else:
            from safetensors import safe_open

            with safe_open("net", "pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                card = file.metadata()["wcordbench"]
        network = models.create("resnet8", 10, 4, 1)
        network.load_state_dict(state)
        student.network = network.eval()
        found = student(images)
    assert torch.allclose(found, own, atol=1e-4)
    card = json.loads(card)
    assert card["classes"] == list("0123456789") and card["mean"] == [0.3058]
    assert card["view"] == {"size": 4, "blur": 0.5} and card["run"] == name


def test_an_exported_state_dict_is_a_teachers_checkpoint(folder: Path, command: Command) -> None:
    (teacher,) = names(folder, "_student_s0")[:1]
    assert "resnet14" in teacher
    assert command("export", teacher, "--format", "state_dict", "--out", "teacher.pt")[0] == 0
    text = SUITE.replace("teacher: resnet14", "teacher: {model: resnet14, checkpoint: teacher.pt}")
    (folder / "second.yaml").write_text(text)
    code, _, err = command("validate", "second.yaml")
    assert code == 0, err


def test_export_refuses_what_it_cannot_write(folder: Path, command: Command) -> None:
    (name,) = names(folder, "kd_s0")
    for arguments, sentence in (
        (["--format", "onnx"], "writes one run's network; name the run"),
        ([name], "--format csv writes all runs; leave"),
        ([name, "--format", "onx"], "did you mean 'onnx'?"),
        ([name, "--format", "state_dict", "--out", "no/such/place"], "give another file"),
    ):
        code, _, err = command("export", *arguments)
        assert code == 2 and sentence in err
    assert command("export")[1].count("\n") == 6  # as ever: all runs as CSV


# --- forget, retrain ------------------------------------------------------------


def test_forget_removes_the_selected_students(folder: Path, command: Command) -> None:
    before = names(folder)
    code, out, _ = command("forget", "tiny.yaml", "--method", "kd", "--seed", "1", "--yes")
    assert code == 0 and "removed 1 run" in out
    assert set(before) - set(names(folder)) == {n for n in before if "kd_s1" in n}
    assert command("verify")[0] == 0
    assert command("forget", "tiny.yaml", "--method", "kd", "--seed", "1", "--yes")[0] == 2


def test_a_teacher_of_runs_that_stay_is_kept(folder: Path, command: Command) -> None:
    before = names(folder)
    code, _, err = command("forget", "tiny.yaml", "--seed", "0", "--teachers", "--yes")
    assert code == 2 and "taught" in err and "which stays" in err
    assert names(folder) == before
    assert command("forget", "tiny.yaml", "--yes")[0] == 0
    assert [n for n in before if "resnet14_student" in n] == names(folder)
    assert command("forget", "tiny.yaml", "--teachers", "--yes")[0] == 0
    assert names(folder) == []


def test_a_run_in_training_is_not_removed(folder: Path, command: Command) -> None:
    (name,) = names(folder, "kd_s0")
    (held,) = [f for f in Store(folder / "results").folders() if f.path.name == name]
    with held.lease():
        for arguments in (["forget", "tiny.yaml", "--yes"], ["run", "tiny.yaml", "--retrain"]):
            code, _, err = command(*arguments)
            assert code == 2 and f"{name} is being trained" in err
    assert (held.path / "result.json").is_file()


def test_forget_leaves_the_lock_of_a_run_that_began_meanwhile(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = names(folder, "kd_s0")
    (began,) = [f for f in Store(folder / "results").folders() if f.path.name == name]
    with contextlib.ExitStack() as training:
        monkeypatch.setattr(
            "typer.confirm", lambda _: training.enter_context(began.lease()) is None
        )
        code, _, err = command("forget", "tiny.yaml", "--method", "kd", "--seed", "0")
        assert code == 2 and f"{name} is being trained" in err
        assert began.held() and (began.path / "result.json").is_file()


def test_retrain_removes_nothing_before_all_is_there(folder: Path, command: Command) -> None:
    (teacher,) = names(folder, "resnet14_student")
    (folder / "results" / "runs" / teacher / "student.pt").unlink()
    before = names(folder)
    code, _, err = command("run", "tiny.yaml", "--method", "kd", "--retrain")
    assert code == 2 and "the teacher's weights, is missing" in err
    results = [(folder / "results" / "runs" / name / "result.json").is_file() for name in before]
    assert names(folder) == before and all(results)


def test_without_a_yes_nothing_is_removed(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("typer.confirm", lambda _: False)
    before = names(folder)
    code, out, _ = command("forget", "tiny.yaml")
    assert code == 1 and "nothing was removed" in out and names(folder) == before


def test_retrain_gives_the_same_bits_anew(folder: Path, command: Command) -> None:
    (name,) = names(folder, "kd_s0")
    others = {n: measured(folder, n)["ended"] for n in names(folder) if n != name}
    before = measured(folder, name)
    more = ["--method", "kd", "--seed", "0", "--retrain", "--workers", "1", "--threads", "1"]
    code, _, err = command("run", "tiny.yaml", *more)
    assert code == 0, err
    after = measured(folder, name)
    assert after["ended"] > before["ended"]
    if before["environment"]["threads"] == 1:
        assert after["weights_sha256"] == before["weights_sha256"]
    assert {n: measured(folder, n)["ended"] for n in others} == others


# --- merge ----------------------------------------------------------------------


def test_merge_takes_in_what_is_not_here(folder: Path, command: Command) -> None:
    shutil.copytree("results", "theirs")
    shutil.rmtree(folder / "results" / "runs" / names(folder, "kd_s1")[0])
    code, out, _ = command("merge", "theirs")
    assert code == 0
    assert out == "1 run taken from theirs, 4 were here, 0 unfinished, 0 refused\n"
    assert command("verify")[0] == 0
    assert command("merge", "theirs")[1].startswith("0 runs taken from theirs, 5 were here")
    assert command("merge", "theirs", "--results", "new")[1].startswith("5 runs taken")
    assert command("verify", "--results", "new")[0] == 0


def test_merge_refuses_what_does_not_hold(folder: Path, command: Command) -> None:
    """A changed score, changed weights, another result of a run that is here, a foreign teacher."""
    shutil.copytree("results", "theirs")
    kd0, kd1 = names(folder, "kd")
    plain = names(folder, "resnet8_student_s0")[0]
    theirs = folder / "theirs" / "runs"

    def edit(name: str, **changes: Any) -> None:
        path = theirs / name / "result.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    edit(kd0, scores={"top1": 99.9, "top5": 100.0, "best_top1": 99.9})
    with (theirs / plain / "student.pt").open("ab") as file:
        file.write(b"x")
    edit(kd1, teacher_sha256="0" * 64)
    for name in (kd0, kd1, plain):
        shutil.rmtree(folder / "results" / "runs" / name)
    (other,) = names(folder, "resnet8_student_s1")
    edit(other, weights_sha256="0" * 64)
    (theirs / other / "student.pt").unlink()
    before = names(folder)
    code, out, _ = command("merge", "theirs")
    assert code == 1 and names(folder) == before
    assert "0 runs taken from theirs, 1 were here, 0 unfinished, 4 refused" in out
    for name, reason in (
        (kd0, "its top1 is not that of the last epoch"),
        (plain, "is not the file whose SHA-256"),
        (kd1, "was taught by other weights"),
        (other, "differs from the result that results has"),
    ):
        assert [line for line in out.splitlines() if name in line and reason in line], out


def test_merge_completes_what_is_here(folder: Path, command: Command) -> None:
    """A clone without weights gets them, and measurements; another score of a name is named."""
    (name,) = names(folder, "kd_s0")
    for dataset in ("mine", "yours"):
        assert command("evaluate", name, "--dataset", "digits", "--name", dataset)[0] == 0
    shutil.copytree("results", "theirs")
    run = folder / "results" / "runs" / name
    (run / "student.pt").unlink()
    (run / FILE).unlink()
    said = "0 runs taken from theirs, 5 were here (1 completed), 0 unfinished, 0 refused\n"
    assert command("merge", "theirs")[:2] == (0, said)
    for file in ("student.pt", FILE):
        assert (run / file).read_bytes() == (folder / "theirs" / "runs" / name / file).read_bytes()
    assert command("merge", "theirs")[1] == said.replace(" (1 completed)", "")
    assert command("verify")[0] == 0
    records = json.loads((run / FILE).read_text())
    records["evaluations"]["mine"] = sealed(
        {**records["evaluations"]["mine"], "scores": {"top1": 1.0, "top5": 2.0}}
    )
    (run / FILE).write_text(json.dumps(records))
    code, out, _ = command("merge", "theirs")
    assert code == 1 and "measured 'mine' otherwise" in out and "1 refused" in out


def test_merge_of_nothing(folder: Path, command: Command) -> None:
    assert "holds no runs/" in command("merge", "gone")[2]
    assert "is the results folder itself" in command("merge", "results")[2]
    shutil.copytree("results", "theirs")
    (name,) = names(folder, "kd_s0")
    (folder / "theirs" / "runs" / name / "result.json").unlink()
    assert ", 1 unfinished, 0 refused" in command("merge", "theirs")[1]
