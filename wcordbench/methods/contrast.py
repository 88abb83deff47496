"""What contrastive methods share: embeddings, memory banks, negatives, the NCE bound.

Everything is a matrix product between the batch's embeddings ``(B, D)`` and one block of
bank rows ``(W, D)`` that all rows of the batch look at: no ``(B, negatives, D)`` tensor of
gathered bank rows exists, forward or backward.
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


class Negatives(NamedTuple):
    """Negatives of a whole batch.

    Attributes:
        columns: images that at least one row may use, ``(W,)`` int64.
        counts: how often row b uses image ``columns[w]``, ``(B, W)`` float32; every row
            sums to the number of negatives.
    """

    columns: Tensor
    counts: Tensor


class NegativeSampler(nn.Module):
    """Draws images of other classes for every image of a batch.

    CRD's protocol: k images of the other classes, uniformly without replacement, or with
    replacement for an image whose other classes hold fewer than k images.

    Each row's draw has exactly that distribution. Rows of one batch are dependent, however:
    they share one fresh random permutation of the data set, of which every row takes the
    first k images that are not of its own class. Those are a uniform k-subset of the row's
    other classes, because a uniform permutation restricted to a subset is uniform. The
    expected loss and gradient are those of independent rows, while the batch needs only
    about k bank rows in all, so that scores are one plain matrix product. Draws with
    replacement are shared likewise, between rows with equally many candidates. Draws of
    different batches are independent.

    Args:
        labels: class of every image of the data set, ``(N,)`` integers.
        negatives: k.

    Raises:
        UserError: the data has a single class, or k is not positive.
    """

    labels: Tensor
    rank: Tensor
    end: Tensor
    size: Tensor

    def __init__(self, labels: Tensor, negatives: int) -> None:
        super().__init__()
        if negatives < 1:
            raise UserError(f"negatives is {negatives}; it must be at least 1")
        labels = labels.detach().reshape(-1).long()
        size = torch.bincount(labels)
        if int((size > 0).sum()) < 2:
            raise UserError(
                "the training images are all of one class, so there are no negatives to"
                " contrast with; use data with at least two classes, or another method"
            )
        self.negatives = negatives
        self.count = labels.numel()
        self.largest = int(size.max())
        #: no class, some class, every class has fewer than k images outside it
        self._some_short = negatives > self.count - self.largest
        self._all_short = negatives > self.count - int(size[size > 0].min())
        order = torch.argsort(labels, stable=True)
        # The data set is known to whoever builds the method: not part of the state.
        self.register_buffer("labels", labels.int(), persistent=False)
        self.register_buffer("rank", torch.argsort(order), persistent=False)
        self.register_buffer("end", size.cumsum(0), persistent=False)
        self.register_buffer("size", size, persistent=False)

    def draw(self, indices: Tensor, generator: torch.Generator) -> Negatives:
        """Draw for the images ``indices``, ``(B,)`` int64, on the generator's device."""
        own = self.labels[indices]
        if self._all_short:
            columns = torch.arange(self.count, device=indices.device)
            return Negatives(columns, self._with_replacement(own, columns, generator))
        columns = torch.randperm(self.count, generator=generator, device=indices.device)
        # Among k + (size of a class) images at least k are not of that class.
        columns = columns[: self.negatives + self.largest]
        counts = self._first_others(own, columns)
        if self._some_short:
            short = self.count - self.size[own] < self.negatives
            repeated = self._with_replacement(own, columns, generator)
            counts = torch.where(short[:, None], repeated, counts)
        return Negatives(columns, counts)

    def _first_others(self, own: Tensor, columns: Tensor) -> Tensor:
        """Mark each row's first k columns of another class, ``(B, W)``."""
        head, tail = columns[: self.negatives], columns[self.negatives :]
        counts = torch.empty(len(own), len(columns), device=own.device)
        # Compared as floats because that writes floats without a boolean in between.
        torch.ne(self.labels[columns].float(), own[:, None].float(), out=counts)
        # Counting along the short tail only: a cumulative sum over all columns is slow.
        missing = self.negatives - counts[:, : len(head)].sum(1, keepdim=True)
        other = self.labels[tail] != own[:, None]
        counts[:, len(head) :] = other & (other.cumsum(1) <= missing)
        return counts

    def _with_replacement(self, own: Tensor, columns: Tensor, generator: torch.Generator) -> Tensor:
        """How often k draws with replacement hit each column, ``(B, N)``."""
        size, end = self.size[own, None], self.end[own, None]
        others, group = torch.unique(self.count - size.squeeze(1), return_inverse=True)
        # 62 random bits: the remainder's deviation from uniform is below 1e-12.
        draws = torch.randint(
            1 << 62, (len(others), self.negatives), generator=generator, device=own.device
        )
        draws = draws.remainder_(others[:, None])
        tally = torch.zeros(len(others), self.count, device=own.device)
        tally.scatter_add_(1, draws, torch.ones_like(draws, dtype=tally.dtype))
        # Candidate number r of a row is the r-th image by class, its own class left out.
        rank = self.rank[columns]
        after = rank >= end
        is_own = ~after & (rank >= end - size)
        candidate = torch.where(is_own, 0, rank - size * after)
        return tally[group].gather(1, candidate).masked_fill_(is_own, 0.0)


class _NoiseTerm(torch.autograd.Function):
    """Σ counts · softplus(anchor · bank[columns]ᵀ − offset), differentiable by the anchor.

    The gradient is computed along with the value, one block of columns after another: a block
    stays in the processor's cache, and no ``(B, W)`` intermediate waits for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, bank: Tensor, columns: Tensor, counts: Tensor, offset: Tensor
    ) -> Tensor:
        total, gradient = anchor.new_zeros(()), torch.zeros_like(anchor)
        block = 1024 if anchor.device.type == "cpu" else max(1024, (1 << 24) // len(anchor))
        for some, weight in zip(
            torch.split(columns, block), torch.split(counts, block, dim=1), strict=True
        ):
            # Advanced indexing is several times slower than index_select on a CPU.
            entries, weight = bank.index_select(0, some), weight.to(anchor.dtype)
            odds = torch.addmm(-offset.reshape(1), anchor, entries.T)
            total += F.softplus(odds).mul_(weight).sum()
            if ctx.needs_input_grad[0]:
                gradient.addmm_(odds.sigmoid_().mul_(weight), entries)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None, None


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
        with the teacher's bank and vice versa) and averaged over the batch.

        Args:
            student, teacher: embeddings, ``(B, D)``.
            indices: the images' bank rows, ``(B,)``.
            drawn: their negatives.
        """
        z = self._constants(student, teacher, indices, drawn)
        loss = self._side(student, self.bank_teacher, z[0], indices, drawn)
        return loss + self._side(teacher, self.bank_student, z[1], indices, drawn)

    def _side(
        self, anchor: Tensor, bank: Tensor, z: Tensor, indices: Tensor, drawn: Negatives
    ) -> Tensor:
        k, mass = self.sampler.negatives, self.sampler.negatives / self.sampler.count
        # The reference adds 1e-7 to both denominators, log(c / (c + 1e-7)) for each negative.
        noise = mass + 1e-7
        # Both terms are softplus of the log odds against noise: no overflow for any score.
        offset = (z * noise).log()
        anchor = anchor / self.temperature
        positive = (anchor * bank[indices]).sum(1) - offset
        negative: Tensor = _NoiseTerm.apply(anchor, bank, drawn.columns, drawn.counts, offset)
        return (F.softplus(-positive).sum() + negative) / len(anchor) + k * math.log(noise / mass)

    @torch.no_grad()
    def _constants(
        self, student: Tensor, teacher: Tensor, indices: Tensor, drawn: Negatives
    ) -> Tensor:
        """Both Z, each N · mean of exp(score) over the first batch of the training."""
        # Asked of the device once, not in every step.
        self._z_known = self._z_known or bool((self.z > 0).all())
        if self._z_known:
            return self.z
        z = []
        for anchor, bank in ((student, self.bank_teacher), (teacher, self.bank_student)):
            anchor = anchor / self.temperature
            positive = (anchor * bank[indices]).sum(1).exp().sum()
            scores = anchor @ bank.index_select(0, drawn.columns).T
            negative = (scores.exp_() * drawn.counts).sum()
            count = len(anchor) * (1 + self.sampler.negatives)
            z.append((positive + negative) / count * self.sampler.count)
        if self.training:
            self.z.copy_(torch.stack(z))
        return torch.stack(z)

    @torch.no_grad()
    def update_banks(self, student: Tensor, teacher: Tensor, indices: Tensor) -> None:
        """Move the bank rows ``indices`` towards new embeddings ``(B, D)``, in place."""
        for bank, new in ((self.bank_student, student), (self.bank_teacher, teacher)):
            mixed = self.momentum * bank[indices] + (1 - self.momentum) * new
            bank.index_copy_(0, indices, F.normalize(mixed.to(bank.dtype)))
