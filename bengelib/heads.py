"""Heads that turn features into the outputs of a task, and the network that joins an encoder to its heads."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from bengelib.transforms import Batch


class ClassificationHead(nn.Linear):
    """Logits (B, len(classes)) from features (B, feature_dim), for single-label and multi-label classification.

    Attributes:
        classes: the name of each output, in order.
    """

    def __init__(self, feature_dim: int, classes: Sequence[str]) -> None:
        """One linear layer."""
        super().__init__(feature_dim, len(classes))
        self.classes = tuple(classes)


class Network(nn.Module):
    """An encoder and one head a target: takes a dict batch, returns a dict of outputs keyed by target.

    Attributes:
        inputs: what the encoder reads, modality to band names.
        outputs: what the heads answer, target to class names.
    """

    def __init__(self, encoder: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        """Join `encoder` (with `inputs` and `feature_dim`, see `bengelib.fusion`) to `heads`, keyed by target."""
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)
        self.inputs: dict[str, tuple[str, ...]] = dict(getattr(encoder, "inputs", {}))
        self.outputs = {target: tuple(getattr(head, "classes", ())) for target, head in heads.items()}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Outputs of every head, each with the batch as its first dimension."""
        features = self.encoder(batch)  # (B, F)
        return {target: head(features) for target, head in self.heads.items()}


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
