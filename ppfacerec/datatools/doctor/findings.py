"""Results of checks, as a table or JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ppfacerec.core.log import table
from ppfacerec.core.printable import printable

Level = Literal["ok", "note", "warning", "error"]
_MOST_EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """Result of a check, with advice and the first images or classes that it concerns.

    Level "error" would end the run or make its numbers wrong, "warning" costs accuracy or time.
    """

    check: str
    level: Level
    message: str
    examples: tuple[str, ...] = field(default=())


def finding(check: str, level: Level, message: str, examples: Sequence[str] = ()) -> Finding:
    """Make a finding with the first few of its examples."""
    return Finding(check, level, message, tuple(examples[:_MOST_EXAMPLES]))


def as_table(findings: Sequence[Finding]) -> str:
    """Return the findings as text, with examples below each."""
    shown = table(["check", "result"], [[f.check, f.level] for f in findings]).splitlines()
    lines = [f"{shown[0]}  what was found", f"{shown[1]}  --------------"]
    for row, found in zip(shown[2:], findings):
        lines.append(f"{row}  {printable(found.message)}")
        lines += [f"{' ' * len(row)}    {printable(example)}" for example in found.examples]
    return "\n".join(lines)


def as_json(findings: Sequence[Finding]) -> str:
    """Return the findings as JSON: ``{"errors": 0, "warnings": 1, "findings": [...]}``."""
    content: dict[str, Any] = {f"{level}s": sum(f.level == level for f in findings) for level in ("error", "warning")}
    content["findings"] = [asdict(found) for found in findings]
    return json.dumps(content, indent=2)  # ASCII, so that names are safe to print
