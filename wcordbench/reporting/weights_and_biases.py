"""Every epoch of every run in a project of Weights & Biases."""

from __future__ import annotations

from typing import Any

from wcordbench.errors import UserError
from wcordbench.reporting.listener import missing, scalars


class WeightsAndBiases:
    """Takes a training's events; a run there has the name and the identity of the run here.

    A run that is continued continues its curves. ``WANDB_MODE=offline`` writes them to
    ``wandb/`` for ``wandb sync``.

    Args:
        project: its name.
        configs: each run's configuration, by its name.

    Raises:
        UserError: the wandb package is missing.
    """

    def __init__(self, project: str, configs: dict[str, dict[str, Any]]) -> None:
        try:
            import wandb
        except ImportError:
            raise missing("wandb", "wandb") from None
        self.project, self.configs, self._wandb = project, configs, wandb
        self._runs: dict[str, Any] = {}

    def __call__(self, event: dict[str, Any]) -> None:
        """Log an epoch; end a run that is done."""
        if event["kind"] == "epoch":
            epoch, values = scalars(event)
            # Its own steps only rise: the epoch is an axis, first stages being at or below 0.
            self._run(event["run"]).log({"epoch": epoch, **values})
        elif event["kind"] == "done":
            run = self._run(event["run"])
            run.summary["top1"] = event["top1"]
            self._end(event["run"])
        elif event["kind"] in ("failed", "undefined") and event["run"] in self._runs:
            self._end(event["run"], code=1)

    def _run(self, name: str) -> Any:
        if name not in self._runs:
            try:
                run = self._wandb.init(
                    project=self.project,
                    id=name[-64:],
                    name=name,
                    config=self.configs.get(name, {}),
                    resume="allow",
                    reinit="create_new",
                )
            except Exception as error:  # no key, no network
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise UserError(
                    f"--wandb {self.project}: {reason}; log in with 'wandb login', or set"
                    " WANDB_MODE=offline"
                ) from None
            run.define_metric("*", step_metric="epoch")
            self._runs[name] = run
        return self._runs[name]

    def _end(self, name: str, code: int = 0) -> None:
        self._runs.pop(name).finish(exit_code=code)

    def close(self) -> None:
        """Finish the runs that are open."""
        for name in list(self._runs):
            self._end(name)
