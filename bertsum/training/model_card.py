"""The text of `model_card.md`: what a model was trained on, how, and how it scored."""

import platform
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import torch

import bertsum
from bertsum.training.config import TrainingConfig
from bertsum.training.distributed import world_size
from bertsum.training.start.source_config import SourceConfig

Measures = Mapping[str, Any]  # nested: numbers by name

_SOURCE_HEADER = "| source | labelled rows | passes an epoch | labels |\n|---|---|---|---|"
_SUMMARY_HEADER = (
    "| source | rows | sentences | R1 | R2 | RLsum | LEAD R1 | oracle R1 | "
    "R1 over LEAD (95 % interval) | cosine | deviation |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)
_SUMMARY_LEGEND = (
    "Summaries: ROUGE F in percent. Cosine: mean between the sentence vectors of a document (1 "
    "would be a collapse); deviation: of the sentence scores in a document (0 would be)."
)
_WRITING_HEADER = (
    "| source | rows | perplexity | right tokens | written | R1 | R2 | RLsum | LEAD R1 | "
    "extractive R1 | oracle R1 | R1 over LEAD (95 % interval) |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)
_WRITING_LEGEND = (
    "Written summaries: ROUGE F in percent of the rows whose summaries were written. Perplexity and "
    "right tokens: of the references, each token after all before it. Extractive: the checkpoint "
    "that the run began with, of whole documents."
)
_CLASS_HEADER = (
    "| source | {unit} | accuracy (95 % interval) | among the set's labels (95 % interval) | "
    "macro F1 | macro F1 among the set's labels | ECE | recall by label |\n"
    "|---|---|---|---|---|---|---|---|"
)
_CLASS_LEGEND = (
    "ECE: expected calibration error in 15 bins, how far the probability of an answer is from the "
    "share of right ones. Few rows alone make some."
)
_RETRIEVAL_HEADER = (
    "| source | recall at 1 (95 % interval) | recall at 5 | recall at 10 | MRR | nDCG at 10 |\n"
    "|---|---|---|---|---|---|"
)
_RETRIEVAL_LEGEND = (
    "Queries and their documents: each query looks for its document among those of all validation "
    "rows of the source, by the cosine of their vectors."
)
# title and what is counted, by head
_CLASS_HEADS = {
    "sentiment": ("Sentiment", "rows"),
    "topic": ("Topic", "rows"),
    "token_sentiment": ("Words", "words"),
}


def model_card(
    config: TrainingConfig,
    counts: Mapping[str, int],
    results: Mapping[str, Measures],
    facts: Sequence[str],
    pictures: Sequence[str] = (),
) -> str:
    """Write the card, in Markdown.

    - `counts`: labelled training rows by source.
    - `results`: measures by source, as `training.validation.validate` gives them.
    - `facts`: paragraphs that only the run knows, such as those of `run_facts`.
    - `pictures`: names of files beside the card.
    """
    by_name = {source.name: source for source in config.sources}
    sources = []
    for name, source in by_name.items():
        # A source may be there only to measure on.
        if counts.get(name):
            labels = _labels(source, config)
            row = f"| {name} | {counts[name]:,} | {source.weight:g} | {labels} |"
            sources.append(row)
    parts = ["# Model card", *facts]
    if config.notes:
        parts.append(config.notes.strip())
    if sources:  # none where only the embedding is fitted
        parts.append("## Trained on\n\n" + _table(_SOURCE_HEADER, sources))
    parts.append("## Measured on validation rows")
    summaries = []
    for name, result in results.items():
        if "spread" in result:
            summaries.append(_summary_row(by_name[name], result))
    if summaries:
        parts.append(f"{_SUMMARY_LEGEND}\n\n{_table(_SUMMARY_HEADER, summaries)}")
    rows = [_writing_row(name, row) for name, row in results.items() if "written" in row]
    if rows:
        parts.append(f"{_WRITING_LEGEND}\n\n{_table(_WRITING_HEADER, rows)}")
    for head, (title, unit) in _CLASS_HEADS.items():
        rows = []
        for name, result in results.items():
            if head in result:
                rows.append(_class_row(name, result[head]))
        if rows:
            header = _CLASS_HEADER.format(unit=unit)
            parts.append(f"{title}. {_CLASS_LEGEND}\n\n{_table(header, rows)}")
    rows = []
    for name, result in results.items():
        if "retrieval" in result:
            rows.append(_retrieval_row(name, result["retrieval"]))
    if rows:
        parts.append(f"{_RETRIEVAL_LEGEND}\n\n{_table(_RETRIEVAL_HEADER, rows)}")
    if pictures:
        # names have letters, digits, `_`, `-` and `/` only, so that they need no escapes
        parts += ["## Pictures", *(f"![{_caption(name)}]({name})" for name in pictures)]
    return "\n\n".join(parts) + "\n"


def run_facts(command: str, seconds: float) -> list[str]:
    """Paragraphs of the model card that only the run knows."""
    # 3,725 seconds -> 1:02:05
    minutes, rest = divmod(round(seconds), 60)
    duration = f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    workers = f"{world_size()} workers of " if world_size() > 1 else ""
    machine = f"{workers}{torch.get_num_threads()} threads, {platform.machine()}"
    return [
        f"A BERTSUM model, trained by bertsum {bertsum.__version__} on {date.today()} in "
        f"{duration} ({machine}) with:",
        f"    {command}",
    ]


def _caption(name: str) -> str:
    """`pictures/1_news_rouge.png` -> `news rouge`."""
    words = re.split("_+", name.rpartition("/")[2].removesuffix(".png"))
    return " ".join(word for word in words if word and not word.isdecimal())


def _table(header: str, rows: Sequence[str]) -> str:
    return "\n".join([header, *rows])


def _labels(source: SourceConfig, config: TrainingConfig) -> str:
    """Which labels the rows of a source have, and what was done to its texts."""
    labels = []
    if config.decoder is not None:
        labels.append("summaries, word for word")
    elif source.sentence_labels_column:
        labels.append("sentences, as given")
    elif source.summary_column:
        labels.append(f"sentences, greedy oracle of at most {source.num_summary_sentences}")
    if source.sentiment_column:
        labels.append("sentiment")
    if source.aspect_sentiments_column:
        labels.append("sentiment, where all aspects of a sentence have the same")
    if source.sentiment:
        labels.append(f"sentiment, all {source.sentiment}")
    if source.topic_column:
        labels.append("topic")
    if source.token_sentiments_column:
        labels.append("sentiment of words")
    if source.entity_sentiments_column:
        labels.append("sentiment of the words of names")
    if source.query_column:
        negatives = ", with negatives" if source.negatives_column else ""
        weights = ", weighted" if source.pair_weight_column else ""
        labels.append(f"queries of its documents{negatives}{weights}")
    if source.hold_vectors:
        whose = "from before" if config.hold_to == "start" else f"of `{config.encoder}`"
        labels.append(f"vectors held near those {whose}")
    if source.removed_pattern:
        labels.append(f"without what matches `{source.removed_pattern}`")
    if source.excerpt_sentences:
        labels.append(f"excerpts of up to {source.excerpt_sentences} sentences")
    return "; ".join(labels)


def _summary_row(source: SourceConfig, result: Measures) -> str:
    low, high = result["rouge_1_over_lead_95"]
    ours, spread = result["rouge"], result["spread"]
    cells = [
        source.name,
        f"{result['rows']:,}",
        str(source.num_summary_sentences),
        f"{ours['rouge_1']:.2f}",
        f"{ours['rouge_2']:.2f}",
        f"{ours['rouge_lsum']:.2f}",
        f"{result['lead']['rouge_1']:.2f}",
        f"{result['oracle']['rouge_1']:.2f}",
        f"{result['rouge_1_over_lead']:+.2f} ({low:+.2f} to {high:+.2f})",
        f"{spread['vector_cosine']:.2f}",
        f"{spread['score_deviation']:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def _writing_row(name: str, result: Measures) -> str:
    low, high = result["rouge_1_over_lead_95"]
    ours = result["rouge"]
    cells = [
        name,
        f"{result['rows']:,}",
        f"{result['perplexity']:.1f}",
        f"{result['token_accuracy']:.3f}",
        f"{result['written']:,}",
        f"{ours['rouge_1']:.2f}",
        f"{ours['rouge_2']:.2f}",
        f"{ours['rouge_lsum']:.2f}",
        f"{result['lead']['rouge_1']:.2f}",
        f"{result['extractive']['rouge_1']:.2f}" if "extractive" in result else "",
        f"{result['oracle']['rouge_1']:.2f}",
        f"{result['rouge_1_over_lead']:+.2f} ({low:+.2f} to {high:+.2f})",
    ]
    return f"| {' | '.join(cells)} |"


def _class_row(name: str, report: Measures) -> str:
    recalls = []
    for label, recall in report["recall"].items():
        # Of a label without rows the recall says nothing.
        if report["support"][label]:
            recalls.append(f"{label} {recall:.3f}")
    rows = sum(report["support"].values())
    cells = [
        name,
        f"{rows:,}",
        _share(report, "accuracy"),
        _share(report, "accuracy_among_present_labels"),
        f"{report['macro_f1']:.3f}",
        f"{report['macro_f1_among_present_labels']:.3f}",
        f"{report['calibration_error']:.3f}",
        ", ".join(recalls),
    ]
    return f"| {' | '.join(cells)} |"


def _retrieval_row(name: str, report: Measures) -> str:
    first = report["recall_at_1"]
    cells = [name, f"{first['mean']:.3f} ({first['low']:.3f} {first['high']:.3f})"]
    for measure in ("recall_at_5", "recall_at_10", "mrr", "ndcg_at_10"):
        cells.append(f"{report[measure]['mean']:.3f}")
    return f"| {' | '.join(cells)} |"


def _share(report: Measures, name: str) -> str:
    """`0.750 (0.610 0.850)`: a share and its interval."""
    low, high = report[f"{name}_95"]
    return f"{report[name]:.3f} ({low:.3f} {high:.3f})"
