"""A SLURM cluster: jobs as arrays that submitit submits, requeued at preemption and time limit.

The command stays and submits an array of every job that can start: the teachers first, the
students of a teacher as soon as it is done. Workers write what they say into files beside
the results, which all nodes share, and leave when a file there tells them to.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import submitit
from submitit.helpers import DelayedSubmission

from wcordbench.errors import UserError
from wcordbench.executors import base
from wcordbench.executors.base import Assignment, Options, Report
from wcordbench.executors.session import TICK, Session, Worker
from wcordbench.results.store import SESSIONS, Store
from wcordbench.suite.plan import Job

#: seconds between looks at SLURM's queue, and at files of workers
LOOK, ASK = 10.0, 1.0
#: seconds that workers which have been told to stop may take to save
GRACE = 120.0
#: seconds before the time limit at which a job saves and goes back into the queue
NOTICE = 120
#: how often a job may come to its time limit
REQUEUES = 1000
#: what a job asks for where the user does not say: it goes on where it was, so hours do
DEFAULTS = {"time": "240"}
#: what submitit knows and this executor says itself, and what to do in place of giving it
OWN = {
    "array_parallelism": "say --workers",
    "signal_delay_s": f"jobs are told {NOTICE} s before their time is up",
    "setup": "give the command an environment that is ready",
    "teardown": "do it after the command",
    "additional_parameters": "leave it out",
    "job_name": "leave it out",
    "srun_args": "leave it out",
    "stderr_to_stdout": "leave it out",
    "use_srun": "leave it out",
    "wckey": "leave it out",
}
#: jobs side by side, for the balance of cohorts, where --workers does not say
SLOTS = 8


def create(options: Options) -> SlurmExecutor:
    """The executor that a user's options describe."""
    wanted = dict(DEFAULTS)
    for part in ",".join(options.only("slurm")["slurm"] or []).split(","):
        key, equals, value = part.partition("=")
        if part and not (equals and key.strip() and value.strip()):
            raise UserError(f"--slurm {part!r} is not KEY=VALUE; write partition=gpu,time=12:00:00")
        if part:
            wanted[key.strip().lstrip("-").replace("-", "_")] = value.strip()
    for key, value in wanted.items():
        if key in OWN:
            raise UserError(f"--slurm {key}={value} is not yours to give; {OWN[key]}")
    counts = {"cpus_per_task": 1}
    if wanted.get("cluster") == "local":  # a real SLURM also takes gpus_per_node=a100:2
        counts["gpus_per_node"] = 0
    for key, least in counts.items():
        value = wanted.get(key, str(least))
        if not value.isdecimal() or int(value) < least:
            raise UserError(f"--slurm {key}={value} is no number of them; write {key}=2")
    if options.per_gpu is not None:
        raise UserError("--per-gpu: SLURM shares GPUs itself; ask with --slurm gres=shard:1")
    return SlurmExecutor(options, wanted)


@dataclass(frozen=True)
class SlurmExecutor:
    """Runs jobs as arrays of a SLURM cluster, one job a task.

    Args:
        options: the results folder and the data must be shared by all nodes; ``workers`` is
            how many jobs of an array run at a time.
        wanted: sbatch's long options, and ``cluster``, which may be ``local``: submitit's
            own processes on this machine in place of SLURM.
    """

    options: Options
    wanted: dict[str, str]

    def run(self, jobs: list[Job], report: Report) -> None:
        """See :class:`wcordbench.executors.base.Executor`."""
        if not jobs:
            return
        Store(self.options.store_root).prepare()
        _Session(self, jobs, report).run()

    @property
    def device(self) -> str:
        """Where a job trains: on a GPU if one is asked for."""
        if self.options.device is not None:
            return self.options.device
        gpus = any(
            key.startswith("gpus")
            or (key.startswith(("gres", "tres")) and re.search("gpu|shard|mps", value))
            for key, value in self.wanted.items()
        )
        return "cuda:0" if gpus else "cpu"

    @property
    def threads(self) -> int:
        """Of a job, which are its CPUs."""
        return self.options.threads or int(self.wanted.get("cpus_per_task", 1))

    def submitter(self, folder: Path) -> Any:
        """submitit's executor.

        Args:
            folder: where scripts and logs go.

        Raises:
            UserError: SLURM is not there, or an option is wrong.
        """
        wanted = {**self.wanted, "cpus_per_task": str(self.threads)}
        cluster, minutes = wanted.pop("cluster", "slurm"), _minutes(wanted.pop("time"))
        if cluster == "local":
            executor: Any = submitit.LocalExecutor(folder)
            gpus = int(wanted.get("gpus_per_node", 0))
            executor.update_parameters(timeout_min=minutes, gpus_per_node=gpus)
            return executor
        if cluster != "slurm":
            raise UserError(f"--slurm cluster={cluster} is unknown; valid: slurm, local")
        if shutil.which("srun") is None or shutil.which("sbatch") is None:
            raise UserError(
                "--executor slurm: sbatch and srun are not on this machine; run on one that"
                " submits to the cluster, or try with --slurm cluster=local"
            )
        executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)
        known = executor._valid_parameters()
        executor.update_parameters(
            time=minutes,
            job_name="wcordbench",
            wckey=None,  # some clusters know none, or others
            signal_delay_s=NOTICE,
            array_parallelism=self.options.workers or 1000,
            # SLURM 22.05 and later do not hand it down from sbatch
            srun_args=[f"--cpus-per-task={self.threads}"],
            **{k: v for k, v in wanted.items() if k in known},
            additional_parameters={
                "requeue": True, **{k: v for k, v in wanted.items() if k not in known},
            },
        )  # fmt: skip
        return executor


def _minutes(text: str) -> int:
    """sbatch's forms of a time: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS."""
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", text):
        raise UserError(f"--slurm time={text} is no time; write minutes or D-HH:MM:SS")
    days, dash, rest = text.rpartition("-")
    parts = [int(p) for p in rest.split(":")]
    if dash or len(parts) == 3:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    else:
        hours, minutes, seconds = 0, *(*parts, 0)[:2]
    total = (int(days or 0) * 24 + hours) * 60 + minutes + (seconds > 0)
    if not total:
        raise UserError(f"--slurm time={text} is no time at all; give at least a minute")
    return total


@dataclass(eq=False)
class _Task(Worker):
    number: int
    handle: Any
    events: Path
    read: int = field(default=0, init=False)
    left: bool = field(default=False, init=False)


class _Session(Session[_Task]):
    def __init__(self, executor: SlurmExecutor, jobs: list[Job], report: Report) -> None:
        self.executor, options = executor, executor.options
        root = options.store_root.absolute()
        super().__init__(Store(root), jobs, report, options.workers or SLOTS, None)
        self.folder = root / SESSIONS / uuid.uuid4().hex[:8]
        self.submitter = executor.submitter(self.folder)
        self.local = isinstance(self.submitter, submitit.LocalExecutor)
        self.serial = 0
        self.kept = False
        self.looked_at_queue = time.monotonic()

    def launch(self, jobs: list[Job], waiting: int) -> None:  # noqa: ARG002
        """Submit one array of all of them."""
        executor, options = self.executor, self.executor.options
        tasks = []
        for job in jobs:
            self.serial += 1
            assignment = Assignment(
                job, str(self.store.root), str(options.data_root.absolute()), executor.device,
                executor.threads, options.checkpoint_minutes, options.compile,
            )  # fmt: skip
            tasks.append(Task(assignment, self.serial, str(self.folder)))
        try:
            handles = self.submitter.submit_array(tasks)
        except (submitit.core.utils.FailedJobError, subprocess.CalledProcessError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"sbatch refuses the jobs ({reason}); correct --slurm") from None
        for task, handle in zip(tasks, handles, strict=True):
            self.workers.append(_Task(task.assignment.job, task.number, handle, task.events))
        what = f"{len(jobs)} job{'s' * (len(jobs) > 1)}"
        self.report(
            {"kind": "note", "line": f"submitted {what} to {'submitit' if self.local else 'SLURM'}"
             f" as {handles[0].job_id.partition('_')[0]}; logs in {self.folder}"}
        )  # fmt: skip

    def listen(self) -> None:
        """Read what workers have written; look in the queue for those that ended without a word."""
        time.sleep(TICK)
        queue = None
        if time.monotonic() - self.looked_at_queue > (ASK if self.interrupted else LOOK):
            queue = self._queue()
            self.looked_at_queue = time.monotonic()
        for worker in list(self.workers):  # after the queue: no word of the ended is missed
            self._read(worker)
            if worker.left or (queue is not None and worker.handle.job_id not in queue):
                self.kept |= not (worker.left or worker.told)
                where = worker.handle.paths.stderr
                self.ended(
                    worker, f"its job {worker.handle.job_id} ended without a word; see {where}"
                )

    def _queue(self) -> set[str] | None:
        """The jobs that wait or run; None where nobody knows."""
        if self.local:
            return {w.handle.job_id for w in self.workers if w.handle.state == "RUNNING"}
        asked = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
        try:
            done = subprocess.run(asked, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return set(done.stdout.split()) if done.returncode == 0 else None

    def _read(self, worker: _Task) -> None:
        """Take every whole line that is new."""
        try:
            with worker.events.open("rb") as file:
                file.seek(worker.read)
                text = file.read()
        except OSError:  # nothing has been said
            return
        whole = text[: text.rfind(b"\n") + 1]
        worker.read += len(whole)
        for line in whole.splitlines():
            event = json.loads(line)
            if event["kind"] == "left":
                worker.left = True
            elif event["kind"] == "requeued":
                worker.loaded = worker.started = False
                names = ", ".join(worker.open)
                self.report({"kind": "note", "line": f"{names}: saved; back in the queue"})
            elif event.get("run", "") in worker.open or "run" not in event:
                self.take(worker, event)

    def tell(self, worker: _Task) -> None:
        """One that trains finds the file; one that waits has nothing to save."""
        (self.folder / "stop").touch()
        if not worker.loaded:
            self.kill(worker)

    def kill(self, worker: _Task) -> None:
        """Cancel its job."""
        worker.handle.cancel(check=False)

    def close(self) -> None:
        """Cancel what was submitted; workers that train may save."""
        self.stop_workers()
        end = time.monotonic() + GRACE
        while self.workers and time.monotonic() < end:
            self.interrupted = True
            self.listen()
        for worker in self.workers:
            self.kill(worker)
        if not (self.kept or self.workers):
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                self.folder.parent.rmdir()
        self.workers.clear()


# --- in a worker ------------------------------------------------------------------------


class Task:
    """What a task of an array runs; submitit pickles it.

    It trains in a thread of its own: a signal interrupts the main thread at any moment, also
    in the middle of a step, and a checkpoint must be written between two.
    """

    def __init__(self, assignment: Assignment, number: int, folder: str) -> None:
        self.assignment, self.number, self.folder = assignment, number, folder

    @property
    def events(self) -> Path:
        """Where it writes what it says, one JSON object a line."""
        return Path(self.folder) / f"{self.number}.events"

    def __call__(self) -> None:
        """Train until done, told to stop, or sent back into the queue."""
        self.told, self.asked = False, 0.0
        self.thread = threading.Thread(
            target=base.train, args=(self.assignment, self.report, self.should_stop)
        )
        self.thread.start()
        self.wait()
        self.report({"kind": "left"})

    def wait(self) -> None:
        """Until the training is over; a lock would not let a signal's handler wait as well."""
        while self.thread.is_alive():
            time.sleep(0.1)

    def checkpoint(self) -> DelayedSubmission:
        """submitit calls it when the job is preempted or its time is nearly up."""
        self.told = True
        self.wait()
        self.report({"kind": "requeued"})
        return DelayedSubmission(Task(self.assignment, self.number, self.folder))

    def report(self, event: dict[str, Any]) -> None:
        """Write a line; where the folder is gone nobody listens any more."""
        with contextlib.suppress(OSError), self.events.open("a") as file:
            file.write(json.dumps(event) + "\n")

    def should_stop(self) -> bool:
        """Told by a signal, or by the command through a file."""
        if not self.told and time.monotonic() - self.asked > ASK:
            self.asked = time.monotonic()
            self.told = (Path(self.folder) / "stop").exists()
        return self.told
