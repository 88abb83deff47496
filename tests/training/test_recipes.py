"""Today's recipes: they train, they resume to the same bits, older suites keep their identities."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from wcordbench import models
from wcordbench.data.recipe import Mix, Transforms, try_transforms
from wcordbench.errors import UserError
from wcordbench.methods.base import Batch
from wcordbench.results.store import Store
from wcordbench.suite import Run, expand, load_suite
from wcordbench.suite.check import check_shapes
from wcordbench.suite.transforms import TRANSFORMS, transform
from wcordbench.training.cohort import Cohort
from wcordbench.training.deploy import load_student, packed
from wcordbench.training.evaluation import StoppedError
from wcordbench.training.optimizer import undecayed
from wcordbench.training.schedule import learning_rate
from wcordbench.training.targets import smoothed

SUITE = """
name: recipes
dataset: {name: digits, mean: [0.5], std: [0.25]}
train:
  epochs: 3
  batch_size: 32
  learning_rate: 0.05
  schedule: {type: step, milestones: [2]}
  augment: {crop_padding: 1, flip: false}
seeds: [0]
pairs: [{teacher: resnet14, student: resnet8}]
methods: [student]
"""
ADAMW = [
    "train.optimizer={type: adamw, decay_norms_and_biases: false}",
    "train.learning_rate=0.002",
]
RECIPES: dict[str, list[str]] = {
    "sgd": ["train.optimizer={type: sgd, decay_norms_and_biases: false}"],
    "adamw": [*ADAMW, "train.weight_decay=0.05"],
    "cosine": ["train.schedule={type: cosine, final_rate: 0.0001}"],
    "warm-up": ["train.warmup_epochs=1"],
    "ema": ["train.ema={decay: 0.8}"],
    "mixup": ["train.mixup=0.2"],
    "mixup and cutmix": ["train.mixup=0.8", "train.cutmix=1.0", "train.label_smoothing=0.1"],
    "smoothing and clipping": ["train.label_smoothing=0.1", "train.clip_norm=1.0"],
    "transforms": [
        "train.augment.transforms=[{name: rand_augment, magnitude: 3}, random_erasing]"
    ],
    "everything": [
        *ADAMW, "train.schedule={type: cosine}", "train.warmup_epochs=0.5",
        "train.ema={decay: 0.8}",
        "train.mixup=0.8", "train.cutmix=1.0", "train.label_smoothing=0.1", "train.clip_norm=1.0",
        "train.augment.transforms=[random_resized_crop, trivial_augment, random_erasing]",
    ],
}  # fmt: skip


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[..., Run]:
    """The student's run of a recipe."""

    def of(*sets: str) -> Run:
        file = tmp_path / "recipes.yaml"
        file.write_text(SUITE)
        (run,) = (c.run for c in expand(load_suite(file, list(sets))) if c.method is not None)
        return run

    return of


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_loss_falls_and_a_resumed_run_has_the_same_bits(
    recipe: str, run_of: Callable[..., Run], tmp_path: Path, outcome: Any
) -> None:
    run, device = run_of(*RECIPES[recipe]), torch.device("cpu")
    whole, halves = Store(tmp_path / "whole"), Store(tmp_path / "halves")
    Cohort([run], whole, Path(), device).train()
    metrics, scores, *_ = outcome(whole, run)
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"]
    assert ("ema_top1" in scores) == ("ema" in run.config["train"])
    answers = iter([False] * 7)
    with pytest.raises(StoppedError):
        Cohort([run], halves, Path(), device, should_stop=lambda: next(answers, True)).train()
    Cohort([run], halves, Path(), device).train()
    assert outcome(halves, run) == outcome(whole, run)
    both = [
        torch.load(store.folder(run).path / "student.pt", weights_only=True)
        for store in (whole, halves)
    ]
    if "ema" in run.config["train"]:
        one, other = (kept["average"] for kept in both)
        assert all(torch.equal(one[key], other[key]) for key in one)
        assert not torch.equal(one["fc.weight"], both[0]["model"]["fc.weight"])
        # A reader of the file gets the weights that its top-1 is of.
        read = models.create("resnet8", 10, 8, 1)
        models.load_checkpoint(read, whole.folder(run).path / "student.pt")
        assert torch.equal(read.state_dict()["fc.weight"], both[0]["model"]["fc.weight"])


def test_keys_that_say_nothing_are_no_part_of_a_configuration(run_of: Callable[..., Run]) -> None:
    plain = run_of()
    said = run_of(
        "train.optimizer={type: sgd}", "train.warmup_epochs=0", "train.label_smoothing=0",
        "train.mixup=0", "train.cutmix=0", "train.augment.transforms=[]",
    )  # fmt: skip
    assert said.id == plain.id
    assert set(plain.config["train"]) == {
        "epochs", "batch_size", "learning_rate", "momentum", "weight_decay", "nesterov",
        "schedule", "augment", "precision",
    }  # fmt: skip
    assert plain.config["train"]["augment"] == {"crop_padding": 1, "flip": False}
    assert len({run_of(*sets).id for sets in RECIPES.values()} | {plain.id}) == len(RECIPES) + 1


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["train.augment.transforms=[rand_augmnt]"], "unknown transform 'rand_augmnt'; did you"),
        (["train.augment.transforms=[{name: rand_augment, n: 1}]"], "unknown option 'n'"),
        (
            ["train.augment.transforms=[{name: random_resized_crop, whole: true}]"],
            "cuts from whole images, and crop_padding comes before it; give crop_padding: 0",
        ),
        (
            [
                "train.augment={transforms: [random_erasing, {name: random_resized_crop,"
                " whole: true}]}",
            ],
            "and random_erasing comes before it; put it first",
        ),
        (
            [
                "train.augment.transforms=[{name: random_resized_crop, whole: true}]",
                "train.augment.crop_padding=0",
            ],
            "cuts from whole images, and 'digits' is no folder of images",
        ),
        (["train.augment.transforms=[{name: random_resized_crop, whole: 1}]"], "true or false"),
        (["train.optimizer={type: sgd, betas: [0.9, 0.99]}"], "'train.optimizer.betas' is adamw's"),
        (["train.optimizer={type: adamw}", "train.momentum=0.5"], "'train.momentum' is of sgd"),
        (["train.optimizer={type: adam}"], "train.optimizer.type"),
        (["train.schedule={type: cosin}"], "did you mean 'cosine'?"),
        (
            ["train.schedule={type: cosine, final_rate: 5}"],
            "'train.schedule.final_rate' is 5, above the learning rate",
        ),
        (
            [
                "train.schedule={type: cosine, final_rate: 0.01}",
                "pairs.0.train={learning_rate: 0.001}",
            ],
            "'pairs.0.train.schedule.final_rate' is 0.01, above the learning rate",
        ),
        (["train.warmup_epochs=3"], "'train.warmup_epochs' is 3, and training ends after 3"),
        (
            ["train.schedule={type: one_cycle}", "train.warmup_epochs=1"],
            "one_cycle has a warm-up of its own",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(
    sets: list[str], words: str, run_of: Callable[..., Run]
) -> None:
    with pytest.raises(UserError) as caught:
        run_of(*sets)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_methods_that_need_an_images_own_class_refuse_mixtures(tmp_path: Path) -> None:
    file = tmp_path / "mixed.yaml"
    for methods, refused in (("kd, at, vid", None), ("kd, crd", "'crd'"), ("dkd", "'dkd'")):
        file.write_text(SUITE.replace("methods: [student]", f"methods: [{methods}]"))
        suite = load_suite(file, ["train.mixup=0.2"])
        if refused is None:
            assert check_shapes(suite) == []
            continue
        with pytest.raises(UserError, match=refused):
            check_shapes(suite)


@pytest.mark.parametrize("name", ["simkd", "norm", "catkd"])
def test_an_average_beside_a_method_that_predicts_is_refused_before_training(
    name: str, tmp_path: Path
) -> None:
    file = tmp_path / "average.yaml"
    file.write_text(SUITE.replace("methods: [student]", f"methods: [kd, {name}]"))
    check_shapes(load_suite(file))
    suite = load_suite(file, ["train.ema={decay: 0.9}"])
    with pytest.raises(UserError, match=rf"methods\.1': train\.ema averages.*'{name}'"):
        check_shapes(suite)
    said: list[str] = []
    check_shapes(suite, said)
    assert len(said) == 1
    file.write_text(file.read_text().replace(name, f"{{name: {name}, train: {{ema: null}}}}"))
    check_shapes(load_suite(file, ["train.ema={decay: 0.9}"]))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("rand_augment, magnitude: -3", "magnitude: -3; give a whole number from 0 to one below"),
        ("rand_augment, magnitude: 9.5", "magnitude: 9.5; give a whole number"),
        ("rand_augment, magnitude: 31", "magnitude 31 of 31 bins"),
        ("rand_augment, num_magnitude_bins: 5", "magnitude 9 of 5 bins"),
        ("rand_augment, num_ops: 0", "num_ops: 0"),
        ("rand_augment, num_ops: true", "num_ops: True"),
        ("trivial_augment, num_magnitude_bins: 1", "num_magnitude_bins: 1"),
        ("random_erasing, value: 0.5", "value: 0.5; give a whole number from 0 to 255, as pixels"),
        ("random_erasing, value: 300", "value: 300"),
        ("random_erasing, value: -1", "value: -1"),
        ("random_erasing, value: random", "value: 'random'"),
        ("random_erasing, value: [0, 256]", "or one a channel"),
        ("random_erasing, value: []", "value: []"),
        ("random_erasing, p: 7", "p: 7; give a number from 0 to 1"),
        ("random_erasing, scale: [0.3, 0.1]", "the smaller first"),
        ("random_erasing, ratio: [0, 1]", "ratio: [0, 1]"),
        ("random_resized_crop, scale: [2, 3]", "two numbers from 0 to 1"),
        ("random_resized_crop, scale: [0, 0]", "scale: [0, 0]"),
        ("random_resized_crop, scale: 0.5", "scale: 0.5"),
        ("random_solarize, threshold: 300", "threshold: 300"),
        ("random_solarize, threshold: -5", "threshold: -5"),
        ("random_solarize, threshold: 0.5", "threshold: 0.5"),
        ("aug_mix, mixture_width: 0", "mixture_width: 0"),
        ("aug_mix, alpha: 0", "alpha: 0; give a number above 0"),
        ("aug_mix, chain_depth: 0", "chain_depth: 0"),
        ("aug_mix, severity: 11", "severity: 11"),
    ],
)
@pytest.mark.parametrize("place", ["train", "pairs.0.teacher.train"])
def test_a_value_that_means_nothing_on_pixels_is_one_sentence(
    place: str, given: str, words: str, tmp_path: Path
) -> None:
    """torchvision takes them when it is built: they wrap around, are cut off or raise later."""
    file = tmp_path / "odd.yaml"
    file.write_text(SUITE.replace("teacher: resnet14", "teacher: {model: resnet14}"))
    change = [f"{place}.augment={{transforms: [{{name: {given}}}]}}"]
    with pytest.raises(UserError) as caught:
        load_suite(file, change)
    said = str(caught.value)
    assert f"{place}.augment.transforms" in said and words in said and "\n" not in said


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("color_jitter, hue: 5", "color_jitter does not take these options: hue"),
        ("gaussian_blur, kernel_size: 23", "gaussian_blur with these options does not take images"
         " of 8×8 pixels and 1 channel"),
        ("random_erasing, value: [1, 2, 3], p: 0.001", "does not take images of 8×8 pixels and 1"),
        ("random_rotation, degrees: [3, 1]", "random_rotation with these options"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "place", ["train", "pairs.0.train", "pairs.0.teacher.train", "methods.1.train"]
)
def test_what_torchvision_refuses_is_found_before_training(
    place: str, given: str, words: str, tmp_path: Path
) -> None:
    """Also what it raises only at an image, by whatever protocol."""
    file = tmp_path / "odd.yaml"
    file.write_text(
        SUITE.replace("teacher: resnet14", "teacher: {model: resnet14}").replace(
            "methods: [student]", "methods: [student, {name: kd}]"
        )
    )
    suite = load_suite(file, [f"{place}.augment={{transforms: [{{name: {given}}}]}}"])
    with pytest.raises(UserError) as caught:
        check_shapes(suite)
    said = str(caught.value)
    assert f"'{place}.augment.transforms'" in said and words in said and "\n" not in said


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_what_is_found_is_what_raises_on_images(channels: int) -> None:
    """Every transform as it is: tried once, or applied to many images as training does."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (200, 8, 8, channels), generator=generator, dtype=torch.uint8)
    more: dict[str, dict[str, Any]] = {
        "gaussian_blur": {"kernel_size": 3}, "random_rotation": {"degrees": 30},
        "random_solarize": {"threshold": 128}, "color_jitter": {"saturation": 0.5, "hue": 0.1},
    }  # fmt: skip
    for name, (_, options) in TRANSFORMS.items():
        said = {"p": 0.5} if "p" in options else {}
        named = [transform({"name": name, **said, **more.get(name, {})})]
        outcomes = []
        for action in (
            lambda named=named: try_transforms(named, 8, channels),
            lambda named=named: Transforms(named, (8, 8), 0)(pixels, list(range(200)), 0),
        ):
            try:
                action()
                outcomes.append(True)
            except Exception:
                outcomes.append(False)
        assert outcomes[0] == outcomes[1], (name, outcomes)
        assert outcomes[0] or channels == 2, name


def test_the_cosine_and_the_warm_up() -> None:
    protocol = {
        "learning_rate": 1.0, "epochs": 10, "warmup_epochs": 2,
        "schedule": {"type": "cosine", "final_rate": 0.1},
    }  # fmt: skip
    rates = [learning_rate(protocol, step, 10) for step in range(100)]
    at = [0.1 + 0.9 * (1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)]
    assert rates[20:] == pytest.approx(at[20:])
    assert rates[:20] == pytest.approx([at[20] * (step + 1) / 21 for step in range(20)])
    protocol["schedule"] = {"type": "step", "milestones": [5], "factor": 0.5}
    assert learning_rate(protocol, 50, 10) == 0.5


def test_norms_biases_and_what_a_network_names_are_spared() -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.zeros(1, 4, 8))
            self.linear, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)

        def no_weight_decay(self) -> set[str]:
            return {"position"}

    whole = nn.Sequential(Part(), nn.Conv2d(3, 4, 3))
    spared = undecayed(whole)
    assert {n for n, p in whole.named_parameters() if id(p) not in spared} == {
        "0.linear.weight", "1.weight",
    }  # fmt: skip


def test_an_images_transforms_depend_on_seed_epoch_and_number_alone() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8))
    change = Transforms([{"name": "random_resized_crop"}, {"name": "rand_augment"}], (8, 8), 3)
    before = torch.get_rng_state()
    whole = change(pixels, list(range(6)), 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert whole.dtype == torch.uint8 and whole.shape == pixels.shape
    assert torch.equal(change(pixels[[4, 1]], [4, 1], 2), whole[[4, 1]])
    assert not torch.equal(change(pixels, list(range(6)), 3), whole)


def test_mixtures_say_how_much_of_each_class_they_are() -> None:
    pixels = torch.zeros(4, 8, 8, 1, dtype=torch.uint8)
    pixels[::2] = 200  # every other image is bright, and its class is 1
    labels = torch.tensor([1, 0, 1, 0])
    for alphas in ((1.0, 0.0), (0.0, 1.0)):
        for step in range(5):
            mixed, soft = Mix(2, *alphas, seed=0)(pixels, labels, 0, step)
            assert torch.equal(soft.sum(1), torch.ones(4))
            share = mixed.float().mean((1, 2, 3)) / 200
            assert torch.allclose(share, soft[:, 1], atol=0.01)


def test_smoothed_labels_are_torchs() -> None:
    logits, labels = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), torch.arange(5)
    soft = smoothed(Batch(labels, labels), 7, 0.1).soft
    assert torch.allclose(
        nn.functional.cross_entropy(logits, soft),
        nn.functional.cross_entropy(logits, labels, label_smoothing=0.1),
    )
    assert smoothed(Batch(labels, labels), 7, 0.0).soft is None


def test_an_average_begins_with_the_ordinary_protocol(
    run_of: Callable[..., Run], tmp_path: Path
) -> None:
    run = run_of("train.ema={decay: 0.5}", "train.epochs=1", "train.schedule={type: cosine}")
    store = Store(tmp_path / "average")
    Cohort([run], store, Path(), torch.device("cpu")).train()
    (record,) = store.folder(run).read_json("metrics.json")
    assert {"test_ema_top1", "test_ema_top5", "test_ema_loss"} <= record.keys()


def test_what_is_exported_has_the_scores_of_its_weights_alone(
    run_of: Callable[..., Run], tmp_path: Path
) -> None:
    """The average's and the best epoch's weights are in no exported file."""
    run = run_of("train.ema={decay: 0.5}", "train.epochs=1", "train.schedule={type: cosine}")
    store = Store(tmp_path / "average")
    Cohort([run], store, Path(), torch.device("cpu")).train()
    folder = store.folder(run)
    scores = folder.result()["scores"]
    assert {"ema_top1", "ema_top5", "best_top1"} <= scores.keys()
    student = load_student(folder.path)
    assert student.card.scores == {key: scores[key] for key in ("top1", "top5")}
    exported = tmp_path / "exported.pt"
    exported.write_bytes(packed(student, "state_dict"))
    assert torch.load(exported, weights_only=True)["wcordbench"]["scores"] == student.card.scores
