"""How often do checks hold a good night, and how often a bad one? (jobs/docs/checks.md)

python tests/benchmarks/nights.py --data ../shared/data [--pools DIRECTORY] [--replays 20]

Nights are drawn from real outputs: the shipped model reads articles of the BBC and sentences of
film reviews, as they are and spoiled in four ways. A night draws rows with replacement. Topics, or
the shares of good and bad reviews, vary from night to night; weekends have half of the rows and
more sport. Each night is judged by the nights before it, as `bertsum nightly` does. A good night
that is held is published by hand, and a bad one never is.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from html import escape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bertsum import Summarizer
from bertsum.checks.judge import Finding, ProfiledDay, judge
from bertsum.checks.profile import make_profile
from bertsum.config import NamesConfig
from bertsum.output_config import ChecksConfig

NIGHTS, WARM_UP, BAD_NIGHTS = 100, 42, 10
FIRST_DAY = date(2026, 1, 1)
RULES = ChecksConfig(action="hold")
MULTILINGUAL = Path(__file__).parents[2] / "bertsum/model_default/multilingual"
_GOOD_ROWS, _BAD_ROWS = {"news": 800, "reviews": 400}, 100
_ROWS = 400  # of a working day
_WEEKEND_ROWS = 0.5
_ROWS_SPREAD = 0.15  # standard deviation of the logarithm
_CONCENTRATION = 80.0  # of the Dirichlet distribution of a night's strata
_WEEKEND_SPORT = 1.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Rows of results: good ones by stratum (topic or sentiment), and bad ones by kind."""

    name: str
    strata: Mapping[str, pa.Table]
    bad: Mapping[str, pa.Table]


def html_page(text: str, number: int) -> str:
    """What a crawler stores that forgets to take the text out of the page."""
    paragraphs = "\n".join(f'<p class="story__p">{escape(line)}</p>' for line in text.split("\n"))
    links = "\n".join(
        f'<li class="nav-item"><a href="/section/{i}?ref=top&amp;id={number}">Section {i}</a></li>'
        for i in range(12)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<title>Story {number}</title>\n<link rel="stylesheet" href="/static/main.{number}.css">\n'
        f'<script>window.dataLayer=window.dataLayer||[];(function(){{var id="{number}";'
        'dataLayer.push({"event":"view","id":id,"consent":false});}})();</script>\n</head>\n'
        "<body>\n"
        f'<nav><ul class="nav">\n{links}\n</ul></nav>\n<main id="content">\n{paragraphs}\n</main>\n'
        '<footer><div class="cookie-banner" data-consent="false">&copy; 2026 &nbsp; All rights '
        "reserved</div></footer>\n</body>\n</html>"
    )


def spoiled(texts: Sequence[str], foreign: Sequence[str]) -> dict[str, list[str]]:
    """Texts of each kind of bad night; those of `swapped model` are good, and the model is not."""
    return {
        "other language": list(foreign),
        "cut texts": [text[: len(text) // 4] for text in texts],
        "html": [html_page(text, number) for number, text in enumerate(texts)],
        "swapped model": list(texts),
    }


def read_corpus(name: str, data: Path, pools: Path) -> Corpus:
    """Results of a corpus, computed once and kept in `pools`."""
    files = {
        "news": ("summarization/bbc_news", "topic", "summarization/thucnews_title_zh"),
        "reviews": ("sentiment/rotten_tomatoes", "sentiment", "sentiment/waimai_zh"),
    }
    source, stratum_column, other_language = files[name]
    generator, num_good = np.random.default_rng(1), _GOOD_ROWS[name]
    rows = pq.read_table(data / source / "train.parquet", columns=["document", stratum_column])
    rows = rows.take(generator.permutation(len(rows))[: num_good + _BAD_ROWS])
    foreign = pq.read_table(data / other_language / "train.parquet", columns=["document"])
    foreign = foreign.take(generator.permutation(len(foreign))[:_BAD_ROWS])
    good, rest = rows.slice(0, num_good), rows.slice(num_good)
    results = _read(good["document"].to_pylist(), pools / f"{name}-good.parquet")
    strata: dict[str, pa.Table] = {}
    for stratum in sorted(set(good[stratum_column].to_pylist())):
        strata[stratum] = results.filter(pa.compute.equal(good[stratum_column], stratum))
    bad: dict[str, pa.Table] = {}
    for kind, texts in spoiled(
        rest["document"].to_pylist(), foreign["document"].to_pylist()
    ).items():
        model = str(MULTILINGUAL) if kind == "swapped model" else None
        bad[kind] = _read(texts, pools / f"{name}-{kind.replace(' ', '-')}.parquet", model)
    return Corpus(name=name, strata=strata, bad=bad)


def _read(texts: Sequence[str], path: Path, model: str | None = None) -> pa.Table:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(Summarizer(model)(pa.table({"document": texts})), path)
    return pq.read_table(path)


class Calendar:
    """Draws the rows of nights."""

    def __init__(self, corpus: Corpus, seed: int) -> None:
        self._corpus, self._generator = corpus, np.random.default_rng(seed)
        sizes = np.array([len(table) for table in corpus.strata.values()], np.float64)
        self._shares = sizes / sizes.sum()

    def night(self, number: int, kind: str | None = None, bad_share: float = 1.0) -> ProfiledDay:
        """The night of a day; a bad one has `bad_share` of its rows from the bad ones of a kind."""
        day = FIRST_DAY + timedelta(days=number)
        shares, is_weekend = self._shares.copy(), day.weekday() >= 5
        if is_weekend and "sport" in self._corpus.strata:
            shares[list(self._corpus.strata).index("sport")] *= _WEEKEND_SPORT
        shares = self._generator.dirichlet(_CONCENTRATION * shares / shares.sum())
        mean = _ROWS * (_WEEKEND_ROWS if is_weekend else 1.0)
        num_rows = int(mean * np.exp(_ROWS_SPREAD * self._generator.standard_normal()))
        num_bad = 0 if kind is None else round(bad_share * num_rows)
        tables = [self._draw(self._corpus.bad[kind], num_bad)] if kind is not None else []
        counts = self._generator.multinomial(num_rows - num_bad, shares)
        for table, count in zip(self._corpus.strata.values(), counts, strict=True):
            tables.append(self._draw(table, int(count)))
        digest = "swapped" if kind == "swapped model" else "usual"
        profile = make_profile(tables, NamesConfig())
        return ProfiledDay(day=day, profile=profile, digest=digest, model_id=digest)

    def _draw(self, table: pa.Table, count: int) -> pa.Table:
        return table.take(self._generator.integers(0, len(table), count))


def replay(
    corpus: Corpus, seed: int, warm_up: int
) -> tuple[list[list[Finding]], list[ProfiledDay]]:
    """What is found in each of NIGHTS good nights after the first `warm_up`, and all nights."""
    calendar, history = Calendar(corpus, seed), list[ProfiledDay]()
    found: list[list[Finding]] = []
    for number in range(warm_up + NIGHTS):
        tonight = calendar.night(number)
        findings = judge(tonight, history[-RULES.history_days :], RULES)
        if number >= warm_up:
            found.append(findings)
        history.append(tonight)
    return found, history


def held(
    corpus: Corpus, history: Sequence[ProfiledDay], kind: str, share: float = 1.0, seed: int = 7
) -> tuple[int, int]:
    """Bad nights of a kind that are held, of BAD_NIGHTS; and those that are without `same_model`."""
    calendar = Calendar(corpus, seed)
    alone = RULES.model_copy(update={"same_model": False})
    by_all = by_statistics = 0
    days = np.random.default_rng(seed).integers(RULES.min_history, len(history), BAD_NIGHTS)
    for number in days.tolist():
        before = history[max(number - RULES.history_days, 0) : number]
        tonight = calendar.night(number, kind, share)
        by_all += bool(judge(tonight, before, RULES))
        by_statistics += bool(judge(tonight, before, alone))
    return by_all, by_statistics


def main() -> None:
    parser = argparse.ArgumentParser(description="Good and bad nights, replayed.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pools", type=Path, default=Path("/tmp/bertsum-nights"))
    parser.add_argument("--replays", type=int, default=20)
    parser.add_argument("--corpora", nargs="+", default=list(_GOOD_ROWS), choices=list(_GOOD_ROWS))
    options = parser.parse_args()
    for name in options.corpora:
        corpus = read_corpus(name, options.data, options.pools)
        for warm_up in (0, WARM_UP):
            found, _ = replay(corpus, 0, warm_up)
            count = sum(map(bool, found))
            print(f"{name}: {count} of {NIGHTS} good nights held, {warm_up} days before them")
        reasons: list[str] = []
        for seed in range(1, options.replays + 1):
            for findings in replay(corpus, seed, warm_up=0)[0]:
                reasons += [finding.reason for finding in findings[:1]]
        print(f"{name}: {len(reasons)} of {options.replays * NIGHTS} good nights held: {reasons}")
        _, history = replay(corpus, 0, warm_up=0)
        for kind in corpus.bad:
            for share in (1.0, 0.5, 0.25):
                by_all, alone = held(corpus, history, kind, share)
                print(
                    f"{name}: {kind}, {share:.0%} of the rows: {by_all} of {BAD_NIGHTS} held, "
                    f"{alone} by statistics alone"
                )


if __name__ == "__main__":
    main()
