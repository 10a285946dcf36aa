"""Pages of training runs and evaluations, from what lies in their directories."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import CHROMIUM, CONTRAST, Page

from bertsum.errors import OutputError
from bertsum.evaluation.report import class_report, rouge_report
from bertsum.reports.measures import read_measures
from bertsum.reports.page import render_measures
from bertsum.storage.folder import Folder
from jobs.report import main

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH")

HOSTILE = "</script><img src=x onerror=document.title='taken'> right \u202eto left \x00"
LABELS = ["negative", "neutral", HOSTILE]


def report() -> dict[str, Any]:
    """Of 300 rows, drawn at random."""
    random = np.random.default_rng(3)
    probabilities = random.dirichlet([1, 1, 1], 300)
    wanted = np.where(random.random(300) < 0.6, probabilities.argmax(1), random.integers(0, 3, 300))
    figures = {"rows": 300, "labels": LABELS, **class_report(probabilities, wanted, LABELS)}
    systems = [HOSTILE, "LEAD-3", "oracle"]
    values = random.uniform(20, 50, (40, 3, 3))
    many = [f"label {number}" for number in range(60)]
    large = class_report(random.dirichlet([1] * 60, 90), random.integers(0, 60, 90), many)
    return {
        "rows": 340,
        "labelled_rows": {"sentiment": 300},
        "statuses": {"ok": 340},
        "rouge": rouge_report(values, systems, "LEAD-3"),
        "sentiment": {"model": figures},
        "topic": {"model": {"rows": 90, "labels": many, **large}},
        "words": {},
        "targets": {},
        "retrieval": {},
    }


WORST = [
    {
        "source": "news",
        "model": "model",
        "head": "summary",
        "distance": 20.0,
        "text": f"\U0001f600 First. {HOSTILE} Last.",
        "reference": HOSTILE,
        "summary": f"First.\n{HOSTILE}",
        "spans": [[2, 8], [9, 9 + len(HOSTILE)]],
        "rouge_1": {"model": 10.0, "oracle": 30.0},
    },
    {
        "source": "news",
        "model": "model",
        "head": "sentiment",
        "distance": 0.9,
        "problem": HOSTILE,
        "expected": HOSTILE,
        "predicted": "neutral",
        "scores": {"neutral": 0.9, HOSTILE: 0.1},
    },
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`training` and `evaluation`, as the commands leave them."""
    root = tmp_path_factory.mktemp("measures")
    training = root / "training"
    training.mkdir()
    source = {
        "name": HOSTILE,
        "train_uri": "s3://key:word-of-the-uri@bucket/a",
        "validation_uri": None,
    }
    write(training / "training_config.json", {"encoder": "e", "sources": [source], "max_steps": 40})
    lines: list[dict[str, Any]] = []
    for step in range(1, 1501):
        lines.append({"step": step, "summary_loss": 1 / step, "gradient_norm": None})
        if step % 300 == 0:
            measures = {"rouge": {"rouge_1": step / 50}, "lead": {"rouge_1": 20.0}}
            lines.append({"step": step, "validation": {HOSTILE: measures}})
    log = "".join(json.dumps(line) + "\n" for line in lines)
    (training / "training_log.jsonl").write_text(log + '{"step": 31, "summ')  # as a crash leaves it
    write(training / "validation.json", {HOSTILE: {"rows": 340, "summary_loss": 0.4}})
    write(training / "validation_report.json", {HOSTILE: report()})
    write(training / "worst_examples.json", WORST)
    evaluation = root / "evaluation" / "_report"
    evaluation.mkdir(parents=True)
    models = {HOSTILE: "s3://key:word-of-the-uri@bucket/m", "model": None}
    write(evaluation / "metrics.json", {"models": models, **report()})
    write(evaluation / "worst_examples.json", [{**example, "source": ""} for example in WORST])
    return root


def write(path: Path, values: object) -> None:
    path.write_text(json.dumps(values))


@pytest.fixture(params=["training", "evaluation"])
def page(request: pytest.FixtureRequest, browser: Page, root: Path) -> Page:
    path = root / f"{request.param}.html"
    assert main([str(root / request.param), "--html", str(path)]) == 0
    browser.resize(1280, 900)
    browser.prefer("light")
    browser.open(path)
    browser.run("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    return browser


@needs_browser
def test_the_page_loads_nothing_and_takes_no_text_as_markup(page: Page) -> None:
    assert len(page.requests) == 1
    assert page.problems == []
    assert page.run("document.title").startswith(("Training: ", "Evaluation: "))
    assert page.run("document.querySelectorAll('img').length") == 0
    assert "<img src=x onerror=" in page.text("#worst")
    assert "⟨U+202E⟩" in page.text("#worst")


@needs_browser
def test_a_summary_stands_beside_its_reference_and_is_marked_in_the_text(page: Page) -> None:
    parts = page.run(
        "[...document.querySelectorAll('#worst .readings > div')].map((node) => node.innerText)"
    )
    assert parts[0].startswith("Of the model\nFirst.\n</script>")
    assert parts[1].startswith("Reference\n</script>")
    marks = page.run("[...document.querySelectorAll('#worst mark')].map((m) => m.innerText)")
    assert marks[0] == "First."
    assert marks[1].startswith("</script><img") and len(marks) == 2
    assert page.text("#worst mark").strip() == "First."
    # of a wrong answer: the label, and the prediction with its probability
    assert "neutral 0.90" in page.text("#worst")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_width(page: Page, scheme: str) -> None:
    page.prefer(scheme)
    ratio, where = page.run(CONTRAST)
    assert ratio >= 4.5, where
    page.resize(360, 740, is_phone=True)
    assert page.run("document.documentElement.scrollWidth") <= 360


@needs_browser
def test_pictures_say_what_they_show(page: Page) -> None:
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    names = {role: [] for role in ("image", "region", "table")}
    for node in nodes:
        role = node["role"]["value"]
        if not node.get("ignored") and role in names:
            names[role].append(node.get("name", {}).get("value", ""))
    # three bars; a reliability diagram of each head; of a training run two curves as well
    curves = 2 if page.text("h1").startswith("Training") else 0
    assert len(names["image"]) == 5 + curves and all(names["image"])
    assert sum("expected calibration error" in name for name in names["image"]) == 2
    assert {"What ran", "Summaries", "Sentiment", "Worst examples"} <= set(names["region"])
    assert all(names["table"])


@needs_browser
def test_numbers_are_those_of_the_report(page: Page) -> None:
    figures = report()["sentiment"]["model"]
    cells = page.run(
        "[...document.querySelectorAll('#sentiment .confusion td')]"
        ".map((cell) => Number(cell.firstChild.data))"
    )
    assert cells == [count for row in figures["confusion"] for count in row]
    assert f"Accuracy {figures['accuracy']:.3f}" in page.text("#sentiment")
    assert "The matrix of 60 labels is not shown" in page.text("#topic")
    mean = report()["rouge"]["systems"]["oracle"]["rouge_1"]
    assert f"{mean['mean']:.2f} ({mean['low']:.2f} to {mean['high']:.2f})" in page.text(
        "#summaries"
    )
    page.press("t", "t")
    assert page.text("#theme") == "Theme: dark"
    page.press("t")


def test_curves_have_few_points_and_their_last_one(root: Path) -> None:
    losses, rouge = read_measures(Folder(str(root / "training"))).panels
    (line,) = losses["lines"]
    assert len(line["steps"]) == len(line["values"]) <= 601
    assert (line["steps"][0], line["steps"][-1]) == (1, 1500)
    ours, lead = rouge["lines"]
    assert (ours["name"], ours["values"]) == ("ROUGE-1", [6, 12, 18, 24, 30])
    assert lead["is_baseline"] and not ours["is_baseline"]


def test_no_secret_is_in_the_page(root: Path) -> None:
    for name in ("training", "evaluation"):
        page = render_measures(read_measures(Folder(str(root / name))))
        assert "s3://***@bucket" in page
        assert "word-of-the" not in page


def test_a_run_that_is_at_work_has_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "training_config.json", {"encoder": "e"})
    assert main([str(tmp_path)]) == 0
    assert f"report: {tmp_path}/report.html" in capsys.readouterr().out
    assert "the run is at work" in (tmp_path / "report.html").read_text()


def test_what_does_not_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "training_config.json", {"encoder": "e"})
    assert main([str(tmp_path), "--compare", "other"]) == 2
    assert "takes neither --compare nor --input" in capsys.readouterr().err
    (tmp_path / "validation.json").write_text("{")
    with pytest.raises(OutputError, match=r"validation\.json is damaged"):
        read_measures(Folder(str(tmp_path)))
    (tmp_path / "validation.json").unlink()
    (tmp_path / "worst_examples.json").write_text('[{"a"')
    with pytest.raises(OutputError, match=r"worst_examples\.json is damaged"):
        read_measures(Folder(str(tmp_path)))
