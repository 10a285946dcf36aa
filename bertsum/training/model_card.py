"""The text of `model_card.md`: what a model was trained on, with which command, and how it scored."""

from collections.abc import Mapping, Sequence
from typing import Any

from bertsum.training.config import SourceConfig, TrainingConfig

_SOURCE_HEADER = "| source | labelled rows | passes an epoch | labels |\n|---|---|---|---|"
_SUMMARY_HEADER = (
    "| source | rows | sentences | R1 | R2 | RLsum | LEAD R1 | oracle R1 | R1 over LEAD (95 % interval) | cosine | "
    "deviation |\n|---|---|---|---|---|---|---|---|---|---|---|"
)
_CLASS_HEADER = "| source | {unit} | accuracy | among the set's labels | macro F1 | recall by label |\n|---|---|---|---|---|---|"
_CLASS_HEADS = {
    "sentiment": ("Sentiment", "rows"),
    "topic": ("Topic", "rows"),
    "token_sentiment": ("Words", "words"),
}


def model_card(
    config: TrainingConfig,
    counts: Mapping[str, int],
    results: Mapping[str, Mapping[str, Any]],
    facts: Sequence[str],
) -> str:
    """Markdown. `counts`: labelled training rows by source; `results`: measures of `training.measure` by source.

    `facts`: sentences that only the run knows, such as the command, the machine and the date.
    """
    by_name = {source.name: source for source in config.sources}
    sources = [
        f"| {name} | {counts[name]:,} | {source.weight:g} | {_labels(source)} |"
        for name, source in by_name.items()
        if counts.get(name)
    ]
    summaries = [
        _summary_row(by_name[name], result) for name, result in results.items() if "rouge" in result
    ]
    parts = [
        "# Model card",
        *facts,
        *([config.notes.strip()] if config.notes else []),
        "## Trained on\n\n| source | labelled rows | passes an epoch | labels |\n|---|---|---|---|\n"
        + "\n".join(sources),
        "## Measured on validation rows, which were never trained on",
    ]
    if summaries:
        parts.append(
            f"Summaries: ROUGE F in percent. Cosine: mean between the sentence vectors of a document (1 would be a "
            f"collapse); deviation: of the sentence scores in a document (0 would be).\n\n{_SUMMARY_HEADER}\n"
            + "\n".join(summaries)
        )
    for head, (title, unit) in _CLASS_HEADS.items():
        if rows := [
            _class_row(name, result[head]) for name, result in results.items() if head in result
        ]:
            parts.append(f"{title}:\n\n{_CLASS_HEADER.format(unit=unit)}\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _labels(source: SourceConfig) -> str:
    labels = []
    if source.sentence_labels_column:
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
    if source.removed_pattern:
        labels.append(f"without what matches `{source.removed_pattern}`")
    if source.excerpt_sentences:
        labels.append(f"excerpts of up to {source.excerpt_sentences} sentences")
    return "; ".join(labels)


def _summary_row(source: SourceConfig, result: Mapping[str, Any]) -> str:
    low, high = result["rouge_1_over_lead_95"]
    ours, spread = result["rouge"], result["spread"]
    return (
        f"| {source.name} | {result['rows']:,} | {source.num_summary_sentences} | {ours['rouge_1']:.2f} | "
        f"{ours['rouge_2']:.2f} | {ours['rouge_lsum']:.2f} | {result['lead']['rouge_1']:.2f} | "
        f"{result['oracle']['rouge_1']:.2f} | {result['rouge_1_over_lead']:+.2f} ({low:+.2f} to {high:+.2f}) | "
        f"{spread['vector_cosine']:.2f} | {spread['score_deviation']:.3f} |"
    )


def _class_row(name: str, report: Mapping[str, Any]) -> str:
    recalls = ", ".join(
        f"{label} {value:.3f}"
        for label, value in report["recall"].items()
        if report["support"][label]
    )
    rows = sum(report["support"].values())
    return (
        f"| {name} | {rows:,} | {report['accuracy']:.3f} | {report['accuracy_among_present_labels']:.3f} | "
        f"{report['macro_f1']:.3f} | {recalls} |"
    )
