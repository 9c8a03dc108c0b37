"""The user's price file.

What it changes, and how every mistake in it is refused by file, line and key.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.pricing.charge import charge, items_of
from crewmeter_cost.pricing.overrides.reader import read_overrides
from crewmeter_cost.pricing.price_book import PriceBook

NOW = 1_795_262_400 * 10**9  # 2026-11-21T12:00Z
DAY = 86_400 * 10**9
PLAIN = TokenUsage(1000, 300, 400)

TOML = """
[fx]
EUR = [{from = "2026-01-01", usd = 1.10}, {from = "2026-11-01", usd = "1.25"}]

[aliases]
"azure/my-deployment" = "gpt-4o"
"team-model" = "openai/gpt-4o-mini"

[hosts]
"llm.example.com" = "openai"
".internal.example" = "self-hosted"

[[price]]
provider = "openai"
model = "gpt-4o"
from = 2026-06-01
until = 2026-12-01
input = 2
output = 8.0

[[price]]
provider = "openai"
model = "gpt-4o"
tier = "batch"
input = 1
cache_read = 0.5
output = 4

[[price]]
model = "house-model"
provider = "acme"
currency = "EUR"
input = 10
cache_read = 1
output = 20
request = 0.01
over = [{tokens = 5000, input = 12, output = 24}]

[[price]]
provider = "acme"
model = "seasonal"
from = 2026-01-01
input = 1
output = 1

[[price]]
provider = "acme"
model = "seasonal"
from = 2026-07-01
input = 2
output = 2

[[discount]]
provider = "anthropic"
percent = 12.5
from = 2026-11-01

[[free]]
provider = "ollama"

[[self_hosted]]
host = "gpu-1.internal.example"
model = "llama-*"
price_per_gpu_hour = 2.50
gpus = 4
"""
YAML = """
aliases: {azure/my-deployment: gpt-4o}
price:
  - provider: openai
    models: [gpt-4o]
    from: 2026-06-01
    input: 2
    output: 8.0
free:
  - provider: ollama
    model: "*"
"""


def write(tmp_path, text, name="prices.toml"):
    """A price file."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def mine(tmp_path):
    """A book under the file above."""
    return PriceBook.load(write(tmp_path, TOML))


def usd(outcome) -> Decimal:
    """The cost in USD."""
    return Decimal(outcome.cost_pusd).scaleb(-12)


def at(book, provider, model, usage=PLAIN, moment=NOW, **how):
    """A charge."""
    return charge(usage, book, provider=provider, model=model, at_ns=moment, **how)


def test_a_negotiated_rate_lies_over_the_list(mine):
    """Input 2 and output 8 are the user's, cached input stays the list's 1.25.

    After until, the list again.
    """
    outcome = at(mine, "openai", "gpt-4o")
    assert (usd(outcome), outcome.source, outcome.status) == (
        Decimal("0.0041"),
        "override",
        "priced",
    )
    assert at(mine, "openai", "gpt-4o", moment=NOW + 20 * DAY).source == "genai-prices"
    assert usd(at(mine, "openai", "gpt-4o", moment=NOW + 20 * DAY)) == Decimal("0.005")


def test_a_fee_for_a_request_pays_for_no_searches_that_have_a_price(tmp_path):
    """Where both are listed both are charged, for each search."""
    file = tmp_path / "prices.toml"
    file.write_text(
        '[[price]]\nprovider = "openai"\nmodel = "gpt-4.1"\n'
        'input = 2\noutput = 8\nrequest = "0.001"\nweb_search = "0.01"\n'
    )
    charged = charge(
        TokenUsage(1000, 100, web_searches=3),
        PriceBook.load(file),
        provider="openai",
        model="gpt-4.1",
        at_ns=NOW,
        host=None,
    )
    fees = {item.item: item.quantity for item in charged.items if not item.item.endswith("put")}
    assert fees == {"request": 1, "web_search": 3}


def test_a_negotiated_tier_is_its_own(mine):
    """The batch entry prices batch calls; priority keeps the list's price."""
    assert usd(at(mine, "openai", "gpt-4o", tier="batch")) == Decimal("0.002")
    assert usd(at(mine, "openai", "gpt-4o", tier="priority")) == Decimal("0.0085")


def test_a_price_in_another_currency_is_dated(mine):
    """EUR 10/1/20 per million and EUR 0.01 a request, at 1.25 USD from November, at 1.10 before.

    Over 5,000 tokens 12 and 24.
    """
    outcome = at(mine, "acme", "house-model")
    assert usd(outcome) == Decimal("1.25") * (
        Decimal("0.006") + Decimal("0.0004") + Decimal("0.006") + Decimal("0.01")
    )
    assert usd(at(mine, "acme", "house-model", moment=NOW - 60 * DAY)) == Decimal("1.10") * Decimal(
        "0.0224"
    )
    large = at(mine, "acme", "house-model", TokenUsage(5001, 0))
    assert usd(large) == Decimal("1.25") * (Decimal("0.060012") + Decimal("0.01"))


def test_an_entry_lasts_until_the_next(mine):
    """Without until, an entry for the same model ends where the next begins.

    Before the first there is no price.
    """
    assert usd(at(mine, "acme", "seasonal", moment=NOW - 150 * DAY)) == Decimal("0.0013")
    assert usd(at(mine, "acme", "seasonal")) == Decimal("0.0026")
    assert at(mine, "acme", "seasonal", moment=NOW - 400 * DAY).status == "unknown_model"


def test_a_discount_takes_its_share(mine):
    """12.5 % off everything at Anthropic from November on, cached tokens too."""
    outcome = at(mine, "anthropic", "claude-sonnet-4-5")
    assert (usd(outcome), outcome.source) == (Decimal("0.00642") * Decimal("0.875"), "override")
    assert usd(at(mine, "anthropic", "claude-sonnet-4-5", moment=NOW - 30 * DAY)) == Decimal(
        "0.00642"
    )


def test_aliases_name_the_model_behind_a_deployment(mine):
    """An Azure deployment and a team's own name, priced as the models they stand for.

    The alias is flagged.
    """
    azure = at(mine, "azure", "my-deployment", host="me.openai.azure.com")
    assert (azure.provider, azure.model, azure.flags) == (
        "azure.ai.openai",
        "gpt-4o",
        ("matched_alias",),
    )
    team = at(mine, "acme", "team-model", TokenUsage(1000, 500))
    assert (team.provider, team.model, usd(team)) == ("openai", "gpt-4o-mini", Decimal("0.00045"))


def test_the_response_outweighs_an_alias(mine):
    """An alias says what a name stands for.

    Where the response names a model that has a price, that was billed.
    """
    outcome = at(mine, "azure", "my-deployment", response_model="gpt-4o-mini-2024-07-18")
    assert (outcome.model, outcome.flags) == ("gpt-4o-mini", ())
    assert at(mine, "azure", "my-deployment", response_model="prod-7").model == "gpt-4o"


def test_hosts_name_who_bills(mine):
    """A gateway's host mapped to OpenAI is no longer an assumption.

    One's own machine has no price but its GPU time.
    """
    assert at(mine, "acme", "gpt-4o-mini", host="llm.example.com").flags == ()
    own = at(mine, "openai", "gpt-4o", host="box.internal.example")
    assert (own.status, own.provider) == ("unknown_model", "self-hosted")


def test_own_gpus_are_billed_by_time(mine):
    """Four GPUs at $2.50 an hour for 1.8 s: half a cent, exactly; the time is the quantity."""
    outcome = at(
        mine, "openai", "llama-3.3-70b", host="gpu-1.internal.example", duration_ns=1_800_000_000
    )
    assert (usd(outcome), outcome.source) == (Decimal("0.005"), "override")
    assert (outcome.items[0].item, outcome.items[0].quantity) == ("gpu_millisecond", 1800)
    again = items_of(PLAIN, mine.frozen(outcome.version), duration_ns=1_800_000_000)
    assert again == outcome.items
    unmeasured = at(
        mine,
        "openai",
        "llama-3.3-70b",
        TokenUsage(status="missing"),
        host="gpu-1.internal.example",
        duration_ns=3_600_000_000_000,
    )
    assert usd(unmeasured) == 10


def test_free_is_declared_not_assumed(mine, book):
    """Ollama declared free costs 0 and says free_declared; undeclared it has no price."""
    outcome = at(mine, "ollama", "llama3.3")
    assert (outcome.cost_pusd, outcome.status, outcome.source) == (0, "free_declared", "override")
    assert items_of(PLAIN, mine.frozen(outcome.version)) == ()
    assert at(book, "ollama", "llama3.3").status == "unknown_model"


def test_yaml_says_the_same(tmp_path):
    """The same file in YAML, found through $CREWMETER_PRICES."""
    mine = PriceBook.load(write(tmp_path, YAML, "prices.yaml"))
    assert usd(at(mine, "openai", "gpt-4o")) == Decimal("0.0041")
    assert at(mine, "ollama", "anything").status == "free_declared"
    assert at(mine, "azure", "my-deployment").model == "gpt-4o"


def test_the_environment_names_the_file(tmp_path, monkeypatch):
    """$CREWMETER_PRICES is the default; a missing file is refused by name."""
    monkeypatch.setenv("CREWMETER_PRICES", str(write(tmp_path, TOML)))
    assert at(PriceBook.load(), "openai", "gpt-4o").source == "override"
    monkeypatch.setenv("CREWMETER_PRICES", str(tmp_path / "none.toml"))
    with pytest.raises(CrewMeterError, match=r"none\.toml can't be read"):
        PriceBook.load()


TWO_AT_ONCE = """[[price]]
model = "a"
input = 1
from = 2026-01-01
until = 2026-06-01
[[price]]
model = "a"
input = 2
from = 2026-05-01
"""


def test_the_null_device_means_no_overrides(tmp_path, monkeypatch):
    """A book without anybody's overrides can be had whatever the environment says."""
    monkeypatch.setenv("CREWMETER_PRICES", str(write(tmp_path, TOML)))
    assert at(PriceBook.load(Path(os.devnull)), "openai", "gpt-4o").source == "genai-prices"


WRONG = [
    (
        '[[price]]\nprovider = "openai"\nmodel = "gpt-4o"\ninptu = 2\n',
        4,
        "price[1].inptu: unknown key",
        "'input'",
    ),
    ('[[prise]]\nmodel = "gpt-4o"\n', 1, "prise: unknown key", "'price'"),
    (
        '[[price]]\nmodel = "gpt-4o"\n\ninput = -2\n',
        4,
        "price[1].input: -2 is negative",
        "[[discount]]",
    ),
    ('[[price]]\nmodel = "gpt-4o"\ninput = true\n', 3, "price[1].input: True is no number", "2.5"),
    (
        '[[price]]\nmodel = "gpt-4o"\ninput = "two"\n',
        3,
        "price[1].input: 'two' is no number",
        "2.5",
    ),
    ('[[price]]\nmodel = "gpt-4o"\ninput = 1e12\n', 3, "price[1].input", "per million"),
    ('[[price]]\nmodel = "gpt-4o"\n', 1, "price[1]: has no price", "input"),
    ("[[price]]\ninput = 2\n", 1, "price[1]: names no model", "model"),
    (
        '[[price]]\nmodel = "a"\ninput = 1\n[[price]]\nmodel = "a"\ninput = 2\n',
        4,
        "price[2]: overlaps another entry for 'a'",
        "from",
    ),
    (TWO_AT_ONCE, 6, "overlaps", "one may apply"),
    (
        '[[price]]\nmodel = "a"\ninput = 1\nfrom = 2026-06-01\nuntil = 2026-05-01\n',
        5,
        "price[1].until: is not after from",
        "first day",
    ),
    (
        '[[price]]\nmodel = "a"\ninput = 1\nfrom = "soon"\n',
        4,
        "price[1].from: 'soon' is no date",
        "2026-11-01",
    ),
    (
        '[[price]]\nmodel = "a"\ninput = 1\ncurrency = "EUR"\n',
        4,
        "price[1].currency: no exchange rate for EUR",
        "[fx]",
    ),
    (
        '[[price]]\nmodel = "a"\ninput = 1\ncurrency = "BTC"\n',
        4,
        "price[1].currency: 'BTC' is no currency",
        "ISO 4217",
    ),
    (
        "[fx]\nEURO = [{from = 2026-01-01, usd = 1}]\n",
        2,
        "fx.EURO: 'EURO' is no currency",
        "ISO 4217",
    ),
    ("[fx]\nEUR = 1.08\n", 2, "fx.EUR: is no list of dated rates", "from"),
    ("[fx]\nEUR = [{from = 2026-01-01, usd = 0}]\n", 2, "fx.EUR[1]: usd is 0", "above 0"),
    ("[fx]\nEUR = [{usd = 1.1}]\n", 2, "fx.EUR[1]: needs both from and usd", "from"),
    (
        "[[discount]]\nprovider = 'openai'\npercent = 120\n",
        3,
        "discount[1].percent: is not between 0 and 100",
        "12.5",
    ),
    ("[[free]]\n", 1, "free[1]: names no model", "provider"),
    (
        '[[free]]\nmodel = "*"\n',
        1,
        "free[1]: would make every model of every provider free",
        "name a provider",
    ),
    ('[[self_hosted]]\nhost = "a.b"\n', 1, "self_hosted[1]: has no price_per_gpu_hour", "2.50"),
    ('[hosts]\n"https://a.b/v1" = "openai"\n', 2, "is no host name", "without https"),
    ('[aliases]\n"a" = 5\n', 2, "aliases.a: 5 is no name", "stands for"),
    (
        '[[price]]\nmodel = "a"\ninput = 1\nover = [{tokens = 5, output = 2}]\n',
        4,
        "prices output, which the entry itself lacks",
        "output",
    ),
    (
        '[[price]]\nmodel = "a"\ninput = 1\nover = [{tokens = 0, input = 2}]\n',
        4,
        "is no list of sizes",
        "tokens = 200000",
    ),
    ("aliases = 5\n", 1, "aliases: is not a table", "[aliases]"),
    ("price = 5\n", 1, "price: is not a list of entries", "[[price]]"),
]


@pytest.mark.parametrize(
    ("text", "line", "problem", "hint"), WRONG, ids=[case[2][:50] for case in WRONG]
)
def test_a_mistake_is_refused_with_its_line(tmp_path, text, line, problem, hint):
    """File, line and key of the mistake, and the way out."""
    with pytest.raises(CrewMeterError) as caught:
        PriceBook.load(write(tmp_path, text))
    message, way_out = caught.value.message, caught.value.hint or ""
    assert f"prices.toml line {line}: " in message, message
    assert problem in message, message
    assert hint in way_out, way_out
    assert caught.value.exit_code == 2


def test_yaml_mistakes_have_their_line_too(tmp_path):
    """The line of the key in YAML."""
    with pytest.raises(
        CrewMeterError, match=r"prices\.yml line 5: price\[1\]\.input: -1 is negative"
    ):
        PriceBook.load(
            write(
                tmp_path,
                "price:\n  - provider: openai\n    model: a\n    output: 2\n    input: -1\n",
                "prices.yml",
            )
        )


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("prices.toml", b"[[price]\n", "is not TOML"),
        ("prices.toml", b"\xff\xfe", "is not UTF-8"),
        ("prices.yaml", b"price: [unclosed", "is not YAML"),
        ("prices.yaml", b"- just\n- a list\n", "is not a table"),
        ("prices.yaml", b"!!python/object/apply:os.system ['true']", "is not YAML"),
        ("prices.ini", b"[a]\n", "neither .toml nor .yaml"),
        ("prices.toml", b"#" * (2 << 20), "is it the right file?"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, name, content, problem):
    """Broken syntax, wrong encoding, another format, or far too large.

    Refused by name, nothing executed.
    """
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CrewMeterError) as caught:
        PriceBook.load(path)
    assert problem in f"{caught.value.message} {caught.value.hint}"
    assert name in caught.value.message


def test_an_empty_file_changes_nothing(tmp_path):
    """An empty TOML or YAML file is a book without overrides."""
    for name in ("prices.toml", "prices.yaml"):
        assert usd(at(PriceBook.load(write(tmp_path, "", name)), "openai", "gpt-4o")) == Decimal(
            "0.005"
        )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("deep.toml", "x = " + "[" * 5000 + "]" * 5000),
        ("deep.yaml", "x: " + "[" * 5000 + "]" * 5000),
        (
            "bomb.yaml",
            "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
            + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)),
        ),
    ],
)
def test_a_hostile_price_file_is_refused_in_words(tmp_path, name, text):
    """Nesting without end and aliases that grow to gigabytes cost an error message."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(CrewMeterError):
        read_overrides(path)


def test_a_device_is_not_read_as_a_price_file():
    """/dev/zero never ends."""
    with pytest.raises(CrewMeterError, match="regular file"):
        read_overrides(Path("/dev/zero"))
