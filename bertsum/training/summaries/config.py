"""The decoder of a run that learns to write summaries. The defaults are those of the paper."""

from pydantic import Field

from bertsum.config_base import Config


class DecoderConfig(Config):
    """Decoder, its training and its search (Liu & Lapata 2019, sections 3.3 and 4.2)."""

    # Names and defaults stay: an OUTPUT has them in its record of the run.

    num_layers: int = Field(6, ge=1, description="Transformer layers of the decoder")
    num_heads: int = Field(
        8, ge=1, description="attention heads of each layer; they divide the encoder's hidden size"
    )
    feed_forward_size: int = Field(
        2048, ge=1, description="inner size of each layer's feed-forward network, in features"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout in the decoder")
    max_input_tokens: int = Field(
        512,
        ge=16,
        description="tokens of a document that are read, from its beginning, at most; no more than "
        "the encoder has positions",
    )
    max_tokens: int = Field(
        140,
        ge=2,
        description="most tokens of a summary, the one that ends it included; a longer reference "
        "is cut in training",
    )
    min_tokens: int = Field(0, ge=0, description="fewest tokens of a summary that is written")
    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="share of each target that goes to all tokens alike"
    )
    encoder_rate: float = Field(
        2e-3,
        ge=0,
        description="learning rate of the encoder: this * min(step ** -0.5, step * "
        "encoder_warmup_steps ** -1.5)",
    )
    encoder_warmup_steps: int = Field(
        20_000, ge=1, description="steps in which the encoder's learning rate rises"
    )
    decoder_rate: float = Field(
        0.1, gt=0, description="the same factor of the decoder's learning rate"
    )
    decoder_warmup_steps: int = Field(
        10_000, ge=1, description="steps in which the decoder's learning rate rises"
    )
    num_beams: int = Field(5, ge=1, le=64, description="beams of the search")
    length_penalty: float = Field(
        1.0,
        description="a hypothesis of L tokens is scored by its log-probability / "
        "L ** length_penalty",
    )
    no_repeated_ngrams: int = Field(
        3, ge=0, description="no run of so many tokens twice in a summary; 0: any"
    )
    measured_summaries: int = Field(
        200,
        ge=1,
        description="validation rows of each source whose summaries are written and measured, "
        "drawn at random: greedily during the run, with num_beams at its end",
    )
