"""Files that are written to cost minutes or gigabytes are refused in words, and soon."""

from __future__ import annotations

import subprocess
import sys

import pytest

from crewmeter_cost.budgets.plan import read_plan
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.pricing.overrides.reader import read_overrides

resource = pytest.importorskip("resource", reason="needs the limits of POSIX")

MERGES = "\n".join(
    ["a0: &a0 {k: v}"]
    + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)]
)
"""PyYAML copies what a merge key names: 9¹¹ pairs, of a kilobyte."""
PRICE = "price:\n- model: m\n  provider: p\n  output: 1\n  input: "
TOML_PRICE = '[[price]]\nmodel = "m"\nprovider = "p"\noutput = 1\ninput = '
LISTS = "\n".join(
    ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
)
BOMBS = {
    "a list of lists as a key.yaml": LISTS + "\n? *a11\n: 1",
    "an integer of 100,000 digits.toml": "fx = " + "9" * 100_000,
    "a hexadecimal integer.toml": TOML_PRICE + "0x" + "f" * 200_000,
    "a fraction of 200,000 digits.toml": TOML_PRICE + "0." + "1" * 200_000,
    "a dotted key.toml": "a" + ".a" * 100_000 + " = 1",
    "a dotted header.toml": "[a" + ".a" * 50_000 + "]",
    "a dotted key in a table.toml": "x = {a" + ".a" * 100_000 + " = 1}",
    "a text that is never closed.toml": 'a = """\n' + "x = [\n" * 100_000,
    "arrays in arrays.toml": "a = " + "[" * 50_000,
    "merge keys.yaml": MERGES,
    "merge keys of hosts.yaml": MERGES + "\nhosts: *a11",
    "an integer to the base of 60.yaml": PRICE + "1" + ":59" * 60_000,
    "a fraction to the base of 60.yaml": PRICE + "1" + ":59" * 60_000 + ".5",
    "a binary integer.yaml": "fx: 0b" + "1" * 900_000,
    "values without end.yaml": "a: [" + "x," * 400_000 + "]",
    "lists in lists.yaml": "a: " + "[" * 5_000 + "]" * 5_000,
}
MEMORY = 2 << 30
SECONDS = 60
"""Of processor time: a parser without a bound takes hours, and a busy machine less than these."""
READ = """
import sys
from crewmeter_cost.budgets.plan import read_plan
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.pricing.overrides.reader import read_overrides
from pathlib import Path
for read in (lambda path: read_overrides(Path(path)), read_plan):
    try:
        read(sys.argv[1])
    except CrewMeterError as error:
        print(error.message)
"""


def bounded() -> None:
    """Limit the memory and processor time of a child."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


@pytest.mark.mostly_slow("a dotted key.toml", "merge keys.yaml", "a list of lists as a key.yaml")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_bounded_time_and_memory(tmp_path, name):
    """As a price file and as a budget file: one short message each, and no traceback."""
    path = tmp_path / name.replace(" ", "-").replace(",", "")
    path.write_text(BOMBS[name], "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        capture_output=True,
        text=True,
        preexec_fn=bounded,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    messages = done.stdout.splitlines()
    assert len(messages) == 2
    assert all(path.name in message and len(message) < 1000 for message in messages)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dots.toml", "# " + "." * 200 + '\n[hosts]\n"a.b.example.com" = "openai"\n'),
        ("numbers.toml", TOML_PRICE + "0.12345678901234567890"),
        ("merged.yaml", "hosts: &h {a.example: openai}\naliases:\n  x: gpt-4o"),
    ],
)
def test_what_people_write_is_within_the_limits(tmp_path, name, text):
    """Lines of dots in comments, exact prices and anchors are read as before."""
    path = tmp_path / name
    path.write_text(text, "utf-8")
    assert read_overrides(path) is not None


def test_a_long_number_in_a_budget_file_is_named(tmp_path):
    """No message of Python's about how to raise its limit."""
    path = tmp_path / "budgets.toml"
    path.write_text("[[budget]]\namount = " + "9" * 5_000)
    with pytest.raises(CrewMeterError, match=r"budgets\.toml"):
        read_plan(str(path))
