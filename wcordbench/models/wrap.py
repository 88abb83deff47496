"""Any network of a user's own as one that gives :class:`Features`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from wcordbench.errors import UserError
from wcordbench.models.features import Features
from wcordbench.registry import nearest


class WithFeatures(nn.Module):
    """A network whose intermediate values are read by torchvision's feature extractor.

    The network itself is not changed and shares its weights with the wrapper. The maps before a
    stage's last ReLU (AB's tap) are not to be had in general: ``stages_preact`` are the same
    tensors as ``stages``.

    Args:
        network: any module that torch.fx can trace.
        stem: the node of the first layers' output, as
            ``torchvision.models.feature_extraction.get_graph_node_names`` calls it.
        stages: the node of each stage's output.
        pooled: the node of the vector before the classifier.
        logits: the node of the classifier's output.
        last_map: the node of the map before the pooling that gives ``pooled``, for methods that
            need it.
        classifier: the name of the layer from ``pooled`` to ``logits``, as
            ``network.named_modules()`` has it, for methods that need it.

    Raises:
        UserError: the network cannot be traced or has no such node or layer.
    """

    #: methods that need the maps before the last ReLU ask
    shows_preact = False

    def __init__(
        self,
        network: nn.Module,
        stem: str,
        stages: Sequence[str],
        pooled: str,
        logits: str,
        last_map: str | None = None,
        classifier: str | None = None,
    ) -> None:
        super().__init__()
        from torchvision.models.feature_extraction import create_feature_extractor

        self.stages, self.last_map = list(stages), last_map
        nodes = [stem, *self.stages, pooled, logits, *([last_map] if last_map else [])]
        self.nodes = {"stem": stem, "pooled": pooled, "logits": logits}
        layers = [name for name, _ in network.named_modules() if name]
        if classifier is not None and classifier not in layers:
            hint = nearest(classifier, layers)
            raise UserError(f"{type(network).__name__} has no layer {classifier!r}{hint}")
        self.classifier = classifier
        try:
            self.network = create_feature_extractor(network, {node: node for node in nodes})
        except Exception as error:  # torch.fx raises many kinds
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"no features of {type(network).__name__}: {reason}") from error

    def forward(self, x: Tensor) -> Features:
        """Features of ``(B, C, H, W)`` images."""
        found = self.network(x)
        stem, pooled, logits = (found[self.nodes[key]] for key in ("stem", "pooled", "logits"))
        stages = tuple(found[node] for node in self.stages)
        last = None if self.last_map is None else found[self.last_map]
        return Features(stem, stages, stages, pooled, logits, last)

    def get_classifier(self) -> nn.Module | None:
        """The layer from ``pooled`` to ``logits``, if it was named."""
        if self.classifier is None:
            return None
        found: nn.Module = self.network.get_submodule(self.classifier)
        return found
