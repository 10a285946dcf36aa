"""A model card says how much was trained on: labelled rows and passes, not the size of a file."""

from bertsum.training.config import TrainingConfig
from bertsum.training.model_card import model_card
from bertsum.training.start.source_config import SourceConfig


def test_card_shows_labelled_rows_passes_and_measures():
    config = TrainingConfig(
        encoder="package:x",
        notes="For tests.",
        sources=(
            SourceConfig(name="phrases", sentiment_column="sentiment", weight=0.1),
            SourceConfig(name="unused", sentiment="neutral"),
        ),
    )
    report = {
        "accuracy": 0.75,
        "accuracy_95": (0.301, 0.954),
        "accuracy_among_present_labels": 0.8,
        "accuracy_among_present_labels_95": (0.35, 0.97),
        "macro_f1": 0.7,
        "macro_f1_among_present_labels": 0.75,
        "calibration_error": 0.0214,
        "recall": {"negative": 0.5, "neutral": 0.0, "positive": 1.0},
        "support": {"negative": 2, "neutral": 0, "positive": 2},
    }
    words = report | {"accuracy": 0.9, "support": {"negative": 20, "neutral": 0, "positive": 30}}
    results = {"phrases": {"rows": 5, "sentiment": report, "token_sentiment": words}}
    card = model_card(config, {"phrases": 1520, "unused": 0}, results, ["Trained today."])
    assert "| phrases | 1,520 | 0.1 | sentiment |" in card
    cells = "0.800 (0.350 0.970) | 0.700 | 0.750 | 0.021 | negative 0.500, positive 1.000 |"
    assert f"| phrases | 4 | 0.750 (0.301 0.954) | {cells}" in card
    assert "\n\nWords. ECE: expected calibration error" in card
    assert "\n\n| source | words | accuracy" in card
    assert f"| phrases | 50 | 0.900 (0.301 0.954) | {cells}" in card
    assert "Trained today." in card
    assert "For tests." in card
    assert "unused" not in card
    assert "ROUGE" not in card
