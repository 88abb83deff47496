"""A stranger's first hour: install the wheel, init, run, table, report, export, classify."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FIVE_LINES = """
import wcordbench, numpy, sklearn.datasets
student = wcordbench.load_student("{run}")
image = (sklearn.datasets.load_digits().images[0] * 15.9).astype(numpy.uint8)
(name, probability), *_ = student.classify(image)
print(name, probability, wcordbench.__file__)
"""


@pytest.mark.slow
def test_the_typed_session(tmp_path: Path) -> None:
    """In a new environment and an empty folder, with nothing of the clone on the path."""
    clone, place, env = tmp_path / "clone", tmp_path / "empty", tmp_path / "env"
    clone.mkdir()
    for part in ("wcordbench", "suites"):
        shutil.copytree(ROOT / part, clone / part)
    for file in (p for p in ROOT.iterdir() if p.is_file() and p.name != ".git"):
        shutil.copyfile(file, clone / file.name)
    place.mkdir()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "WCORDBENCH"))}

    def typed(*words: object, cwd: Path = place) -> str:
        done = subprocess.run(
            [str(w) for w in words], cwd=cwd, env=clean, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    typed(sys.executable, "-m", "build", "--no-isolation", "--wheel", cwd=clone)
    (wheel,) = (clone / "dist").glob("*.whl")
    typed(sys.executable, "-m", "venv", "--without-pip", env)
    # The dependencies are those of the tests' own environment: nothing is downloaded.
    (packages,) = (env / "lib").glob("python*/site-packages")
    (packages / "outer.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    python, command = env / "bin" / "python", env / "bin" / "wcordbench"
    typed(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps",
          "--force-reinstall", wheel)  # fmt: skip
    shutil.rmtree(clone)

    assert "digits_kd" in typed(command, "list", "suites")
    assert "is valid" in typed(command, "validate", "digits")  # a shipped suite by its name
    typed(command, "init", "mine")
    suite = "mine/digits_kd.yaml"
    few = ["--set", "seeds=[0]", "--set", "train.epochs=1", "--set", "methods=[student, kd]",
           "--set", "pairs.0.teacher.train.epochs=2"]  # fmt: skip
    assert "is valid" in typed(command, "validate", suite, *few)
    assert "all 3 runs done" in typed(command, "run", suite, *few, "--workers", "1")
    assert "KD" in typed(command, "table", suite, *few)
    typed(command, "report", suite, *few)
    assert "</html>" in (place / "report.html").read_text()
    best = typed(command, "best", suite, *few, "--method", "kd").splitlines()[-1].split()[-1]
    assert "resnet8_narrow_kd_s0" in best
    for form, suffix in (("onnx", "onnx"), ("torchscript", "ts"), ("state_dict", "pt")):
        typed(command, "export", best, "--format", form)
        assert (place / f"{best}.{suffix}").stat().st_size > 1000
    name, probability, where = typed(python, "-c", FIVE_LINES.format(run=best)).split()
    assert name in "0123456789" and 0 < float(probability) <= 1
    assert Path(where).is_relative_to(env)
    assert "every identity and checksum holds" in typed(command, "verify")
