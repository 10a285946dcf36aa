"""Two runs over the same rows, against scikit-learn and against differences that were made."""

from pathlib import Path

import pytest
from helpers.report_runs import CONFIG, Run, predict, write_documents
from sklearn.metrics import cohen_kappa_score

from bertsum.reports.comparison import compare_runs
from bertsum.reports.report import make_report
from bertsum.reports.result import Result, read_result
from bertsum.runs.records import Job
from bertsum.schema import Prediction

OTHER_JOB = Job("model-b", "digest-b", CONFIG)
TEXTS = [f"Alpha {i}. Beta {i}. Gamma {i}. Delta." for i in range(60)]


def number_of(text: str) -> int:
    return int(text.split()[1].rstrip("."))


def first_model(text: str, number: int) -> Prediction:
    return predict(text, number_of(text))


def second_model(text: str, number: int) -> Prediction:
    """Another sentiment in each fifth row, and another sentence in each third."""
    row = number_of(text)
    prediction = predict(text, row + (row % 5 == 0))
    if row % 3:
        return prediction
    return Prediction(
        **{
            **{name: getattr(prediction, name) for name in prediction.__slots__},
            "summary_sentences": [1],
            "summary_scores": [0.5],
            "summary_spans": [prediction.summary_spans[0]],
        }
    )


@pytest.fixture
def results(tmp_path: Path) -> tuple[Result, Result]:
    """The runs cut the rows into units of 7 and of 25."""
    write_documents(tmp_path / "in", {"dt=1": TEXTS[:40], "dt=2": TEXTS[40:]})
    ours = Run(tmp_path / "in", tmp_path / "a", predict=first_model, rows_per_unit=7).run()
    others = Run(
        tmp_path / "in", tmp_path / "b", predict=second_model, rows_per_unit=25, job=OTHER_JOB
    ).run()
    return read_result(ours.output), read_result(others.output)


def test_agreement_of_labels(results: tuple[Result, Result]) -> None:
    comparison = compare_runs(*results, most_differing=1000)
    assert (comparison.rows, comparison.only_ours, comparison.only_others) == (60, 0, 0)
    sentiment = comparison.labels["sentiment"]
    assert (sentiment.rows, sentiment.equal) == (60, 48)
    first = [first_model(text, 0).sentiment for text in TEXTS]
    second = [second_model(text, 0).sentiment for text in TEXTS]
    assert sentiment.kappa == pytest.approx(cohen_kappa_score(first, second))
    pairs = {(label, other): rows for label, other, rows in sentiment.pairs}
    assert sum(pairs.values()) == 60
    assert pairs["positive", "negative"] == sum(
        pair == ("positive", "negative") for pair in zip(first, second, strict=True)
    )
    # all rows have the same status, so that chance alone gives all agreement
    assert comparison.labels["status"].kappa is None


def test_agreement_of_summaries(results: tuple[Result, Result]) -> None:
    comparison = compare_runs(*results, most_differing=1000)
    assert (comparison.summarized, comparison.same_summary) == (60, 40)


def test_rows_that_differ_are_found_in_both_runs(results: tuple[Result, Result]) -> None:
    ours, others = results
    differing = compare_runs(ours, others, most_differing=1000).differing
    # rows of both results are in the order of INPUT, since both have all of them
    assert all(row == other for row, other in differing.items())
    assert set(differing) == {row for row in range(60) if row % 5 == 0 or row % 3 == 0}
    few = compare_runs(ours, others, most_differing=6).differing
    assert len(few) == 6
    assert sum(row % 5 == 0 for row in few) >= 3


def test_a_report_has_both_readings(results: tuple[Result, Result]) -> None:
    ours, others = results
    report = make_report(ours, others, most_documents=20)
    assert 0 < len(report.documents) <= 20
    for document in report.documents:
        first, second = document.readings
        assert document.text is not None
        assert first.sentiment == first_model(document.text, 0).sentiment
        assert second.sentiment == second_model(document.text, 0).sentiment


def test_runs_over_other_rows(tmp_path: Path, results: tuple[Result, Result]) -> None:
    """A run that is not finished has some of the rows; one over another INPUT has none."""
    run = Run(tmp_path / "in", tmp_path / "c", predict=second_model, rows_per_unit=25)
    plan = run.plan()
    run.begin(plan)
    run.make(plan, most_units=1)
    half = compare_runs(results[0], read_result(run.output), most_differing=10)
    assert (half.rows, half.only_ours, half.only_others) == (20, 40, 0)
    write_documents(tmp_path / "elsewhere", {"dt=9": TEXTS})
    none = Run(tmp_path / "elsewhere", tmp_path / "d").run()
    nothing = compare_runs(results[0], read_result(none.output), most_differing=10)
    assert (nothing.rows, nothing.labels, nothing.differing) == (0, {}, {})
