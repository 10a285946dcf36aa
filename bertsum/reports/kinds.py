"""What the rows of a result are: summaries, written texts or matches; and what a page says of each.

`summarize`, `generate` and `match` give their columns other names, and make other ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bertsum.config import SummarizerConfig
from bertsum.config_base import validated
from bertsum.generation.columns import made_fields, name_of
from bertsum.generation.config import GenerateConfig
from bertsum.generation.faithfulness import find_facts
from bertsum.matching.columns import MADE_COLUMNS
from bertsum.matching.config import MatchConfig
from bertsum.reports.readings import (
    MatchRow,
    Reading,
    WrittenText,
    make_reading,
    rounded,
    shown,
    to_utf16,
)
from bertsum.schema import OutputGroup, prediction_schema

RowKind = Literal["summaries", "written texts", "matches"]

_WRITTEN_COLUMNS = (
    *("status", "error", "num_tokens", "new_tokens", "document_tokens", "source", "ending"),
    *("word_share", "number_share", "name_share", "new_facts", "has_new_facts"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What the rows of a job hold.

    - `config`: how the texts of INPUT are read; of summaries, all that decides a row.
    - `columns`: names in files, by the names that pages use.
    - `made`: names in files of all columns that the job adds to those of INPUT.
    - `of_users`: a row is of all texts of a user, and of no row of INPUT.
    """

    kind: RowKind
    config: SummarizerConfig
    columns: Mapping[str, str]
    made: frozenset[str]
    of_users: bool = False

    def read(self, values: Mapping[str, Any], text: str | None, query: str | None) -> Reading:
        """What a row of the job says; `values` by column of OUTPUT."""
        if self.kind == "summaries":
            return make_reading(values, text, self.config, query)
        named = {column: values.get(name) for column, name in self.columns.items()}
        return _written_reading(named) if self.kind == "written texts" else _match_reading(named)


def rows_of(config: Mapping[str, Any], where: str) -> Rows | None:
    """What rows a job with this configuration makes; None: none that a page shows.

    Raises ConfigError for a configuration of a later version; `where`: whose it is, for the message.
    """
    if "selection" in config and "text_column" in config:
        read_config = validated(SummarizerConfig, dict(config), where)
        columns = prediction_schema(tuple(OutputGroup)).names
        return Rows(
            kind="summaries",
            config=read_config,
            columns={column: read_config.output.name_of(column) for column in columns},
            made=frozenset(read_config.predicted.names),
        )
    if "generate" in config:
        generate = validated(GenerateConfig, config["generate"], where)
        names = {column: name_of(column, generate) for column in _WRITTEN_COLUMNS}
        return Rows(
            kind="written texts",
            config=SummarizerConfig(text_column=generate.text_column),
            columns={"summary": generate.output_column, **names},
            # the text stands in full where it was read, also where it passes through
            made=frozenset([*(f.name for f in made_fields(generate)), generate.text_column]),
        )
    if "match" in config:
        match = validated(MatchConfig, config["match"], where)
        return Rows(
            kind="matches",
            config=SummarizerConfig(text_column=match.text_column),
            columns={column: column for column in MADE_COLUMNS},
            made=frozenset(MADE_COLUMNS),
            of_users=match.user_column is not None,
        )
    return None


def _written_reading(values: Mapping[str, Any]) -> Reading:
    text, facts = values["summary"], values["new_facts"] or ()
    shares: dict[str, float] = {}
    for kind in ("word", "number", "name"):
        if (share := values[f"{kind}_share"]) is not None:
            shares[kind] = rounded(share)
    return Reading(
        status=values["status"],
        error=values["error"],
        summary=text,
        num_tokens=values["num_tokens"],
        written=WrittenText(
            source=values["source"],
            ending=values["ending"],
            shares=shares,
            new_facts=facts,
            fact_spans=to_utf16(text)(find_facts(text or "", facts)),
            new_tokens=values["new_tokens"],
            document_tokens=values["document_tokens"],
        ),
    )


def _match_reading(values: Mapping[str, Any]) -> Reading:
    matches: list[MatchRow] | None = None
    if values["matches"] is not None:
        matches = []
        for match in values["matches"]:
            others = [(k, shown(v)) for k, v in match.items() if k not in ("id", "score", "rank")]
            matches.append((match["rank"], shown(match["id"]), rounded(match["score"]), others))
    return Reading(
        status=values["status"],
        error=values["error"],
        num_tokens=values["num_tokens"],
        matches=matches,
    )
