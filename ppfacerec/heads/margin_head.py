"""Base classifier over identities: cosines to the class centres, with a margin on the target cosine."""

import math
from collections.abc import Callable

import numpy as np
import paddle
from paddle import nn

from ppfacerec.core import distributed
from ppfacerec.core.log import logger
from ppfacerec.core.ranges import require_ranges
from ppfacerec.heads.margin_softmax import Classes, Transform, normalize, target_cosines
from ppfacerec.heads.margins import filtered_negatives
from ppfacerec.heads.options import DEFAULT_OPTIONS, HeadOptions
from ppfacerec.heads.sampling import ActiveRows, rows_of, sample_classes
from ppfacerec.heads.scores import MarginScores
from ppfacerec.heads.sharding import ClassShard
from ppfacerec.heads.traits import ClassRows, HeadTraits

# Below this, all-reducing the gradient of the whole weight is cheap, and keeping all classes everywhere is simpler.
PARALLEL_FROM = 10_000
# Cosines per chunk: 1 MiB, which fits a core's cache, or enough to keep a GPU busy.
CPU_CHUNK, GPU_CHUNK = 1 << 18, 1 << 24
_INITIAL_BLOCK = 1024  # classes initialised from one random generator


class MarginHead(HeadTraits, nn.Layer):
    """Base class of the heads: holds the class centres and selects those that a step needs; override `margin`.

    The centres are the rows of `weight` (classes x sub-centres, D); ``ClassRows`` describes their layout in files.

    Args:
        embedding_size: D, length of an embedding.
        class_num: C, number of identities.
        scale: s, factor on all cosines.
        options: see ``HeadOptions``; subclasses decorated with ``with_head_options`` accept its fields instead.

    Raises:
        ValueError: a size below 1, a scale that is not positive, or an option out of range.
    """

    class_num: int
    class_rows: ClassRows
    largest_cosine = 1.0  # upper bound of what `negatives` returns

    def __init__(
        self, embedding_size: int, class_num: int, scale: float = 64.0, options: HeadOptions = DEFAULT_OPTIONS
    ) -> None:
        super().__init__()
        require_ranges(embedding_size=embedding_size, class_num=class_num, scale=scale)
        self.embedding_size, self.class_num, self.scale = embedding_size, class_num, float(scale)
        self.num_sub_centers, self.sample_rate = options.num_sub_centers, options.sample_rate
        self.matmul_dtype: str | None = None
        self._chunk_size, self._threshold = options.chunk_size, options.interclass_filtering_threshold
        parallel = options.class_parallel
        if parallel is None:
            parallel = class_num >= PARALLEL_FROM
        self.shard = ClassShard(class_num)
        if parallel and 1 < distributed.world_size() <= class_num:
            self.shard = ClassShard(class_num, distributed.rank(), distributed.world_size())
        self.class_rows = ClassRows(self.shard, self.num_sub_centers, embedding_size)
        zeros = nn.initializer.Constant(0.0)
        self.weight = self.create_parameter(list(self.class_rows.shape), default_initializer=zeros)
        self.weight.is_distributed = self.shard.world_size > 1  # Paddle's flag: do not average the gradients
        self._fill(int(paddle.randint(0, 2**31 - 1, [1]).item()))
        self.active: ActiveRows | None = None
        if self.sample_rate < 1 and options.sparse_update is not False:
            self.weight.stop_gradient = True
            self.prepare(1024)
        self._seed, self._step = 0, 0
        self._log_layout(options)

    def _log_layout(self, options: HeadOptions) -> None:
        if distributed.world_size() > 1:
            size, reason = self.shard.world_size, "set by class_parallel"
            if options.class_parallel is None:
                reason = f"class_parallel's default: {PARALLEL_FROM:,} classes or more are sharded"
            where = f"sharded over {size} processes" if size > 1 else "replicated in every process"
            logger.info("Head: %d classes %s (%s).", self.class_num, where, reason)
        if self.sample_rate < 1:
            logger.info(
                "Head: each step computes %g of the classes, and updates %s.",
                self.sample_rate, "them only" if self.active else "all",
            )  # fmt: skip

    @paddle.no_grad()
    def _fill(self, seed: int) -> None:
        """Initialise the weight like PaddleClas's XavierNormal, identically for any number of processes."""
        deviation = math.sqrt(2.0 / (self.embedding_size + self.class_num * self.num_sub_centers))
        first, last, K = self.shard.start, self.shard.start + self.shard.size, self.num_sub_centers
        for block in range(first // _INITIAL_BLOCK, -(-last // _INITIAL_BLOCK)):
            start, stop = max(first, block * _INITIAL_BLOCK), min(last, (block + 1) * _INITIAL_BLOCK)
            size = ((stop - block * _INITIAL_BLOCK) * K, self.embedding_size)
            rows = np.random.default_rng([seed, block]).standard_normal(size, np.float32) * np.float32(deviation)
            rows = rows[(start - block * _INITIAL_BLOCK) * K :]
            self.weight[(start - first) * K : (stop - first) * K].copy_(paddle.to_tensor(rows), False)

    def prepare(self, num_samples: int, matmul_dtype: str | None = None) -> None:
        self.matmul_dtype = matmul_dtype
        if self.sample_rate < 1 and self.weight.stop_gradient:  # room for the positives of one optimizer step
            capacity = min(self.shard.size, int(self.sample_rate * self.shard.size) + num_samples)
            self.active = ActiveRows(self.weight, self.num_sub_centers, capacity)
            self.active_rows = self.active.parameter
            self.active_rows.is_distributed = self.weight.is_distributed

    def begin_step(self, seed: int, step: int) -> None:
        """Set the next optimizer step; the sampled classes depend on (seed, step, shard)."""
        self._seed, self._step = seed, step

    def guessing_loss(self) -> float:
        return math.log(max(1.0, self.class_num * self.sample_rate))

    def forward(self, embedding: paddle.Tensor, labels: paddle.Tensor) -> MarginScores:
        """Return the scores of embeddings (B, D), of any norm, for the labels (B,), int64.

        In training only this call changes the head's state: it samples the classes (sample_rate < 1) and updates the
        margin's running statistics. Reading the scores has no side effects.

        Raises:
            ValueError: a label outside 0 ... class_num - 1.
        """
        with paddle.amp.auto_cast(enable=False):  # cosines times 64 need float32
            embedding = embedding.astype("float32")
            unit = normalize(embedding)
            norm = paddle.sqrt(paddle.clip(paddle.sum(embedding * embedding, axis=1), min=1e-24))  # (B,)
            weight, classes = self.classes(labels)
            if self.training:
                self.observe(norm.detach(), lambda: target_cosines(unit.detach(), weight.detach(), classes))
            return MarginScores(
                unit, labels, weight, classes, lambda cosine: self._with_margin(cosine, norm), self.penalties(norm)
            )

    def _with_margin(self, cosine: paddle.Tensor, norm: paddle.Tensor) -> paddle.Tensor:
        found = self.margin(cosine, norm)
        if found.shape != cosine.shape:  # it would be broadcast without a word
            raise ValueError(
                f"{type(self).__name__}.margin returned the shape {list(found.shape)}, expected "
                f"{list(cosine.shape)}: one number per target cosine."
            )
        return found

    # Methods that a margin may override.

    def margin(self, cosine: paddle.Tensor, norm: paddle.Tensor) -> paddle.Tensor:
        """Return the target cosines (B,) with the margin, before the scale; `norm` holds the embedding norms (B,)."""
        raise NotImplementedError

    def negatives(self, target: paddle.Tensor) -> Transform | None:
        """Return the transform of the negatives for target cosines (N,), or None; must have no side effects."""
        if self._threshold is None:
            return None
        threshold = self._threshold
        return lambda cosine: filtered_negatives(cosine, threshold)

    def observe(self, norm: paddle.Tensor, target: Callable[[], paddle.Tensor]) -> None:
        """Update running statistics; called once per training batch.

        Args:
            norm: (B,) norms of this process's embeddings.
            target: computes the target cosines (N,) of the samples of all processes that share the classes.
        """

    def penalties(self, norm: paddle.Tensor) -> dict[str, paddle.Tensor]:
        """Return additional loss terms by name."""
        return {}

    # Selection of the classes that a step needs.

    def classes(self, labels: paddle.Tensor) -> tuple[paddle.Tensor, Classes]:
        """Return the rows that this step computes, and the positions of the samples' classes among them."""
        group = self.shard.batch(labels.shape[0])
        everyone = group.gather(labels)
        classes = everyone.numpy()
        if classes.min() < 0 or classes.max() >= self.class_num:
            raise ValueError(
                f"Labels run from {classes.min()} to {classes.max()}, but class_num is {self.class_num}: expected 0 to "
                f"{self.class_num - 1}."
            )
        positions = self.shard.positions(classes)
        weight, size = self.weight, self.shard.size
        if self.training and self.sample_rate < 1:
            weight, size, positions = self._sampled(labels, positions)
        return weight, Classes(
            positions, size, self.class_num, self.scale, self._chunk(len(classes)), group, self.num_sub_centers,
            self.negatives, self.largest_cosine, self.matmul_dtype,
        )  # fmt: skip

    def _chunk(self, num_samples: int) -> int:
        if self._chunk_size is not None:
            return self._chunk_size
        cosines = CPU_CHUNK if paddle.get_device() == "cpu" else GPU_CHUNK
        return max(256, cosines // num_samples) // self.num_sub_centers or 1

    def _sampled(self, labels: paddle.Tensor, positions: np.ndarray) -> tuple[paddle.Tensor, int, np.ndarray]:
        """Return the rows of the sampled classes, the number of classes, and each sample's class among them."""
        present = positions[positions >= 0]
        if self.shard.world_size == 1 and distributed.world_size() > 1:  # all processes must draw the same
            present = distributed.gather_tensors(labels, distributed.gather_integer(labels.shape[0])).numpy()
        positives = np.unique(present)
        if self.active is not None and len(self.active.classes):  # a later batch of the same step
            chosen = positives
        else:
            key = (self._seed, self._step, self.shard.rank)
            chosen = sample_classes(self.shard.size, self.sample_rate, positives, key)
        self._step += 1  # for callers without begin_step
        if self.active is not None:
            self.active.load(chosen)
            return self.active.parameter, len(self.active.classes), self.active.positions(positions)
        weight = paddle.gather(self.weight, paddle.to_tensor(rows_of(chosen, self.num_sub_centers)))
        return weight, len(chosen), np.where(positions >= 0, np.searchsorted(chosen, positions), -1)

    def centre_cosines(
        self, embedding: np.ndarray, labels: np.ndarray, most_centres: int
    ) -> tuple[np.ndarray, np.ndarray] | None:
        positions, size = self.shard.positions(labels), self.shard.size
        others = np.linspace(0, size - 1, min(size, most_centres)).astype(int)
        here = np.unique(np.concatenate([others, positions[positions >= 0]]))
        rows = paddle.to_tensor(rows_of(here, self.num_sub_centers))
        centres = paddle.gather(self.weight.detach(), rows).astype("float32").numpy()
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
        unit = embedding / np.maximum(np.linalg.norm(embedding, axis=1), 1e-12)[:, None]
        cosines = (unit @ centres.T).reshape(len(unit), len(here), -1).max(axis=2)  # (N, classes)
        is_target = here == positions[:, None]
        return cosines[is_target], cosines[~is_target]
