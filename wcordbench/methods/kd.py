"""Knowledge distillation from the logits (Hinton et al., 2015)."""

from __future__ import annotations

import torch
from torch import Tensor

from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.options import Temperature
from wcordbench.registry import register_method


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student) between softened class probabilities.

    Hinton et al., "Distilling the Knowledge in a Neural Network" (2015), section 2. Summed
    over classes, averaged over the batch; the factor T² keeps the gradient's size
    independent of the temperature. Always computed in at least float32, so that autocast
    does not touch it.

    Args:
        student_logits, teacher_logits: ``(B, K)``, before any softmax.
        temperature: T > 0.

    Returns:
        A scalar in nats.
    """
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    with torch.autocast(student_logits.device.type, enabled=False):
        log_s = torch.log_softmax(student_logits.to(dtype) / temperature, dim=1)
        log_t = torch.log_softmax(teacher_logits.to(dtype) / temperature, dim=1)
        divergence = (log_t.exp() * (log_t - log_s)).sum(dim=1)
        return divergence.mean() * temperature**2


@register_method(
    "kd", title="KD", paper="Hinton et al., arXiv:1503.02531, 2015", gamma=0.1, beta=0.9
)
class KD(Method):
    """Match the teacher's softened class probabilities."""

    def __init__(self, setup: Setup, *, temperature: Temperature = 4.0) -> None:
        super().__init__(setup)
        self.temperature = temperature

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """See :func:`kd_loss`."""
        return kd_loss(student.logits, teacher.logits, self.temperature)
