"""A stored student on other images: accuracy on the same classes, a linear probe on any."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wcordbench.cli.main import main
from wcordbench.data.digits import digits
from wcordbench.errors import UserError
from wcordbench.results.evaluations import FILE, evaluations
from wcordbench.results.store import RunFolder, StorageError, Store
from wcordbench.results.verify import verify
from wcordbench.suite import Run, expand, load_suite
from wcordbench.suite.other import other_dataset
from wcordbench.training.cohort import Cohort

SUITE = """
name: tiny
dataset: {name: digits, mean: [0.3058], std: [0.3764]}
views: {student: {size: 6}}
train:
  epochs: 2
  batch_size: 64
  learning_rate: 0.05
  schedule: {type: one_cycle}
  augment: {crop_padding: 1, flip: false}
seeds: [0]
pairs: [{teacher: resnet8, student: resnet8}]
methods: [student, kd]
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished plain student, and folders of images."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "tiny.yaml").write_text(SUITE)
    run = _run(folder)
    Cohort([run], Store(folder / "results"), folder, torch.device("cpu")).train()
    test = digits(folder).test
    for name, names in (("same", "0123456789"), ("letters", "abcdefghij")):
        for split in ("train", "test"):
            for i, (pixels, label) in enumerate(zip(test.pixels, test.labels, strict=True)):
                place = folder / name / split / names[label]
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels[..., 0]).save(place / f"{i}.png")
    return folder


def _run(folder: Path) -> Run:
    cells = expand(load_suite(folder / "tiny.yaml"))
    return next(c.run for c in cells if c.method is not None and c.method.name == "student")


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the current folder."""
    place = tmp_path / "copy"
    shutil.copytree(trained, place)
    monkeypatch.chdir(place)
    return place


def _call(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    argv, sys.argv = sys.argv, ["wcordbench", *args]
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = argv
    said = capsys.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 0), said.out, said.err


def _stored(folder: Path) -> RunFolder:
    return Store(folder / "results").folder(_run(folder))


def _folder_of(name: str) -> str:
    return f"{{name: imagefolder, options: {{folder: {name}, image_size: 8, grayscale: true}}}}"


def test_the_same_test_images_give_the_same_accuracy(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = _stored(folder)
    code, out, err = _call(capsys, "evaluate", stored.path.name, "--dataset", "digits")
    assert (code, err) == (0, "")
    assert "digits: top1" in out and "359 images" in out
    scores, before = evaluations(stored)["digits"]["scores"], stored.result()["scores"]
    assert scores["top1"] == before["top1"] and scores["top5"] == before["top5"]


def test_a_folder_of_the_same_classes_and_a_suites_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = _stored(folder)
    code, _, err = _call(
        capsys, "evaluate", stored.path.name, "--dataset", _folder_of("same"), "--name", "same",
        "--data", str(folder),
    )  # fmt: skip
    assert code == 0, err
    assert evaluations(stored)["same"]["scores"]["top1"] == stored.result()["scores"]["top1"]
    code, _, err = _call(capsys, "evaluate", stored.path.name, "--dataset", "tiny.yaml")
    assert code == 0, err
    assert evaluations(stored)["tiny"]["scores"]["top1"] == stored.result()["scores"]["top1"]
    assert verify(Store(folder / "results")) == (1, [])


def test_other_classes_are_for_a_probe(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = _stored(folder)
    letters = ("--dataset", _folder_of("letters"), "--data", str(folder), "--name", "letters")
    code, _, err = _call(capsys, "evaluate", stored.path.name, *letters)
    assert code == 2 and "lacks class '0'" in err and "wcordbench probe" in err
    code, out, err = _call(capsys, "probe", stored.path.name, *letters)
    assert code == 0 and "probe:letters: top1" in out, err
    record = evaluations(stored)["probe:letters"]
    # the images that it is tested on are those that the classifier was trained on
    assert record["scores"]["top1"] > 80 and record["kind"] == "linear probe"


def test_a_probe_is_the_classifier_of_scikit_learn_on_pooled_features(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from wcordbench import load_student

    stored = _stored(folder)
    code, _, err = _call(capsys, "probe", stored.path.name, "--dataset", "digits", "--c", "0.5")
    assert code == 0, err
    student = load_student(stored.path)
    data = digits(folder)

    def features(pixels: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        seen: list[torch.Tensor] = []
        hook = student.network.register_forward_hook(lambda _m, _i, out: seen.append(out.pooled))
        with torch.no_grad():
            student(images)
        hook.remove()
        return seen[0].numpy()

    scaler = StandardScaler().fit(features(data.train.pixels))
    model = LogisticRegression(C=0.5, max_iter=1000)
    model.fit(scaler.transform(features(data.train.pixels)), data.train.labels)
    wanted = 100 * model.score(scaler.transform(features(data.test.pixels)), data.test.labels)
    assert evaluations(stored)["probe:digits"]["scores"]["top1"] == pytest.approx(wanted, abs=0.6)


TASK = """
name: task
dataset: {name: digits, mean: [0.3058], std: [0.3764]}
task: {positive: [3]}
train: {epochs: 1, batch_size: 256, learning_rate: 0.05, schedule: {type: one_cycle}}
seeds: [0]
pairs: [{teacher: resnet8, student: resnet8}]
methods: [student]
"""


def test_a_task_is_the_runs_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A probe is of the other classes as they are; a number is no class of another dataset."""
    (folder / "task.yaml").write_text(TASK)
    run = next(c.run for c in expand(load_suite(folder / "task.yaml")))
    stored = Store(folder / "results").folder(run)
    Cohort([run], Store(folder / "results"), folder, torch.device("cpu")).train()
    name = stored.path.name
    assert _call(capsys, "evaluate", name, "--dataset", "digits")[0] == 0
    assert evaluations(stored)["digits"]["scores"]["top1"] == stored.result()["scores"]["top1"]
    assert _call(capsys, "probe", name, "--dataset", "digits")[0] == 0
    probed = evaluations(stored)["probe:digits"]
    assert "task" not in probed["dataset"] and probed["scores"]["top1"] < 89  # of ten classes
    where = ("--data", str(folder), "--name", "x")
    code, _, err = _call(capsys, "evaluate", name, "--dataset", _folder_of("letters"), *where)
    assert code == 2 and "names class 3 by its number" in err
    for split in ("train", "test"):
        for digit in range(10):
            new = folder / "made" / split / ("positive" if digit == 3 else "other")
            shutil.copytree(folder / "same" / split / str(digit), new, dirs_exist_ok=True)
    code, _, err = _call(capsys, "evaluate", name, "--dataset", _folder_of("made"), *where)
    assert code == 0, err  # its classes are the network's
    assert evaluations(stored)["x"]["scores"]["top1"] == stored.result()["scores"]["top1"]


def test_images_are_read_as_the_runs_were() -> None:
    own = {
        "name": "imagefolder", "mean": [0.5], "std": [0.5], "size": None,
        "options": {"folder": "a", "image_size": 64, "resize": 72, "grayscale": True},
    }  # fmt: skip
    _, found = other_dataset("{name: imagefolder, options: {folder: b}}", own, 64)
    read = {key: found["options"][key] for key in ("image_size", "resize", "grayscale")}
    assert read == {"image_size": 64, "resize": 72, "grayscale": True}
    text = "{name: imagefolder, options: {folder: b, image_size: 80}}"
    assert other_dataset(text, own, 64)[1]["options"].get("resize") is None
    cifar = {"name": "cifar100", "mean": [0.5] * 3, "std": [0.5] * 3, "size": 16, "options": {}}
    found = other_dataset("{name: imagefolder, options: {folder: b}}", cifar, 16)[1]
    assert found["options"]["image_size"] == 32 and found["size"] == 16  # averaged, as CIFAR's
    assert other_dataset("pathmnist", cifar | {"size": None}, 32)[1]["options"]["image_size"] == 64


def test_images_smaller_than_those_of_the_training_are_refused() -> None:
    own = {"name": "cifar100", "options": {}, "mean": [0.3], "std": [0.4], "size": 16}
    with pytest.raises(UserError, match=r"--dataset digits: its images are smaller than the 16 "):
        other_dataset("digits", own, 16)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nonesuch", "--dataset", "digits"), "there is no such run"),
        (("RUN", "--dataset", "digitz"), "did you mean 'digits'"),
        (("RUN", "--dataset", "[1, 2]"), "neither a dataset's name"),
        (("RUN", "--dataset", "gone.yaml"), "gone.yaml"),
        (("RUN", "--dataset", "cifar10"), "another number of channels than the 1"),
        (("RUN", "--dataset", "{name: digits, foo: 1}"), "unknown key 'foo'"),
        (("RUN", "--dataset", "{nam: digits}"), "unknown key 'nam'; did you mean 'name'?"),
        (("RUN", "--dataset", "{name: imagefolder}"), "key 'options.folder' is missing"),
        (("RUN", "--dataset", "{name: digits, size: 4}"), "key 'size' has no use here"),
        (("RUN", "--dataset", "{name: digits, holdout: 9}"), "key 'holdout' has no use here"),
        (("RUN", "--dataset", "digits", "--name", "a b"), "cannot name a measurement"),
        (("RUN", "--dataset", "digits", "--device", "cuda:99"), "CUDA devices); leave it out"),
        (("RUN", "--dataset", "digits", "--device", "gpu"), "give cpu, cuda or cuda:0"),
    ],
)
def test_mistakes_are_one_sentence_and_store_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], said: str
) -> None:
    name = _stored(folder).path.name
    code, _, err = _call(capsys, "evaluate", *(name if a == "RUN" else a for a in args))
    assert code == 2 and said in err and len(err.splitlines()) == 1, err
    assert evaluations(_stored(folder)) == {}


def test_a_name_belongs_to_its_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = _stored(folder).path.name
    assert _call(capsys, "evaluate", name, "--dataset", "digits", "--name", "mine")[0] == 0
    (folder / "same" / "test" / "3").rename(folder / "same" / "test" / "x")
    (folder / "same" / "test" / "4").rename(folder / "same" / "test" / "3")
    (folder / "same" / "test" / "x").rename(folder / "same" / "test" / "4")
    code, _, err = _call(
        capsys, "evaluate", name, "--dataset", _folder_of("same"), "--name", "mine",
        "--data", str(folder),
    )  # fmt: skip
    assert code == 2 and "of other images" in err


def test_a_score_that_cannot_be_stored_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise StorageError(f"{path} cannot be written (No space left on device)")

    monkeypatch.setattr("wcordbench.results.evaluations.write_atomic", full)
    code, out, err = _call(capsys, "evaluate", _stored(folder).path.name, "--dataset", "digits")
    assert (code, out) == (2, "")
    assert "digits: top1" in err and "; this is not stored: " in err and "No space left" in err
    assert not (_stored(folder).path / FILE).exists()


def test_a_measurement_of_other_weights_is_found(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = _stored(folder)
    _call(capsys, "evaluate", stored.path.name, "--dataset", "digits")
    records = json.loads((stored.path / FILE).read_text())
    records["evaluations"]["digits"]["weights_sha256"] = "0" * 64
    (stored.path / FILE).write_text(json.dumps(records))
    _, findings = verify(Store(folder / "results"))
    assert [f.path.name for f in findings] == [FILE]
    assert "other weights" in findings[0].reason


def test_the_table_shows_a_measurement(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = _stored(folder)
    _call(capsys, "evaluate", stored.path.name, "--dataset", "digits", "--name", "again")
    code, out, err = _call(capsys, "table", "tiny.yaml", "--metric", "again")
    assert code == 0, err
    assert f"{stored.result()['scores']['top1']:.2f}" in out and "again" in out
    code, _, err = _call(capsys, "table", "tiny.yaml", "--metric", "agian")
    assert code == 2 and "did you mean 'again'" in err
