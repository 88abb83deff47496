"""Every mistake in a suite is answered with one sentence, code 2 and nothing written."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from wcordbench.cli.main import main

Write = Callable[[dict[str, Any]], Path]
GONE = object()
BOMB = "\n".join(
    ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))]
)
MERGE_BOMB = "\n".join(
    [
        "a0: &a0 {x: 1}",
        *(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 12)),
    ]
)

#: what to change in the base suite (dotted path to value), and what the sentence must hold
CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown student": (
        {"pairs.0.student": "resnet21"},
        ["key 'pairs.0.student': unknown model 'resnet21'; did you mean 'resnet20'?"],
    ),
    "unknown teacher": (
        {"pairs.0.teacher.model": "resnet65"},
        ["key 'pairs.0.teacher.model': unknown model 'resnet65'; did you mean 'resnet56'?"],
    ),
    "unknown teacher, short form": (
        {"pairs.1.teacher": "wrn16_2"},
        ["key 'pairs.1.teacher': unknown model 'wrn16_2'; did you mean 'wrn_16_2'?"],
    ),
    "unknown timm model": (
        {"pairs.0.student": "timm:resnet1888"},
        ["key 'pairs.0.student': timm knows no model 'resnet1888'; did you mean resnet18"],
    ),
    "wrong case": ({"pairs.0.student": "ResNet8"}, ["did you mean 'resnet8'?"]),
    "unknown method": (
        {"methods.1": "crdd"},
        ["key 'methods.1': unknown method 'crdd'; did you mean 'crd'?"],
    ),
    "unknown method in a sum": (
        {"methods.1": "wcord+kdd"},
        ["key 'methods.1': unknown method 'kdd'; did you mean 'kd'?"],
    ),
    "method with spaces": (
        {"methods.1": "crd + kd"},
        ["key 'methods.1' is 'crd + kd'; write it without spaces: 'crd+kd'"],
    ),
    "method as a key": (
        {"methods.1": {"kd": {"temperature": 2.0}}},
        ["key 'methods.1': a method's name is the value of 'name'", "write {name: kd, ...}"],
    ),
    "options below a method's name": (
        {"methods.1": {"name": "kd", "options": {"temperature": 2.0}}},
        ["key 'methods.1.options': a method's options stand beside its name"],
    ),
    "a class that is not there": (
        {"task": {"positive": [100]}},
        ["key 'task': positive.0 is 100, and digits numbers its classes from 0 to 9"],
    ),
    "a group's class that is not there": (
        {"task": {"groups": {"a": [0], "b": [1, -1]}}},
        ["key 'task': groups.b.1 is -1, and digits numbers"],
    ),
    "images that are read smaller": (
        {
            "dataset": {
                "name": "imagefolder",
                "options": {"folder": "x", "image_size": 16},
                "size": 32,
                "mean": [0.5],
                "std": [0.5],
            }
        },
        ["key 'dataset.size' is 32, but imagefolder has images of 16 pixels; choose at most 16"],
    ),
    "method that adds itself": (
        {"methods.1": "kd+kd"},
        ["key 'methods.1': 'kd+kd' adds 'kd' to itself; name it once"],
    ),
    "method that adds nothing": (
        {"methods.1": "crd+"},
        ["key 'methods.1': 'crd+' lacks a method beside its '+'; write one, as in crd+kd"],
    ),
    "method that is added to nothing": ({"methods.1": "+kd"}, ["'+kd' lacks a method"]),
    "method named teacher": (
        {"methods.1": "teacher"},
        ["key 'methods.1': unknown method 'teacher'; valid: ab, at, "],
    ),
    "label of the teachers' row": (
        {"methods.1": {"name": "kd", "label": "Teacher"}},
        ["key 'methods.1.label' is 'Teacher', the row of the teachers"],
    ),
    "method option of the wrong type": (
        {"methods.2.negatives": "many"},
        ["key 'methods.2.negatives' must be a whole number, not 'many'"],
    ),
    "unknown method option": (
        {"methods.2.negative": 3},
        ["key 'methods.2.negative': method 'crd+kd' has no such option; did you mean 'negatives'?"],
    ),
    "option of another method": (
        {"methods.1": {"name": "kd", "critic": "dual"}},
        ["key 'methods.1.critic': method 'kd' has no such option; valid: temperature, name, "],
    ),
    "unknown critic": (
        {"methods.1": {"name": "wcord", "critic": "duel"}},
        ["key 'methods.1.critic' must be 'nce', ", ", not 'duel'; did you mean 'dual'?"],
    ),
    "option out of range": (
        {"methods.1": {"name": "crd", "temperature": 0}},
        ["key 'methods.1.temperature' must be greater than or equal to 0.001, not 0"],
    ),
    "weight that weighs nothing": (
        {"methods.1": {"name": "kd", "alpha": 0.5}},
        ["key 'methods.1.alpha' weighs a term added by '+', and 'kd' adds none"],
    ),
    "no weight at all": (
        {"methods.1": {"name": "kd", "gamma": 0, "beta": 0}},
        ["key 'methods.1': every weight of 'kd' is 0"],
    ),
    "negative weight": (
        {"methods.1": {"name": "kd", "beta": -1}},
        ["key 'methods.1.beta' must be greater than or equal to 0, not -1"],
    ),
    "method without a name": ({"methods.1": {"label": "x"}}, ["key 'methods.1.name' is missing"]),
    "method that is a number": (
        {"methods.1": 7},
        ["key 'methods.1' must be a name or a mapping, not 7"],
    ),
    "no methods": ({"methods": []}, ["key 'methods' must not be empty"]),
    "unknown key at the top": (
        {"sedes": [0], "seeds": GONE},
        ["unknown key 'sedes'; did you mean 'seeds'?"],
    ),
    "unknown key in train": (
        {"train.learningrate": 0.1, "train.learning_rate": GONE},
        ["unknown key 'train.learningrate'; did you mean 'learning_rate'?"],
    ),
    "unknown key in a schedule": (
        {"train.schedule.milestone": [3]},
        ["unknown key 'train.schedule.milestone'; did you mean 'milestones'?"],
    ),
    "key of another schedule": (
        {"train.schedule.warmup": 0.1},
        ["unknown key 'train.schedule.warmup'; valid: type, milestones, factor"],
    ),
    "unknown key in augment": (
        {"train.augment.flips": True},
        ["unknown key 'train.augment.flips'; did you mean 'flip'?"],
    ),
    "unknown key in a pair": (
        {"pairs.1": {"techer": "wrn_16_2", "student": "wrn_16_1"}},
        ["unknown key 'pairs.1.techer'; did you mean 'teacher'?"],
    ),
    "unknown key in a teacher": (
        {"pairs.0.teacher": {"modle": "resnet14"}},
        ["unknown key 'pairs.0.teacher.modle'; did you mean 'model'?"],
    ),
    "unknown key in a pair's override": (
        {"pairs.0.train": {"epoch": 3}},
        ["unknown key 'pairs.0.train.epoch'; did you mean 'epochs'?"],
    ),
    "unknown key in a method's override": (
        {"methods.2.train": {"epoch": 3}},
        ["unknown key 'methods.2.train.epoch'; did you mean 'epochs'?"],
    ),
    "key named like a schedule": ({"step": 3}, ["unknown key 'step'; "]),
    "key that is no text": ({"train.1": GONE, "train": {1: 2}}, ["key 'train' holds the key 1"]),
    "text for a number": (
        {"train.epochs": "ten"},
        ["key 'train.epochs' must be a whole number, not 'ten'"],
    ),
    "number in quotes": ({"train.epochs": "10"}, ["must be a whole number, not '10'"]),
    "fraction for a whole number": (
        {"train.epochs": 1.5},
        ["key 'train.epochs' must be a whole number, not 1.5"],
    ),
    "true for a number": ({"seeds": [True]}, ["key 'seeds.0' must be a whole number, not true"]),
    "number for true": (
        {"train.nesterov": 1},
        ["key 'train.nesterov' must be true or false, not 1"],
    ),
    "scalar for a list": ({"seeds": 3}, ["key 'seeds' must be a list, not 3"]),
    "list for a mapping": ({"train": [1]}, ["key 'train' must be a mapping, not [1]"]),
    "nothing for a mapping": ({"train": None}, ["key 'train' must be a mapping, not nothing"]),
    "nothing in an override": (
        {"pairs.0.train": {"epochs": None}},
        ["key 'pairs.0.train.epochs' must be a whole number, not nothing"],
    ),
    "missing key": ({"train.batch_size": GONE}, ["key 'train.batch_size' is missing"]),
    "missing section": ({"dataset": GONE}, ["key 'dataset' is missing"]),
    "seeds twice": ({"seeds": [0, 1, 0]}, ["key 'seeds.2': 0 is seeds.0 already; remove one"]),
    "negative seed": ({"seeds": [-1]}, ["key 'seeds.0' must be greater than or equal to 0"]),
    "pair twice": (
        {"pairs.1": {"teacher": "resnet14", "student": "resnet8"}},
        ["key 'pairs.1': 'resnet14->resnet8' is pairs.0 already; give one a label"],
    ),
    "row twice": (
        {"methods.3": "kd"},
        ["key 'methods.3': 'KD' is methods.1's row already; give one a label"],
    ),
    "label of another method": (
        {"methods.3": {"name": "crd", "label": "KD"}},
        ["key 'methods.3.label' is 'KD', the name of the method 'kd', and the row is of 'crd'"],
    ),
    "label twice": (
        {"methods.3": {"name": "kd", "temperature": 8, "label": "KD "}},
        ["key 'methods.3': 'KD' is methods.1's row already; give one a label"],
    ),
    "negative epochs": (
        {"train.epochs": -1},
        ["key 'train.epochs' must be greater than 0, not -1"],
    ),
    "no epochs in an override": (
        {"methods.2.train": {"epochs": 0}},
        ["key 'methods.2.train.epochs' must be greater than 0, not 0"],
    ),
    "zero batch": (
        {"train.batch_size": 0},
        ["key 'train.batch_size' must be greater than 0, not 0"],
    ),
    "NaN": (
        {"train.learning_rate": float("nan")},
        ["key 'train.learning_rate' must be a finite number, not nan"],
    ),
    "infinity": (
        {"train.weight_decay": float("inf")},
        ["key 'train.weight_decay' must be a finite number, not inf"],
    ),
    "huge number": ({"train.epochs": 10**30}, ["key 'train.epochs' is too large a number"]),
    "momentum above one": ({"train.momentum": 9}, ["key 'train.momentum' must be less than"]),
    "nesterov without momentum": (
        {"train.nesterov": True, "train.momentum": 0},
        ["key 'train.nesterov' needs a momentum above 0"],
    ),
    "milestone beyond the end": (
        {"train.schedule.milestones": [4, 12]},
        ["key 'train.schedule.milestones' has 12, but training ends after 10 epochs"],
    ),
    "milestone beyond a pair's end": (
        {"pairs.0.train": {"epochs": 5}},
        ["key 'pairs.0.train.schedule.milestones' has 8, but training ends after 5 epochs"],
    ),
    "milestone beyond a teacher's end": (
        {"pairs.0.teacher.train": {"epochs": 1}},
        ["key 'pairs.0.teacher.train.schedule.milestones' has 4, but training ends after 1 epoch;"],
    ),
    "milestones out of order": (
        {"train.schedule.milestones": [8, 4]},
        ["key 'train.schedule.milestones' must ascend, each milestone once"],
    ),
    "schedule without a type": (
        {"train.schedule": {"milestones": [4]}},
        ["key 'train.schedule' needs a type; valid: step, one_cycle"],
    ),
    "unknown schedule": (
        {"train.schedule.type": "one-cycle"},
        ["key 'train.schedule.type': unknown type 'one-cycle'; did you mean 'one_cycle'?"],
    ),
    "schedule that is a name": (
        {"train.schedule": "step"},
        ["key 'train.schedule' must be a mapping, not 'step'"],
    ),
    "unknown precision": (
        {"train.precision": "fp16"},
        [
            "key 'train.precision' must be 'auto', 'fp32' or 'bf16', not 'fp16';"
            " did you mean 'bf16'?",
        ],
    ),
    "unknown dataset": (
        {"dataset.name": "digit"},
        ["key 'dataset.name': unknown dataset 'digit'; did you mean 'digits'?"],
    ),
    "dataset size too large": (
        {"dataset.size": 16},
        ["key 'dataset.size' is 16, but digits has images of 8 pixels; choose at most 8"],
    ),
    "mean of the wrong length": (
        {"dataset.mean": [0.5, 0.5, 0.5]},
        ["key 'dataset.mean' has 3 values, but digits has 1 channel; give one each"],
    ),
    "std of the wrong length": (
        {"dataset.std": []},
        ["key 'dataset.std' has 0 values, but digits has 1 channel; give one each"],
    ),
    "mean of values up to 255": (
        {"dataset.mean": [125.3]},
        ["key 'dataset.mean.0' must be less than or equal to 1, not 125.3"],
    ),
    "unknown dataset option": (
        {"dataset.options": {"folder": "x"}},
        ["key 'dataset.options.folder': dataset 'digits' has no such option; it has none"],
    ),
    "misspelt dataset option": (
        {"dataset": {"name": "imagefolder", "options": {"foldr": "x"}, "mean": [0], "std": [1]}},
        ["key 'dataset.options.foldr': dataset 'imagefolder' has no such option; did you mean"],
    ),
    "missing dataset option": (
        {"dataset": {"name": "imagefolder", "mean": [0.5], "std": [0.5]}},
        ["key 'dataset.options.folder' is missing"],
    ),
    "image size of nothing": (
        {
            "dataset": {
                "name": "imagefolder",
                "options": {"folder": "x", "image_size": -4},
                "mean": [0.5],
                "std": [0.5],
            }
        },
        ["key 'dataset.options.image_size' must be greater than 0, not -4"],
    ),
    "images too small for a network": (
        {"dataset.size": 4, "pairs.1.student": "vgg8"},
        ["key 'pairs.1.student': vgg8 ", "4x4"],
    ),
    "images too small for a timm model": (
        {"pairs.1.teacher": "timm:vit_tiny_patch16_224"},
        ["key 'pairs.1.teacher': 'timm:vit_tiny_patch16_224' cannot process 8x8 images"],
    ),
    "missing checkpoint": (
        {"pairs.0.teacher.checkpoint": "no/such.pth"},
        ["key 'pairs.0.teacher.checkpoint': /", "/no/such.pth does not exist; correct the path"],
    ),
    "checkpoint that is a folder": (
        {"pairs.0.teacher.checkpoint": "."},
        ["key 'pairs.0.teacher.checkpoint': ", "cannot be read (Is a directory)"],
    ),
    "name that leaves the folder": (
        {"name": "../x"},
        ["key 'name' must be made of letters, digits, '_' and '-', not '../x'"],
    ),
    "control character": ({"title": "a\x07b"}, ["key 'title' holds the character '\\x07'"]),
    "plugin missing": (
        {"plugins": ["none.py"]},
        ["key 'plugins.0': plugin ", "none.py does not exist; give the path of a Python file"],
    ),
    "plugin that is a folder": ({"plugins": ["."]}, ["is a folder; give the path of a Python"]),
    "plugin that is no list": ({"plugins": "x.py"}, ["key 'plugins' must be a list, not 'x.py'"]),
    "plugin that is no Python": (
        {"plugins": ["broken.py"]},
        ["key 'plugins.0': ", "broken.py line 2 is not valid Python: "],
    ),
    "plugin with a name that exists": (
        {"plugins": ["again.py"]},
        [
            "key 'plugins.0': plugin ",
            "registers the method 'kd', which wcordbench/methods/kd.py registers already",
        ],
    ),
    "plugin that registers nothing": (
        {"plugins": ["empty.py"]},
        ["empty.py registers nothing; decorate a class or function"],
    ),
    "plugin with a computed name": (
        {"plugins": ["computed.py"]},
        ['computed.py line 2: write register_method("name", key=value, …) with literal values'],
    ),
    "plugin that fails when imported": (
        {"plugins": ["failing.py"], "methods.1": "failing"},
        ["failing.py fails when imported: ModuleNotFoundError: No module named 'nowhere'"],
    ),
}

#: a file's content, and what the sentence must hold
FILES: dict[str, tuple[str | bytes, list[str]]] = {
    "empty": ("", ["is empty; a suite has the keys name, title, "]),
    "comment": ("# nothing yet\n", ["is empty; a suite has the keys name, "]),
    "list": ("- name: x\n", ["holds a list, not a mapping; a suite has the keys name, "]),
    "text": ("hello", ["holds text, not a mapping"]),
    "not YAML": ("name: [x\ntrain: {", ["is not valid YAML: line 2: "]),
    "tab": ("train:\n\tepochs: 1\n", ["is not valid YAML: line 2: found character '\\t'"]),
    "two documents": ("name: x\n---\nname: y\n", ["is not valid YAML: line 2: but found another"]),
    "binary": (bytes(range(128, 256)), ["is not UTF-8 text; give a YAML file"]),
    "zero bytes": (b"name: \0\0\n", ["is not valid YAML: "]),
    "key twice": ("name: x\nseeds: [0]\nname: y\n", ["line 3: key 'name' stands twice"]),
    "key twice, nested": ("train:\n  epochs: 1\n  epochs: 2\n", ["line 3: key 'epochs' stands"]),
    "list as a key": ("? [a, b]\n: c\n", ["line 1: a key must be plain text"]),
    "python object": (
        "name: !!python/object/apply:os.system [touch x]\n",
        ["line 1: the tag '!!python/object/apply:os.system' is not allowed; write the value"],
    ),
    "own tag": ("name: !secret x\n", ["line 1: the tag '!secret' is not allowed"]),
    "date by tag": ("name: !!timestamp x\n", ["the tag '!!timestamp' is not allowed"]),
    "misfit tag": ("seeds: [!!int x]\n", ["a value does not fit its tag"]),
    "unknown alias": ("seeds: *none\n", ["line 1: found undefined alias 'none'"]),
    "aliases of aliases": (BOMB, ["its aliases (*) expand to more than 100,000 values"]),
    "merges of merges": (MERGE_BOMB, ["its aliases (*) expand to more than 100,000 values"]),
    "alias in itself": ("seeds: &a [*a]\n", ["an alias (*) stands inside of what it names"]),
    "deep": ("seeds: " + "[" * 100_000, ["is not valid YAML: it is nested more than 50 deep"]),
    "deep blocks": ("- " * 5000, ["is not valid YAML: it is nested more than 50 deep"]),
    "large": ("# x\n" * 300_000, ["is larger than 1,000,000 bytes; give a suite"]),
    "long text": (f"name: {'x' * 5000}\n", ["key 'name' is longer than 4096 characters"]),
}

#: arguments after a valid suite's path, and what the sentence must hold
ARGUMENTS: dict[str, tuple[list[str], list[str]]] = {
    "set without =": (
        ["--set", "train.epochs"],
        ["--set train.epochs: write key.path=value, as in train.epochs=2"],
    ),
    "set of nothing": (["--set", "=3"], ["--set =3: write key.path=value"]),
    "set with an empty part": (["--set", "train..epochs=3"], ["--set train..epochs=3: write key"]),
    "set below a scalar": (
        ["--set", "train.epochs.x=3"],
        ["--set train.epochs.x=3: 'train.epochs' is 10, which has no keys"],
    ),
    "set below a short form": (
        ["--set", "pairs.1.teacher.seed=3"],
        ["'pairs.1.teacher' is 'wrn_16_2', which has no keys"],
    ),
    "set of no item": (
        ["--set", "seeds.2=3"],
        ["--set seeds.2=3: 'seeds' is a list with items 0 to 1; '2' is none"],
    ),
    "set of no number": (["--set", "seeds.first=3"], ["'seeds' is a list with items 0 to 1"]),
    "set of bad YAML": (
        ["--set", "seeds=[0"],
        ["--set seeds=[0: '[0' is not valid YAML: line 1: "],
    ),
    "set of a tag": (["--set", "seeds=!!python/name:os.x"], ["--set seeds=!!python/name:os.x: "]),
    "set of an unknown key": (
        ["--set", "train.epoch=3"],
        ["with --set train.epoch=3: unknown key 'train.epoch'; did you mean 'epochs'?"],
    ),
    "set of the wrong type": (
        ["--set", "train.epochs=many"],
        ["with --set train.epochs=many: key 'train.epochs' must be a whole number, not 'many'"],
    ),
    "set that makes another key wrong": (
        ["--set", "train.epochs=6", "--set", "train.batch_size=8"],
        ["with --set train.epochs=6", "key 'train.schedule.milestones' has 8"],
    ),
    "set of one right and one wrong": (
        ["--set", "train.epochs=20", "--set", "seeds.0=x"],
        ["suite.yaml with --set seeds.0=x: key 'seeds.0' must be a whole number"],
    ),
    "set of an impossible model": (
        ["--set", "pairs.0.student=timm:nonsense"],
        ["with --set pairs.0.student=timm:nonsense: key 'pairs.0.student': timm knows no model"],
    ),
}

SELECTIONS: dict[str, tuple[list[str], list[str]]] = {
    "pair": (
        ["--pair", "resnet14->resnet18"],
        ["--pair 'resnet14->resnet18' is not in the suite; did you mean 'resnet14->resnet8'?"],
    ),
    "method": (
        ["--method", "crd+kdd"],
        ["--method 'crd+kdd' is not in the suite; did you mean 'crd+kd'?"],
    ),
    "seed": (["--seed", "7"], ["--seed 7 is not among the suite's seeds [0, 1]"]),
}

PLUGINS = {
    "broken.py": "x = 1\ndef f(:\n",
    "again.py": "@register_method('kd')\nclass K: pass\n",
    "empty.py": "x = 1\n",
    "computed.py": "name = 'x'\n@register_method(name)\nclass K: pass\n",
    "failing.py": "import nowhere\n@register_method('failing')\nclass K: pass\n",
}


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[list[str], list[str]], None]:
    """Run a command; it must leave with code 2, one line that holds the fragments, no trace."""
    for name, text in PLUGINS.items():
        (tmp_path / name).write_text(text)

    def refused(arguments: list[str], fragments: list[str]) -> None:
        command = arguments[0]
        results = tmp_path / "results"
        if command == "run":
            arguments = [*arguments, "--results", str(results), "--data", str(tmp_path / "data")]
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(sys, "argv", ["wcordbench", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        assert left.value.code == 2, captured
        assert captured.err.count("\n") == 1, captured.err
        sentence = captured.err.strip()
        print(f"{command}: {sentence.replace(str(tmp_path) + '/', '')}")
        assert sentence.startswith("wcordbench: ")
        assert len(sentence) < 500
        for fragment in fragments:
            assert fragment in sentence
        assert sorted(tmp_path.rglob("*")) == before

    return refused


def change(suite: dict[str, Any], path: str, value: Any) -> None:
    target: Any = suite
    *parents, last = path.split(".")
    for part in parents:
        target = target[int(part)] if isinstance(target, list) else target[part]
    if isinstance(target, list):
        target[int(last)] = value
    elif value is GONE:
        target.pop(last, None)
    else:
        target[last] = value


@pytest.mark.parametrize("command", ["validate", "run"])
@pytest.mark.parametrize("case", CHANGES)
def test_content(
    case: str,
    command: str,
    base: dict[str, Any],
    write: Write,
    refused: Callable[[list[str], list[str]], None],
) -> None:
    changes, fragments = CHANGES[case]
    for path, value in changes.items():
        change(base, path, value)
    refused([command, str(write(base))], ["suite.yaml: ", *fragments])


@pytest.mark.parametrize("command", ["validate", "run"])
@pytest.mark.parametrize("case", FILES)
def test_file(
    case: str,
    command: str,
    tmp_path: Path,
    refused: Callable[[list[str], list[str]], None],
) -> None:
    content, fragments = FILES[case]
    path = tmp_path / "suite.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    started = time.monotonic()
    refused([command, str(path)], ["suite.yaml", *fragments])
    assert time.monotonic() - started < 10  # a bomb of aliases would take hours


@pytest.mark.parametrize("command", ["validate", "run"])
@pytest.mark.parametrize("case", ARGUMENTS)
def test_override(
    case: str,
    command: str,
    base: dict[str, Any],
    write: Write,
    refused: Callable[[list[str], list[str]], None],
) -> None:
    arguments, fragments = ARGUMENTS[case]
    refused([command, str(write(base)), *arguments], fragments)


@pytest.mark.parametrize("case", SELECTIONS)
def test_selection(
    case: str,
    base: dict[str, Any],
    write: Write,
    refused: Callable[[list[str], list[str]], None],
) -> None:
    arguments, fragments = SELECTIONS[case]
    refused(["run", str(write(base)), *arguments], fragments)


@pytest.mark.parametrize("command", ["validate", "run"])
def test_no_suite(
    command: str, tmp_path: Path, refused: Callable[[list[str], list[str]], None]
) -> None:
    (tmp_path / "digits.yaml").touch()
    refused(
        [command, str(tmp_path / "digit.yaml")],
        ["digit.yaml does not exist; did you mean '", "digits.yaml'?"],
    )
    refused([command, str(tmp_path)], [f"suite {tmp_path} is a folder; give a YAML file"])
    refused([command, str(tmp_path / "digits.yaml" / "x")], ["cannot be read: Not a directory"])


def test_the_first_mistake_of_a_file_is_not_blamed_on_set(
    base: dict[str, Any], write: Write, refused: Callable[[list[str], list[str]], None]
) -> None:
    del base["name"]
    refused(["run", str(write(base)), "--set", "train.epochs=20"], ["suite.yaml: key 'name' is"])


def test_what_is_right_is_read_as_meant(tmp_path: Path, base: dict[str, Any]) -> None:
    from wcordbench.suite import load_suite

    text = yaml.safe_dump(base).replace("learning_rate: 0.05", "learning_rate: 1\n  momentum: 0")
    for written, meant in (("5e-4", 5e-4), ("1.5e2", 150.0), (".5E-1", 0.05), ("1", 1.0)):
        path = tmp_path / "suite.yaml"
        path.write_text(text.replace("momentum: 0", f"weight_decay: {written}"))
        suite = load_suite(path)
        assert suite.train.weight_decay == meant
        assert type(suite.train.learning_rate) is float
    path.write_text(text + "title: 2020-01-01\n")
    assert load_suite(path).title == "2020-01-01"


def test_anchors_and_merges_are_allowed_and_set_changes_one_place(tmp_path: Path) -> None:
    from wcordbench.suite import load_suite

    path = tmp_path / "suite.yaml"
    path.write_text(
        """
name: x
dataset: {name: digits, mean: [0.3], std: [0.4]}
train: &t {epochs: 2, batch_size: 8, learning_rate: 0.1, schedule: {type: one_cycle}}
seeds: [0]
pairs:
  - {teacher: resnet14, student: resnet8, train: &short {<<: *t, epochs: 1}}
  - {teacher: resnet20, student: resnet8, train: *short}
methods: [student]
"""
    )
    suite = load_suite(path, ["pairs.0.train.epochs=5"])
    assert [p.train.epochs for p in suite.pairs] == [5, 1]
    assert suite.pairs[1].train.batch_size == 8
