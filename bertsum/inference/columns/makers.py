"""Columns of optional groups of outputs: one module a group, and the list of them here.

Each is made from what the one pass of the encoder gave, for all documents of a pool at once.
"""

from collections.abc import Sequence
from typing import Protocol

from bertsum.checkpoints.outputs import gives_aspects
from bertsum.config import SummarizerConfig
from bertsum.inference.columns.aspects import AspectColumns
from bertsum.inference.columns.embedding import EmbeddingColumns
from bertsum.inference.columns.keywords import KeywordColumns
from bertsum.inference.columns.mixed import MixedSentiment
from bertsum.inference.columns.sentences import SentenceColumns
from bertsum.inference.columns.targets import TargetColumns, find_resemblance
from bertsum.inference.columns.topics import HeadTopics, named_topics
from bertsum.inference.columns.values import Columns, Wanted
from bertsum.inference.device_batches import Scores
from bertsum.model.bert_sum import BertSum
from bertsum.schema import OutputGroup
from bertsum.text.encoder import DocumentEncoder, EncodedDocument


class ColumnMaker(Protocol):
    """Makes the columns of one group.

    - `wanted`: what it needs of the model beside the scores of every row.
    """

    wanted: Wanted

    def columns(
        self, documents: Sequence[EncodedDocument], scores: Sequence[Scores]
    ) -> Sequence[Columns]:
        """[N] values of its columns for each document that the model has read."""


def make_column_makers(
    config: SummarizerConfig, model: BertSum, encoder: DocumentEncoder
) -> list[ColumnMaker]:
    """Make what the chosen groups need, in the order of OutputGroup.

    The columns of `spans` and `language` are known without a maker.
    """
    chosen = config.outputs or ()
    makers: list[ColumnMaker] = []
    if config.mixed is not None:
        makers.append(MixedSentiment(model.config.sentiment_labels, config.mixed))
    if OutputGroup.SENTENCES in chosen:
        makers.append(SentenceColumns(model.config.sentiment_labels))
    if OutputGroup.EMBEDDING in chosen:
        makers.append(EmbeddingColumns())
    if OutputGroup.TOPIC in chosen and config.topics:
        makers.append(named_topics(config.topics, model, encoder))
    elif OutputGroup.TOPIC in chosen:
        makers.append(HeadTopics(model.config.topic_labels))
    if OutputGroup.KEYWORDS in chosen:
        makers.append(KeywordColumns(encoder, config.keywords))
    # a member of a family may lack the head: its documents have null
    if OutputGroup.ASPECTS in chosen and gives_aspects(model.config):
        makers.append(AspectColumns(encoder, model.config.token_sentiment_labels))
    if OutputGroup.TARGETS in chosen and model.config.sentiment_labels:
        resemblance = find_resemblance(config, model, encoder)
        makers.append(TargetColumns(encoder, model.config.sentiment_labels, resemblance))
    return makers


def all_wanted(makers: Sequence[ColumnMaker]) -> Wanted:
    """What any of the makers needs; one of them may ask for pools, and the same for `compared`."""
    pools = [maker.wanted.pools for maker in makers if maker.wanted.pools]
    compared = [maker.wanted.compared for maker in makers if maker.wanted.compared is not None]
    return Wanted(
        pools=pools[0] if pools else None,
        sentence_sentiments=any(maker.wanted.sentence_sentiments for maker in makers),
        document_vectors=any(maker.wanted.document_vectors for maker in makers),
        token_sentiments=any(maker.wanted.token_sentiments for maker in makers),
        compared=compared[0] if compared else None,
    )
