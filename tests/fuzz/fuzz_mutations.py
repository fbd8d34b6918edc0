"""Ways to spoil a file: of bytes, of text, of a pickle's opcodes, of an archive's members."""

from __future__ import annotations

import io
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from random import Random

Change = Callable[[Random, bytes], bytes]
Files = dict[str, bytes]  # by name

NUMBERS = [0, 1, 2, 4, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1]
TEXT_NUMBERS = [
    b"-1", b"0", b"1", b"1e999", b"NaN", b"-Infinity", b"0.5", b"2147483648", b"1000000000000", b"9223372036854775807",
    b"18446744073709551616", b"9" * 400, b"9" * 5000, b"1/0", b"2001-99-99", b"0x7f", b"true", b"null", b"[]", b"{}",
]  # fmt: skip
PATHS = [b"../../etc/passwd", b"/etc/passwd", b"..", b".", b"a\0b", b"a/../../b.jpg", b"/etc/x.jpg", b"n" * 5000]
YAML_WORDS = [
    b"<<: *a",
    b"&a",
    b"*a",
    b"!!omap",
    b"!!python/object/apply:os.system [x]",
    b"!!binary",
    b"? ",
    b"---",
    b"|",
]
ODD_TEXT = [b"\x1b[31m", "\u202e".encode(), b"\r\n", b"\t", b"\xff\xfe", b"\0", b"\xed\xa0\x80", b"'\"", b"%s{0}"]


def flip_bits(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_bytes(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 4))):
        changed[rng.randrange(len(data))] = rng.choice((0, 1, 10, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(changed)


def truncate(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def delete(rng: Random, data: bytes) -> bytes:
    start, end = _slice(rng, data)
    return data[:start] + data[end:]


def repeat(rng: Random, data: bytes) -> bytes:
    start, end = _slice(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 2, 16, 300)) + data[end:]


def splice(rng: Random, data: bytes) -> bytes:
    start, end = _slice(rng, data)
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[start:end] + data[rng.choice((at, min(len(data), at + end - start))) :]


def set_integer(rng: Random, data: bytes) -> bytes:
    """A length or offset of another size: what asks for a terabyte."""
    width = rng.choice((1, 2, 4, 8))
    number = (rng.choice(NUMBERS) + rng.choice((0, 0, -1, 1))) % 2 ** (8 * width)
    at = rng.randrange(len(data))
    return data[:at] + number.to_bytes(width, rng.choice(("little", "big"))) + data[at + width :]


def set_number_in_text(rng: Random, data: bytes) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data[:100_000]))
    if not found:
        return insert_odd_text(rng, data)
    match = rng.choice(found)
    return data[: match.start()] + rng.choice(TEXT_NUMBERS) + data[match.end() :]


def set_word(rng: Random, data: bytes) -> bytes:
    """Another word, path or value where one stands."""
    found = list(re.finditer(rb"[\w./-]+", data[:100_000]))
    if not found:
        return insert_odd_text(rng, data)
    match = rng.choice(found)
    others = [*PATHS, *ODD_TEXT, *TEXT_NUMBERS, *YAML_WORDS, rng.choice(found)[0], b""]
    return data[: match.start()] + rng.choice(others) + data[match.end() :]


def insert_odd_text(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(ODD_TEXT + PATHS) + data[at:]


def nest(rng: Random, data: bytes) -> bytes:
    """Brackets without end."""
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"{a: ", b"}")))
    depth = rng.choice((50, 500, 20_000))
    at = rng.randrange(len(data) + 1)
    return data[:at] + opening * depth + b"1" + closing * depth + data[at:]


BYTES: Sequence[Change] = (flip_bits, set_bytes, truncate, delete, repeat, splice, set_integer)
TEXT: Sequence[Change] = (*BYTES, set_number_in_text, set_word, insert_odd_text, set_number_in_text, set_word)
TREE: Sequence[Change] = (*TEXT, nest)


def _slice(rng: Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice((1, 2, 4, 8, 16, 64, 256)))


def several(changes: Sequence[Change]) -> Change:
    """One to three of some changes."""

    def change(rng: Random, data: bytes) -> bytes:
        for _ in range(rng.choice((1, 1, 2, 3))):
            data = rng.choice(changes)(rng, data) if data else data
        return data

    return change


# Pickles ------------------------------------------------------------------------------------------------------------

_CALLS = [
    b"cposix\nsystem\n", b"cos\nsystem\n", b"cbuiltins\neval\n", b"cbuiltins\ngetattr\n", b"cnumpy\nload\n",
    b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"c_codecs\nencode\n",
    b"ccollections\nOrderedDict\n", b"cbuiltins\ntuple\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"cnumpy._core.numeric\n_frombuffer\n", b"cnumpy.core.multiarray\nscalar\n", b"ctorch\nFloatStorage\n",
    b"cargparse\nNamespace\n", b"cbuiltins\nset\n",
]  # fmt: skip
_SHORT = [
    bytes([opcode]) for opcode in b"()]}.0123N}tReabsduloib^QP\x81\x82\x85\x86\x87\x88\x89\x8f\x90\x92\x93\x94\x95"
]


def _opcode(rng: Random) -> bytes:
    """One opcode with its argument."""
    kind = rng.randrange(7)
    if kind == 0:
        return rng.choice(_CALLS)
    if kind == 1:
        return b"h" + bytes([rng.randrange(16)])  # BINGET
    if kind == 2:
        return b"q" + bytes([rng.randrange(16)])  # BINPUT
    if kind == 3:
        return b"J" + struct.pack("<i", rng.choice((0, 1, -1, 2**31 - 1, 1000)))
    if kind == 4:
        return b"\x8a\x08" + struct.pack("<q", rng.choice((2**40, 2**62, -1, -(2**63))))
    if kind == 5:
        text = rng.choice((b"O8", b"f4", b"latin1", b"zip", b"a" * 40))
        return b"X" + struct.pack("<I", rng.choice((len(text), len(text), 2**31 - 1))) + text
    return rng.choice(_SHORT)


def change_opcodes(rng: Random, data: bytes) -> bytes:
    """Leave out, repeat, swap, replace or add whole opcodes."""
    try:
        starts = [position for _, _, position in pickletools.genops(data)]
    except Exception:  # spoilt already
        return flip_bits(rng, data)
    ends = [*starts[1:], len(data)]
    parts = [data[a:b] for a, b in zip(starts, ends)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(parts))
        kind = rng.randrange(5)
        if kind == 0:
            del parts[at]
        elif kind == 1:
            parts[at:at] = parts[at : at + rng.randrange(1, 8)] * rng.choice((1, 2, 300))
        elif kind == 2:
            other = rng.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        elif kind == 3:
            parts[at] = _opcode(rng)
        else:
            parts.insert(at, _opcode(rng))
        if not parts:
            break
    return b"".join(parts)


PICKLE: Sequence[Change] = (*BYTES, change_opcodes, change_opcodes, change_opcodes, change_opcodes)


# Archives -----------------------------------------------------------------------------------------------------------


def archive_of(changes: Sequence[Change]) -> Change:
    """Change a member and pack the archive again with right checksums, or the bytes of the archive itself."""

    def change(rng: Random, data: bytes) -> bytes:
        if rng.random() < 0.3:
            return rng.choice(BYTES)(rng, data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        name = rng.choice([*members, *[name for name in members if name.endswith(".pkl")] * 2 * len(members)])
        kind = rng.randrange(8)
        if kind == 0:
            del members[name]
        elif kind == 1:
            members[rng.choice(("../../x", "/x", name + "x", "archive/data/9"))] = members.pop(name)
        elif members[name]:
            members[name] = rng.choice(changes)(rng, members[name])
        packed = io.BytesIO()
        method = rng.choice([zipfile.ZIP_STORED] * 6 + [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
        with zipfile.ZipFile(packed, "w", method) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return packed.getvalue()

    return change
