"""Whatever is handed in wrong is answered by one sentence and exit code 2, and nothing changes.

Suites have many more cases of their own in tests/suite/test_malformed.py.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from wcordbench import models
from wcordbench.cli.main import main
from wcordbench.executors.local import LocalExecutor
from wcordbench.results.store import Store
from wcordbench.suite import Run, expand, load_suite
from wcordbench.training.cohort import Cohort

SUITE: dict[str, Any] = {
    "name": "small",
    "dataset": {"name": "digits", "mean": [0.3], "std": [0.4]},
    "train": {
        "epochs": 1, "batch_size": 256, "learning_rate": 0.05, "schedule": {"type": "one_cycle"},
    },
    "seeds": [0],
    "pairs": [{"teacher": "resnet8", "student": "resnet8"}],
    "methods": ["student", "kd"],
}  # fmt: skip


class Here:
    """A folder with a suite, finished results, a checkpoint and a dataset, all to be spoilt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results, self.checkpoint = folder / "results", folder / "teacher.pth"
        self.data, self.suite = folder / "data", folder / "suite.yaml"
        self.spec = json.loads(json.dumps(SUITE))

    def run(self) -> Run:
        """The run of KD."""
        return next(r for r in self.runs() if r.teacher is not None)

    def runs(self) -> list[Run]:
        return list(dict.fromkeys(c.run for c in expand(load_suite(self.suite))))

    def file(self, name: str) -> Path:
        """A file of KD's run."""
        return Store(self.results).folder(self.run()).path / name

    def write(self) -> None:
        self.suite.write_text(yaml.safe_dump(self.spec))

    def taught(self) -> None:
        """The suite's teacher is the checkpoint; nothing is trained yet."""
        self.spec["pairs"][0]["teacher"] = {"model": "resnet8", "checkpoint": str(self.checkpoint)}
        self.write()

    def pictures(self, **options: Any) -> None:
        """The suite's dataset is a folder of pictures."""
        self.spec["dataset"] = {
            "name": "imagefolder", "mean": [0.5], "std": [0.5],
            "options": {"folder": "dots", "image_size": 8, "grayscale": True, **options},
        }  # fmt: skip
        self.write()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything as it should be."""
    here = Here(tmp_path_factory.mktemp("made"))
    here.write()
    torch.set_num_threads(1)
    for run in here.runs():
        Cohort([run], Store(here.results), here.data, torch.device("cpu")).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save({"model": models.create("resnet8", 10, 8, 1).state_dict()}, here.checkpoint)
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in range(2):
            folder = here.data / "dots" / split / str(label)
            folder.mkdir(parents=True)
            for i in range(4):
                Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(folder / f"{i}.png")
    return here.folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Here:
    shutil.copytree(made, tmp_path / "here")
    return Here(tmp_path / "here")


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def spoil(key: str, value: Any) -> Callable[[Here], None]:
    """Change one key of the suite, by its path."""

    def change(here: Here) -> None:
        target: Any = here.spec
        *parents, last = key.split(".")
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target[part]
        target[int(last) if isinstance(target, list) else last] = value
        here.write()

    return change


def suite_text(text: str) -> Callable[[Here], None]:
    return lambda here: here.suite.write_text(text) and None


def weights(change: Callable[[Any], Any]) -> Callable[[Here], None]:
    """Spoil the teacher's checkpoint: the value to save instead of its content."""

    def spoilt(here: Here) -> None:
        content = torch.load(here.checkpoint, weights_only=True)
        torch.save(change(content), here.checkpoint)
        here.taught()

    return spoilt


def checkpoint_bytes(change: Callable[[bytes], bytes]) -> Callable[[Here], None]:
    def spoilt(here: Here) -> None:
        here.checkpoint.write_bytes(change(here.checkpoint.read_bytes()))
        here.taught()

    return spoilt


def other(model: str, classes: int = 10) -> Callable[[Any], Any]:
    return lambda _: models.create(model, classes, 8, 1).state_dict()


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("never",)


def evil(here: Here) -> None:
    torch.save({"model": Evil()}, here.checkpoint)
    here.taught()


def infinite(content: Any) -> Any:
    content["model"]["fc.weight"][0, 0] = float("nan")
    return content


def result(change: Callable[[Any], Any]) -> Callable[[Here], None]:
    return lambda here: edit(here.file("result.json"), change)


def replaced(name: str, data: bytes) -> Callable[[Here], None]:
    return lambda here: here.file(name).write_bytes(data) and None


def failure(data: bytes) -> Callable[[Here], None]:
    def spoilt(here: Here) -> None:
        here.file("result.json").unlink()
        here.file("failure.json").write_bytes(data)

    return spoilt


def unfinished(then: Callable[[Here], object]) -> Callable[[Here], None]:
    """KD is still to be trained, and something of its teacher's run is wrong."""

    def spoilt(here: Here) -> None:
        here.file("result.json").unlink()
        then(here)

    return spoilt


def teachers(here: Here, name: str) -> Path:
    teacher = here.run().teacher
    assert teacher is not None
    return Store(here.results).folder(teacher).path / name


def pictures(then: Callable[[Path], object], **options: Any) -> Callable[[Here], None]:
    def spoilt(here: Here) -> None:
        shutil.rmtree(here.results)
        here.pictures(**options)
        then(here.data / "dots")

    return spoilt


def nothing(here: Here) -> None:
    pass


RUN, VALIDATE, TABLE = ["run", "SUITE"], ["validate", "SUITE"], ["table", "SUITE"]
CALIBRATION = {
    "networks": {}, "pairs": {}, "real_images": True, "dataset_bytes": 0, "seconds": 1.0,
}  # fmt: skip
BEFORE = {"type": "step", "milestones": [1]}

#: what is spoilt, the command, and what its sentence must hold
CASES: dict[str, tuple[Callable[[Here], Any], list[str], list[str]]] = {
    # suites
    "suite missing": (lambda h: h.suite.unlink(), RUN, ["suite.yaml does not exist"]),
    "suite empty": (suite_text(""), RUN, ["suite.yaml", "empty"]),
    "suite not YAML": (suite_text("a: [1"), RUN, ["not valid YAML"]),
    "suite a list": (suite_text("- a"), RUN, ["suite.yaml", "mapping"]),
    "suite binary": (lambda h: h.suite.write_bytes(b"\x00\xff"), RUN, ["suite.yaml"]),
    "suite with code": (suite_text("a: !!python/object/apply:os.getcwd []"), RUN, ["tag"]),
    "suite key twice": (suite_text("name: a\nname: b\n"), RUN, ["'name'", "twice"]),
    "suite unknown key": (spoil("trian", {}), RUN, ["'trian'", "did you mean 'train'"]),
    "suite unknown model": (spoil("pairs.0.student", "resnet9"), RUN, ["pairs.0.student"]),
    "suite unknown method": (spoil("methods.1", "kdd"), RUN, ["methods.1", "'kd'"]),
    "suite unknown dataset": (spoil("dataset.name", "digit"), RUN, ["dataset.name", "'digits'"]),
    "suite negative epochs": (spoil("train.epochs", -1), RUN, ["train.epochs"]),
    "suite rate is text": (spoil("train.learning_rate", "high"), RUN, ["train.learning_rate"]),
    "suite late milestone": (spoil("train.schedule", BEFORE), RUN, ["train.schedule.milestones"]),
    "suite no seeds": (spoil("seeds", []), RUN, ["seeds", "must not be empty"]),
    "suite impossible size": (spoil("dataset.size", 64), RUN, ["dataset.size", "at most 8"]),
    "suite impossible pair": (spoil("pairs.0.student", "timm:inception_v3"), RUN, ["8"]),
    "suite name with a path": (spoil("name", "../up"), RUN, ["'name'", "letters"]),
    "suite override of no method": (
        spoil("pairs.0.methods", {"fft": {}}), RUN, ["pairs.0.methods.fft", "'ft'"],
    ),
    "suite option out of range": (
        spoil("methods.1", {"name": "wcord", "critic": "nces"}), RUN, ["methods.1"],
    ),
    # flags
    "flag unknown": (nothing, [*RUN, "--worker", "1"], ["--worker", "--workers", "--help"]),
    "flag without value": (nothing, [*RUN, "--workers"], ["--workers", "integer"]),
    "flag workers": (nothing, [*RUN, "--workers", "0"], ["--workers", "1"]),
    "flag workers huge": (nothing, [*RUN, "--workers", "9" * 30], ["--workers", "4096"]),
    "flag threads huge": (nothing, [*RUN, "--threads", "9" * 12], ["--threads", "4096"]),
    "flag threads": (nothing, [*RUN, "--threads", "two"], ["--threads", "integer"]),
    "flag minutes": (
        nothing, [*RUN, "--checkpoint-minutes", "-1"], ["--checkpoint-minutes", "0"],
    ),
    "flag compile": (nothing, [*RUN, "--compile", "max"], ["--compile 'max'", "reduce-overhead"]),
    "flag device": (nothing, [*RUN, "--device", "gpu"], ["--device 'gpu'", "cuda:0"]),
    "flag costs missing": (nothing, [*RUN, "--costs", "c.json"], ["c.json cannot be read", "plan"]),
    "flag costs a suite": (
        nothing, [*RUN, "--costs", "suite.yaml"], ["suite.yaml is not a calibration", "plan"],
    ),
    "flag costs of another suite": (
        unfinished(lambda h: (h.folder / "c.json").write_text(json.dumps(CALIBRATION))),
        [*RUN, "--costs", "c.json"], ["does not know what digits_resnet8-resnet8_kd_s0", "plan"],
    ),
    "flag costs of text": (
        lambda h: (h.folder / "c.json").write_text(
            json.dumps({**CALIBRATION, "networks": {"a": {"step": "long"}}})),
        [*RUN, "--costs", "c.json"], ["c.json is not a calibration"],
    ),
    "flag costs negative": (
        lambda h: (h.folder / "c.json").write_text(
            json.dumps({**CALIBRATION, "pairs": {"a": {"seen": -1.0}}})),
        [*RUN, "--costs", "c.json"], ["c.json is not a calibration"],
    ),
    "flag save nowhere": (
        nothing, ["plan", "SUITE", "--save", "no/c.json"], ["--save no/c.json", "no such folder"],
    ),
    "flag save": (
        nothing, ["plan", "SUITE", "--save", "c.json", "--steps", "0"], ["--save", "--steps 0"],
    ),
    "flag seed": (nothing, [*RUN, "--seed", "3"], ["--seed 3", "seeds [0]"]),
    "flag pair": (nothing, [*RUN, "--pair", "resnet8"], ["--pair", "resnet8->resnet8"]),
    "flag method": (nothing, [*RUN, "--method", "crd"], ["--method 'crd'", "not in the suite"]),
    "flag set": (nothing, [*RUN, "--set", "epochs=2"], ["--set epochs=2", "'epochs'"]),
    "flag format": (nothing, [*TABLE, "--format", "latx"], ["--format 'latx'", "'latex'"]),
    "flag compare": (nothing, [*TABLE, "--compare", "paper"], ["--compare", "published"]),
    "flag compare nothing": (
        nothing, [*TABLE, "--compare", "published"], ["nothing is published", "digits"],
    ),
    "flag results": (
        nothing, ["table", "SUITE", "--results", "nowhere"], ["nowhere does not exist"],
    ),
    **{
        f"flag results of {command} a file": (
            nothing, [command, *rest, "--results", "suite.yaml"],
            ["suite.yaml is a file, not a folder", "--results"],
        )
        for command, *rest in (
            ("table", "SUITE"), ("report", "SUITE"), ("plot", "SUITE", "--out", "x.svg"),
            ("status", "SUITE"), ("verify",), ("rerun", "x"),
        )
    },
    "verify nothing": (
        lambda h: shutil.rmtree(h.results / "runs"), ["verify", "SUITE"], ["results holds no run"],
    ),
    "flag out": (nothing, ["plot", "SUITE", "--out", "x.bmp"], ["--out x.bmp", ".png"]),
    "flag rerun": (nothing, ["rerun", "nobody"], ["'nobody'", "no such run"]),
    "command unknown": (nothing, ["rum", "SUITE"], ["No such command 'rum'"]),
    "list unknown": (nothing, ["list", "model"], ["'models'"]),
    # teachers' checkpoints
    "checkpoint missing": (
        lambda h: (h.checkpoint.unlink(), h.taught()), VALIDATE, ["teacher.pth does not exist"],
    ),
    "checkpoint a folder": (
        lambda h: (h.checkpoint.unlink(), h.checkpoint.mkdir(), h.taught()),
        VALIDATE, ["pairs.0.teacher.checkpoint", "cannot be read"],
    ),
    "checkpoint empty": (checkpoint_bytes(lambda _: b""), VALIDATE, ["damaged or not a PyTorch"]),
    "checkpoint half": (checkpoint_bytes(lambda b: b[: len(b) // 2]), VALIDATE, ["damaged"]),
    "checkpoint of text": (checkpoint_bytes(lambda _: b"hello"), VALIDATE, ["damaged"]),
    "checkpoint with code": (evil, VALIDATE, ["could run code"]),
    "checkpoint a number": (weights(lambda _: 3), VALIDATE, ["holds no weights"]),
    "checkpoint of an optimiser": (weights(lambda _: {"lr": 0.1}), VALIDATE, ["holds no weights"]),
    "checkpoint other network": (weights(other("resnet14")), VALIDATE, ["another architecture"]),
    "checkpoint other style": (weights(other("wrn_16_1")), VALIDATE, ["another architecture"]),
    "checkpoint other classes": (weights(other("resnet8", 100)), VALIDATE, ["has 100 classes"]),
    "checkpoint infinite": (weights(infinite), VALIDATE, ["NaN or infinite", "fc.weight"]),
    # a run's folder; a checkpoint that does not belong fails its run: tests/training
    "configuration changed": (
        unfinished(lambda h: edit(h.file("run.json"), lambda r: r["config"].update(seed=9))),
        RUN, ["run.json was changed", "delete"],
    ),
    "configuration half": (
        unfinished(lambda h: h.file("run.json").write_text("{")), RUN, ["run.json is damaged"],
    ),
    "configuration newer": (
        unfinished(lambda h: edit(h.file("run.json"), lambda r: r.update(format=2))),
        RUN, ["run.json", "newer wcordbench"],
    ),
    # results
    "result half": (replaced("result.json", b'{"id"'), TABLE, ["result.json is damaged"]),
    "result empty": (replaced("result.json", b""), TABLE, ["result.json is damaged"]),
    "result a list": (replaced("result.json", b"[]"), TABLE, ["result.json was changed"]),
    "result newer": (result(lambda r: r.update(format=2)), TABLE, ["newer wcordbench", "upgrade"]),
    "result format text": (result(lambda r: r.update(format="x")), TABLE, ["newer wcordbench"]),
    "result other config": (
        result(lambda r: r["config"].update(seed=5)), TABLE, ["was changed", "delete"],
    ),
    "result other score": (
        result(lambda r: r["scores"].update(top1=99.0)), TABLE, ["was changed", "last epoch"],
    ),
    "result score text": (result(lambda r: r["scores"].update(top1="x")), TABLE, ["top1 is 'x'"]),
    "result score above 100": (
        result(lambda r: r["scores"].update(top1=101)), TABLE, ["top1 is 101"],
    ),
    "result no scores": (result(lambda r: r.pop("scores")), TABLE, ["was changed"]),
    "metrics changed": (
        replaced("metrics.json", b"[]"), TABLE, ["metrics.json is not the file", "delete"],
    ),
    "failure half": (failure(b"{"), TABLE, ["failure.json is damaged"]),
    "failure without reason": (failure(b"{}"), TABLE, ["failure.json is damaged", "reason"]),
    "results a file": (
        lambda h: (shutil.rmtree(h.results), h.results.write_text("")), RUN, ["--results"],
    ),
    "teacher's weights missing": (
        unfinished(lambda h: teachers(h, "student.pt").unlink()), RUN, ["student.pt", "is missing"],
    ),
    "teacher's weights changed": (
        unfinished(lambda h: teachers(h, "student.pt").write_bytes(b"x")), RUN, ["SHA-256"],
    ),
    "teacher's result changed": (
        unfinished(lambda h: edit(teachers(h, "result.json"), lambda r: r.update(id="0" * 16))),
        RUN, ["result.json was changed"],
    ),
    # datasets
    "dataset missing": (pictures(shutil.rmtree), RUN, ["dots"]),
    "dataset without a test set": (pictures(lambda d: shutil.rmtree(d / "test")), RUN, ["test"]),
    "dataset with an empty class": (
        pictures(lambda d: [p.unlink() for p in (d / "train" / "1").iterdir()]), RUN, ["train"],
    ),
    "dataset image half": (
        pictures(lambda d: (d / "train/0/0.png").write_bytes(
            (d / "train/0/0.png").read_bytes()[:40])),
        RUN, ["0.png"],
    ),
    "dataset image of text": (
        pictures(lambda d: (d / "train/0/0.png").write_text("no picture")), RUN, ["0.png"],
    ),
    "dataset class missing in test": (
        pictures(lambda d: shutil.rmtree(d / "test" / "1")), RUN, ["test"],
    ),
    "dataset outside": (pictures(nothing, folder="../up"), RUN, ["../up"]),  # type: ignore[arg-type]
    "dataset at an absolute place": (
        pictures(nothing, folder="/etc"), RUN, ["/etc"],  # type: ignore[arg-type]
    ),
    "dataset a link outside": (
        pictures(lambda d: (d / "train/0/l.png").symlink_to("/etc/hostname")), RUN, ["l.png"],
    ),
    "dataset option unknown": (pictures(nothing, folders="x"), RUN, ["options.folders"]),  # type: ignore[arg-type]
}  # fmt: skip


def in_this_process(self: LocalExecutor, jobs: Any, report: Any) -> None:
    """What the executor does, without a process a job."""
    for job in jobs:
        store = Store(self.store_root)
        Cohort(list(job.runs), store, self.data_root, torch.device("cpu"), report).train()


@pytest.mark.parametrize("case", CASES)
def test_refused(
    case: str, here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil_it, command, fragments = CASES[case]
    spoil_it(here)
    monkeypatch.setattr(LocalExecutor, "run", in_this_process)
    monkeypatch.chdir(here.folder)
    arguments = [str(here.suite) if a == "SUITE" else a for a in command]
    if command[0] == "run":
        arguments += ["--data", str(here.data)]
    before = {p: p.read_bytes() for p in here.folder.rglob("*.json")}
    monkeypatch.setattr(sys, "argv", ["wcordbench", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr()
    assert left.value.code == 2, said
    sentence = said.err.strip()
    assert sentence.startswith("wcordbench: ") and "\n" not in sentence and len(sentence) < 600
    assert "Traceback" not in said.out + said.err
    for fragment in fragments:
        assert fragment in sentence, sentence
    for path, data in before.items():
        assert path.read_bytes() == data, path
    assert not (here.folder / "never").exists()


def test_there_are_sixty() -> None:
    assert len(CASES) >= 60
