"""BertSumAbs: the packed encoder of BERTSUM and a Transformer decoder that reads what it gives.

Liu & Lapata 2019, section 3.3. The decoder is BERT's of Transformers with causal attention and
attention to the encoder; it begins at random, but for its word vectors: those of the encoder. They
are also the matrix that its output is compared with. Encoder and decoder are those of an
`EncoderDecoderModel`, so that Transformers loads the checkpoint and computes the same.

Shapes: B documents, T tokens of all of them, L tokens of the longest one, M target tokens of the
longest summary, N target tokens of all of them, H hidden size, V vocabulary.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bertsum.errors import ConfigError
from bertsum.generation.sentence_input import INPUT_KEY, InputFormat, read_format
from bertsum.inference.reader import num_positions, num_segments
from bertsum.model.batches import Batch
from bertsum.model.bert_sum import BertSum
from bertsum.model.losses import IGNORE
from bertsum.training.summaries.config import DecoderConfig
from bertsum.training.summaries.targets import Targets

if TYPE_CHECKING:  # importing them takes seconds
    from transformers import EncoderDecoderModel, GenerationConfig


class Writer(nn.Module):
    """Documents and the beginnings of summaries -> which token comes next."""

    def __init__(self, model: "EncoderDecoderModel") -> None:
        """Run `model`, as `make_model` or `bertsum train` has made it. Its weights stay its own."""
        super().__init__()
        form = read_format(model.config)
        if form is None:
            raise ValueError("the model's configuration does not say how documents are read")
        self.model, self.form = model, form
        # it runs the encoder; its heads are as small as they can be, and never learn
        self.reader = BertSum(model.encoder, form.reader)
        self.reader.summarization.requires_grad_(False)

    def forward(self, batch: Batch, targets: Targets) -> Tensor:
        """[N, V] logits of all target tokens, document after document.

        `targets`: [B, M], in the order of the batch's documents.
        """
        documents, mask = pad_documents(self.reader.token_vectors(batch), batch)
        decoder: Any = self.model.decoder
        hidden = decoder.bert(
            input_ids=targets.inputs,
            encoder_hidden_states=documents,
            encoder_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
        # padding has no target, and the product with the vocabulary is most of the work
        logits: Tensor = decoder.cls(hidden[targets.labels != IGNORE])
        return logits


def pad_documents(vectors: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """[T, H] packed vectors -> [B, L, H] by document, and [B, L] which of them are no padding.

    A document's windows stand one behind the other. Their order does not matter to a decoder, which
    sees no positions of what it reads.
    """
    numbers = torch.arange(len(batch.num_sentences), device=vectors.device)
    counts_of_sentences = torch.tensor(batch.num_sentences, device=vectors.device)
    documents = numbers.repeat_interleave(counts_of_sentences)[batch.token_sentences]  # [T]
    counts = documents.bincount(minlength=len(numbers))
    order = documents.argsort(stable=True)
    rows = documents[order]
    # documents of 2 and 3 tokens: [0, 1, 2, 3, 4] - [0, 0, 2, 2, 2]
    columns = torch.arange(len(rows), device=vectors.device) - (counts.cumsum(0) - counts)[rows]
    longest = int(counts.max())
    padded = vectors.new_zeros(len(numbers), longest, vectors.shape[1])
    mask = torch.arange(longest, device=vectors.device) < counts[:, None]
    return padded.index_put((rows, columns), vectors[order]), mask


def make_model(
    encoder: Any, tokenizer: Any, config: DecoderConfig, *, segments: bool
) -> "EncoderDecoderModel":
    """A new decoder on an encoder of Transformers. Raises ConfigError where they do not fit."""
    from transformers import BertConfig, BertLMHeadModel, EncoderDecoderConfig, EncoderDecoderModel

    given = encoder.config
    words = encoder.get_input_embeddings().weight  # [V, width]
    if given.hidden_size % config.num_heads:
        raise ConfigError(
            f"decoder.num_heads={config.num_heads} does not divide the encoder's hidden size "
            f"{given.hidden_size}; allowed are {_divisors(given.hidden_size)}"
        )
    if words.shape[1] != given.hidden_size:
        raise ConfigError(
            f"decoder: the encoder's word vectors have {words.shape[1]} features, and not as many "
            f"as its hidden states, {given.hidden_size}, so that the decoder cannot share them"
        )
    decoder = BertLMHeadModel(
        BertConfig(
            vocab_size=len(words),
            hidden_size=given.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=config.feed_forward_size,
            # one more than it writes: the token that it starts from
            max_position_embeddings=config.max_tokens + 1,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
            pad_token_id=tokenizer.pad_token_id,
            is_decoder=True,
            add_cross_attention=True,
            tie_word_embeddings=True,
        )
    )
    with torch.no_grad():
        decoder.bert.embeddings.word_embeddings.weight.copy_(words)
    form = InputFormat(
        segments=segments and num_segments(encoder) > 1,
        max_tokens=min(config.max_input_tokens, num_positions(encoder)),
    )
    both = EncoderDecoderConfig.from_encoder_decoder_configs(
        given,
        decoder.config,
        decoder_start_token_id=tokenizer.cls_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **{INPUT_KEY: form.model_dump()},
    )
    model = EncoderDecoderModel(encoder=encoder, decoder=decoder, config=both)
    model.generation_config = _search(both, config)
    return model


def _divisors(number: int) -> str:
    """`1, 2, 4` of 4."""
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)


def _search(both: Any, config: DecoderConfig) -> "GenerationConfig":
    """How `generate` searches, for `generation_config.json`."""
    from transformers import GenerationConfig

    return GenerationConfig(  # type: ignore[no-untyped-call]  # it is not typed
        decoder_start_token_id=both.decoder_start_token_id,
        bos_token_id=both.bos_token_id,
        eos_token_id=both.eos_token_id,
        pad_token_id=both.pad_token_id,
        max_new_tokens=config.max_tokens,
        min_new_tokens=config.min_tokens,
        num_beams=config.num_beams,
        length_penalty=config.length_penalty,
        no_repeat_ngram_size=config.no_repeated_ngrams,
    )
