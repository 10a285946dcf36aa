"""Training: labels from Parquet, the loss of a step, and a loop that learns, repeats itself and stops."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny
from helpers.rows import sentiment_rows, summary_rows, training_config
from pydantic import ValidationError

from bertsum.errors import InputError, ModelError
from bertsum.inference.reader import document_encoder
from bertsum.model.batches import make_batch
from bertsum.model.losses import IGNORE
from bertsum.storage.folder import Folder
from bertsum.training import loop as training
from bertsum.training import optimization, validation
from bertsum.training.adapters import merge_adapter
from bertsum.training.config import TrainingConfig
from bertsum.training.data import Sampling, labelled_batch, read_examples
from bertsum.training.examples import token_counts
from bertsum.training.loop import build_model, train
from bertsum.training.optimization import (
    LossModule,
    WeightAverage,
    learning_rate_factor,
    train_step,
)
from bertsum.training.start.source_config import SourceConfig
from bertsum.training.state import VectorStore
from bertsum.training.steps import StepPlan
from bertsum.training.validation import LabelledSource, predict_examples

LABELS = ("negative", "neutral", "positive")


def source_config(**values) -> SourceConfig:
    return SourceConfig.model_validate({"name": "news"} | values)


def read(tmp_path, rows: dict, config: SourceConfig, max_windows: int = 8, **sampling):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(rows), path)
    encoder, model, drawn = tiny.document_encoder(), tiny.model_config(), Sampling(**sampling)
    return read_examples(str(path), config, encoder, model, max_windows=max_windows, sampling=drawn)


@pytest.fixture
def summaries(tmp_path):
    return read(
        tmp_path, summary_rows(), source_config(summary_column="summary", num_summary_sentences=1)
    )


@pytest.fixture
def sentiments(tmp_path):
    return read(tmp_path, sentiment_rows(), source_config(sentiment_column="label"))


def labels_of(examples) -> list[list[float]]:
    return [example.sentence_labels.tolist() for example in examples]


# Labels


def test_labels_of_summaries_are_the_oracles(summaries):
    assert labels_of(summaries) == [
        [float(i == number % 5) for i in range(5)] for number in range(8)
    ]
    assert {example.sentiment_label for example in summaries} == {IGNORE}
    assert summaries[0].summary.startswith("Zebra")


def test_labels_of_sentiments(sentiments):
    assert [example.sentiment_label for example in sentiments] == [0, 2] * 4
    assert all(set(labels) == {IGNORE} for labels in labels_of(sentiments))


def test_rows_without_text_are_left_out_and_unlabelled_rows_are_ignored(tmp_path):
    rows = {
        "document": ["The cat sleeps.", None, "", " \n", "A dog runs.", "A bird sees."],
        "summary": ["The cat.", "a", "b", "c", None, ""],
        "label": ["positive", "positive", None, None, None, "neutral"],
    }
    examples = read(
        tmp_path, rows, source_config(summary_column="summary", sentiment_column="label")
    )
    assert [example.document.text for example in examples] == [
        "The cat sleeps.",
        "A dog runs.",
        "A bird sees.",
    ]
    assert labels_of(examples) == [[1], [IGNORE], [IGNORE]]
    assert [example.sentiment_label for example in examples] == [2, IGNORE, 1]


def test_one_label_for_a_whole_source(tmp_path):
    examples = read(tmp_path, summary_rows(2), source_config(sentiment="neutral"))
    assert [example.sentiment_label for example in examples] == [1, 1]


@pytest.mark.parametrize(
    ("column", "config"),
    [(["neutral", "good"], {"sentiment_column": "label"}), ([1, 2], {"sentiment_column": "label"}),
     (["x", "y"], {"sentiment": "good"})],
)  # fmt: skip
def test_a_label_that_the_model_does_not_have_is_named(tmp_path, column, config):
    with pytest.raises(
        InputError,
        match=r"news: .*rows\.parquet, row \d \(from 0\): it has the label '(good|1)'; the model knows",
    ):
        read(tmp_path, {"document": ["a cat", "a dog"], "label": column}, source_config(**config))


def test_sentence_labels_that_come_with_the_data(tmp_path):
    text = "The cat sleeps. A dog runs.  The cat sleeps.\n\nPrices rise"
    rows = {
        "document": [text, text, text, text],
        "sentences": [
            ["The cat sleeps.", "A dog runs.", "The cat sleeps.", "Prices rise"],
            ["The cat", " sleeps. ", "\nA dog runs.", "", " Prices rise "],  # split in another way
            ["something", "else"],  # not of this document
            None,
        ],
        "labels": [[0, 0, 1, 1], [0, 0, 1, 1, 1], [1, 0], None],
    }
    config = source_config(sentences_column="sentences", sentence_labels_column="labels")
    found = labels_of(read(tmp_path, rows, config))
    assert found == [[0, 0, 1, 1], [0, 1, 0, 1], [IGNORE] * 4, [IGNORE] * 4]


def test_sentence_labels_of_another_number_are_an_error(tmp_path):
    rows = {"document": ["A cat."], "sentences": [["A cat."]], "labels": [[0, 1]]}
    with pytest.raises(InputError, match=r"source news.*1 sentences.*2 labels"):
        read(
            tmp_path,
            rows,
            source_config(sentences_column="sentences", sentence_labels_column="labels"),
        )


def test_labels_are_of_the_sentences_that_were_read(tmp_path):
    rows = {"document": [tiny.text(30, 8)], "summary": [tiny.text(30, 8).split(". ")[-1]]}
    (example,) = read(tmp_path, rows, source_config(summary_column="summary"), max_windows=1)
    assert example.document.truncated
    assert len(example.sentence_labels) == example.document.num_read_sentences < 30
    labelled_batch([example])


def test_a_drawn_part_of_the_rows_keeps_their_order_and_repeats(tmp_path):
    rows = {"document": [f"Number {tiny.WORDS[i]}." for i in range(30)], "label": ["neutral"] * 30}
    config = source_config(sentiment_column="label")
    drawn, again, other = (
        [example.document.text for example in read(tmp_path, rows, config, max_rows=10, seed=seed)]
        for seed in (1, 1, 2)
    )
    assert len(drawn) == 10
    assert drawn == again != other
    assert drawn == [text for text in rows["document"] if text in drawn]


def test_excerpts_are_consecutive_sentences(tmp_path):
    rows = {"document": [tiny.text(9, 5, first=i) for i in range(20)], "label": ["neutral"] * 20}
    config = source_config(sentiment_column="label", excerpt_sentences=3)
    examples = read(tmp_path, rows, config)
    assert all(
        example.document.text in text
        for example, text in zip(examples, rows["document"], strict=True)
    )
    assert {len(example.document.spans) for example in examples} == {1, 2, 3}
    assert [example.document.text for example in read(tmp_path, rows, config)] == [
        example.document.text for example in examples
    ]


def test_a_pattern_is_taken_out_before_labels_are_made(tmp_path):
    text = tiny.text(4, 5)
    rows = {"document": [f"(CNN) {text}", text, None], "summary": [text.split(". ")[0] + "."] * 3}
    config = source_config(summary_column="summary", removed_pattern=r"^\(CNN\)\s*")
    marked, plain = read(tmp_path, rows, config)
    assert marked.document.text == plain.document.text == text
    assert marked.document.input_ids.tolist() == plain.document.input_ids.tolist()
    assert marked.sentence_labels.tolist() == plain.sentence_labels.tolist() == [1, 0, 0, 0]
    with pytest.raises(ValueError, match=r"'\(' is no regular expression"):
        source_config(sentiment="neutral", removed_pattern="(")


def test_missing_files_and_columns_are_named(tmp_path):
    encoder = tiny.document_encoder()
    with pytest.raises(InputError, match=r"source news: cannot read .*nowhere\.parquet"):
        read_examples(
            str(tmp_path / "nowhere.parquet"),
            source_config(sentiment="neutral"),
            encoder,
            tiny.model_config(),
            max_windows=1,
        )
    with pytest.raises(
        InputError,
        match=r"rows\.parquet: there is no column 'highlights' \(summary_column names it\)",
    ):
        read(tmp_path, summary_rows(), source_config(summary_column="highlights"))


@pytest.mark.parametrize(
    "values",
    [{}, {"sentiment": "neutral", "sentiment_column": "x"}, {"sentences_column": "x", "sentiment": "neutral"},
     {"sentence_labels_column": "x", "sentiment": "neutral"}],
)  # fmt: skip
def test_sources_without_sense_are_refused(values):
    with pytest.raises(ValidationError, match=r"give one of|go together|no label column"):
        source_config(**values)


# Batches


def texts_of(batches, examples) -> list[str]:
    by_ids = {
        tuple(example.document.input_ids.tolist()): example.document.text for example in examples
    }
    return [
        by_ids[tuple(ids.tolist())]
        for batch in batches
        for ids in torch.split(batch.batch.input_ids, batch.batch.window_lengths)
    ]


def test_labels_stay_with_their_documents(summaries, sentiments):
    examples = [*summaries, *sentiments]
    batch = labelled_batch(examples)
    sentence_labels = torch.split(batch.sentence_labels, batch.batch.num_sentences)
    for row, place in enumerate(batch.batch.documents):
        assert sentence_labels[row].tolist() == examples[place].sentence_labels.tolist()
        assert batch.class_labels["sentiment"][row] == examples[place].sentiment_label


def epoch_batches(parts, max_batch_tokens, seed=0):
    config = training_config(epochs=1, seed=seed)
    plan = StepPlan(parts, config.model_copy(update={"max_batch_tokens": max_batch_tokens}))
    return [batch for step in plan.steps() for batch in step.batches]


def test_an_epoch_has_each_example_once_in_a_random_order(summaries, sentiments):
    parts = [(1.0, summaries), (1.0, sentiments)]
    orders = []
    for seed in (0, 0, 1):
        batches = epoch_batches(parts, 120, seed)
        assert all(len(batch.batch.input_ids) <= 120 for batch in batches)
        orders.append(texts_of(batches, [*summaries, *sentiments]))
        assert sorted(orders[-1]) == sorted(
            example.document.text for example in [*summaries, *sentiments]
        )
    assert orders[0] == orders[1] != orders[2]


def test_weights_are_passes_over_a_source(summaries, sentiments):
    batches = epoch_batches([(2.75, summaries), (0.25, sentiments)], 200, 0)
    seen = texts_of(batches, [*summaries, *sentiments])
    counts = [seen.count(example.document.text) for example in summaries]
    assert sorted(counts) == [2] * 2 + [3] * 6
    assert sum(seen.count(example.document.text) for example in sentiments) == 2


@pytest.mark.parametrize("epochs", [0.4, 1, 2.5])
def test_the_drawn_rows_are_those_of_the_steps(summaries, sentiments, epochs):
    config = training_config(epochs=epochs).model_copy(update={"max_batch_tokens": 150})
    plan = StepPlan([(1.5, summaries), (0.25, sentiments)], config)
    batches = [batch for step in plan.steps() for batch in step.batches]
    seen = texts_of(batches, [*summaries, *sentiments])
    for examples, is_drawn in zip((summaries, sentiments), plan.drawn(), strict=True):
        texts = [example.document.text for example in examples]
        assert is_drawn.tolist() == [text in seen for text in texts]


def test_an_example_longer_than_the_budget_is_a_batch_of_its_own(summaries):
    assert [len(batch.batch.documents) for batch in epoch_batches([(1.0, summaries)], 1, 0)] == [
        1
    ] * 8


# A step


def gradients(model, micro_batches, config):
    """Gradients of one step at a learning rate of 0, without clipping."""
    losses = train_step(
        LossModule(model, config),
        micro_batches,
        torch.optim.SGD(model.parameters(), lr=0.0),
        config,
    )
    return losses, {
        name: weight.grad.clone()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def test_micro_batches_are_one_big_batch(summaries, sentiments):
    config = training_config(clip_norm=1e9, sentiment_weight=0.7, label_smoothing=0.1)
    model = build_model(tiny.encoder(), config)
    examples = [*summaries, *sentiments]
    whole, expected = gradients(model, [labelled_batch(examples)], config)
    parts = [
        labelled_batch(examples[a:b]) for a, b in [(0, 3), (3, 9), (9, 16)]
    ]  # of unequal counts
    losses, found = gradients(model, parts, config)
    assert losses["summary_loss"] == pytest.approx(whole["summary_loss"], abs=1e-6)
    assert losses["sentiment_loss"] == pytest.approx(whole["sentiment_loss"], abs=1e-6)
    assert max(gradient.abs().max() for gradient in expected.values()) > 0.01
    for name, gradient in found.items():
        scale = max(1.0, expected[name].abs().max().item())
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-6 * scale, msg=name)


def test_a_loss_is_a_mean_over_what_is_labelled(summaries, sentiments):
    config = training_config()
    model = build_model(tiny.encoder(), config).eval()
    batch = labelled_batch([*summaries, *sentiments])
    with torch.no_grad():
        logits = model(batch.batch)
    known, classes = batch.sentence_labels >= 0, batch.class_labels["sentiment"] >= 0
    losses, _ = gradients(model, [batch], config)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits.sentence_logits[known], batch.sentence_labels[known]
    )
    assert losses["summary_loss"] == pytest.approx(expected.item(), abs=1e-5)
    expected = torch.nn.functional.cross_entropy(
        logits.sentiment_logits[classes], batch.class_labels["sentiment"][classes]
    )
    assert losses["sentiment_loss"] == pytest.approx(expected.item(), abs=1e-5)


def test_a_head_without_labels_has_no_gradient(summaries, sentiments):
    config = training_config()
    model = build_model(tiny.encoder(), config)
    for examples, other, loss in [
        (summaries, "sentiment.", "sentiment_loss"),
        (sentiments, "summarization.", "summary_loss"),
    ]:
        losses, found = gradients(model, [labelled_batch(examples)], config)
        assert losses[loss] == 0
        assert not any(gradient.any() for name, gradient in found.items() if name.startswith(other))
        assert any(
            gradient.any() for name, gradient in found.items() if name.startswith("encoder.")
        )


def test_a_step_without_any_label_changes_nothing_and_is_no_error(tmp_path):
    rows = {"document": ["A cat.", "A dog."], "label": pa.array([None, None], pa.string())}
    examples = read(tmp_path, rows, source_config(sentiment_column="label"))
    config = training_config()
    model = build_model(tiny.encoder(), config)
    losses, found = gradients(model, [labelled_batch(examples)], config)
    assert losses.keys() == {*(f"{name}_loss" for name in optimization.LOSSES), "gradient_norm"}
    assert not any(losses.values())
    assert not any(gradient.any() for gradient in found.values())


def test_a_loss_that_is_not_a_number_stops_before_the_weights_change(summaries):
    config = training_config()
    model = build_model(tiny.encoder(), config)
    model.summarization.scorer.bias.data.fill_(float("nan"))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(
        FloatingPointError, match=r"loss of summary is not a number. .* lower encoder_learning_rate"
    ):
        train_step(
            LossModule(model, config),
            [labelled_batch(summaries)],
            optimization.make_optimizer(model, config),
            config,
        )
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]) or "scorer.bias" in name


def test_a_gradient_is_clipped(summaries):
    config = training_config(clip_norm=1e-3)
    model = build_model(tiny.encoder(), config)
    losses, found = gradients(model, [labelled_batch(summaries)], config)
    norm = torch.stack([gradient.norm() for gradient in found.values()]).norm()
    assert losses["gradient_norm"] > 1e-2
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_optimizer_groups():
    config = training_config(encoder_learning_rate=1e-5, head_learning_rate=1e-3, weight_decay=0.1)
    model = build_model(tiny.encoder(), config)
    rates = {
        id(weight): (group["lr"], group["weight_decay"])
        for group in optimization.make_optimizer(model, config).param_groups
        for weight in group["params"]
    }
    for name, weight in model.named_parameters():
        assert rates[id(weight)] == (
            1e-5 if name.startswith("encoder.") else 1e-3,
            0 if name.endswith("bias") or "norm" in name.lower() else 0.1,
        )


@pytest.mark.parametrize("warmup", [0, 0.1, 0.5, 1])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 100])
def test_schedule_rises_then_falls_to_zero(warmup, num_steps):
    factors = [
        learning_rate_factor(step, num_steps, "linear", warmup) for step in range(num_steps + 2)
    ]
    top = max(1, round(warmup * num_steps)) - 1
    assert factors[: top + 1] == pytest.approx(np.linspace(1 / (top + 1), 1, top + 1))
    assert factors.count(1) == 1
    assert factors[top : num_steps + 1] == pytest.approx(np.linspace(1, 0, num_steps - top + 1))
    assert factors[num_steps + 1] == 0


def test_other_schedules():
    noam = [learning_rate_factor(step, 100, "noam", 0.1) for step in range(100)]
    formula = [
        min((step + 1) ** -0.5, (step + 1) * 10**-1.5) for step in range(100)
    ]  # Vaswani et al., section 5.3
    assert noam == pytest.approx([value / formula[9] for value in formula])
    constant = [learning_rate_factor(step, 100, "constant", 0.1) for step in range(100)]
    assert constant == pytest.approx([min(1, (step + 1) / 10) for step in range(100)])


def test_rates_of_encoder_and_heads_rise_apart(summaries):
    config = training_config(
        encoder_learning_rate=1e-5, head_learning_rate=1e-3, warmup_share=0.5, head_warmup_share=0
    )
    optimizer = optimization.make_optimizer(build_model(tiny.encoder(), config), config)
    optimization.set_learning_rates(optimizer, 0, 100, config)
    rates = {group["is_encoder"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {True: pytest.approx(1e-5 / 50), False: 1e-3}
    optimization.set_learning_rates(optimizer, 49, 100, config)
    rates = {group["is_encoder"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {True: 1e-5, False: pytest.approx(1e-3 * 51 / 100)}


# A run


def run(examples, *, config=None, validation=(), seed=0, **values):
    config = config or training_config(**({"epochs": 25} | values))
    encoder = tiny.encoder()
    torch.manual_seed(seed)
    model = build_model(encoder, config)
    if config.trained != "all":
        training.freeze(model, config.trained)
    sources = [LabelledSource(config.sources[0], examples, validation)]
    log = []
    train(model, sources, config, log.append)
    return model.eval(), log


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_learns_summaries(summaries, dtype):
    model, log = run(summaries, dtype=dtype)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    first, last = log[0], log[-1]
    assert last["step"] == last["num_steps"] == len(log)
    assert last["summary_loss"] < first["summary_loss"] / 2
    found = predict_examples(model, summaries, "float32")
    scores, vectors = found.sentences, found.vectors
    assert [int(score.argmax()) for score in scores] == [number % 5 for number in range(8)]
    assert [vector.shape for vector in vectors] == [(5, 32)] * 8


def test_it_learns_sentiment(sentiments):
    model, log = run(sentiments, max_batch_tokens=64)
    assert log[-1]["sentiment_loss"] < log[0]["sentiment_loss"] / 2
    assert log[-1]["summary_loss"] == 0
    logits = predict_examples(model, sentiments, "float32").sentiments
    assert logits.argmax(1).tolist() == [0, 2] * 4


def test_it_learns_both(summaries, sentiments):
    _, log = run([*summaries, *sentiments], epochs=15)
    for name in ("summary_loss", "sentiment_loss"):
        assert np.mean([step[name] for step in log[-5:]]) < 0.8 * np.mean(
            [step[name] for step in log[:5]]
        )


def test_it_learns_without_a_sentiment_head(summaries):
    _, log = run(summaries, model={"sentiment_labels": ()})
    assert log[-1]["summary_loss"] < log[0]["summary_loss"] / 2


def losses_of(log) -> list[float]:
    return [step["summary_loss"] for step in log]


def test_a_seed_reproduces_a_run_with_dropout(summaries):
    values = {"epochs": 3, "encoder_dropout": 0.1, "model": {"dropout": 0.2}}
    first, again, other = (losses_of(run(summaries, seed=seed, **values)[1]) for seed in (0, 0, 1))
    assert first == again != other
    order = losses_of(run(summaries, config=training_config(**values, seed=5))[1])
    assert order != first  # the order of the examples


def test_the_average_is_of_the_last_steps(summaries):
    config = training_config(epochs=4, average_share=0.5)
    torch.manual_seed(0)
    model = build_model(tiny.encoder(), config)
    seen = []
    source = LabelledSource(config.sources[0], summaries, [])
    train(
        model,
        [source],
        config,
        lambda values: seen.append(model.summarization.scorer.weight.detach().clone()),
    )
    last = seen[len(seen) // 2 :]
    assert 2 * len(last) == len(seen)
    torch.testing.assert_close(model.summarization.scorer.weight, torch.stack(last).mean(0))
    assert not torch.equal(model.summarization.scorer.weight, seen[-1])


def test_repeats_are_runs_from_the_same_weights_and_are_averaged(summaries):
    """Without dropout only the order of the rows differs, and the second repeat has that of the epochs after 4."""
    values = {"epochs": 4, "average_share": 0.5}
    both, log = run(summaries, repeats=2, **values)
    (first, first_log), (second, second_log) = (
        run(summaries, config=training_config(**values, seed=seed)) for seed in (0, 4)
    )
    assert losses_of(log) == losses_of(first_log) + losses_of(second_log)
    assert losses_of(first_log) != losses_of(second_log)
    expected = second.state_dict()
    for name, weight in first.state_dict().items():
        torch.testing.assert_close(both.state_dict()[name], (weight + expected[name]) / 2)


def test_without_an_average_the_last_weights_stay(summaries):
    config = training_config(epochs=2)
    model = build_model(tiny.encoder(), config)
    seen = []
    source = LabelledSource(config.sources[0], summaries, [])
    train(
        model,
        [source],
        config,
        lambda values: seen.append(model.summarization.scorer.weight.detach().clone()),
    )
    assert torch.equal(model.summarization.scorer.weight, seen[-1])


def test_weight_average_is_a_mean():
    weights = torch.randn(5, 3)
    average = WeightAverage()
    target = [torch.zeros(3)]
    average.copy_to(target)
    assert not target[0].any()
    for weight in weights:
        average.add([weight])
    average.copy_to(target)
    torch.testing.assert_close(target[0], weights.mean(0))


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (1.0, "no rows to train on"),
        (0.01, "of 8 training rows the sources draw none: raise weight"),
    ],
)
def test_no_row_to_train_on_is_an_error_and_not_an_endless_loop(weight, reason, summaries):
    config = training_config(
        sources=[{"name": "news", "summary_column": "summary", "weight": weight}]
    )
    model = build_model(tiny.encoder(), config)
    source = LabelledSource(config.sources[0], summaries if weight < 1 else [], summaries)
    with pytest.raises(InputError, match=reason):
        train(model, [source], config, lambda values: None)


def test_low_rank_training_changes_low_rank_weights_and_heads_only(summaries):
    encoder = tiny.encoder()
    before = copy.deepcopy(encoder.state_dict())
    config = training_config(epochs=10, lora_rank=2, encoder_learning_rate=1e-2)
    model = build_model(encoder, config)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name for name in trained if name.startswith("encoder.")} == {
        name for name, _ in model.named_parameters() if "lora_" in name
    }
    assert (
        len([name for name in trained if "lora_A" in name]) == 12
    )  # six linear layers in each of two
    assert all(
        name in trained for name, _ in model.named_parameters() if not name.startswith("encoder.")
    )
    log = []
    train(model, [LabelledSource(config.sources[0], summaries, [])], config, log.append)
    assert log[-1]["summary_loss"] < log[0]["summary_loss"] / 2
    for name, weight in model.encoder.get_base_model().state_dict().items():
        if "lora_" not in name:
            assert torch.equal(weight, before[name.replace(".base_layer", "")]), name
    expected = predict_examples(model, summaries, "float32").sentences
    merge_adapter(model)
    assert model.encoder.state_dict().keys() == {
        name for name in before if not name.startswith("pooler.")
    }
    for found, score in zip(
        predict_examples(model, summaries, "float32").sentences, expected, strict=True
    ):
        assert found == pytest.approx(score, abs=1e-4)
    changed = {
        name
        for name, weight in model.encoder.state_dict().items()
        if not torch.equal(weight, before[name])
    }
    assert changed
    assert all(before[name].dim() == 2 and "embeddings" not in name for name in changed)


@pytest.mark.parametrize("adapter", ["dora", "loha", "lokr", "adalora"])
def test_other_adapters_learn_and_are_merged(adapter, summaries):
    config = training_config(epochs=10, lora_rank=2, adapter=adapter, encoder_learning_rate=1e-2)
    torch.manual_seed(0)
    model = build_model(tiny.encoder(), config)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    train(model, [LabelledSource(config.sources[0], summaries, [])], config, lambda values: None)
    changed = {
        name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])
    }
    assert any(name.startswith("encoder.") for name in changed)
    assert not any("base_layer" in name for name in changed)
    expected = predict_examples(model, summaries, "float32").sentences
    merge_adapter(model)
    assert model.encoder.state_dict().keys() == tiny.model().encoder.state_dict().keys()
    for found, score in zip(
        predict_examples(model, summaries, "float32").sentences, expected, strict=True
    ):
        assert found == pytest.approx(score, abs=1e-3)


@pytest.mark.parametrize("kind", tiny.ENCODER_TOKENIZERS)
def test_dropout_of_the_encoder_is_what_the_configuration_says(kind):
    names = ("dropout", "attention_dropout") if kind == "distilbert" else (
        "hidden_dropout_prob", "attention_probs_dropout_prob")  # fmt: skip
    for rate in (0.0, 0.3):
        config = training_config(encoder_dropout=rate)
        model = build_model(tiny.encoder(kind, **dict.fromkeys(names, 0.3 - rate)), config).train()
        encoder = document_encoder(model, tiny.ENCODER_TOKENIZERS[kind]())
        (document,) = encoder.encode([tiny.text(4)], [None], 8)
        batch = make_batch([document], [0])
        same = torch.equal(model.token_vectors(batch), model.token_vectors(batch))
        assert same == (rate == 0)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_gradient_checkpointing_gives_the_same_gradients(kind, summaries):
    found = []
    for on in (False, True):
        config = training_config(gradient_checkpointing=on)
        torch.manual_seed(0)
        model = build_model(tiny.encoder(kind), config).train()
        calls = []
        layers = model.encoder.encoder if kind == "bert" else model.encoder.transformer
        layer = layers.layer[0]
        dense = layer.intermediate.dense if kind == "bert" else layer.ffn.lin1
        dense.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        found.append((gradients(model, [labelled_batch(summaries)], config), len(calls)))
    (expected, calls), (again, more_calls) = found
    assert more_calls == 2 * calls
    assert again[0] == pytest.approx(expected[0], abs=1e-5)
    for name, gradient in again[1].items():
        torch.testing.assert_close(gradient, expected[1][name], rtol=1e-4, atol=1e-5, msg=name)


# The encoder frozen


@pytest.mark.parametrize(
    ("trained", "learns"),
    [
        ("all", ("",)),
        ("heads", ("summ", "sent", "cand")),
        ("summarization", ("summ",)),
        ("candidates", ("cand",)),
    ],
)
def test_freezing(trained, learns, summaries, sentiments):
    config = training_config(
        epochs=2, trained=trained, start_from="a", model={"rank_candidates": True}
    )
    model = build_model(tiny.encoder(), config)
    if trained != "all":
        training.freeze(model, config.trained)
    before = copy.deepcopy(model.state_dict())
    train(
        model,
        [LabelledSource(config.sources[0], [*summaries, *sentiments], [])],
        config,
        lambda values: None,
    )
    for name, weight in model.state_dict().items():
        unused = "in_proj_bias" in name or ".position_ids" in name
        assert (
            unused
            or torch.equal(weight, before[name]) != name.startswith(learns)
            or "key.bias" in name
        ), name


def test_vectors_computed_once_give_the_same_losses(summaries, sentiments, tmp_path):
    config = training_config(trained="heads", epochs=5)
    examples = [*summaries, *sentiments]
    logs = []
    for precomputed in (False, True):
        torch.manual_seed(0)
        model = build_model(tiny.encoder(), config)
        training.freeze(model, config.trained)
        part = examples
        if precomputed:
            part = training.compute_vectors(model, examples, "float32", vector_store(tmp_path))
        log = []
        train(model, [LabelledSource(config.sources[0], part, [])], config, log.append)
        logs.append([(step["summary_loss"], step["sentiment_loss"]) for step in log])
        scores = predict_examples(model, part, "float32").sentences
        logs.append(np.concatenate(scores).tolist())
    assert np.array(logs[0]) == pytest.approx(np.array(logs[2]), abs=1e-4)
    assert logs[1] == pytest.approx(logs[3], abs=1e-4)


def vector_store(directory):
    return VectorStore(Folder(str(directory / "vectors")))


def test_vectors_are_computed_again_only_of_another_encoder_or_other_tokens(
    summaries, tmp_path, monkeypatch
):
    """Three files of them, so that a kill costs no more than one."""
    monkeypatch.setattr(training, "_VECTORS_FILE_TOKENS", sum(token_counts(summaries)) // 3 + 50)
    model = build_model(tiny.encoder(), training_config())

    def computed(examples, dtype="float32"):
        store = vector_store(tmp_path)
        vectors = [one.vectors for one in training.compute_vectors(model, examples, dtype, store)]
        return vectors, (store.num_read, store.num_written)

    first, files = computed(summaries)
    assert files == (0, 3)
    # labels do not count
    again, files = computed([replace(one, sentiment_label=1, summary=None) for one in summaries])
    assert files == (3, 0)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert computed(summaries, "bfloat16")[1] == (0, 3)
    assert computed([*summaries[:-1], summaries[0]])[1] == (2, 1)
    with torch.no_grad():
        next(model.encoder.parameters())[0, 0] += 1e-3
    assert computed(summaries)[1] == (0, 3)


# Candidates


def test_candidates_learn_which_summary_is_better_and_only_then_change_it(tmp_path):
    """Of three sentences the shortest makes the best summary: the scores do not know it, and the network learns it."""
    words = [
        "The cat sleeps in the old red house.",
        "The dog runs to the small blue river.",
        "Prices fall.",
    ]
    orders = list(itertools.permutations(words))
    rows = {
        "document": [" ".join(order) for order in orders],
        "summary": ["Prices fall."] * len(orders),
    }
    config = source_config(summary_column="summary", num_summary_sentences=1)
    examples = read(tmp_path, rows, config)
    model, log = run(
        examples,
        config=training_config(
            epochs=40,
            trained="candidates",
            start_from="a",
            head_learning_rate=1e-2,
            sources=[config.model_dump()],
            model={"rank_candidates": True},
        ),
    )
    losses = [step["candidate_loss"] for step in log]
    assert losses[-1] < losses[0] / 20
    found = validation.measure_examples(model, examples, config, "float32")
    assert found["rouge"]["rouge_1"] == 100
    model.candidates = None
    assert validation.measure_examples(model, examples, config, "float32")["rouge"]["rouge_1"] < 60


def test_a_batch_without_summaries_is_no_error_where_only_candidates_learn(sentiments):
    config = training_config(trained="candidates", start_from="a", model={"rank_candidates": True})
    model = build_model(tiny.encoder(), config)
    training.freeze(model, config.trained)
    losses, found = gradients(model, [labelled_batch(sentiments)], config)
    assert losses["candidate_loss"] == 0
    assert found.keys() == {
        f"candidates.layers.{place}.{kind}" for place in (0, 3) for kind in ("weight", "bias")
    } | {"candidates.layers.6.weight"}
    assert not any(gradient.any() for gradient in found.values())


def test_what_does_not_learn_computes_as_in_use(summaries):
    config = training_config(
        epochs=2,
        trained="candidates",
        start_from="a",
        model={"rank_candidates": True, "dropout": 0.5},
    )
    model = build_model(tiny.encoder(), config)
    training.freeze(model, config.trained)
    seen = []
    for part in (model.summarization, model.candidates):
        part.register_forward_pre_hook(
            lambda module, _: seen.append((type(module).__name__, module.training))
        )
    train(model, [LabelledSource(config.sources[0], summaries, [])], config, lambda values: None)
    assert set(seen) == {("SummarizationLayers", False), ("CandidateRanker", True)}


# Measures


def test_validation_during_a_run(summaries):
    config = training_config(epochs=10, validate_every_steps=3, max_validation_rows=5)
    _, log = run(summaries, config=config, validation=summaries)
    measured = [values for values in log if "validation" in values]
    assert [values["step"] for values in measured] == list(range(3, log[-1]["num_steps"], 3))
    assert measured[0]["validation"]["news"]["rows"] == 5


def test_rows_of_a_validation_are_drawn_from_all(tmp_path):
    """A file that is sorted by label: its first rows have one only. Each time the same rows are measured."""
    rows = {
        "document": [f"It was {tiny.WORDS[i]}." for i in range(38)],
        "label": ["negative"] * 19 + ["positive"] * 19,
    }
    source = LabelledSource(
        config := source_config(sentiment_column="label"), [], read(tmp_path, rows, config)
    )
    model = tiny.model()
    found, again = (validation.validate(model, [source], 12, "float32")["news"] for _ in range(2))
    assert found == again
    assert found["rows"] == 12
    assert min(found["sentiment"]["support"][label] for label in ("negative", "positive")) > 2
    in_memory = LabelledSource(config, [], list(source.validation))
    assert validation.validate(model, [in_memory], 12, "float32")["news"] == found
    assert validation.validate(model, [source], 38, "float32")["news"]["rows"] == 38


def test_validation_does_not_disturb_a_run(summaries):
    values = {"epochs": 4, "model": {"dropout": 0.2}}
    plain = losses_of(run(summaries, **values)[1])
    log = run(summaries, validation=summaries, **values, validate_every_steps=1)[1]
    assert [step["summary_loss"] for step in log if "summary_loss" in step] == plain


def test_measures_of_a_trained_model(tmp_path):
    rows = summary_rows() | {"label": sentiment_rows()["label"]}
    config = source_config(
        summary_column="summary", sentiment_column="label", num_summary_sentences=1
    )
    examples = read(tmp_path, rows, config)
    model, _ = run(
        examples,
        config=training_config(epochs=30, sources=[config.model_dump()], max_batch_tokens=100),
    )
    found = validation.measure_examples(model, examples, config, "float32")
    assert found["rows"] == 8
    assert found["rouge"]["rouge_1"] == found["oracle"]["rouge_1"] == pytest.approx(100)
    assert found["lead"]["rouge_1"] < 60
    assert found["rouge_1_over_lead"] == pytest.approx(100 - found["lead"]["rouge_1"])
    assert found["spread"]["score_deviation"] > 0.1
    assert found["summary_loss"] < 0.3
    assert found["sentiment_loss"] < 0.5
    assert (
        found["sentiment"]["accuracy"] == found["sentiment"]["accuracy_among_present_labels"] == 1
    )
    assert found["sentiment"]["support"] == {"negative": 4, "neutral": 0, "positive": 4}


def test_measures_of_rows_without_labels(tmp_path):
    rows = {"document": ["A cat. A dog.", "A bird."], "summary": pa.array([None, ""], pa.string())}
    config = source_config(summary_column="summary")
    examples = read(tmp_path, rows, config)
    assert validation.measure_examples(tiny.model(), examples, config, "float32") == {"rows": 2}
    source = LabelledSource(config, [], [])
    assert validation.validate(tiny.model(), [source], None, "float32") == {}


def test_accuracy_among_present_labels():
    logits = np.array([[0.0, 9, 1], [0, 9, 1], [2, 9, 1]])
    found = validation._measure_classes("sentiment", logits, np.array([2, 2, 0]), LABELS)[
        "sentiment"
    ]
    assert found["accuracy"] == 0
    assert found["accuracy_among_present_labels"] == 1


def test_predictions_come_in_the_order_of_the_examples(summaries, sentiments):
    model = tiny.model()
    examples = [*summaries, *sentiments]
    together = predict_examples(model, examples, "float32")
    for place, example in enumerate(examples):
        alone = predict_examples(model, [example], "float32")
        assert together.sentences[place] == pytest.approx(alone.sentences[0], abs=1e-5)
        assert together.sentiments[place] == pytest.approx(alone.sentiments[0], abs=1e-5)
        assert together.vectors[place] == pytest.approx(alone.vectors[0], abs=1e-5)


# New heads on a trained encoder


def test_new_heads_begin_anew_and_the_others_are_taken_over():
    model = tiny.model()
    values = {
        "encoder": "x",
        "sources": [{"name": "a", "sentiment": "neutral"}],
        "new_heads": ["summarization"],
    }
    shape = tiny.model_config(surface_features=True, num_summarization_layers=1)
    renewed = training.renew_heads(model, training_config_of(values, shape))
    assert renewed.config == shape
    assert renewed.encoder is model.encoder
    for name, weight in model.sentiment.state_dict().items():
        assert torch.equal(renewed.sentiment.state_dict()[name], weight)
    assert not torch.equal(renewed.summarization.scorer.weight, model.summarization.scorer.weight)


def test_keys_that_are_not_given_are_those_of_the_start():
    model = tiny.model(pooling="cls", num_summarization_layers=3)
    values = {
        "encoder": "x",
        "sources": [{"name": "a", "topic_column": "topic"}],
        "new_heads": ["topic"],
        "model": {"topic_labels": ["a", "b"]},
    }
    renewed = training.renew_heads(model, TrainingConfig.model_validate(values))
    assert renewed.config == model.config.model_copy(update={"topic_labels": ("a", "b")})


def test_a_head_that_does_not_fit_is_named():
    values = {
        "encoder": "x",
        "sources": [{"name": "a", "sentiment": "bad"}],
        "new_heads": ["summarization"],
    }
    with pytest.raises(ModelError, match="start_from has sentiment of another shape"):
        training.renew_heads(
            tiny.model(),
            training_config_of(values, tiny.model_config(sentiment_labels=("bad", "good"))),
        )


def training_config_of(values, model_config) -> TrainingConfig:
    return TrainingConfig.model_validate(values | {"model": model_config.model_dump()})
