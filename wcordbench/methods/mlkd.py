"""Multi-level logit distillation (Jin et al., CVPR 2023)."""

from __future__ import annotations

import torch
from torch import Tensor

from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, Method, SecondView, Setup, cross_entropy
from wcordbench.methods.logits import divergence, exact, standardise, too_few_classes
from wcordbench.options import Annotated, Interval, Positive, Temperature
from wcordbench.registry import register_method

Views = tuple[Tensor, Tensor]


def least_confident(teacher: Tensor, percentile: float) -> Views:
    """The share of images, and of classes, that a percentile of the teacher's certainty keeps.

    As the code of the paper has it: masks that multiply what is averaged already, so that
    only their means count.

    Args:
        teacher: logits ``(B, K)`` of the weak view.
        percentile: of the images' confidences max_k p_k, and of the classes' sums over the
            batch; a half or more stays below the 50th.

    Returns:
        Two scalars between 0 and 1.
    """
    p = torch.softmax(teacher, 1)
    confidences, totals = p.amax(1), p.sum(0)
    images, classes = (
        (x <= torch.quantile(x, percentile / 100)).to(x.dtype).mean() for x in (confidences, totals)
    )
    return images, classes


def gram_distances(student: Tensor, teacher: Tensor, temperature: float) -> Views:
    """Squared distances of the class and the batch Gram matrices of both softmaxes.

    Args:
        student, teacher: logits ``(B, K)``.
        temperature: T > 0.

    Returns:
        ‖QᵀQ − PᵀP‖² / K and ‖QQᵀ − PPᵀ‖² / B, of the student's softmax Q and the teacher's P.
    """
    q, p = (torch.softmax(x / temperature, 1) for x in (student, teacher))
    size, classes = q.shape
    by_class = (q.mT @ q - p.mT @ p).square().sum() / classes
    by_image = (q @ q.mT - p @ p.mT).square().sum() / size
    return by_class, by_image


class MultiLevel(Method):
    """Base of MLKD with and without standardised logits.

    With two views of each image, weak w and strong r, KD_τ as in KD, 𝒯 = (T, 3, 5, 2, 6), and
    the shares m of the images and c of the classes from :func:`least_confident`::

        L_kd    = m Σ_𝒯 KD_τ(w) + KD_T(r) + KD_3(r) + KD_5(r) + KD_2(w) + KD_6(w)
        L_class = c Σ_𝒯 ‖QᵀQ − PᵀP‖² / K        L_batch = m Σ_𝒯 ‖QQᵀ − PPᵀ‖² / B

    on the weak view's softmaxes. Multi-Level Logit Distillation, equations 4 to 9, as its code
    computes them: in the paper the masks choose images and classes, the last two terms of L_kd
    are of the strong view, and that view has terms of class and batch of its own.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        temperature: T.
        percentile: of the teacher's certainty; see :func:`least_confident`.
    """

    #: the other temperatures of both views' terms, and of terms that are the weak view's alone
    BOTH, WEAK = (3.0, 5.0), (2.0, 6.0)
    second_view = True

    def __init__(self, setup: Setup, temperature: float, percentile: float) -> None:
        super().__init__(setup)
        self.temperature, self.percentile = temperature, percentile

    def scores(self, logits: Tensor) -> Tensor:
        """What KD compares, of logits ``(B, K)``."""
        return logits

    def parts(
        self, student: Tensor, teacher: Tensor, strong_student: Tensor, strong_teacher: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """L_kd, L_class and L_batch of logits ``(B, K)`` in at least float32."""
        images, classes = least_confident(teacher, self.percentile)
        s, t = self.scores(student), self.scores(teacher)
        s_strong, t_strong = self.scores(strong_student), self.scores(strong_teacher)
        both, weak = (self.temperature, *self.BOTH), self.WEAK
        of_weak = {tau: softened(s, t, tau) for tau in {*both, *weak}}
        kd = images * _total([of_weak[tau] for tau in (*both, *weak)])
        kd = kd + _total([softened(s_strong, t_strong, tau) for tau in both])
        kd = kd + _total([of_weak[tau] for tau in weak])
        grams = [gram_distances(student, teacher, tau) for tau in (*both, *weak)]
        by_class, by_image = (_total(list(terms)) for terms in zip(*grams, strict=True))
        return kd, classes * by_class, images * by_image

    def cross_entropy(self, student: Features, batch: Batch) -> Tensor:
        """The sum of both views' cross entropies, a scalar."""
        return cross_entropy(student, batch) + cross_entropy(_second(batch).student, batch)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss on both views' logits, a scalar."""
        second = _second(batch)
        given = (student.logits, teacher.logits, second.student.logits, second.teacher.logits)
        with torch.autocast(student.logits.device.type, enabled=False):
            s, t, s_strong, t_strong = map(exact, given)
            return _total(list(self.parts(s, t.detach(), s_strong, t_strong.detach())))


def _second(batch: Batch) -> SecondView:
    if batch.second is None:
        raise UserError(
            "mlkd needs a second view of each image; give Batch(…, second=SecondView(…))"
        )
    return batch.second


def softened(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · mean KL(teacher ‖ student) of logits ``(B, K)``, a scalar."""
    rows = divergence(student / temperature, teacher / temperature)
    return rows.mean() * temperature**2


def _total(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum()


@register_method("mlkd", title="MLKD", paper="Jin et al., CVPR 2023", gamma=0.1, beta=0.9)
class MultiLevelKD(MultiLevel):
    """Agreement with the teacher by image, batch and class, over two views; :class:`MultiLevel`.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        temperature: T.
        percentile: of the teacher's certainty, 0 to 100.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        temperature: Temperature = 4.0,
        percentile: Annotated[float, Interval(ge=0, le=100)] = 50.0,
    ) -> None:
        super().__init__(setup, temperature, percentile)


@register_method("mlkd_ls", title="MLKD-LS", paper="Sun et al., CVPR 2024", gamma=0.1, beta=9.0)
class StandardisedMLKD(MultiLevel):
    """MLKD whose KD is on standardised logits; the Gram matrices are of the logits themselves.

    Logit Standardization in Knowledge Distillation, section 4.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        temperature: T.
        percentile: of the teacher's certainty, 0 to 100.
        epsilon: added to the deviation.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        temperature: Temperature = 2.0,
        percentile: Annotated[float, Interval(ge=0, le=100)] = 50.0,
        epsilon: Positive = 1e-7,
    ) -> None:
        super().__init__(setup, temperature, percentile)
        self.epsilon = epsilon

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Undefined for fewer than two classes."""
        return too_few_classes(setup)

    def scores(self, logits: Tensor) -> Tensor:
        """The Z scores of logits ``(B, K)``."""
        return standardise(logits, self.epsilon)


__all__ = ["MultiLevel", "MultiLevelKD", "StandardisedMLKD", "gram_distances", "least_confident"]
