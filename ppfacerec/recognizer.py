"""The network as the YAML names it: a backbone and, for training, a head."""

from typing import Any

import paddle
from paddle import nn

from ppfacerec.heads import HeadTraits, MarginScores, traits_of

HEAD_WEIGHT = "head.weight"
# The rows of head.weight that a step trains (sparse_update): a copy, which no file needs.
HEAD_ACTIVE_ROWS = "head.active_rows"


def set_training(layer: nn.Layer) -> None:
    """Put a layer into training mode, and let each sublayer with a ``train()`` of its own decide for itself.

    Paddle's own sets the flag of all sublayers without asking them, so that norms which a network keeps frozen move.
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
        backbone: images to embeddings.
        head: embeddings and labels to logits; None for evaluation, which has no use for it.

    Raises:
        ValueError: the two disagree on the embedding size.
    """

    def __init__(self, backbone: nn.Layer, head: nn.Layer | None = None) -> None:
        super().__init__()
        if head is not None and backbone.embedding_size != head.embedding_size:
            raise ValueError(
                f"The backbone's embeddings have {backbone.embedding_size} numbers, the head expects "
                f"{head.embedding_size}; make Arch.Head.embedding_size equal to the backbone's."
            )
        self.backbone = backbone
        self.head = head

    @property
    def traits(self) -> HeadTraits:
        """What the head can do besides scores; the defaults for a plain layer."""
        return traits_of(self.head)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, paddle.Tensor]:
        """The tensors that training resumes from, by name."""
        state = super().state_dict(*args, **kwargs)
        state.pop(HEAD_ACTIVE_ROWS, None)
        return state

    def train(self) -> None:
        set_training(self)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """Embeddings (N, D) of images (N, 3, 112, 112), not normalised."""
        return self.backbone(images)

    def scores(self, embedding: paddle.Tensor, labels: paddle.Tensor) -> MarginScores | paddle.Tensor:
        """The head's scores of embeddings (N, D) whose classes are labels (N,), for a loss."""
        assert self.head is not None, "a recognizer without head is for evaluation"
        return self.head(embedding, labels)
