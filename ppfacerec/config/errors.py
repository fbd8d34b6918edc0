"""The error with every problem of a config at once."""

from collections.abc import Sequence


class ConfigError(ValueError):
    """Every problem of one config, each with its dotted path, what was found and what was expected.

    Args:
        problems: one line a problem.
        source: the file that was read, for the headline.
    """

    def __init__(self, problems: Sequence[str], source: str = "config") -> None:
        self.problems = list(problems)
        count = len(self.problems)
        headline = f"{count} problem{'s' if count > 1 else ''} in {source}:"
        super().__init__("\n".join([headline, *(f"  - {p}" for p in self.problems)]))
