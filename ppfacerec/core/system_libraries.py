"""Which system package has the shared library that an import misses."""

import re

# Debian's and Ubuntu's package of each library that a wheel expects and a minimal system lacks.
_PACKAGES = {
    "libgomp.so.1": "libgomp1",
    "libGL.so.1": "libgl1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libxcb.so.1": "libxcb1",
    "libstdc++.so.6": "libstdc++6",
}


def library_hint(error: BaseException) -> str:
    """Name the system package of the shared library that an import missed, or return an empty text."""
    match = re.search(r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object file", str(error))
    if not match:
        return ""
    package = _PACKAGES.get(match[1])
    way = f"apt-get install {package}" if package else f"the package that has {match[1]} (apt-file search {match[1]})"
    return f"the system library {match[1]} is missing. On Debian and Ubuntu, as root: {way}"
