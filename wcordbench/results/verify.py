"""Proof that a results folder holds what it claims: identities, checksums, nothing foreign."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wcordbench.data.fingerprints import of_squares, of_whole
from wcordbench.errors import UserError
from wcordbench.results import evaluations
from wcordbench.results.groups import or_order
from wcordbench.results.store import HOLDER, LEASE, SESSIONS, RunFolder, Store, file_sha256
from wcordbench.results.stray import is_stray
from wcordbench.results.teachers import FOLDER, damaged
from wcordbench.suite.runs import Run, digest

#: what a run's folder may hold
FILES = {
    "run.json", "metrics.json", "student.pt", "result.json", "failure.json", "checkpoint.pt",
    evaluations.FILE, LEASE, HOLDER,
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """A file that does not belong, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def verify(store: Store, only: Iterable[Run] | None = None) -> tuple[int, list[Finding]]:
    """Recompute every identity and checksum of a results folder.

    Args:
        store: the results folder.
        only: look at these runs' folders alone; all that there are by default.

    Returns:
        How many runs were looked at, and what is wrong, by path.
    """
    folders = store.folders()
    findings: list[Finding] = []
    claims = Claims(folders)
    if only is None:
        findings += _strangers(store)
    else:
        wanted = {run.name for run in only}
        folders = [folder for folder in folders if folder.path.name in wanted]
    for folder in folders:
        findings += check(folder, claims)
    return len(folders), sorted(findings, key=lambda f: f.path)


def _strangers(store: Store) -> list[Finding]:
    runs = store.root / "runs"
    found = [
        p
        for p in store.root.iterdir()
        if p not in (runs, store.root / SESSIONS, store.root / FOLDER)
    ]
    if runs.is_dir():
        found += [p for p in runs.iterdir() if p.is_symlink() or not p.is_dir()]
    strangers = [Finding(p, "is not of a run store") for p in found if not is_stray(p.name)]
    return [*strangers, *(Finding(path, reason) for path, reason in damaged(store))]


class Claims:
    """What the finished runs' records say that other runs' must agree with.

    Args:
        folders: of all runs of the store.

    Attributes:
        weights: the weights' checksum by the run's identity; of a teacher that is not there the
            one that most of its students name.
        images: by the dataset's part of a configuration, the fingerprint that most runs have of
            its squares.
        whole: as ``images``, of the whole training images.
    """

    def __init__(self, folders: list[RunFolder]) -> None:
        self.weights: dict[str, str] = {}
        taught: dict[str, Counter[str]] = {}
        seen: dict[str, Counter[str]] = {}
        wholes: dict[str, Counter[str]] = {}
        for folder in folders:
            try:
                record = folder.result()
                self.weights[record["id"]] = record["weights_sha256"]
                teacher = (record["config"]["teacher"] or {}).get("run")
                if teacher is not None and record.get("teacher_sha256") is not None:
                    taught.setdefault(teacher, Counter())[record["teacher_sha256"]] += 1
                dataset, fingerprint = (
                    digest(record["config"]["dataset"]), record["dataset_fingerprint"]
                )  # fmt: skip
                seen.setdefault(dataset, Counter())[of_squares(fingerprint)] += 1
                if (whole := of_whole(fingerprint)) is not None:
                    wholes.setdefault(dataset, Counter())[whole] += 1
            except (UserError, KeyError):  # named where its folder is checked
                continue
        teachers, self.images, self.whole = (
            {key: of.most_common(1)[0][0] for key, of in counted.items()}
            for counted in (taught, seen, wholes)
        )
        self.weights = teachers | self.weights

    def agree(self, record: dict[str, Any]) -> bool:
        """Whether a run's weights are those that are claimed to be its."""
        return self.weights.get(record["id"]) in (None, record.get("weights_sha256"))

    def before(self, other: Claims) -> Claims:
        """These claims, and the other's of what these say nothing about."""
        both = Claims([])
        both.weights = other.weights | self.weights
        both.images, both.whole = other.images | self.images, other.whole | self.whole
        return both


def check(folder: RunFolder, claims: Claims) -> list[Finding]:
    """What is wrong with a run's folder, by itself and beside what others claim."""
    findings = []

    def wrong(name: str, reason: str) -> None:
        findings.append(Finding(folder.path / name, reason))

    for path in folder.path.iterdir():
        if is_stray(path.name):
            continue
        if path.name not in FILES:
            stale = path.name.startswith(".") and ".tmp-" in path.name
            left = "was left half-written by a crash; the next run removes it"
            wrong(path.name, left if stale else "is not a file of a run")
        elif path.is_symlink() or not path.is_file():
            wrong(path.name, "is a link or a folder, not a file")
    if (folder.path / "run.json").exists():
        _configuration(folder, wrong)
    else:
        wrong("run.json", "is missing")
    if (folder.path / "result.json").exists():
        _result(folder, claims, wrong)
    if (folder.path / evaluations.FILE).is_file():
        try:
            evaluations.evaluations(folder)
        except UserError as error:
            wrong(evaluations.FILE, str(error))
    if (folder.path / "failure.json").exists():
        try:
            folder.failure()
        except UserError as error:
            wrong("failure.json", str(error))
    try:
        folder.read_sealed("checkpoint.pt")
    except UserError as error:
        wrong("checkpoint.pt", str(error))
    return findings


def _configuration(folder: RunFolder, wrong: Any) -> None:
    try:
        record = folder.read_json("run.json")
        if digest(record["config"]) != record["id"]:
            wrong("run.json", "does not have the identity that it records")
        elif Run(record["config"]).name != folder.path.name:
            wrong("run.json", f"belongs to {Run(record['config']).name}")
    except UserError as error:
        wrong("run.json", str(error))
    except (KeyError, TypeError, AttributeError):
        wrong("run.json", "is not a run's configuration")


def _result(folder: RunFolder, claims: Claims, wrong: Any) -> None:
    try:
        record = folder.result()
    except UserError as error:
        wrong("result.json", str(error))
        return
    student = folder.path / "student.pt"
    if student.is_file() and file_sha256(student) != record.get("weights_sha256"):
        wrong("student.pt", "is not the file whose SHA-256 result.json records")
    if not (folder.path / "metrics.json").is_file():
        wrong("metrics.json", "is missing")
    dataset, fingerprint = digest(record["config"]["dataset"]), record.get("dataset_fingerprint")
    if fingerprint is not None and (
        of_squares(fingerprint) != claims.images.get(dataset)
        or of_whole(fingerprint) not in (None, claims.whole.get(dataset))
    ):
        other = "was trained on other images than most runs of its dataset"
        wrong("result.json", other + or_order(record["config"]))
    teacher = record["config"]["teacher"]
    if teacher is None:
        return
    if "run" in teacher:
        claimed, whose = claims.weights.get(teacher["run"]), f"those of run {teacher['run']}"
    else:
        claimed, whose = teacher.get("checkpoint"), "the file's in its configuration"
    if claimed is not None and claimed != record.get("teacher_sha256"):
        wrong("result.json", f"was taught by other weights than {whose}")


__all__ = ["Claims", "Finding", "check", "verify"]
