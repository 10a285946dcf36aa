"""Rows of texts -> rows of written texts: what a replica of `bertsum generate` runs."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from functools import cache

import pyarrow as pa
import torch

from bertsum.errors import BertsumError, DeviceError
from bertsum.generation.columns import Written, rows_to_table
from bertsum.generation.config import GenerateConfig
from bertsum.generation.decoding import Decoder, Generated
from bertsum.generation.endings import whole_sentences
from bertsum.generation.faithfulness import compare
from bertsum.generation.seq2seq import Seq2Seq
from bertsum.generation.sources import Reading, SourceReader, Text
from bertsum.generation.task import source_language
from bertsum.inference.arguments import choose_batch_tokens
from bertsum.inference.arrow import read_texts, unreadable
from bertsum.inference.device_batches import is_crowded, one_line, refuse_lost_device
from bertsum.inference.stream import Progress
from bertsum.inference.summarizer import Summarizer
from bertsum.schema import Document, Status
from bertsum.text.language import LanguageDetector
from bertsum.text.language_tags import base_language
from bertsum.text.sentences import detect_language

_UNKNOWN_SHARE = 0.5
_POOL_ROWS = 512  # read at once: enough to sort by length, few enough to stay small


class Generator:
    """Tables of texts in, tables with what is written from them out, one row a row."""

    def __init__(
        self,
        seq2seq: Seq2Seq,
        config: GenerateConfig,
        load_summarizer: Callable[[], Summarizer],
    ) -> None:
        """`load_summarizer`: gives the model that scores the sentences of long texts."""
        self._config, self._task = config, seq2seq.task
        self._tokenizer = seq2seq.tokenizer
        self._device = seq2seq.model.device
        self._decoder = Decoder(seq2seq, config)
        self._sources = SourceReader(
            seq2seq.tokenizer,
            seq2seq.task.prefix,
            seq2seq.max_input_tokens,
            load_summarizer,
            seq2seq.sentence_input,
        )
        max_batch_tokens = config.max_batch_tokens
        if max_batch_tokens == "auto":
            # of whose numbers `choose_batch_tokens` counts 16 a token
            max_batch_tokens = choose_batch_tokens(
                self._device, seq2seq.model.dtype, self._decoder.cached_size // 16
            )
        self.max_batch_tokens = max_batch_tokens
        self._around_sentences = (
            (self._tokenizer.cls_token_id, self._tokenizer.sep_token_id)
            if seq2seq.sentence_input
            else ()
        )
        self._detector = cache(LanguageDetector)  # loaded where it is first asked for
        self.stage_seconds: MutableMapping[str, float] = defaultdict(float)

    def stream(
        self, tables: Iterable[pa.Table], on_progress: Progress | None = None
    ) -> Iterator[pa.Table]:
        """Rows of `tables` with what is written, in order, in smaller tables.

        The batches follow from the rows of each table alone.
        """
        for table in tables:
            for start in range(0, max(table.num_rows, 1), _POOL_ROWS):
                pool = table.slice(start, _POOL_ROWS)
                yield rows_to_table(pool, self._write(pool, on_progress), self._config)

    def give_up(self, table: pa.Table, reason: str) -> pa.Table:
        """A row of status `error` for each row of the table, without computing anything."""
        rows = [Written(status=Status.ERROR, error=reason)] * table.num_rows
        return rows_to_table(table, rows, self._config)

    def on_batch(self, call: Callable[[], None]) -> None:
        """Call `call` after each step of a batch, and each batch that is scored, from now on."""
        self._decoder.on_token(call)
        self._sources.on_batch(call)

    def _write(self, table: pa.Table, on_progress: Progress | None) -> list[Written]:
        with self._timed("prepare"):
            documents = read_texts(table, self._config.text_column)
            rows: list[Written | None] = [None] * len(documents)
            texts = self._texts(table, documents, rows)
            readings = self._read(texts, rows)
            self._leave_out_unknown(readings, rows)
        if on_progress and len(readings) < len(rows):
            on_progress(len(rows) - len(readings), 0)
        with self._timed("forward"):
            results = self._decode(readings, on_progress)
        with self._timed("finish"):
            counts = self._document_tokens(table)
            for index, result in results.items():
                if isinstance(result, str):
                    rows[index] = Written(status=Status.ERROR, error=result)
                else:
                    rows[index] = self._finish(
                        texts[index], readings[index], result, document_tokens=counts[index]
                    )
        return [row for row in rows if row is not None]

    def _texts(
        self, table: pa.Table, documents: Sequence[Document], rows: list[Written | None]
    ) -> dict[int, Text]:
        """What is to be read, by the number of the row; a row that cannot be read is filled in."""
        summaries = self._optional(table, self._config.summary_column)
        tags = self._optional(table, self._config.language_column)
        texts: dict[int, Text] = {}
        for index, document in enumerate(documents):
            prediction = unreadable(document)
            if prediction is not None:
                rows[index] = Written(status=prediction.status, error=prediction.error)
                continue
            text = document.text or ""
            tag = next(filter(base_language, (tags[index], self._config.language)), None) or ""
            name = None
            if self._task.languages:
                tag = tag or self._detector()(text)
                name = source_language(self._task, tag)
                if name is None:
                    reason = f"the model does not read {base_language(tag)!r}"
                    rows[index] = Written(status=Status.UNKNOWN_LANGUAGE, error=reason)
                    continue
            texts[index] = Text(
                text=text,
                summary=summaries[index],
                language=base_language(tag) or detect_language(text),
                tokenizer_language=name,
            )
        return texts

    def _read(self, texts: Mapping[int, Text], rows: list[Written | None]) -> dict[int, Reading]:
        """What the model reads, by the number of the row.

        Where reading fails, each text is read alone; the row of one that fails is filled in.
        """
        try:
            return dict(zip(texts, self._sources.read(list(texts.values())), strict=True))
        except BertsumError:
            raise
        except Exception as error:  # whatever a hostile text makes a tokenizer raise
            if len(texts) == 1:
                (index,) = texts
                reason = f"reading failed: {one_line(error)}"
                rows[index] = Written(status=Status.ERROR, error=reason)
                return {}
        readings: dict[int, Reading] = {}
        for index, text in texts.items():
            readings |= self._read({index: text}, rows)
        return readings

    def _leave_out_unknown(self, readings: dict[int, Reading], rows: list[Written | None]) -> None:
        """Take out the readings of which the tokenizer does not know most; fill in their rows."""
        unknown = self._tokenizer.unk_token_id
        for index, reading in list(readings.items()):
            # A run of unknown characters may be one token, so that in each text, long or short, the
            # prefix and two more tokens, special ones or a blank, would hide it. A model of bertsum
            # reads special ones around each sentence.
            num_special = sum(reading.ids.count(token) for token in self._around_sentences)
            num_other = max(2, self._sources.num_prefix_tokens, num_special)
            share = reading.ids.count(unknown) / max(1, len(reading.ids) - num_other)
            if share >= _UNKNOWN_SHARE:
                reason = "the model's tokenizer does not know most of this text"
                rows[index] = Written(status=Status.UNKNOWN_LANGUAGE, error=reason)
                del readings[index]

    def _decode(
        self, readings: dict[int, Reading], on_progress: Progress | None
    ) -> dict[int, Generated | str]:
        """What is written from each reading, or why nothing is, by the number of the row."""
        indices = list(readings)
        results: dict[int, Generated | str] = {}
        lengths = [len(readings[index].ids) for index in indices]
        for group in self._decoder.group(lengths, self.max_batch_tokens):
            rows = [indices[number] for number in group]
            written = self._decode_batch([readings[row].ids for row in rows])
            results |= dict(zip(rows, written, strict=True))
            if on_progress:
                on_progress(len(rows), sum(len(readings[row].ids) for row in rows))
        return results

    def _decode_batch(self, inputs: Sequence[list[int]]) -> Sequence[Generated | str]:
        """What is written from each input. Where the device fails at it, the batch is halved.

        Raises DeviceError where the device is lost, or others have taken its memory.
        """
        try:
            return self._decoder.write(inputs)
        except Exception as error:  # a device out of memory, or a kernel that fails
            refuse_lost_device(error)
            lacks_memory, reason = isinstance(error, torch.OutOfMemoryError), one_line(error)
        # outside of the handler: the error's traceback holds the tensors of the failed batch
        if self._device.type != "cpu":
            torch.get_device_module(self._device).empty_cache()
        if len(inputs) > 1:
            half = len(inputs) // 2
            return [*self._decode_batch(inputs[:half]), *self._decode_batch(inputs[half:])]
        if lacks_memory and is_crowded(self._device):
            raise DeviceError(f"other processes have taken memory of {self._device}: {reason}")
        return [f"the model failed: {reason}"]

    def _finish(
        self,
        text: Text,
        reading: Reading,
        generated: Generated,
        *,
        document_tokens: int | None,
    ) -> Written:
        """The row of a text that was written. `document_tokens`: as INPUT has them."""
        target = self._config.translate_to
        language = text.language if target is None else base_language(target)
        decoded = str(self._tokenizer.decode(generated.ids, skip_special_tokens=True)).strip()
        written, ending = whole_sentences(decoded, language, is_ended=generated.is_ended)
        return Written(
            status=Status.OK,
            text=written,
            source=reading.source,
            ending=ending,
            faithfulness=compare(
                written, text.text, language=language, is_translation=target is not None
            ),
            num_tokens=len(reading.ids),
            document_tokens=document_tokens or reading.document_tokens,
            new_tokens=len(generated.ids),
        )

    def _optional(self, table: pa.Table, name: str | None) -> Sequence[str | None]:
        """The strings of a column; None for each row without a column."""
        if name is None:
            return [None] * table.num_rows
        return [document.text for document in read_texts(table, name)]

    def _document_tokens(self, table: pa.Table) -> Sequence[int | None]:
        name = self._config.document_tokens_column
        if name is None:
            return [None] * table.num_rows
        counts: list[int | None] = table[name].to_pylist()
        # of a count that no text can have only the last bits would be left
        return [count if count and 0 < count < 2**31 else None for count in counts]

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stage_seconds[stage] += time.perf_counter() - start
