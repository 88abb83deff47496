"""Class attention transfer (Guo et al., CVPR 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, Method, Setup, lacking
from wcordbench.methods.regressor import pool_to
from wcordbench.options import PositiveInt
from wcordbench.registry import register_method


def activation_maps(features: Tensor, weight: Tensor, resolution: int) -> Tensor:
    """Each class's activation map Σ_c W_kc F_c, average-pooled, ``(B, K, R, R)``.

    Args:
        features: the map before pooling, ``(B, C, H, W)``.
        weight: of the classifier, ``(K, C)``; its bias takes no part.
        resolution: R.
    """
    # The classes' maps of the pooled map are the pooled maps: both are linear.
    pooled = pool_to(features, (resolution, resolution))
    return F.conv2d(pooled, weight[:, :, None, None])


@register_method(
    "catkd", title="CAT-KD", paper="Guo et al., CVPR 2023", version=2, gamma=1.0, beta=15.0
)
class ClassAttention(Method):
    """The classes' activation maps of both networks, pooled to a few positions, are matched.

    L = mean (CAM_s − CAM_t)² over images, classes and positions; where ``normalise``, each
    class's map is divided by its norm first. The gradient reaches the student's classifier.
    Class Attention Transfer Based Knowledge Distillation, equations 2 and 4. The weight is set
    per pair there; the default is resnet32x4→resnet8x4's. As in the paper's code, the student is
    trained and evaluated without its classifier's bias.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        resolution: R, positions a side.
        normalise: divide each class's map by its norm over positions.

    Raises:
        UserError: the pair is :meth:`unsupported`.
    """

    def __init__(
        self, setup: Setup, *, resolution: PositiveInt = 2, normalise: bool = False
    ) -> None:
        super().__init__(setup)
        reason = self.unsupported(setup)
        if reason:
            raise UserError(f"catkd: {reason}")
        self.resolution, self.normalise = resolution, normalise

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Undefined where a network shows no map before pooling or no linear classifier."""
        reason = lacking(
            setup, "student_map", "teacher_map", "student_classifier", "teacher_classifier"
        )
        if reason:
            return reason
        for name in ("student", "teacher"):
            if not isinstance(getattr(setup, f"{name}_classifier"), nn.Linear):
                return f"the {name}'s classifier is not a linear map"
        return None

    def adapt(
        self, student: Features, teacher: Features | None
    ) -> tuple[Features, Features | None]:
        """The student with logits to which its classifier adds no bias."""
        classifier = self.setup.student_classifier
        assert isinstance(classifier, nn.Linear)
        return student._replace(logits=F.linear(student.pooled, classifier.weight)), teacher

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss on the maps before pooling, a scalar."""
        known = teacher.last_map
        maps = [
            self._maps(student.last_map, self.setup.student_classifier),
            self._maps(None if known is None else known.detach(), self.setup.teacher_classifier),
        ]
        with torch.autocast(maps[0].device.type, enabled=False):
            s, t = (x.float().flatten(2) for x in maps)
            if self.normalise:
                s, t = F.normalize(s, dim=2), F.normalize(t, dim=2)
            return F.mse_loss(s, t)

    def _maps(self, features: Tensor | None, classifier: nn.Module | None) -> Tensor:
        assert features is not None and isinstance(classifier, nn.Linear)
        return activation_maps(features, classifier.weight, self.resolution)


__all__ = ["ClassAttention", "activation_maps"]
