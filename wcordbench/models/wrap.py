"""Any network of a user's own as one that gives :class:`Features`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from wcordbench.errors import UserError
from wcordbench.models.features import Features


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

    Raises:
        UserError: the network cannot be traced or has no such node.
    """

    def __init__(
        self, network: nn.Module, stem: str, stages: Sequence[str], pooled: str, logits: str
    ) -> None:
        super().__init__()
        from torchvision.models.feature_extraction import create_feature_extractor

        self.stages = list(stages)
        nodes = {stem: "stem", pooled: "pooled", logits: "logits"}
        nodes |= {node: f"stage{i}" for i, node in enumerate(self.stages)}
        try:
            self.network = create_feature_extractor(network, nodes)
        except Exception as error:  # torch.fx raises many kinds
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"no features of {type(network).__name__}: {reason}") from error

    def forward(self, x: Tensor) -> Features:
        """Features of ``(B, C, H, W)`` images."""
        found = self.network(x)
        stages = tuple(found[f"stage{i}"] for i in range(len(self.stages)))
        return Features(found["stem"], stages, stages, found["pooled"], found["logits"])
