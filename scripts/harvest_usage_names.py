"""List the usage names in instrumentors' packages, for `tests/cost/intake/usage_names.txt`.

pip download --no-deps -d wheels PACKAGE==VERSION …
npm pack ai@5 ai@6 ai@7        # in the same folder
python scripts/harvest_usage_names.py wheels > tests/cost/intake/usage_names.txt
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(
    r"""["']((?:gen_ai|llm|ai|anthropic|openai|strands|google)\.[\w.]*?"""
    r"""(?:usage|token_count|tokens?)\.[\w.]*\w)["']"""
)


def sources(path: Path) -> Iterator[str]:
    """Yield the text of every source file in a wheel or an npm package."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            for name in wheel.namelist():
                if name.endswith(".py"):
                    yield wheel.read(name).decode("utf-8", "replace")
    elif path.suffix == ".tgz":
        with tarfile.open(path) as package:
            for member in package.getmembers():
                opened = package.extractfile(member)
                if opened is not None and member.name.endswith(("/index.js", "/index.mjs")):
                    yield opened.read().decode("utf-8", "replace")


def main(folder: str) -> None:
    """Print a line for each name with the packages that have it."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted(Path(folder).iterdir()):
        package = "-".join(
            path.name.removesuffix(".tgz").split("-")[: 3 if "sdk" in path.name else 2]
        )
        for text in sources(path):
            for name in _NAME.findall(text):
                found[name].add(package)
    for name in sorted(found):
        print(name, " ".join(sorted(found[name])), sep="\t")


if __name__ == "__main__":
    main(sys.argv[1])
