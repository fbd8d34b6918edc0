"""Options shared by all margin heads."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar


@dataclass(frozen=True)
class HeadOptions:
    """How a head stores and computes its classes, independent of its margin.

    Args:
        class_parallel: shard the classes over the processes; None: if there are several, from 10,000 classes on.
        sample_rate: fraction of the classes computed per step; positives are always included.
        sparse_update: the optimizer updates only the sampled classes; None: if sample_rate is below 1.
        chunk_size: classes computed at a time; None: chosen for the device.
        num_sub_centers: K centres per class, the nearest counts; Deng et al., "Sub-center ArcFace" (ECCV 2020).
        interclass_filtering_threshold: larger cosines of negatives are set to 0, as they may be the same person.

    Raises:
        ValueError: a value out of range.
    """

    class_parallel: bool | None = None
    sample_rate: float = 1.0
    sparse_update: bool | None = None
    chunk_size: int | None = None
    num_sub_centers: int = 1
    interclass_filtering_threshold: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.sample_rate <= 1:
            raise ValueError(f"sample_rate: expected a number above 0 and up to 1, found {self.sample_rate}.")
        if self.sparse_update and self.sample_rate == 1:
            raise ValueError("sparse_update: needs a sample_rate below 1; with 1.0 every class is updated.")
        for name in ("chunk_size", "num_sub_centers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected an integer of at least 1, found {value}.")
        threshold = self.interclass_filtering_threshold
        if threshold is not None and not -1 <= threshold <= 1:
            raise ValueError(f"interclass_filtering_threshold: expected a cosine from -1 to 1, found {threshold}.")


DEFAULT_OPTIONS = HeadOptions()
Head = TypeVar("Head", bound=type)


def with_head_options(head: Head) -> Head:
    """Let a head's constructor accept the fields of ``HeadOptions`` in place of its parameter `options`.

    Config keys are checked against the signature; adding the fields here saves seven heads from repeating them.
    """
    original = head.__init__  # type: ignore[misc]
    if "options" not in inspect.signature(original).parameters:
        raise ValueError(f"{head.__name__}.__init__ needs a parameter `options`, passed on to MarginHead's.")
    fields = {field.name: field.default for field in dataclasses.fields(HeadOptions)}
    hints = {**typing.get_type_hints(original), **typing.get_type_hints(HeadOptions)}

    @functools.wraps(original)
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        given = {name: kwargs.pop(name) for name in fields if name in kwargs}
        original(self, *args, **({"options": HeadOptions(**given)} if given else {}), **kwargs)

    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [p for p in inspect.signature(original).parameters.values() if p.name != "options"]
    added = [inspect.Parameter(n, keyword, default=d, annotation=hints[n]) for n, d in fields.items()]
    construct.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    construct.__annotations__ = {name: hint for name, hint in hints.items() if name != "options"}
    head.__init__ = construct  # type: ignore[misc]
    own_check = head.check if "check" in vars(head) else None  # type: ignore[attr-defined]

    def check(arguments: Mapping[str, Any]) -> Iterator[str]:
        yield from own_check(arguments) if own_check else ()
        try:
            HeadOptions(**{name: arguments[name] for name in fields})
        except ValueError as error:
            yield str(error)

    head.check, head.documented_by = staticmethod(check), HeadOptions  # type: ignore[attr-defined]
    return head
