"""Words that crewmeter's code, tests, texts and documents no longer use.

Private words for things that have a name in the field keep strangers out. Each retired word stands
here with what to write instead, and each exception with its reason.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RETIRED", "Use", "retired_words", "tracked_texts"]

ROOT = Path(__file__).parents[1]

# The word (a pattern) and what to write instead.
RETIRED = {
    "taps?": "event handler",
    "brakes?": "budget hook",
    "couriers?": "batch processor",
    "shelf": "catalogue files",
    "peeks?": "read, look ahead",
    "doors?": "authorization, entrance of an API by its name",
    "twins?": "duplicate",
    "witness(es)?": "source",
    "lent": "measured inside",
    "hungry": "greedy, eager",
    "minded": "respected",
    "asked": "requested, queried",
    "told": "reported, said",
    "kept": "stored, retained",
    "shown": "displayed, printed",
    "stand[-_ ]?ins?": "fake provider",
    "settle[sd]?|settling": "match, resolve, close (settle is the field's word for reservations)",
    "places?": "scope, context, position, location, entry",
}
# "measure" is retired as a name for line items only, which no pattern can tell from the verb.

TEXT_SUFFIXES = {".py", ".md", ".sh", ".toml", ".yaml", ".yml", ".js", ".mjs", ".css", ".html"}
TEXT_NAMES = {"Makefile", "Dockerfile", "run"}

# Whole files that may say any word, by the start of their path.
SPARED_FILES = {
    "scripts/house_words.py": "the list itself",
    "CHANGELOG.md": "tells users which old name became which new one",
}
# Phrases in which a retired word is somebody else's, or the field's.
SPARED_PHRASES = {
    r"decimal places?": "arithmetic's term",
    r"\.peek\(": "a method of Python's buffered readers",
    r"place-(items|content|self)": "a property of CSS",
    r"peek_event": "a method of PyYAML's parser",
    r"places=\d": "an argument of Hypothesis",
    r"\"kept\"": "a key of `stack init --format json`, which scripts read",
}
RESERVATION = re.compile(r"reserv|budget", re.IGNORECASE)


@dataclass(frozen=True)
class Use:
    """A retired word where it stands."""

    path: str
    line: int
    word: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.word!r} (say: {self.instead})"


def tracked_texts() -> list[Path]:
    """Return the texts that git knows, without the generated and the vendored ones."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = [name for name in listed.split("\0") if name]
    texts = [ROOT / name for name in names if is_authored_text(name)]
    return [path for path in texts if path.exists()]


def is_authored_text(name: str) -> bool:
    """Return whether a file holds words of ours."""
    path = Path(name)
    if path.suffix not in TEXT_SUFFIXES and path.name not in TEXT_NAMES:
        return False
    return ".min." not in name and not name.startswith(tuple(SPARED_FILES))


def retired_words() -> list[Use]:
    """Return every use of a retired word."""
    words = "|".join(f"(?P<w{number}>{word})" for number, word in enumerate(RETIRED))
    # Parts of identifiers count: `kept_rows`, `STAND_IN`, `keptRows`.
    pattern = re.compile(rf"(?<![A-Za-z])(?:{words})(?![a-z])", re.IGNORECASE)
    spared = re.compile("|".join(SPARED_PHRASES), re.IGNORECASE)
    instead = list(RETIRED.values())
    found = []
    for path in tracked_texts():
        text = path.read_text("utf-8")
        about_reservations = RESERVATION.search(text) is not None
        for number, line in enumerate(text.splitlines(), 1):
            for match in pattern.finditer(spared.sub("", line)):
                word = match[0]
                if about_reservations and word.lower().startswith("settl"):
                    continue
                which = int((match.lastgroup or "w0")[1:])
                name = str(path.relative_to(ROOT))
                found.append(Use(name, number, word, instead[which]))
    return found
