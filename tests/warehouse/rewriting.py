"""What Databricks SQL has and an engine lacks or answers wrongly, said in what the engine has.

Each rewriting keeps the meaning on Databricks. Only statements that need one are written anew from
the syntax tree; all others reach the engine as they were written.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.generators.databricks import DatabricksGenerator

from .catalog import NotSupportedError
from .sql import parse

# Their result does not depend on the frame, and Sail cannot make the default one over structs.
_FRAMELESS = (
    exp.RowNumber,
    exp.Rank,
    exp.DenseRank,
    exp.Lag,
    exp.Lead,
    exp.Ntile,
    exp.PercentRank,
    exp.CumeDist,
)
_ROWS = {
    "kind": "ROWS",
    "start": "UNBOUNDED",
    "start_side": "PRECEDING",
    "end": "CURRENT ROW",
    "end_side": None,
}


class _Generator(DatabricksGenerator):
    """Writes a tree as it was parsed: no clause is moved, no function exchanged."""

    EXPRESSIONS_WITHOUT_NESTED_CTES: ClassVar[set[type[exp.Expr]]] = set()
    TRANSFORMS: ClassVar[dict[type[exp.Expr], Any]] = {
        kind: how
        for kind, how in DatabricksGenerator.TRANSFORMS.items()
        if kind is not exp.WithinGroup
    }


def for_sail(text: str) -> str:
    """Return the statement as Sail can run it; most come back unchanged."""
    return _rewritten(text, (_frames, _array_contains, _half_even, _member, _qualify))


def for_spark(text: str) -> str:
    """Return the statement as Apache Spark can run it; most come back unchanged."""
    return _rewritten(text, (_member, _qualify))


def _rewritten(text: str, rules: Sequence[Callable[[exp.Expr], bool]]) -> str:
    # Under a node of its own, the statement itself can be replaced like any part of it.
    holder = exp.Paren(this=parse(text).tree)
    changed = [rule(holder) for rule in rules]
    if not any(changed):
        return text
    tree = holder.this
    written: str = _Generator(dialect="databricks", comments=False).generate(tree)
    if parse(written).tree != tree:
        raise NotSupportedError(f"a rewriting that keeps the meaning of: {written}")
    return written


def _frames(tree: exp.Expr) -> bool:
    changed = False
    for window in tree.find_all(exp.Window):
        function = window.this
        if isinstance(function, exp.IgnoreNulls | exp.RespectNulls):
            function = function.this
        if isinstance(function, _FRAMELESS) and not window.args.get("spec"):
            window.set("spec", exp.WindowSpec(**_ROWS))
            changed = True
    return changed


def _qualify(tree: exp.Expr) -> bool:
    """A condition on window functions: filter a subquery that computes it as a column.

    The row travels as a struct, whose fields become the columns again: so `*` needs no list.
    """
    found = [s for s in tree.find_all(exp.Select) if s.args.get("qualify")]
    # The innermost first: an outer one is replaced by a subquery that holds it.
    for select in reversed(found):
        if select.args.get("distinct") or select.args.get("group"):
            raise NotSupportedError("QUALIFY beside DISTINCT or GROUP BY")
        aliases = {e.alias: e.this for e in select.expressions if isinstance(e, exp.Alias)}
        fields = ", ".join(e.sql(dialect="databricks") for e in select.expressions)
        columns = [
            exp.alias_(parse(f"select struct({fields})").tree.expressions[0], "_row"),
            exp.alias_(_meaning(select.args["qualify"].this, aliases), "_qualifies"),
        ]
        order = select.args["order"].copy() if select.args.get("order") else None
        for number, ordered in enumerate(order.expressions if order else []):
            if not isinstance(ordered.this, exp.Literal):
                columns.append(exp.alias_(_meaning(ordered.this, aliases), f"_order_{number}"))
                ordered.set("this", exp.column(f"_order_{number}"))
        inner = select.copy()
        for clause in ("qualify", "order", "limit", "with_"):
            inner.set(clause, None)
        inner.set("expressions", columns)
        outer = exp.Select(
            expressions=[exp.Column(this=exp.Star(), table=exp.to_identifier("_row"))],
            from_=exp.From(this=inner.subquery("_qualify")),
            where=exp.Where(this=exp.column("_qualifies")),
            order=order,
        )
        for clause in ("limit", "with_"):
            if select.args.get(clause):
                outer.set(clause, select.args[clause].copy())
        select.replace(outer)
    return bool(found)


def _meaning(expression: exp.Expr, aliases: dict[str, exp.Expr]) -> exp.Expr:
    """The expression with the names that the same SELECT gives replaced by what they stand for."""

    for name, meaning in aliases.items():
        # Is it the column or what the SELECT calls so? Engines differ.
        if any(column.name == name for column in meaning.find_all(exp.Column)) and not isinstance(
            meaning, exp.Column
        ):
            for column in expression.find_all(exp.Column):
                if column.name == name and not column.table:
                    raise NotSupportedError(f"QUALIFY on {name}, a column and an alias")

    def replaced(node: exp.Expr) -> exp.Expr:
        known = isinstance(node, exp.Column) and not node.table and node.name in aliases
        return exp.paren(aliases[node.name].copy()) if known else node

    return expression.transform(replaced)


def _half_even(tree: exp.Expr) -> bool:
    """`bround` is a floating-point number in Sail, and rounds half away from zero."""
    found = [f for f in tree.find_all(exp.Anonymous) if f.name.lower() == "bround"]
    for function in reversed(found):
        value, *rest = (e.sql(dialect="databricks") for e in function.expressions)
        places = int(rest[0]) if rest else 0
        up = f"round({value}, {places})"
        digits = f"0.{'1'.zfill(places)}" if places else "1"
        unit = f"cast('{digits}' as decimal({places + 1}, {places}))"
        # Half a unit was rounded away from zero to an odd number: one unit back.
        function.replace(
            parse(
                f"select ({up} - case when abs({up} - ({value})) * 2 = {unit}"
                f" and cast({up} / {unit} as decimal(38, 0)) % 2 <> 0"
                f" then cast(sign({value}) as decimal(1, 0)) * {unit}"
                f" else 0 * {unit} end)"
            ).tree.expressions[0]
        )
    return bool(found)


def _member(tree: exp.Expr) -> bool:
    """Whoever asks is a member of every group of the account but those that are called `nobody`."""
    found = [f for f in tree.find_all(exp.Anonymous) if f.name.lower() == "is_account_group_member"]
    for function in found:
        function.replace(exp.Boolean(this=function.expressions[0].name != "nobody"))
    return bool(found)


def _array_contains(tree: exp.Expr) -> bool:
    """`array_contains` is NULL, not false, where a NULL may be the value that is looked for."""
    found = list(tree.find_all(exp.ArrayContains))
    for function in reversed(found):
        values = function.this.sql(dialect="databricks")
        value = function.expression.sql(dialect="databricks")
        function.replace(
            parse(
                f"select case when {values} is null or {value} is null then null"
                f" when array_contains({values}, {value}) then true"
                f" when exists({values}, _e -> _e is null) then null else false end"
            ).tree.expressions[0]
        )
    return bool(found)
