"""Losses are sums, equal to torch's own on the labelled items."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows

from bertsum.model.losses import IGNORE, candidate_loss, class_loss, summary_loss


def test_summary_loss_is_the_sum_over_labelled_sentences():
    logits = torch.tensor([2.0, -1.0, 0.5, 30.0, -30.0])
    labels = torch.tensor([1.0, 0.0, IGNORE, 1.0, 0.0])
    loss = summary_loss(logits, labels)
    kept = torch.tensor([0, 1, 3, 4])
    expected = F.binary_cross_entropy(logits[kept].sigmoid(), labels[kept], reduction="sum")
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_soft_sentence_labels():
    loss = summary_loss(torch.tensor([0.3]), torch.tensor([0.25]))
    p = torch.tensor(0.3).sigmoid()
    assert loss.item() == pytest.approx((-0.25 * p.log() - 0.75 * (1 - p).log()).item(), abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_loss_is_the_sum_over_labelled_documents(smoothing):
    torch.manual_seed(0)
    logits = torch.randn(5, 3)
    labels = torch.tensor([2, IGNORE, 0, 1, IGNORE])
    loss = class_loss(logits, labels, smoothing)
    target = F.one_hot(labels[[0, 2, 3]], 3) * (1 - smoothing) + smoothing / 3
    expected = -(target * logits[[0, 2, 3]].log_softmax(1)).sum()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_nothing_labelled_is_zero_and_has_a_zero_gradient(smoothing):
    logits = torch.randn(4, requires_grad=True)
    classes = torch.randn(2, 3, requires_grad=True)
    for loss, weight in [
        (summary_loss(logits, torch.full((4,), IGNORE)), logits),
        (class_loss(classes, torch.full((2,), IGNORE), smoothing), classes),
    ]:
        assert loss.item() == 0
        loss.backward()
        assert not weight.grad.any()


def test_an_unlabelled_item_has_no_gradient():
    logits = torch.randn(3, requires_grad=True)
    summary_loss(logits, torch.tensor([1.0, IGNORE, 0.0])).backward()
    assert logits.grad[1] == 0
    assert logits.grad[0] < 0 < logits.grad[2]


def test_sums_of_parts_add_up():
    torch.manual_seed(1)
    logits, labels = torch.randn(9), torch.tensor([1.0, 0, 0, IGNORE, 1, IGNORE, 0, 0, 1])
    whole = summary_loss(logits, labels)
    parts = [summary_loss(logits[a:b], labels[a:b]) for a, b in [(0, 2), (2, 4), (4, 9)]]
    assert sum(parts).item() == pytest.approx(whole.item(), abs=1e-6)


def test_candidates_are_compared_among_those_of_their_document():
    """By hand: differences 1, 3 have the mean 2, so (1 + 1) / 2; a single candidate has no error."""
    expected = torch.tensor([1.0, 4.0, 7.0], requires_grad=True)
    loss = candidate_loss(expected, torch.tensor([0.0, 1.0, 2.0]), [2, 1])
    assert loss.item() == 1
    loss.backward()
    assert expected.grad.tolist() == [-1, 1, 0]
