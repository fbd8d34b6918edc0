"""System packages of shared libraries that an import may miss."""

import re

# Package in Debian and Ubuntu of each library that a wheel expects and a minimal system lacks.
_PACKAGES = {
    "libgomp.so.1": "libgomp1",
    "libGL.so.1": "libgl1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libxcb.so.1": "libxcb1",
    "libstdc++.so.6": "libstdc++6",
}


def library_hint(error: BaseException) -> str:
    """Return a sentence that names the package of the shared library that an import missed, or ""."""
    match = re.search(r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object file", str(error))
    if not match:
        return ""
    package = _PACKAGES.get(match[1])
    way = f"apt-get install {package}" if package else f"the package that has {match[1]} (apt-file search {match[1]})"
    return f"the system library {match[1]} is missing. On Debian and Ubuntu, as root: {way}"
