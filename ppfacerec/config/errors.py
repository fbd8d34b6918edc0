"""Error with all problems of a config."""

from collections.abc import Sequence


class ConfigError(ValueError):
    """Every problem of the config `source`, one line each: dotted path, what was found, what was expected."""

    def __init__(self, problems: Sequence[str], source: str = "config") -> None:
        self.problems = list(problems)
        count = len(self.problems)
        headline = f"{count} problem{'s' if count > 1 else ''} in {source}:"
        super().__init__("\n".join([headline, *(f"  - {p}" for p in self.problems)]))
