"""The weighted sum that a student minimises."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from wcordbench import models, ramp, registry
from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, Method, SecondView, Setup, cross_entropy
from wcordbench.suite.schema import MethodSpec, located, phrase
from wcordbench.training.mistakes import MistakeError, defines, scalar, teaches, untaught


class Objective(nn.Module):
    """γ · cross entropy + Σ weight · schedule · term.

    Args:
        config: the ``method`` part of a run's configuration: ``gamma`` and ``terms``, each
            with ``name``, ``weight`` and ``options``, and where given a ``schedule`` (see
            :func:`wcordbench.ramp.factor`) and an ``lr_factor``.
        setup: what the terms are built for; may be None where there are no terms.

    Raises:
        UserError: two terms change what the student predicts.
    """

    def __init__(self, config: dict[str, Any], setup: Setup | None) -> None:
        super().__init__()
        self.gamma: float = config["gamma"]
        self.weights: list[float] = [t["weight"] for t in config["terms"]]
        self.schedules: list[dict[str, Any] | None] = [t.get("schedule") for t in config["terms"]]
        self.lr_factors: list[float] = [t.get("lr_factor", 1.0) for t in config["terms"]]
        self.terms = nn.ModuleList()
        #: by term, whether its loss has had a gradient for the student; not known of all
        self._taught: dict[int, bool] = {}
        for term in config["terms"]:
            if setup is None:
                raise ValueError(f"method {term['name']!r} needs a teacher")
            entry = registry.get("method", term["name"])
            self.terms.append(entry.load()(setup, **entry.arguments(term["options"])))
        changing = [t["name"] for t in config["terms"] if adapting(t)]
        if len(changing) > 1:
            raise UserError(
                f"{' and '.join(changing)} both change what the student predicts; name one of them"
            )

    @property
    def methods(self) -> list[Method]:
        """The terms' methods, typed."""
        return [m for m in self.terms if isinstance(m, Method)]

    @property
    def second_view(self) -> bool:
        """Whether a term wants a second view of the images."""
        return any(m.second_view for m in self.methods)

    @property
    def adapting(self) -> list[Method]:
        """The term, if there is one, by which the prediction is not the student's alone."""
        return [m for m in self.methods if defines(m, "adapt")]

    @property
    def adapts(self) -> bool:
        """Whether the student's prediction is not the student's alone."""
        return bool(self.adapting)

    def manual_seed(self, seed: int) -> None:
        """Seed every term's own draws."""
        for method in self.methods:
            method.manual_seed(seed)

    def parameter_groups(self) -> dict[float, list[nn.Parameter]]:
        """The terms' parameters by the factor on their learning rate."""
        groups: dict[float, list[nn.Parameter]] = {}
        for factor, method in zip(self.lr_factors, self.methods, strict=True):
            groups.setdefault(factor, []).extend(method.parameters())
        return groups

    @property
    def prepares(self) -> bool:
        """Whether a term wants to see the teacher's training set before training."""
        return any(defines(m, "prepare") for m in self.methods)

    def prepare(self, teacher: Iterable[tuple[Features, Tensor]]) -> None:
        """Let the terms see it; see :meth:`Method.prepare`."""
        for method in self.methods:
            if defines(method, "prepare"):
                method.prepare(teacher)

    def adapt(
        self, student: Features, teacher: Features | None, batch: Batch
    ) -> tuple[Features, Features | None, Batch]:
        """The features as cross entropy and the terms see them; see :meth:`Method.adapt`."""
        for method in self.adapting:
            student, teacher = method.adapt(student, teacher)
            if batch.second is not None:
                strong, known = method.adapt(*batch.second)
                assert known is not None
                batch = batch._replace(second=SecondView(strong, known))
        return student, teacher, batch

    def predict(self, student: Features) -> Features:
        """The student's features with the logits that it predicts by."""
        for method in self.adapting:
            student, _ = method.adapt(student, None)
        return student

    def forward(self, student: Features, teacher: Features | None, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar."""
        return self.loss(*self.adapt(student, teacher, batch))

    def loss(self, student: Features, teacher: Features | None, batch: Batch) -> Tensor:
        """The loss of a batch of features that :meth:`adapt` has given, a scalar."""
        own = (m.cross_entropy for m in self.methods if defines(m, "cross_entropy"))
        loss = self.gamma * next(own, cross_entropy)(student, batch)
        for i, (weight, schedule, method) in enumerate(
            zip(self.weights, self.schedules, self.methods, strict=True)
        ):
            if schedule is not None:
                weight *= ramp.factor(schedule, batch.epoch, batch.epochs)
            term = scalar(method(student, teacher, batch), method)
            if not self._taught.get(i):
                views = [student, batch.second.student] if batch.second else [student]
                if (known := teaches(method, term, *views)) is not None:
                    self._taught[i] = known
            loss = loss + weight * term
        return loss

    @property
    def untaught(self) -> list[Method]:
        """The terms that have trained parameters of their own, and the student never so far."""
        return [m for i, m in enumerate(self.methods) if self._taught.get(i) is False]

    def check_taught(self) -> None:
        """See, at the end of training, that every term has taught the student.

        Raises:
            MistakeError: one has not.
        """
        for method in self.untaught:
            raise MistakeError(untaught(method))

    def first_stage_loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The sum of the first-stage losses of the terms that have one, a scalar."""
        losses = [
            m.first_stage_loss(student, teacher, batch) for m in self.methods if m.first_stage
        ]
        return torch.stack(losses).sum()


class Predicting(nn.Module):
    """A student with what its method adds to it, as it was measured.

    Attributes:
        student: gives :class:`Features`.
        objective: of the method that changes them.
        teacher_classifier: that the method may use, where it is to move and to be written
            with this module.
    """

    def __init__(
        self,
        student: nn.Module,
        objective: Objective,
        teacher_classifier: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.student, self.objective = student, objective
        self.teacher_classifier = teacher_classifier

    def forward(self, images: Tensor) -> Features:
        """The features that the student predicts by, of ``(B, C, H, W)``."""
        return self.objective.predict(self.student(images))


def adapting(term: dict[str, Any]) -> bool:
    """Whether a term of a configuration changes what the student predicts."""
    kind = registry.get("method", term["name"]).load()
    return kind.adapt is not Method.adapt


def objective(
    name: str,
    student: nn.Module,
    teacher: nn.Module,
    images: Tensor,
    labels: Tensor,
    batch_size: int | None = None,
    **keys: Any,
) -> Objective:
    """A method's whole objective for two networks of a user's own, to call in any loop.

    Args:
        name: a method as a suite names it: ``crd``, ``crd+kd``.
        student, teacher: modules that map images to :class:`Features`; where they have a
            ``get_classifier`` (and a ``stage_norms``), methods may use those.
        images: a few images ``(B, C, H, W)``, which the shapes are read from.
        labels: class of every training image, ``(N,)`` int64, from 0 to K − 1.
        batch_size: of a whole batch, for methods that need it.
        keys: the method's options and weights, as in a suite (``gamma``, ``alpha``, ``beta``).

    Returns:
        A module: ``objective(student(x), teacher(x), Batch(labels, indices, epoch, epochs))`` is
        the loss. Its parameters join the student's optimiser; its draws come from its own
        generator, see ``manual_seed``. AB, FSP and FT have a ``first_stage_loss`` to minimise
        before; where ``prepares``, call ``prepare`` before; where ``adapts``, the student
        predicts by the logits of ``predict(student(x))``.

    Raises:
        UserError: no such method or option, or the method is undefined for these networks.
    """
    try:
        spec = MethodSpec(name=name, **keys)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(located(phrase(dict(first)), first["loc"])) from None
    modes = [(net, net.training) for net in (student, teacher)]
    with torch.no_grad():
        shapes = [models.shapes_of(net, net.eval()(images)) for net, _ in modes]
    for net, training in modes:
        net.train(training)
    setup = Setup(
        shapes[0], shapes[1], shapes[0].logits, labels, models.classifier_of(student),
        models.classifier_of(teacher), models.norms_of(teacher), batch_size,
    )  # fmt: skip
    config = {"gamma": spec.cross_entropy(), "terms": [t.model_dump() for t in spec.terms()]}
    reason = undefined(config, setup)
    if reason:
        raise UserError(f"method {name!r} is undefined for these networks: {reason}")
    return Objective(config, setup)


def setup_of(
    config: dict[str, Any],
    classes: int,
    sizes: tuple[int, int],
    channels: int,
    labels: Tensor,
    device: torch.device,
    teacher: nn.Module | None = None,
) -> Setup:
    """What a run's methods are built for, the student's weights aside: the learner has those.

    Args:
        config: of a run with a teacher.
        classes: K.
        sizes: side of the images that the student and the teacher see, in pixels.
        channels: of the images.
        labels: ``(N,)`` int64.
        device: where training is to be.
        teacher: the network itself, before anything is folded; None for its outline alone.
    """
    student = models.outline(config["model"], classes, sizes[0], channels)
    known = models.outline(config["teacher"]["model"], classes, sizes[1], channels)
    classifier, norms = known.classifier, known.norms
    if teacher is not None:
        classifier, norms = models.classifier_of(teacher), models.norms_of(teacher)
        if classifier is not None:
            classifier = classifier.to(device)
        if isinstance(norms, tuple):
            norms = tuple((scale.to(device), shift.to(device)) for scale, shift in norms)
    return Setup(
        student.shapes, known.shapes, classes, labels, student.classifier, classifier, norms,
        config["train"]["batch_size"],
    )  # fmt: skip


def checks(protocol: Mapping[str, Any]) -> list[Callable[[dict[str, Any]], None]]:
    """What a protocol asks of a method: checks of the ``method`` part of a configuration."""
    mixed = protocol.get("mixup") or protocol.get("cutmix")
    return [check_mixing] * bool(mixed) + [check_average] * ("ema" in protocol)


def check_mixing(config: dict[str, Any]) -> None:
    """Refuse mixed images for formulas that ask for an image's own class or number.

    Args:
        config: the ``method`` part of a run's configuration.

    Raises:
        UserError: a term does, or sees images a second time.
    """
    for term in config["terms"]:
        kind = registry.get("method", term["name"]).load()
        for part in kind.__mro__[: kind.__mro__.index(Method)]:
            asked = {
                name
                for key, hook in vars(part).items()
                if inspect.isfunction(hook) and key != "__init__"
                for name in hook.__code__.co_names
            }
            if asked & {"labels", "indices"} or kind.second_view:
                raise UserError(
                    f"method {term['name']!r} asks for each image's own class, number or second"
                    " view, which images mixed by train.mixup or train.cutmix lack; leave those"
                    " out for it (train: {mixup: 0, cutmix: 0} at the method), or the method"
                )


def check_average(config: dict[str, Any]) -> None:
    """Refuse a moving average of the student's weights where others predict with them.

    Args:
        config: the ``method`` part of a run's configuration.

    Raises:
        UserError: a term changes what the student predicts.
    """
    for term in config["terms"]:
        if adapting(term):
            raise UserError(
                f"train.ema averages the student's weights alone, and method {term['name']!r}"
                " predicts by more than those; leave one of them out (train: {ema: null} at the"
                " method)"
            )


def undefined(config: dict[str, Any], setup: Setup) -> str | None:
    """Why a method is undefined for a pair, or None."""
    for term in config["terms"]:
        reason: str | None = registry.get("method", term["name"]).load().unsupported(setup)
        if reason:
            return reason
    return None
