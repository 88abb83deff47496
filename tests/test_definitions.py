"""A change of a formula's text raises its version or is recorded as one that changes no number."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from definitions import digests, recorded

COMMAND = "python tests/definitions.py"
#: by what is wrong
REMEDY = {
    "changed": "its text is not the one that was recorded. If any number that it gives changes,"
    " raise 'version' in its decorator, so that stored results are not taken for its own; then, and"
    f" also where none does, record it: {COMMAND}",
    "unknown": f"is not recorded: {COMMAND}",
}


def test_every_definition_is_the_one_that_was_recorded() -> None:
    record, wrong = recorded(), []
    for name, found in digests().items():
        if found not in record.get(name, []):
            versions = {version for version, _ in record.get(name, [])}
            wrong.append(f"{name}: {REMEDY['changed' if found[0] in versions else 'unknown']}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("methods/kd.py", "* temperature**2", "* temperature", {"method kd"}),
        ("methods/kd.py", "Always computed in at", "Computed in at", set()),
        ("methods/sp.py", "return F.mse_loss(g_s, g_t)", "return F.mse_loss(g_t, g_s)",
         {"method sp"}),
        ("methods/regressor.py", "nn.ReLU(inplace=True)", "nn.ELU()", {"method fitnet"}),
    ],
)  # fmt: skip
def test_what_a_change_of_a_file_changes(
    file: str, old: str, new: str, changed: set[str], tmp_path: Path
) -> None:
    """In a copy of the package: a formula's text counts, a docstring's does not."""
    import shutil

    import wcordbench

    package = tmp_path / "wcordbench"
    shutil.copytree(Path(wcordbench.__file__).parent, package)
    (tmp_path / "tests").mkdir()
    script = tmp_path / "tests" / "definitions.py"
    shutil.copy(Path(__file__).with_name("definitions.py"), script)

    def lines() -> set[str]:
        subprocess.run([sys.executable, str(script)], cwd=tmp_path, check=True,
                       env={"PYTHONPATH": str(tmp_path)})  # fmt: skip
        return set(script.with_suffix(".txt").read_text().splitlines())

    before = lines()
    text = (package / file).read_text()
    assert old in text
    (package / file).write_text(text.replace(old, new))
    now = {line.rsplit(" ", 2)[0] for line in lines() ^ before}
    assert changed <= now
    assert bool(now) == bool(changed), now
