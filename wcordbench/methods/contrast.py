"""What contrastive methods share: embeddings, memory banks, the NCE bound.

Everything is a matrix product between the batch's embeddings ``(B, D)`` and blocks of bank
rows ``(W, D)`` that all rows of the batch look at (:mod:`wcordbench.methods.scores`): no
``(B, negatives, D)`` tensor of gathered bank rows exists, forward or backward.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from wcordbench.errors import UserError
from wcordbench.methods.base import Method, Setup
from wcordbench.methods.negatives import Distinct, Negatives, NegativeSampler
from wcordbench.methods.scores import NoiseTerm, product_dtype

__all__ = ["Embed", "MemoryContrast", "NegativeSampler", "Negatives", "leading_singular_vectors"]


@torch.no_grad()
def leading_singular_vectors(matrix: Tensor, squarings: int = 12) -> tuple[Tensor, Tensor]:
    """Left and right singular vector of the largest singular value of ``(m, n)``.

    The Gram matrix of the smaller side is squared again and again, which takes as many
    products as an ordinary power iteration takes for two to that power steps: 4,096, after
    which uᵀ·matrix·v is below the largest singular value by less than 0.05 % even where many
    singular values lie close together.
    """
    with torch.autocast(matrix.device.type, enabled=False):
        tall = matrix.shape[0] > matrix.shape[1]
        wide = matrix.T if tall else matrix
        power = wide @ wide.T
        power = power / power.trace()
        for _ in range(squarings):
            power = power @ power
            power = power / power.trace()
        left = F.normalize(power.index_select(1, power.diagonal().argmax(0, keepdim=True)), dim=0)
        right = F.normalize(wide.T @ left, dim=0)
        left, right = left.squeeze(1), right.squeeze(1)
        return (right, left) if tall else (left, right)


def _aim_power_iteration(norm: nn.Module, args: tuple[Tensor]) -> None:
    """Start torch's spectral norm at the leading singular vectors, in either mode.

    Left alone, it takes one power iteration a training step from where the last one ended.
    An ordinary step at rate 0.05 then leaves a norm of up to 1.6 instead of 1, five
    iterations 1.1; and in evaluation mode nothing follows the last step at all.
    """
    left, right = leading_singular_vectors(args[0])
    norm.get_buffer("_u").copy_(left)
    norm.get_buffer("_v").copy_(right)


class Embed(nn.Module):
    """A linear map followed by L2 normalisation: CRD's embedding head.

    Args:
        in_features: width of the pooled features.
        out_features: D, width of the embedding.
        spectral: keep the linear map 1-Lipschitz by spectral normalisation.

    Input ``(B, in_features)`` of any floating dtype, output ``(B, D)`` of unit vectors in
    the parameters' dtype, also under autocast. A zero pre-image stays zero.
    """

    def __init__(self, in_features: int, out_features: int, *, spectral: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        if spectral:
            parametrizations.spectral_norm(self.linear)
            norm = self.linear.get_submodule("parametrizations.weight.0")
            norm.register_forward_pre_hook(_aim_power_iteration)

    def forward(self, features: Tensor) -> Tensor:
        """Embed pooled features."""
        return self._embed(features, self.linear.weight, self.linear.bias)

    def with_frozen(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding twice: as usual, and with the parameters held constant.

        Gradients of the second reach the features but not this module.
        """
        # Read once: each access of a spectrally normalised weight computes its norm.
        weight, bias = self.linear.weight, self.linear.bias
        return (
            self._embed(features, weight, bias),
            self._embed(features, weight.detach(), bias.detach()),
        )

    @staticmethod
    def _embed(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            # eps bounds the gradient where the pre-image vanishes.
            return F.normalize(F.linear(features.to(weight.dtype), weight, bias), eps=1e-6)


class _Rounded(NamedTuple):
    """A bank in another dtype, and what it is a copy of."""

    bank: Tensor
    version: int
    copy: Tensor


class MemoryContrast(Method):
    """Base of the methods that contrast with a memory bank of each network's embeddings.

    Memory bank, negatives and noise-contrastive bound are those of Tian et al.,
    "Contrastive Representation Distillation" (ICLR 2020), section 3.1 and its
    implementation details.

    Banks and normalisation constants are buffers without gradient; they change in training
    mode only, and in place.

    Args:
        setup: ``setup.labels`` decides the banks' length N and who is whose negative.
        feature_dim: D, width of the embeddings.
        negatives: k, negatives for each image.
        temperature: τ, divides the scores.
        momentum: share of the old entry in an updated bank entry.
        spectral: make the embeddings' linear maps 1-Lipschitz.

    Raises:
        UserError: see :class:`NegativeSampler`; or an option is out of range.
    """

    bank_student: Tensor
    bank_teacher: Tensor
    z: Tensor

    def __init__(
        self,
        setup: Setup,
        *,
        feature_dim: int,
        negatives: int,
        temperature: float,
        momentum: float,
        spectral: bool,
    ) -> None:
        super().__init__(setup)
        if temperature <= 0:
            raise UserError(f"temperature is {temperature}; it must be positive")
        if not 0 <= momentum < 1:
            raise UserError(f"momentum is {momentum}; it must be at least 0 and below 1")
        if feature_dim < 1:
            raise UserError(f"feature_dim is {feature_dim}; it must be at least 1")
        self.temperature = temperature
        self.momentum = momentum
        self.sampler = NegativeSampler(setup.labels, negatives)
        self.embed_student = Embed(setup.student.pooled, feature_dim, spectral=spectral)
        self.embed_teacher = Embed(setup.teacher.pooled, feature_dim, spectral=spectral)
        count = self.sampler.count
        bound = math.sqrt(3 / feature_dim)  # rows have unit length on average
        for name in ("bank_student", "bank_teacher"):
            self.register_buffer(name, torch.empty(count, feature_dim).uniform_(-bound, bound))
        # Normalisation constants of the student's and the teacher's scores; -1 = not yet set.
        self.register_buffer("z", torch.full((2,), -1.0))
        self._z_known = False
        #: by the banks' names: copies in the dtype of the products, where that is another
        self._rounded: dict[str, _Rounded] = {}

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._z_known = False

    def draw(self, indices: Tensor) -> Negatives:
        """Fresh negatives for a batch, by this method's own generator."""
        return self.sampler.draw(indices, self.generator(indices.device))

    def nce(self, student: Tensor, teacher: Tensor, indices: Tensor, drawn: Negatives) -> Tensor:
        """CRD's loss: minus its lower bound on the mutual information, up to constants.

        With p = exp(⟨anchor, bank entry⟩ / τ) / Z and noise mass c = k/N, each anchor gives
        −log(p₊ / (p₊ + c)) − Σ log(c / (p₋ + c)); summed over both sides (student anchors
        with the teacher's bank and vice versa) and averaged over the batch. Under autocast
        the products with the negatives are in its dtype, all else is in the embeddings'.

        Args:
            student, teacher: embeddings, ``(B, D)``.
            indices: the images' bank rows, ``(B,)``.
            drawn: their negatives.
        """
        dtype = product_dtype(student)
        with torch.autocast(student.device.type, enabled=False):
            z = self._constants(student, teacher, indices, drawn)
            # A device other than the CPU would have to be waited for, and has a quick softplus.
            once = student.device.type == "cpu" and isinstance(drawn, Distinct)
            loss = student.new_zeros(())
            for anchor, bank, constant in (
                (student, "bank_teacher", z[0]),
                (teacher, "bank_student", z[1]),
            ):
                loss = loss + self._side(anchor, bank, constant, indices, drawn, once, dtype)
            return loss

    def _side(
        self, anchor: Tensor, name: str, z: Tensor, indices: Tensor, drawn: Negatives,
        once: bool, dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        k, mass = self.sampler.negatives, self.sampler.negatives / self.sampler.count
        # The reference adds 1e-7 to both denominators, log(c / (c + 1e-7)) for each negative.
        noise = mass + 1e-7
        # Both terms are softplus of the log odds against noise: no overflow for any score.
        offset = (z * noise).log()
        anchor = anchor / self.temperature
        positive = (anchor * self.get_buffer(name)[indices]).sum(1) - offset
        bank = self.bank_in(name, dtype)
        negative: Tensor = NoiseTerm.apply(anchor, bank, *drawn, offset, once)
        return (F.softplus(-positive).sum() + negative) / len(anchor) + k * math.log(noise / mass)

    def bank_in(self, name: str, dtype: torch.dtype) -> Tensor:
        """A memory bank in the dtype of the products, ``(N, D)``; not to be written to.

        A copy is kept: gathering rows of half the size is several times quicker than gathering
        them as they are and converting them in every step.
        """
        bank = self.get_buffer(name)
        if bank.dtype == dtype:
            return bank
        kept = self._rounded.get(name)
        if kept is None or kept.bank is not bank or kept.version != bank._version:
            kept = self._rounded[name] = _Rounded(bank, bank._version, bank.to(dtype))
        return kept.copy

    @torch.no_grad()
    def _constants(
        self, student: Tensor, teacher: Tensor, indices: Tensor, drawn: Negatives
    ) -> Tensor:
        """Both Z, each N · mean of exp(score) over the first batch of the training."""
        if self._z_known:
            return self.z
        z = []
        for anchor, bank in ((student, self.bank_teacher), (teacher, self.bank_student)):
            anchor = anchor / self.temperature
            positive = (anchor * bank[indices]).sum(1).exp().sum()
            scores = bank.index_select(0, drawn.columns) @ anchor.T
            negative = (scores.exp_() * drawn.counts.T).sum()
            count = len(anchor) * (1 + self.sampler.negatives)
            z.append((positive + negative) / count * self.sampler.count)
        # A loaded state may hold them: that is decided on the device, which nothing waits for.
        known = torch.where(self.z > 0, self.z, torch.stack(z))
        if self.training:
            self.z.copy_(known)
            self._z_known = True
        return known

    @torch.no_grad()
    def update_banks(self, student: Tensor, teacher: Tensor, indices: Tensor) -> None:
        """Move the bank rows ``indices`` towards new embeddings ``(B, D)``, in place."""
        for name, new in (("bank_student", student), ("bank_teacher", teacher)):
            bank, kept = self.get_buffer(name), self._rounded.get(name)
            mixed = self.momentum * bank[indices] + (1 - self.momentum) * new
            mixed = F.normalize(mixed.to(bank.dtype))
            current = kept is not None and kept.bank is bank and kept.version == bank._version
            bank.index_copy_(0, indices, mixed)
            if kept is not None and current:
                kept.copy.index_copy_(0, indices, mixed.to(kept.copy.dtype))
                self._rounded[name] = kept._replace(version=bank._version)
