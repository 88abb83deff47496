"""What exists is known without importing it, and files from outside can add to it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from wcordbench import load_student, registry
from wcordbench.cli.main import main
from wcordbench.errors import UserError

ROOT = Path(__file__).parents[1]
PLUGINS = Path(__file__).parent / "plugins"


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_suites_need_no_torch() -> None:
    python(
        """
import sys
from wcordbench import registry
from wcordbench.suite import expand, load_suite
assert expand(load_suite("suites/digits.yaml"))
assert expand(load_suite("tests/plugins/tiny.yaml"))
assert all(registry.catalogue(kind) for kind in registry.KINDS)
heavy = {"torch", "torchvision", "timm", "numpy", "sklearn", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""
    )


def test_help_needs_no_torch() -> None:
    shown = python(
        """
import sys
from wcordbench.cli.main import app, main
commands = [c.name for c in app.registered_commands]
assert {"run", "validate", "list", "table"} <= set(commands), commands
for command in ([], *([c] for c in commands)):
    sys.argv = ["wcordbench", *command, "--help"]
    try:
        main()
    except SystemExit as left:
        assert not left.code
    heavy = {"torch", "pandas"} if command else {"torch", "pandas", "pydantic", "yaml"}
    assert not heavy & set(sys.modules), command
"""
    )
    assert shown.count("Usage") >= 5


def test_listing_datasets_needs_no_torch() -> None:
    python(
        """
import sys
from wcordbench.cli.list import datasets
assert "CIFAR-100" in datasets()
assert "torch" not in sys.modules
"""
    )


def test_every_definition_is_what_was_read_of_it() -> None:
    """The names and options read from the source are those that importing gives."""
    import inspect

    for kind in registry.KINDS:
        for entry in registry.catalogue(kind).values():
            loaded = entry.load()
            assert loaded.__name__ == entry.qualname
            assert entry.summary, entry.name
            call = inspect.signature(loaded)
            given = {p.name: p for p in call.parameters.values() if p.kind is p.KEYWORD_ONLY}
            assert set(given) == set(entry.options)
            for name, option in entry.options.items():
                assert option.required == (given[name].default is inspect.Parameter.empty)
                assert option.required or option.default == given[name].default


def test_methods_with_a_first_stage_say_so() -> None:
    from wcordbench.methods import Method

    for entry in registry.catalogue("method").values():
        assert entry.two_stage == (entry.load().first_stage is not Method.first_stage), entry.name


def test_nearest() -> None:
    names = ["resnet20", "resnet32", "ResNet50", "vgg8"]
    assert registry.nearest("resnet21", names) == "; did you mean 'resnet20'?"
    assert registry.nearest("RESNET32", names) == "; did you mean 'resnet32'?"
    assert registry.nearest("resnet50", names) == "; did you mean 'ResNet50'?"
    assert registry.nearest("zzz", names) == f"; valid: {', '.join(names)}"
    assert registry.nearest("x" * 10**6, names).startswith("; valid: ")
    assert registry.nearest("x", []) == ""


# --- plugins --------------------------------------------------------------------


def test_a_plugin_adds_names_until_it_is_forgotten() -> None:
    before = {kind: list(registry.catalogue(kind)) for kind in registry.KINDS}
    registry.add_plugin(PLUGINS / "tiny.py")
    registry.add_plugin(PLUGINS / ".." / "plugins" / "tiny.py")  # the same file
    assert registry.plugins() == (PLUGINS / "tiny.py",)
    entry = registry.get("method", "pull")
    assert entry.meta == {"title": "Pull", "paper": "a test", "gamma": 0.5, "beta": 2.0}
    assert entry.summary == "Pulls the logits together."
    assert entry.options["power"] == registry.Option("power", int, None, True)
    assert entry.options["scale"] == registry.Option("scale", float, 1.0, False)
    assert registry.get("model", "speck_wide").meta == {"width": 4}
    assert registry.get("dataset", "stripes").options["images"].default == 32
    assert entry.load() is entry.load()
    registry.forget_plugins()
    assert {kind: list(registry.catalogue(kind)) for kind in registry.KINDS} == before
    with pytest.raises(UserError, match="unknown method 'pull'"):
        registry.get("method", "pull")


def test_a_refused_plugin_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "two.py"
    path.write_text("@register_model('fresh')\nclass A: pass\n@register_model('vgg8')\nclass B: 0")
    with pytest.raises(UserError, match=r"the model 'vgg8', which wcordbench/models/vgg.py"):
        registry.add_plugin(path)
    assert "fresh" not in registry.catalogue("model")
    path.write_text("@register_model('fresh')\nclass A: pass\n@register_model('fresh')\nclass B: 0")
    with pytest.raises(UserError, match=r"the model 'fresh', which .*two.py registers already"):
        registry.add_plugin(path)
    path.write_text(
        "@register_model('fresh')\nclass A: pass\n@register_method('fresh')\nclass B: 0"
    )
    registry.add_plugin(path)
    assert "fresh" in registry.catalogue("model")
    assert "fresh" in registry.catalogue("method")


@pytest.mark.parametrize(
    ("source", "fragment"),
    [
        ("@register_model(name='x')\nclass A: pass", 'register_model("name", key=value, …)'),
        ("@register_model()\nclass A: pass", 'register_model("name", key=value, …)'),
        ("@register_model('x', w=f())\nclass A: pass", 'register_model("name", key=value, …)'),
        ("@register_model('x', **w)\nclass A: pass", 'register_model("name", key=value, …)'),
        ("@register_model('a+b')\nclass A: pass", "'a+b' cannot be a model's name; use letters"),
        ("@register_model('../x')\nclass A: pass", "'../x' cannot be a model's name"),
        ("@register_model(5)\nclass A: pass", "5 cannot be a model's name"),
        (
            "@register_dataset('x')\ndef f(root, *, n: int = len('x')): pass",
            "line 2: option 'n' needs a plain type, or one of wcordbench.options,",
        ),
        (
            "@register_dataset('x')\ndef f(root, *, n: Tensor = 3): pass",
            "line 2: option 'n' needs a plain type, or one of wcordbench.options,",
        ),
        ("x = '\udc00'", "is not valid Python"),
        ("\0", "is not valid Python"),
        ("(" * 1000, "is not valid Python"),
    ],
)
def test_plugins_that_cannot_be_read(source: str, fragment: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.py"
    path.write_bytes(source.encode("utf-8", errors="surrogatepass"))
    with pytest.raises(UserError) as raised:
        registry.add_plugin(path)
    assert str(path) in str(raised.value)
    assert fragment in str(raised.value)


def test_a_plugin_is_read_in_the_encoding_that_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "western.py"
    text = (
        "# -*- coding: latin-1 -*-\n"
        "@register_dataset('western', title='Fußgänger')\ndef f(root): pass\n"
    )
    path.write_bytes(text.encode("latin-1"))
    registry.add_plugin(path)
    assert registry.get("dataset", "western").meta["title"] == "Fußgänger"


def test_a_plugin_that_is_changed_before_it_is_imported_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "edited.py"
    path.write_text(
        "from wcordbench.registry import register_dataset\n"
        "@register_dataset('late', title='T')\ndef f(root): pass\n"
    )
    registry.add_plugin(path)
    path.write_text(path.read_text() + "# edited\n")
    with pytest.raises(UserError, match="was changed after it was read; run again"):
        registry.get("dataset", "late").load()


def test_types_of_options(tmp_path: Path) -> None:
    path = tmp_path / "typed.py"
    path.write_text(
        "@register_dataset('typed', title='T')\n"
        "def f(root, *, a: 'int', b: Literal['x', 'y'] = 'x', c: float | None = None,\n"
        "      d: list[int] = [1], e=(), g: bool = False): pass\n"
    )
    registry.add_plugin(path)
    options = registry.get("dataset", "typed").options
    assert [o.annotation for o in options.values()][:4] == [
        int,
        Literal["x", "y"],
        float | None,
        list[int],
    ]
    assert [o.required for o in options.values()] == [True] + [False] * 5


def test_a_suite_of_plugins_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plugins are found beside the suite, and workers, which start afresh, know them too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys,
        "argv",
        ["wcordbench", "run", str(PLUGINS / "tiny.yaml"), "--device", "cpu", "--workers", "1"],
    )
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    records = [json.loads(p.read_text()) for p in Path("results").glob("runs/*/result.json")]
    assert sorted(r["config"]["method"]["name"] for r in records) == ["pull", "pull+kd", "student"]
    for record in records:
        assert record["config"]["dataset"]["options"] == {"images": 24}
        assert 0 <= record["scores"]["top1"] <= 100
    pull = next(r for r in records if r["config"]["method"]["name"] == "pull")
    assert pull["config"]["method"] == {
        "name": "pull",
        "gamma": 0.5,
        "terms": [{"name": "pull", "weight": 2.0, "options": {"power": 2, "scale": 1.0}}],
    }
    name = f"stripes_speck_wide-speck_pull_s0_{pull['id'][:8]}"
    file = tmp_path / "edited.py"
    file.write_text((PLUGINS / "tiny.py").read_text() + "# edited\n")
    for again, done in (
        (["rerun", name], "the same bits, weights and metrics"),
        (["export", name, "--format", "state_dict"], "speck, 2 classes, images of 6×6 pixels"),
        (["evaluate", name, "--dataset", "stripes"], f"stripes: top1 {pull['scores']['top1']:.2f}"),
        (["probe", name, "--dataset", "stripes"], "probe:stripes: top1"),
    ):
        for more, said, code in (
            ([], "which a plugin registers; give its file with --plugin", 2),
            (["--plugin", str(file)], "is not the file that its identity was computed from", 2),
            (["--plugin", str(PLUGINS / "tiny.py")], done, 0),
        ):
            registry.forget_plugins()
            monkeypatch.setattr(sys, "argv", ["wcordbench", *again, *more])
            with pytest.raises(SystemExit) as left:
                main()
            shown = capsys.readouterr()
            assert said in shown.err + shown.out, again
            assert (left.value.code or 0) == code, again
    registry.forget_plugins()
    # A comment more, and none of the runs is the suite's: that is said.
    shutil.copy(PLUGINS / "tiny.yaml", tmp_path / "tiny.yaml")
    shutil.copy(file, tmp_path / "tiny.py")
    (tmp_path / "results" / "runs" / "leftover").mkdir()  # of whatever suite
    monkeypatch.setattr(sys, "argv", ["wcordbench", "table", "tiny.yaml"])
    with pytest.raises(SystemExit) as left:
        main()
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "Finished runs of an earlier text of the dataset stripes (3 runs), the method pull" in said
    )
    assert "0 of 3 runs of the table are done" in said
    registry.forget_plugins()
    student = load_student(name, "results", plugins=[PLUGINS / "tiny.py"])
    assert student.card.classes == ("across", "down")


def test_options_and_a_first_stage_are_inherited(tmp_path: Path) -> None:
    """Of this package's methods, and of a file beside the plugin; under other names as well."""
    (tmp_path / "parts_of_mine.py").write_text(
        "from wcordbench.methods.crd import CRD as Contrast\nclass Between(Contrast):\n    pass\n"
    )
    (tmp_path / "mine.py").write_text(
        "import parts_of_mine\n"
        "from wcordbench.methods.ab import ActivationBoundaries\n"
        "from wcordbench.methods.base import Method\n"
        "from wcordbench.registry import register_method\n"
        "@register_method('closer', beta=1.0)\n"
        "class Closer(parts_of_mine.Between):\n    pass\n"
        "@register_method('bound', beta=1.0)\n"
        "class Bound(ActivationBoundaries):\n    pass\n"
        "class Own(Method):\n"
        "    def __init__(self, setup, *, power: int = 2):\n        super().__init__(setup)\n"
        "@register_method('own', beta=1.0)\n"
        "class Mine(Own):\n    pass\n"
        "@register_method('bare', beta=1.0)\n"
        "class Bare(Method):\n    pass\n"
    )
    registry.add_plugin(tmp_path / "mine.py")
    found = registry.catalogue("method")
    assert found["closer"].options == found["crd"].options and not found["closer"].two_stage
    assert found["bound"].options == found["ab"].options and found["bound"].two_stage
    assert list(found["own"].options) == ["power"]
    assert not found["bare"].options and not found["bare"].two_stage


#: how a plugin may import the classes that it inherits from, and what they are called then
IMPORTS = {
    "a module of a package": ("from wcordbench.methods import crd, ab", "crd.CRD",
                              "ab.ActivationBoundaries"),
    "under another name": ("from wcordbench.methods import crd as c, ab as a", "c.CRD",
                           "a.ActivationBoundaries"),
    "a package": ("import wcordbench.methods.crd, wcordbench.methods.ab",
                  "wcordbench.methods.crd.CRD", "wcordbench.methods.ab.ActivationBoundaries"),
    "all of a module": ("from wcordbench.methods.crd import *\n"
                        "from wcordbench.methods.ab import *", "CRD", "ActivationBoundaries"),
    "a package of one's own": ("from own_parts import Between\nimport own_parts.inner.last",
                               "Between", "own_parts.inner.last.Last"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(IMPORTS))
def test_bases_are_found_however_they_are_imported(case: str, tmp_path: Path) -> None:
    inner = tmp_path / "own_parts" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "own_parts" / "__init__.py").write_text("from .between import Between\n")
    (tmp_path / "own_parts" / "between.py").write_text(
        "from wcordbench.methods.crd import CRD\nclass Between(CRD):\n    pass\n"
    )
    (inner / "__init__.py").touch()
    (inner / "first.py").write_text(
        "from wcordbench.methods import ab\nclass First(ab.ActivationBoundaries):\n    pass\n"
    )
    (inner / "last.py").write_text(
        "from own_parts.inner.first import First as F\nfrom . import first\n"
        "class Last(first.First):\n    pass\n"
    )
    line, contrast, bound = IMPORTS[case]
    (tmp_path / "mine.py").write_text(
        f"{line}\nfrom wcordbench.registry import register_method\n"
        f"@register_method('closer', beta=1.0)\nclass Closer({contrast}):\n    pass\n"
        f"@register_method('bound', beta=1.0)\nclass Bound({bound}):\n    pass\n"
    )
    registry.add_plugin(tmp_path / "mine.py")
    found = registry.catalogue("method")
    assert found["closer"].options == found["crd"].options and not found["closer"].two_stage
    assert found["bound"].options == found["ab"].options and found["bound"].two_stage
    found["closer"].load()


def test_an_option_that_only_importing_shows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from wcordbench.methods.base import Method\n"
        "from wcordbench.registry import register_method\n"
        "def base():\n"
        "    class Base(Method):\n"
        "        def __init__(self, setup, *, power: int = 2):\n"
        "            super().__init__(setup)\n"
        "    return Base\n"
        "@register_method('mine', beta=1.0)\n"
        "class Mine(base()):\n    pass\n"
    )
    registry.add_plugin(tmp_path / "mine.py")
    with pytest.raises(UserError, match=r"mine\.py: Mine takes 'power', which reading the file"):
        registry.get("method", "mine").load()


def test_a_models_inherited_constructor_takes_what_it_likes(tmp_path: Path) -> None:
    """Networks have no options that a suite could set."""
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nfrom wcordbench.registry import register_model\n"
        "class Base(nn.Module):\n"
        "    def __init__(self, num_classes, in_channels, image_size, *, norm=nn.BatchNorm2d):\n"
        "        super().__init__()\n"
        "@register_model('mine')\nclass Mine(Base):\n    pass\n"
    )
    registry.add_plugin(tmp_path / "mine.py")
    assert registry.get("model", "mine").load()


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        ("setup, scale: float = 1.0", r"line 4: 'scale' of __init__ is positional.*write '\*,'"),
        (
            "setup, *, scale: float = 1.0, **more",
            "'more' of __init__ takes arguments without names",
        ),
        ("setup, *more", "'more' of __init__ takes arguments without names"),
    ],
)
def test_options_that_a_suite_could_not_set_are_refused(
    signature: str, said: str, tmp_path: Path
) -> None:
    """Their defaults would be trained with, and be no part of a run's identity."""
    (tmp_path / "mine.py").write_text(
        "from wcordbench.registry import register_method\n"
        "@register_method('mine', beta=1.0)\n"
        "class Mine:\n"
        f"    def __init__(self, {signature}):\n        pass\n"
    )
    with pytest.raises(UserError, match=said):
        registry.add_plugin(tmp_path / "mine.py")
