"""False alarms, delays and time of `bertsum monitor`, on simulated days.

python tests/benchmarks/alarms.py false_alarms    # stationary days: alarms a group and month
python tests/benchmarks/alarms.py delays          # shifts that begin on a known day: how many are told, and how soon
python tests/benchmarks/alarms.py time            # three years of daily partitions, from scratch and again

Each run is 100 groups with the default configuration: one false alarm a month is accepted in all.
"""

import os
import sys
import tempfile
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.report_runs import Run

from bertsum.config import SummarizerConfig
from bertsum.reports.result import read_result
from bertsum.runs.columns import output_schema
from bertsum.runs.plan import Plan
from bertsum.runs.records import Job, encode
from bertsum.storage.folder import Folder
from bertsum.trends.alarms import DAYS_OF_MONTH, Kind, Measure, Rules, find_alarms
from bertsum.trends.config import TrendsConfig
from bertsum.trends.series import Group, Series
from bertsum.trends.state import STATE, read_state, write_state
from bertsum.trends.trends import make_trends, trends_values

FIRST = date(2023, 1, 2)
GROUPS, YEARS = 100, 3
RULES = Rules(
    label="negative",
    **TrendsConfig().model_dump(
        include={"false_alarms", "least_rows", "window_days", "least_days"}
    ),
)
Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
WEEK = np.array([1.2, 1.25, 1.2, 1.1, 1.0, 0.5, 0.4])

# mean rows a day; variance over mean; negative share; correlation of the rows of a day; weekdays; spread of a
# lognormal factor; correlation of neighbouring days
SCENARIOS: dict[str, dict[str, float]] = {
    "Poisson, 100 rows a day, 20 % negative": {"mean": 100, "share": 0.2},
    "Poisson, 25 rows": {"mean": 25, "share": 0.1},
    "Poisson, 8 rows": {"mean": 8, "share": 0.1},
    "8 rows, variance 10 times the mean": {
        "mean": 8,
        "dispersion": 10,
        "share": 0.1,
        "clumping": 0.02,
    },
    "15 rows, variance 3 times": {"mean": 15, "dispersion": 3, "share": 0.1, "clumping": 0.02},
    "100 rows, 5 times": {"mean": 100, "dispersion": 5, "share": 0.2, "clumping": 0.01},
    "300 rows, 50 times, 2 % negative": {
        "mean": 300,
        "dispersion": 50,
        "share": 0.02,
        "clumping": 0.002,
    },
    "30 rows, 3 times, weekdays": {
        "mean": 30,
        "dispersion": 3,
        "share": 0.2,
        "clumping": 0.01,
        "week": 1,
    },
    "200 rows, 10 times, weekdays": {
        "mean": 200,
        "dispersion": 10,
        "share": 0.2,
        "clumping": 0.01,
        "week": 1,
    },
    "200 rows, lognormal 0.3, weekdays": {
        "mean": 200,
        "lognormal": 0.3,
        "share": 0.2,
        "clumping": 0.01,
        "week": 1,
    },
    "200 rows, lognormal 0.6": {"mean": 200, "lognormal": 0.6, "share": 0.2, "clumping": 0.03},
    "neighbouring days alike, 0.5": {"mean": 200, "share": 0.2, "clumping": 0.01, "alike": 0.5},
    "neighbouring days alike, 0.8": {"mean": 200, "share": 0.2, "clumping": 0.01, "alike": 0.8},
}


def draw(
    num_days: int,
    random: np.random.Generator,
    *,
    mean: float,
    share: float,
    dispersion: float = 1.0,
    clumping: float = 0.0,
    week: float = 0.0,
    lognormal: float = 0.0,
    alike: float = 0.0,
) -> tuple[Counts, Values]:
    """Rows, and the probability of a negative one."""
    shape = (GROUPS, num_days)
    weekdays = np.arange(num_days) % 7
    means = mean * (WEEK[weekdays] if week else np.ones(num_days)) * np.ones(shape)
    shares = share * np.where((weekdays > 4) & bool(week), 1.4, 1.0) * np.ones(shape)
    if alike:
        noise, wave = random.normal(size=shape), np.zeros(shape)
        for day in range(1, num_days):
            wave[:, day] = alike * wave[:, day - 1] + np.sqrt(1 - alike**2) * noise[:, day]
        means = means * np.exp(0.3 * wave)
        shares = 1 / (1 + (1 - shares) / shares * np.exp(-0.2 * wave))
    means = means * np.exp(random.normal(0, lognormal, shape) - lognormal**2 / 2)
    if dispersion > 1:
        means = random.gamma(means / (dispersion - 1), dispersion - 1)
    if clumping:
        shares = random.beta(shares * (1 / clumping - 1), (1 - shares) * (1 / clumping - 1))
    return random.poisson(means), shares


def series_of(rows: Counts, negative: Counts) -> Series:
    return Series(
        groups=[Group("topic", f"{index:03}") for index in range(len(rows))],
        days=[FIRST + timedelta(days=day) for day in range(rows.shape[1])],
        rows=rows,
        labels={"negative": negative, "positive": rows - negative},
    )


def false_alarms(num_runs: int = 10) -> None:
    """Alarms a group and month; the configured rate is 0.01."""
    head = f"stationary days, {num_runs * GROUPS:,} groups of {YEARS} years"
    print(f"| {head} | a group and month | share | volume | single days | changes |")
    print("|---|---|---|---|---|---|")
    for name, scenario in SCENARIOS.items():
        counts: Counter[str] = Counter()
        for run in range(num_runs):
            random = np.random.default_rng(run)
            rows, shares = draw(YEARS * 365, random, **scenario)
            found = find_alarms(series_of(rows, random.binomial(rows, shares)), RULES).alarms
            counts["all"] += len(found)
            for alarm in found:
                counts.update([alarm.measure.value, alarm.kind.value])
        months = num_runs * GROUPS * YEARS * 365 / DAYS_OF_MONTH
        rates = [
            f"{counts[key] / months:.4f}" for key in ("all", "share", "volume", "day", "change")
        ]
        print(f"| {name} | " + " | ".join(rates) + " |", flush=True)


def delays(num_runs: int = 4, begin: int = 200, most_days: int = 28) -> None:
    """A shift in every tenth group, which lasts; rows vary 3 times as much as Poisson's, with weekdays."""
    print(
        f"| shift | rows a day | told within {most_days} days, % | median days until | by a single day, % |"
    )
    print("|---|---|---|---|---|")
    shifts = [
        *((Measure.SHARE, factor) for factor in (1.25, 1.5, 2.0)),
        *((Measure.VOLUME, factor) for factor in (1.3, 1.5, 2.0, 0.5)),
    ]
    for measure, factor in shifts:
        for mean in (50, 200, 1000):
            waits: list[int] = []
            first_kinds: list[Kind] = []
            for run in range(num_runs):
                random = np.random.default_rng(run)
                rows, shares = draw(
                    begin + most_days,
                    random,
                    mean=mean,
                    share=0.2,
                    dispersion=3,
                    clumping=0.005,
                    week=1,
                )
                shifted = slice(0, GROUPS, 10)
                if measure == Measure.SHARE:
                    shares[shifted, begin:] = np.minimum(shares[shifted, begin:] * factor, 1)
                else:
                    more = random.poisson(rows[shifted, begin:] * factor)
                    rows[shifted, begin:] = more
                alarms = find_alarms(series_of(rows, random.binomial(rows, shares)), RULES).alarms
                for index in range(0, GROUPS, 10):
                    told = [
                        a
                        for a in alarms
                        if a.group.value == f"{index:03}"
                        and a.measure == measure
                        and a.is_up == (factor > 1)
                        and (a.day - FIRST).days >= begin
                    ]
                    if told:
                        first = min(told, key=lambda a: (a.day, a.kind))
                        waits.append((first.day - FIRST).days - begin)
                        first_kinds.append(first.kind)
            number = num_runs * GROUPS // 10
            what = (
                f"negative share 20 % to {20 * factor:g} %"
                if measure == Measure.SHARE
                else f"volume times {factor:g}"
            )
            wait = f"{np.median(waits):.0f}" if len(waits) > number / 2 else "-"
            by_day = 100 * sum(kind == Kind.DAY for kind in first_kinds) / max(len(first_kinds), 1)
            print(
                f"| {what} | {mean:,} | {100 * len(waits) / number:.0f} | {wait} | {by_day:.0f} |",
                flush=True,
            )


class _FastRun(Run):
    """Makes units without a model, a column at a time."""

    def make(self, plan: Plan, most_units: int = 1_000_000) -> None:
        for name, unit in plan.missing.items():
            path = unit.slices[0].path
            with self.input.root.open(path) as stream:
                table = pq.read_table(stream)
            schema = output_schema(table.schema, self.job.config)
            size = table.num_rows
            made = {
                "sentiment": table["document"],
                "topic": table["entity"],
                "status": pa.repeat("ok", size),
                "num_sentences": pa.repeat(pa.scalar(1, pa.int32()), size),
                "num_tokens": pa.repeat(pa.scalar(9, pa.int32()), size),
                "truncated": pa.repeat(False, size),
            }
            columns = [
                made.get(field.name)
                if field.name in made
                else table[field.name]
                if field.name in table.column_names
                else pa.nulls(size, field.type)
                for field in schema
            ]
            data, _ = encode([pa.Table.from_arrays(columns, schema=schema)], schema, unit, self.job)
            assert self.output.create_exclusive(name, data)


def _forget_last_file(output: Folder) -> None:
    """Take the counts of the last file out of what is kept."""
    (name,) = (f"{STATE}/{path.name}" for path in (Path(output.uri) / STATE).iterdir())
    table = read_state(output, name)
    assert table is not None
    last = table["file"][-1].as_py()
    kept = table.filter(pa.array([file != last for file in table["file"].to_pylist()]))
    assert write_state(output, name, kept) is None


def measure_time(
    rounds: int = 3, rows_a_day: int = 2000, num_topics: int = 20, num_entities: int = 300
) -> None:
    """1,095 partitions; groups by topic (20) and by entity (300)."""
    random = np.random.default_rng(0)
    config = SummarizerConfig.model_validate({"outputs": ["summary", "sentiment", "topic"]})
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for day in range(YEARS * 365):
            path = root / "in" / f"dt={FIRST + timedelta(days=day)}" / "a.parquet"
            path.parent.mkdir(parents=True)
            labels = random.choice(
                ["negative", "neutral", "positive"], rows_a_day, p=[0.2, 0.5, 0.3]
            )
            entities = random.integers(0, num_entities, rows_a_day)
            pq.write_table(
                pa.table(
                    {
                        "document": labels,
                        "entity": [f"topic {entity % num_topics}" for entity in entities],
                        "company": [f"company {entity}" for entity in entities],
                    }
                ),
                path,
            )
        job = Job("model-a", "digest-a", config)
        _FastRun(root / "in", root / "out", job=job, rows_per_unit=10_000).run()
        output = Folder(str(root / "out"))
        settings = TrendsConfig(by=("topic", "company"), least_rows=5)
        found = []
        for _ in range(rounds):
            for state in (root / "out" / STATE).glob("*"):
                state.unlink()
            for what in ("from scratch", "again", "one new day"):
                if what == "one new day":
                    _forget_last_file(output)
                load = os.getloadavg()[0]
                begin, used = time.perf_counter(), time.process_time()
                trends = make_trends(read_result(output), settings)
                values = trends_values(trends)
                seconds, used = time.perf_counter() - begin, time.process_time() - used
                found.append(values)
                counted = trends.counted
                print(
                    f"{what}: {seconds:.1f} s ({used:.1f} s of CPU, at load {load:.1f}) for "
                    f"{values['rows']:,} rows, {values['days']:,} days, "
                    f"{len(values['groups']):,} groups; {counted.num_read:,} files read, "
                    f"{counted.num_kept:,} kept",
                    flush=True,
                )
        assert all(values == found[0] for values in found)
        print("the same values each time")


if __name__ == "__main__":
    {"false_alarms": false_alarms, "delays": delays, "time": measure_time}[sys.argv[1]]()
