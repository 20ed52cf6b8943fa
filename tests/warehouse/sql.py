"""Statements taken apart, as Databricks SQL.

A statement goes to the engine as it was written; only the names of relations in it are replaced,
where they stand. sqlglot says where, and is the judge of what is Databricks SQL.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from sqlglot import ErrorLevel, exp
from sqlglot.dialects.databricks import Databricks
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from .catalog import NotSupportedError, WarehouseError

# It warns of each statement that it keeps as words (SHOW, OPTIMIZE): they are counted instead.
logging.getLogger("sqlglot").setLevel(logging.ERROR)
_DIALECT = Databricks()
# sqlglot does not know it: what comes before the query is taken off.
_TO_DIRECTORY = re.compile(
    r"(/\*.*?\*/\s*)?insert\s+overwrite\s+directory\s+'[^'\\]+'\s+using\s+parquet\s", re.I | re.S
)


class UnparsedError(WarehouseError):
    """A text that is not Databricks SQL, as far as sqlglot knows it."""


@dataclass(frozen=True)
class Reference:
    """A relation that a statement names: its parts, and where they stand in the text."""

    parts: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Statement:
    """One statement: its text and its syntax tree; `head` is what stands before a query."""

    text: str
    tree: exp.Expr
    head: str = ""

    @cached_property
    def words(self) -> list[Token]:
        """The tokens of the text."""
        words: list[Token] = _DIALECT.tokenize(self.text)
        if self.is_command and len(words) == 2:
            # All after the first word is one token of unknown words.
            words[1:] = _DIALECT.tokenize(words[1].text)
        return words

    @property
    def is_command(self) -> bool:
        """Whether sqlglot knows the statement only by its first word."""
        return isinstance(self.tree, exp.Command)

    def references(self, start: int = 0) -> list[Reference]:
        """The relations that are named after `start`, in the order of the text."""
        found = [
            _reference(table)
            for table in self.tree.find_all(exp.Table)
            if isinstance(table.this, exp.Identifier) and not _is_cte(table)
        ]
        return sorted((r for r in found if r.start >= start), key=lambda r: r.start)

    def with_names(
        self,
        rename: Callable[[Reference], str | None],
        functions: Mapping[str, str],
        start: int = 0,
    ) -> str:
        """The text after `start` with relations renamed; None leaves a name as it is.

        `functions`: what calls without arguments are replaced by, by lower-case name.
        """
        changes = [(r.start, r.end, rename(r)) for r in self.references(start)]
        for function, opened, closed in zip(
            self.words, self.words[1:], self.words[2:], strict=False
        ):
            value = functions.get(function.text.lower())
            if value is not None and function.start >= start and opened.text + closed.text == "()":
                changes.append((function.start, closed.end + 1, value))
        pieces, position = [], start
        for begin, end, text in sorted(c for c in changes if c[2] is not None):
            pieces += [self.text[position:begin], text or ""]
            position = end
        return "".join([*pieces, self.text[position:]]).strip()

    def query_start(self) -> int:
        """Where the query of CREATE ... AS <query> starts in the text."""
        depth = 0
        for number, token in enumerate(self.words):
            depth += (token.token_type == TokenType.L_PAREN) - (
                token.token_type == TokenType.R_PAREN
            )
            if depth == 0 and token.token_type == TokenType.ALIAS:
                return int(self.words[number + 1].start)
        raise NotSupportedError("a statement without AS <query>")


def parse(text: str) -> Statement:
    """Parse one statement. Raise UnparsedError where it is not Databricks SQL."""
    text = text.strip().rstrip(";").rstrip()
    head = found.group() if (found := _TO_DIRECTORY.match(text)) else ""
    text = text.removeprefix(head)
    try:
        trees = _DIALECT.parse(text, error_level=ErrorLevel.IMMEDIATE)
    except SqlglotError as error:
        said = " ".join(str(error).split())
        raise UnparsedError(f"[PARSE_SYNTAX_ERROR] not parsed as Databricks SQL: {said}") from error
    if len(trees) != 1 or trees[0] is None:
        raise WarehouseError("[PARSE_SYNTAX_ERROR] one statement is expected")
    return Statement(text, trees[0], head)


def name_parts(table: exp.Expr | None) -> tuple[str, ...]:
    """The parts of a name, in lower case."""
    if not isinstance(table, exp.Table | exp.Column):
        raise NotSupportedError(f"{type(table).__name__} where a name is expected")
    return tuple(part.name.lower() for part in table.parts)


def string(node: exp.Expr | None) -> str:
    """The text of a literal or a name."""
    return node.name if node is not None else ""


def _reference(table: exp.Table) -> Reference:
    if any(table.args.get(part) for part in ("version", "when", "changes", "pivots")):
        raise NotSupportedError(f"{table.sql(dialect='databricks')}: time travel or PIVOT")
    first, last = table.parts[0], table.parts[-1]
    return Reference(name_parts(table), first.meta["start"], last.meta["end"] + 1)


def _is_cte(table: exp.Table) -> bool:
    """Whether the name is one of a common table expression that is visible where it stands."""
    if len(table.parts) != 1:
        return False
    return any(name == table.name.lower() for name in _visible_ctes(table))


def _visible_ctes(node: exp.Expr) -> Iterator[str]:
    inside: exp.Expr = node
    parent = node.parent
    while parent is not None:
        if isinstance(parent, exp.With):
            # Within one of them: those before it, and with RECURSIVE itself.
            for cte in parent.expressions:
                if cte is inside and not parent.recursive:
                    break
                yield cte.alias.lower()
                if cte is inside:
                    break
        elif (clause := parent.args.get("with_")) is not None and clause is not inside:
            yield from (cte.alias.lower() for cte in clause.expressions)
        inside, parent = parent, parent.parent
