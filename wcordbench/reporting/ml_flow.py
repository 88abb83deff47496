"""Every epoch of every run in an experiment of MLflow."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from wcordbench.errors import UserError
from wcordbench.reporting.listener import missing, scalars

#: the tag by which a run here is found there
TAG = "wcordbench.run"
LONGEST = 500  # characters of a parameter's value


class MLflow:
    """Takes a training's events; a run that is continued continues its curves.

    Args:
        uri: a tracking URI (``http://…``, ``sqlite:///runs.db``), or a folder.
        experiment: its name; made where there is none.
        configs: each run's configuration, by its name.

    Raises:
        UserError: the package is missing, or the place cannot be used.
    """

    def __init__(self, uri: str, experiment: str, configs: dict[str, dict[str, Any]]) -> None:
        try:
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise missing("mlflow", "mlflow") from None
        if "://" not in uri:
            uri = Path(uri).absolute().as_uri()
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # it asks to be asked for
        self.configs, self.uri = configs, uri
        self._ids: dict[str, str] = {}
        try:
            self._client = MlflowClient(uri)
            known = self._client.get_experiment_by_name(experiment)
            made = known.experiment_id if known else self._client.create_experiment(experiment)
        except Exception as error:
            raise self._unusable(error) from None
        self._experiment: str = made

    def _unusable(self, error: Exception) -> UserError:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return UserError(f"--mlflow {self.uri}: {reason}")

    def __call__(self, event: dict[str, Any]) -> None:
        """Log an epoch at its number; end a run that is done."""
        if event["kind"] == "epoch":
            step, values = scalars(event)
            identity = self._run(event["run"])
            for name, value in values.items():
                self._client.log_metric(identity, name, value, step=step)
        elif event["kind"] == "done":
            self._end(event["run"], "FINISHED")
        elif event["kind"] in ("failed", "undefined"):
            self._end(event["run"], "FAILED")

    def _run(self, name: str) -> str:
        if name not in self._ids:
            try:
                found = self._client.search_runs(
                    [self._experiment], f"tags.`{TAG}` = '{name}'", max_results=1
                )
                if found:
                    self._ids[name] = found[0].info.run_id
                    self._client.update_run(self._ids[name], status="RUNNING")
                else:
                    made = self._client.create_run(
                        self._experiment, int(1000 * time.time()), {TAG: name}, name
                    )
                    self._ids[name] = made.info.run_id
                    for key, value in _flat(self.configs.get(name, {})):
                        self._client.log_param(self._ids[name], key, str(value)[:LONGEST])
            except Exception as error:
                raise self._unusable(error) from None
        return self._ids[name]

    def _end(self, name: str, status: str) -> None:
        if name in self._ids:
            self._client.set_terminated(self._ids.pop(name), status)

    def close(self) -> None:
        """What is open was stopped."""
        for name in list(self._ids):
            self._end(name, "KILLED")


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for k, v in value.items() for pair in _flat(v, f"{prefix}{k}.")]
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        return [pair for i, v in enumerate(value) for pair in _flat(v, f"{prefix}{i}.")]
    return [(prefix.rstrip("."), value)]
