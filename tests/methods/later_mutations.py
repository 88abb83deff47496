"""Typical mistakes in the later methods, each a change of one passage of their source.

A mutation is a file of ``wcordbench/methods``, a passage that stands in it exactly once, what
is written in its place, and the golden files that must notice.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

import wcordbench.methods

FOLDER = Path(wcordbench.methods.__file__).parent


class Mutation(NamedTuple):
    """One mistake.

    Attributes:
        file: of ``wcordbench/methods``, without ``.py``.
        what: the mistake in words.
        old: the passage.
        new: in its place.
        cases: the keys of the golden files that must fail, separated by spaces.
    """

    file: str
    what: str
    old: str
    new: str
    cases: str

    def source(self) -> str:
        """The file's text with the mistake in it."""
        text = (FOLDER / f"{self.file}.py").read_text(encoding="utf-8")
        assert text.count(self.old) == 1, f"{self.what}: {text.count(self.old)} such passages"
        return text.replace(self.old, self.new)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self.text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.text, self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutation: Mutation) -> None:
        self.name = f"wcordbench.methods.{mutation.file}"
        path = str(FOLDER / f"{mutation.file}.py")
        self.loader = _Loader(self.name, path, mutation.source())

    def find_spec(
        self, fullname: str, path: object, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_loader(fullname, self.loader)


@contextlib.contextmanager
def in_place(mutation: Mutation) -> Iterator[None]:
    """Within it, methods are imported anew and with the mistake; after it, all is as before."""
    kept = ("wcordbench.methods.base",)
    before = {
        name: module
        for name, module in sys.modules.items()
        if name.startswith("wcordbench.methods.") and name not in kept
    }
    finder = _Finder(mutation)
    for name in before:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in list(sys.modules):
            if name.startswith("wcordbench.methods.") and name not in kept:
                del sys.modules[name]
        sys.modules.update(before)


LOGITS = [
    Mutation(
        "logits", "the divergence's sides swapped",
        "return (log_t.exp() * (log_t - log_s)).sum(1)",
        "return (log_s.exp() * (log_s - log_t)).sum(1)",
        "kd_ls ctkd ctkd_ls ttm wttm mlkd mlkd_ls",
    ),
    Mutation(
        "logits", "a mean over classes in place of the sum",
        "return (log_t.exp() * (log_t - log_s)).sum(1)",
        "return (log_t.exp() * (log_t - log_s)).mean(1)",
        "kd_ls ctkd ctkd_ls ttm wttm mlkd mlkd_ls",
    ),
    Mutation(
        "logits", "a biased deviation",
        "logits.std(1, keepdim=True)", "logits.std(1, keepdim=True, correction=0)",
        "kd_ls dkd_ls ctkd_ls mlkd_ls",
    ),
    Mutation(
        "logits", "no gradient through the deviation",
        "logits.std(1, keepdim=True)", "logits.std(1, keepdim=True).detach()",
        "kd_ls dkd_ls ctkd_ls",
    ),
    Mutation(
        "logits", "the deviation of the whole batch",
        "logits.std(1, keepdim=True)", "logits.std()",
        "kd_ls dkd_ls ctkd_ls",
    ),
    Mutation(
        "logits", "the two-valued divergence's sides swapped",
        "(t.exp() * (t - s) for", "(s.exp() * (s - t) for",
        "dkd dkd_ls rld",
    ),
    Mutation(
        "logits", "only the true class's part of the two-valued divergence",
        "for s, t in zip(log_s, log_t, strict=True)", "for s, t in [(log_s[0], log_t[0])]",
        "dkd dkd_ls rld",
    ),
    Mutation(
        "logits", "the others' divergence with its sides swapped",
        "(log_t.exp() * (log_t - log_s).masked_fill", "(log_s.exp() * (log_s - log_t).masked_fill",
        "dkd dkd_ls rld",
    ),
    Mutation(
        "logits", "no class left out",
        "x.masked_fill(left_out, -math.inf)", "x",
        "dkd dkd_ls rld",
    ),
    Mutation(
        "logits", "DKD without a temperature",
        "s, t = student / temperature, teacher / temperature", "s, t = student, teacher",
        "dkd dkd_ls",
    ),
    Mutation("dkd", "T squared missing", ".mean() * temperature**2", ".mean()", "dkd dkd_ls"),
    Mutation(
        "dkd", "the weights exchanged",
        "tckd * target + nckd * others", "nckd * target + tckd * others", "dkd dkd_ls",
    ),
    Mutation(
        "dkd", "the sum over the batch", "+ nckd * others).mean()", "+ nckd * others).sum()",
        "dkd dkd_ls",
    ),
    Mutation(
        "standardised", "T squared missing",
        "return rows.mean() * self.temperature**2", "return rows.mean()", "kd_ls",
    ),
    Mutation(
        "standardised", "the teacher not standardised",
        "standardise(exact(x), self.epsilon)\n                for x in (student.logits, teacher",
        "standardise(exact(x), self.epsilon) if x is student.logits else exact(x)\n"
        "                for x in (student.logits, teacher",
        "kd_ls dkd_ls ctkd_ls",
    ),
    Mutation(
        "dist", "T squared missing",
        "self.intra * intra) * self.temperature**2", "self.intra * intra)", "dist",
    ),
    Mutation(
        "dist", "the cosine in place of Pearson's correlation",
        "a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)\n", "pass\n", "dist",
    ),
    Mutation(
        "dist", "no correlation over the batch",
        "self.inter * inter + self.intra * intra", "self.inter * inter", "dist",
    ),
    Mutation(
        "dist", "the classes' correlations summed",
        "correlation(q.mT, p.mT, self.epsilon).mean()",
        "correlation(q.mT, p.mT, self.epsilon).sum()", "dist",
    ),
    Mutation("dist", "logits in place of probabilities",
        "torch.softmax(exact(x) / self.temperature, 1)", "exact(x) / self.temperature", "dist",
    ),
    Mutation(
        "ctkd", "the gradient not reversed",
        "return -(1 - math.cos", "return (1 - math.cos", "ctkd ctkd_ls",
    ),
    Mutation(
        "ctkd", "the gradient of the reversal left out",
        "held + self.reversal(epoch) * (theta - held)", "theta", "ctkd ctkd_ls",
    ),
    Mutation(
        "ctkd", "epochs counted from 0",
        "min(epoch, self.epochs) / self.epochs", "min(epoch - 1, self.epochs) / self.epochs",
        "ctkd ctkd_ls",
    ),
    Mutation(
        "ctkd", "the teacher's softmax held constant",
        "teacher / temperature)\n", "teacher / temperature.detach())\n", "ctkd ctkd_ls",
    ),
    Mutation(
        "ctkd", "T squared held constant",
        "temperature.square()", "temperature.detach().square()", "ctkd ctkd_ls",
    ),
    Mutation(
        "ctkd", "T squared missing",
        "(rows * temperature.square()).mean()", "rows.mean()", "ctkd ctkd_ls",
    ),
    Mutation(
        "ctkd", "the student's gradient reversed with it",
        "rows = divergence(student / temperature",
        "rows = divergence((2 * student.detach() - student) / temperature", "ctkd ctkd_ls",
    ),
    Mutation(
        "ttm", "the student at the teacher's temperature",
        "divergence(s, exponent * t)", "divergence(exponent * s, exponent * t)", "ttm wttm",
    ),
    Mutation(
        "ttm", "T squared as a factor",
        "divergence(s, exponent * t)", "divergence(s, exponent * t) / exponent**2", "ttm wttm",
    ),
    Mutation("ttm", "the weights normalised",
        "return rows.mean()",
        "return rows.sum() / torch.logsumexp(exponent * torch.log_softmax(t, 1), 1).exp().sum()",
        "wttm",
    ),
    Mutation(
        "ttm", "the power sum of logits",
        "exponent * torch.log_softmax(t, 1), 1).exp() * rows", "exponent * t, 1).exp() * rows",
        "wttm",
    ),
    Mutation(
        "rld", "the teacher's true class in place of its top one",
        "is_class(t, t.argmax(1))", "is_class(t, labels)", "rld",
    ),
    Mutation(
        "rld", "the student's top class in place of the true one",
        "log_share(s, is_class(s, labels))", "log_share(s, is_class(s, s.argmax(1)))", "rld",
    ),
    Mutation(
        "rld", "the true class not left out",
        "above = teacher >= bound", "above = teacher > bound", "rld",
    ),
    Mutation(
        "rld", "the classes above kept",
        "above = teacher >= bound", "above = teacher <= bound", "rld",
    ),
    Mutation(
        "rld", "an image without classes below counted in full",
        "return rows.masked_fill(none, 0.0)", "return rows", "rld",
    ),
    Mutation(
        "rld", "the mean over images that have classes below",
        "return rows.masked_fill(none, 0.0)",
        "return rows.masked_fill(none, 0.0) * len(none) / (~none).sum()", "rld",
    ),
    Mutation(
        "rld", "T squared missing", "self.mcd * scale * ranking", "self.mcd * ranking", "rld",
    ),
    Mutation(
        "rld", "one temperature for both parts",
        "batch.labels, self.confidence_temperature)", "batch.labels, self.temperature)", "rld",
    ),
]  # fmt: skip

TRANSPORT = [
    Mutation(
        "wkd_l", "the plan held constant",
        "return ((u @ (kernel * cost)) * v).sum(1)",
        "return ((u.detach() @ (kernel * cost)) * v.detach()).sum(1)", "wkd_l",
    ),
    Mutation(
        "wkd_l", "one iteration fewer", "in range(iterations)", "in range(iterations - 1)", "wkd_l",
    ),
    Mutation(
        "wkd_l", "the regularised cost, with the plan's entropy left in",
        "kernel * cost)) * v", "kernel)) * v", "wkd_l",
    ),
    Mutation(
        "wkd_l", "the true class takes part",
        "(x / self.temperature).masked_fill(true, -math.inf)", "(x / self.temperature)", "wkd_l",
    ),
    Mutation(
        "wkd_l", "the others not renormalised",
        "torch.softmax((x / self.temperature).masked_fill(true, -math.inf), 1)",
        "torch.softmax(x / self.temperature, 1).masked_fill(true, 0.0)", "wkd_l",
    ),
    Mutation(
        "wkd_l", "the target not weighted by the teacher",
        "torch.softmax(t, 1) * torch.log_softmax(s, 1)", "torch.log_softmax(s, 1)", "wkd_l",
    ),
    Mutation(
        "wkd_l", "the target at the transport's temperature",
        "torch.log_softmax(s, 1)", "torch.log_softmax(s / self.temperature, 1)", "wkd_l",
    ),
    Mutation("wkd_l", "uncentred features", "own - own.mean(0)", "own", "wkd_l"),
    Mutation(
        "wkd_l", "the norm in place of its square in CKA",
        ".square().sum((1, 2))", ".square().sum((1, 2)).sqrt()", "wkd_l",
    ),
    Mutation(
        "wkd_l", "similarity in place of distance",
        "distances = 1 - torch.where", "distances = torch.where", "wkd_l",
    ),
    Mutation(
        "wkd_l", "marginals exchanged",
        "sinkhorn(a, b, true", "sinkhorn(b, a, true", "wkd_l",
    ),
]  # fmt: skip

LEVELS = [
    Mutation(
        "mlkd", "masks by image in the divergence",
        "return rows.mean() * temperature**2",
        "p = torch.softmax(teacher, 1).amax(1)\n"
        "    return (rows * (p <= p.median())).mean() * temperature**2",
        "mlkd mlkd_ls",
    ),
    Mutation(
        "mlkd", "all temperatures on the strong view, as in the paper",
        "softened(s_strong, t_strong, tau) for tau in both",
        "softened(s_strong, t_strong, tau) for tau in (*both, *weak)", "mlkd mlkd_ls",
    ),
    Mutation(
        "mlkd", "the weak view's own terms left out",
        "kd = kd + _total([of_weak[tau] for tau in weak])\n", "pass\n", "mlkd mlkd_ls",
    ),
    Mutation(
        "mlkd", "no share of images", "kd = images * _total", "kd = _total", "mlkd mlkd_ls",
    ),
    Mutation(
        "mlkd", "Gram matrices averaged over all elements",
        ".square().sum() / classes", ".square().mean()", "mlkd mlkd_ls",
    ),
    Mutation(
        "mlkd", "Gram matrices of standardised logits",
        "gram_distances(student, teacher, tau)", "gram_distances(s, t, tau)", "mlkd_ls",
    ),
    Mutation("mlkd", "T squared missing", "rows.mean() * temperature**2", "rows.mean()",
        "mlkd mlkd_ls"),
]  # fmt: skip

MAPS = [
    Mutation(
        "itrd", "a biased deviation",
        "correction=min(1, len(x) - 1)", "correction=0", "itrd",
    ),
    Mutation("itrd", "the natural logarithm", "torch.log2(", "torch.log(", "itrd"),
    Mutation("itrd", "the power not doubled", "** (2 * power)", "** power", "itrd"),
    Mutation(
        "itrd", "the embedding in place of the student's own vector",
        "own = student.float() if student.shape == teacher.shape else e", "own = e", "itrd",
    ),
    Mutation(
        "itrd", "the entropies exchanged",
        "return _normalised(own).square().sum() - _normalised(joint).square().sum()",
        "return _normalised(joint).square().sum() - _normalised(own).square().sum()", "itrd",
    ),
    Mutation(
        "itrd", "rows not of unit length",
        "F.normalize(student, dim=1), F.normalize(teacher, dim=1)", "student, teacher", "itrd",
    ),
    Mutation(
        "itrd", "the teacher's Gram matrix alone as the joint one",
        "joint = own * (v @ v.mT)", "joint = v @ v.mT", "itrd",
    ),
    Mutation("srrl", "no error of the logits", "return feature + logit", "return feature", "srrl"),
    Mutation("srrl", "no ReLU", "nn.ReLU(inplace=True),", "nn.Identity(),", "srrl"),
    Mutation(
        "srrl", "the sum over features",
        "F.mse_loss(connected.float(), teacher.pooled.detach().float())",
        "F.mse_loss(connected.float(), teacher.pooled.detach().float(), reduction='sum')", "srrl",
    ),
    Mutation(
        "srrl", "the classifier sees the features without gradient",
        "classifier(connected)", "classifier(connected.detach())", "srrl",
    ),
    Mutation(
        "wkd_f", "a biased variance",
        "dim=(3, 5))", "dim=(3, 5), correction=0)", "wkd_f",
    ),
    Mutation(
        "wkd_f", "variances in place of deviations",
        "return mean, (variance + epsilon).sqrt()", "return mean, variance + epsilon", "wkd_f",
    ),
    Mutation(
        "wkd_f", "the ratio on the deviations",
        "self.mean_ratio * means + deviations", "means + self.mean_ratio * deviations", "wkd_f",
    ),
    Mutation(
        "wkd_f", "a mean over channels",
        "count = len(target) * self.grid**2", "count = mean_t.numel()", "wkd_f",
    ),
    Mutation("wkd_f", "no ReLU", "relu=True, bias=True", "relu=False, bias=True", "wkd_f"),
    Mutation(
        "reviewkd", "the teacher after its ReLU",
        "*reversed(teacher.stages_preact)",
        "*(x.relu() for x in reversed(teacher.stages_preact))", "reviewkd",
    ),
    Mutation("reviewkd", "levels weighed alike", "weight /= 2", "weight = 1.0", "reviewkd"),
    Mutation(
        "reviewkd", "the weights by size in place of order",
        "weight /= 2", "weight = {4: 0.5, 2: 0.25, 1: 0.125}[side]", "reviewkd",
    ),
    Mutation(
        "reviewkd", "not divided by the weights' sum", "return loss / total", "return loss",
        "reviewkd",
    ),
    Mutation(
        "reviewkd", "a bilinear resize",
        'F.interpolate(deeper, student.shape[2:], mode="nearest")',
        'F.interpolate(deeper, student.shape[2:], mode="bilinear")', "reviewkd",
    ),
    Mutation(
        "reviewkd", "the attention's maps exchanged",
        "a * fused + b * resized", "b * fused + a * resized", "reviewkd",
    ),
    Mutation(
        "reviewkd", "no fusion", "fused = a * fused + b * resized", "pass", "reviewkd",
    ),
    Mutation(
        "reviewkd", "the output, not the fusion, goes on",
        "return self.out(fused), fused", "return self.out(fused), self.reduce(student)",
        "reviewkd",
    ),
    Mutation(
        "semckd", "no attention",
        "return torch.softmax(queries @ keys.mT / self.scale, 2)",
        "return 0 * (queries @ keys.mT) + 1 / keys.shape[1]", "semckd",
    ),
    Mutation(
        "semckd", "attention over the student's stages",
        "/ self.scale, 2)", "/ self.scale, 1)", "semckd",
    ),
    Mutation(
        "semckd", "queries and keys not of unit length",
        "F.normalize(embed(similarity(x.float())), dim=1)", "embed(similarity(x.float()))",
        "semckd",
    ),
    Mutation(
        "semckd", "the mean over pairs of stages",
        "(images * len(errors))", "(images * len(errors) * attention.shape[2])", "semckd",
    ),
    Mutation(
        "semckd", "the attention held constant",
        "attention = self.attention(student, teacher)",
        "attention = self.attention(student, teacher).detach()", "semckd",
    ),
]  # fmt: skip

CLASSIFIED = [
    Mutation(
        "catkd", "the sum over positions",
        "return F.mse_loss(s, t)", "return F.mse_loss(s, t) * s.shape[2]", "catkd",
    ),
    Mutation(
        "catkd", "no gradient into the classifier", "classifier.weight,",
        "classifier.weight.detach(),", "catkd",
    ),
    Mutation(
        "catkd", "no pooling of maps", "pool_to(features, (resolution, resolution))",
        "pool_to(features, (1, 1))", "catkd",
    ),
    Mutation(
        "catkd", "always normalised", "if self.normalise:", "if True:", "catkd",
    ),
    Mutation(
        "sdd", "complementary by predicted class, as in the paper",
        "right != (whole.argmax(2) == labels)", "t.argmax(2) != whole.argmax(2)",
        "sdd_kd sdd_dkd sdd_nkd",
    ),
    Mutation(
        "sdd", "cells weighed alike",
        "weights = torch.where(found.complementary.flatten(), self.complementary, 1.0)",
        "weights = 1.0", "sdd_kd sdd_dkd sdd_nkd",
    ),
    Mutation(
        "sdd", "the sum not divided by cells",
        "return (weights * rows).mean()",
        "return (weights * rows).mean() * len(found.labels)", "sdd_kd sdd_dkd sdd_nkd",
    ),
    Mutation(
        "sdd", "labels repeated by image in place of cell",
        "labels.expand(right.shape)",
        "labels.repeat_interleave(len(right)).view(right.shape)", "sdd_dkd sdd_nkd",
    ),
    Mutation(
        "sdd", "the student's classifier held constant",
        "classifiers[0](cells(student", "classifiers[0].requires_grad_(False)(cells(student",
        "sdd_kd sdd_dkd sdd_nkd",
    ),
    Mutation(
        "sdd", "the true class left out of the second term, as in the paper",
        "cross = (p * F.log_softmax(student / self.temperature, 1)).sum(1)",
        "cross = (p * F.log_softmax(student / self.temperature, 1) * ~true).sum(1)", "sdd_nkd",
    ),
    Mutation(
        "sdd", "T squared missing in KD", "return of * self.temperature**2", "return of", "sdd_kd",
    ),
    Mutation(
        "sdd", "T squared missing in NKD",
        "- self.soft * self.temperature**2 * cross", "- self.soft * cross", "sdd_nkd",
    ),
    Mutation(
        "ofd", "the margin zero", "torch.maximum(teacher, margins[:, None, None])",
        "teacher.clamp_min(0)", "ofd",
    ),
    Mutation(
        "ofd", "no margin", "torch.maximum(teacher, margins[:, None, None])", "teacher", "ofd",
    ),
    Mutation(
        "ofd", "the whole error counts", "(target > 0) | (student > target)",
        "torch.ones_like(target, dtype=torch.bool)", "ofd",
    ),
    Mutation(
        "ofd", "no error where the target is negative", "(target > 0) | (student > target)",
        "target > 0", "ofd",
    ),
    Mutation("ofd", "stages weighed alike", "loss / 2 ** (self.count - 1 - i)", "loss", "ofd"),
    Mutation(
        "ofd", "stages weighed from the first", "2 ** (self.count - 1 - i)", "2**i", "ofd",
    ),
    Mutation("ofd", "the mean over the map", ".sum() / len(student)", ".mean()", "ofd"),
    Mutation(
        "ofd", "the scale's sign kept", "weight.double().abs()", "weight.double()", "ofd",
    ),
]  # fmt: skip

ADAPTED = [
    Mutation(
        "simkd", "the maps' gradient into the projector doubled",
        "F.mse_loss(s.float(), t.float())", "2 * F.mse_loss(s.float(), t.float())", "simkd",
    ),
    Mutation(
        "simkd", "no ReLU at the end", "return nn.Sequential(*layers)",
        "return nn.Sequential(*layers[:-1])", "simkd",
    ),
    Mutation(
        "simkd", "the sum over channels",
        "F.mse_loss(s.float(), t.float())",
        "(s.float() - t.float()).square().sum(1).mean()", "simkd",
    ),
    Mutation(
        "simkd", "the largest position in place of the mean", "projection.mean((2, 3))",
        "projection.amax((2, 3))", "simkd",
    ),
    Mutation(
        "norm", "the mean over copies",
        "for copy in copies]).sum()", "for copy in copies]).mean()", "norm",
    ),
    Mutation(
        "norm", "an average in place of the maximum pool",
        "F.max_pool2d(target.float(), ratio)", "F.avg_pool2d(target.float(), ratio)", "norm_x",
    ),
    Mutation(
        "norm", "no map of the student's own",
        "student.last_map + self.contract(expansion)", "self.contract(expansion)", "norm",
    ),
    Mutation(
        "norm", "the copies interleaved",
        "student.expansion.float().chunk(self.copies, 1)",
        "student.expansion.float().unflatten(1, (-1, self.copies)).unbind(2)", "norm",
    ),
]  # fmt: skip

MUTATIONS = [*LOGITS, *TRANSPORT, *LEVELS, *MAPS, *CLASSIFIED, *ADAPTED]
