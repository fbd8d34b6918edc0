"""The network: a backbone and, for training, a head."""

from typing import Any

import paddle
from paddle import nn

from ppfacerec.heads import HeadTraits, MarginScores, traits_of

HEAD_WEIGHT = "head.weight"
# The rows of head.weight that a step trains (sparse_update): a copy that is not saved.
HEAD_ACTIVE_ROWS = "head.active_rows"


def set_training(layer: nn.Layer) -> None:
    """Put a layer into training mode through the ``train()`` of each sublayer that overrides it.

    Paddle's own sets the flag of all sublayers directly and would unfreeze norms that a network keeps frozen.
    """
    if type(layer).train not in (nn.Layer.train, FaceRecognizer.train):
        layer.train()
        return
    nn.Layer.train(layer)
    for child in layer.children():
        set_training(child)


class FaceRecognizer(nn.Layer):
    """Backbone and head (`RecModel` in PaddleClas's YAML); state-dict keys ``backbone.*`` and ``head.weight``.

    Args:
        backbone: maps images to embeddings.
        head: maps embeddings and labels to logits; None for evaluation, which does not need it.

    Raises:
        ValueError: the backbone has no embedding size, or the two disagree on it.
    """

    def __init__(self, backbone: nn.Layer, head: nn.Layer | None = None) -> None:
        super().__init__()
        if not isinstance(getattr(backbone, "embedding_size", None), int):
            raise ValueError(f"{type(backbone).__name__} needs an int attribute embedding_size (CONTRIBUTING.md).")
        if head is not None and backbone.embedding_size != head.embedding_size:
            raise ValueError(
                f"The backbone's embeddings have {backbone.embedding_size} numbers, the head expects "
                f"{head.embedding_size}; make Arch.Head.embedding_size equal to the backbone's."
            )
        self.backbone = backbone
        self.head = head

    @property
    def traits(self) -> HeadTraits:
        """What the head supports besides scores; the defaults for a plain layer."""
        return traits_of(self.head)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, paddle.Tensor]:
        """Return the tensors that training resumes from, by name."""
        state = super().state_dict(*args, **kwargs)
        state.pop(HEAD_ACTIVE_ROWS, None)
        return state

    def train(self) -> None:
        set_training(self)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """Embeddings (N, D) of images (N, 3, 112, 112), not normalised."""
        return self.backbone(images)

    def scores(self, embedding: paddle.Tensor, labels: paddle.Tensor) -> MarginScores | paddle.Tensor:
        """Return the head's scores of embeddings (N, D) with labels (N,), for a loss."""
        assert self.head is not None, "a recognizer without head is for evaluation"
        shape, size = list(embedding.shape), self.backbone.embedding_size
        if shape[1:] != [size]:
            raise ValueError(f"{type(self.backbone).__name__} returned the shape {shape}, expected [N, {size}].")
        return self.head(embedding, labels)
