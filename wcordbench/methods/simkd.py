"""Knowledge distillation with the teacher's classifier (Chen et al., CVPR 2022)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, Method, Setup, lacking
from wcordbench.methods.regressor import pool_to_smaller
from wcordbench.options import PositiveInt
from wcordbench.registry import register_method


class Projected(Features):
    """A student's features with the projection of its last stage, ``(B, C_t, H, W)``."""

    projection: Tensor


def projector(student: int, teacher: int, factor: int) -> nn.Sequential:
    """1x1, 3x3 and 1x1 convolutions, each with batch norm and ReLU.

    Args:
        student: C_s.
        teacher: C_t.
        factor: the inner channels are C_t / factor.
    """
    inner = teacher // factor
    layers: list[nn.Module] = []
    for c_in, c_out, kernel in ((student, inner, 1), (inner, inner, 3), (inner, teacher, 1)):
        layers += [
            nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


@register_method("simkd", title="SimKD", paper="Chen et al., CVPR 2022", gamma=0.0, beta=1.0)
class ReusedClassifier(Method):
    """The student's last stage learns the teacher's last map, whose classifier it then uses.

    With P the projector of the student's last stage and F_t the teacher's map before pooling,
    the larger of the two average-pooled to the smaller::

        L = mean over B, C, H, W of (P(F_s) − F_t)²
        prediction = classifier_t(spatial mean of P(F_s))

    Knowledge Distillation with the Reused Teacher Classifier, equations 3 and 4. The student's
    own head learns nothing and is not deployed; the classifier is frozen.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        factor: by which the projector's inner channels are fewer than the teacher's.

    Raises:
        UserError: the pair is :meth:`unsupported`, or ``factor`` leaves no channel.
    """

    def __init__(self, setup: Setup, *, factor: PositiveInt = 2) -> None:
        super().__init__(setup)
        reason = self.unsupported(setup)
        if reason:
            raise UserError(f"simkd: {reason}")
        assert setup.teacher.last_map is not None
        channels, *self.size = setup.teacher.last_map
        if factor > channels:
            raise UserError(f"simkd: factor {factor} of {channels} channels leaves none; lower it")
        self.projector = projector(setup.student.stages[-1][0], channels, factor)

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Undefined where the teacher shows no map before pooling or no classifier."""
        return lacking(setup, "teacher_map", "teacher_classifier")

    def adapt(
        self, student: Features, teacher: Features | None
    ) -> tuple[Features, Features | None]:
        """The student with the teacher's classifier's logits of its projection."""
        stage = student.stages[-1]
        # In evaluation too, where the teacher's map is not at hand.
        target = stage.new_empty(1, 1, *self.size)
        projection = self.projector(pool_to_smaller(stage, target)[0])
        assert self.setup.teacher_classifier is not None
        logits = self.setup.teacher_classifier(projection.mean((2, 3)))
        projected = Projected(*student._replace(logits=logits))
        projected.projection = projection
        return projected, teacher

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The mean squared difference of the maps, a scalar."""
        assert isinstance(student, Projected) and teacher.last_map is not None
        s, t = pool_to_smaller(student.projection, teacher.last_map.detach())
        with torch.autocast(s.device.type, enabled=False):
            return F.mse_loss(s.float(), t.float())


__all__ = ["Projected", "ReusedClassifier", "projector"]
