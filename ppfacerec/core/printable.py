"""Make text from files and file names safe to show on a terminal and in a log."""

import re

# Control characters (a terminal obeys them), lone surrogates (which cannot be written), and what hides or reorders
# text: soft hyphen, zero-width space, bidirectional marks and overrides ("gpj.exe" shows as "exe.jpg"), line and
# paragraph separators, tags. Zero-width joiners are kept: Persian and Indic names need them.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def printable(text: object, keep: str = "") -> str:
    r"""Return the text with unsafe characters escaped as in Python: ESC as ``\x1b``, a line break as ``\n``.

    Those in `keep` are not escaped, such as line breaks in a message of several lines.
    """
    return _UNSAFE.sub(lambda match: match[0] if match[0] in keep else _escaped(match[0]), str(text))


def without_secrets(text: str) -> str:
    """Return the text with the user and query parts of URLs, which may be secrets, replaced by ``***``."""
    if "://" not in text:
        return text
    text = re.sub(r"(\w+://)[^/\s?#@]*@", r"\1***@", text)
    return re.sub(r"(\w+://[^\s?#'\"]*\?)[^\s#'\"]*[^\s#'\",.;:)]", r"\1***", text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
