"""What Databricks SQL has and Sail lacks or answers wrongly, said in what Sail has.

Each rewriting keeps the meaning on Databricks. Only statements that need one are written anew from
the syntax tree; all others reach Sail as they were written.
"""

from collections.abc import Callable
from typing import ClassVar

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
    """Leaves common table expressions where they are."""

    EXPRESSIONS_WITHOUT_NESTED_CTES: ClassVar[set[type[exp.Expr]]] = set()


def for_sail(text: str) -> str:
    """Return the statement as Sail can run it; most come back unchanged."""
    # Under a node of its own, the statement itself can be replaced like any part of it.
    holder = exp.Paren(this=parse(text).tree)
    if not any([rule(holder) for rule in _RULES]):
        return text
    tree = holder.this
    written = _Generator(dialect="databricks", comments=False).generate(tree)
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
        condition = select.args["qualify"].this.copy()
        aliases = {e.alias: e.this for e in select.expressions if isinstance(e, exp.Alias)}
        for column in list(condition.find_all(exp.Column)):
            if not column.table and column.name in aliases:
                meaning = exp.paren(aliases[column.name].copy())
                if column is condition:
                    condition = meaning
                else:
                    column.replace(meaning)
        fields = ", ".join(e.sql(dialect="databricks") for e in select.expressions)
        row = parse(f"select struct({fields})").tree.expressions[0]
        inner = select.copy()
        for clause in ("qualify", "order", "limit", "with_"):
            inner.set(clause, None)
        inner.set("expressions", [exp.alias_(row, "_row"), exp.alias_(condition, "_qualifies")])
        outer = exp.Select(
            expressions=[exp.Column(this=exp.Star(), table=exp.to_identifier("_row"))],
            from_=exp.From(this=inner.subquery("_qualify")),
            where=exp.Where(this=exp.column("_qualifies")),
        )
        for clause in ("order", "limit", "with_"):
            if select.args.get(clause):
                outer.set(clause, select.args[clause].copy())
        select.replace(outer)
    return bool(found)


def _half_even(tree: exp.Expr) -> bool:
    """`bround` is a floating-point number in Sail, and rounds half away from zero."""
    found = [f for f in tree.find_all(exp.Anonymous) if f.name.lower() == "bround"]
    for function in reversed(found):
        value, *rest = (e.sql(dialect="databricks") for e in function.expressions)
        places = int(rest[0]) if rest else 0
        up, cent = f"round({value}, {places})", f"cast(1e-{places} as decimal(38, {places}))"
        if places == 0:
            cent = "cast(1 as decimal(38, 0))"
        else:
            cent = f"cast('0.{'0' * (places - 1)}1' as decimal({places + 1}, {places}))"
        # Half a unit was rounded away from zero to an odd number: one unit back.
        function.replace(
            parse(
                f"select ({up} - case when abs({up} - ({value})) * 2 = {cent}"
                f" and cast({up} / {cent} as decimal(38, 0)) % 2 <> 0"
                f" then cast(sign({value}) as decimal(1, 0)) * {cent}"
                f" else 0 * {cent} end)"
            ).tree.expressions[0]
        )
    return bool(found)


def _percentile_disc(tree: exp.Expr) -> bool:
    """`percentile_disc` is a floating-point number in Sail: take the element of the sorted list."""
    found = [
        w for w in tree.find_all(exp.WithinGroup) if isinstance(w.this, exp.PercentileDisc)
    ]
    for group in reversed(found):
        if isinstance(group.parent, exp.Window | exp.Filter):
            raise NotSupportedError("percentile_disc OVER or FILTER")
        (ordered,) = group.expression.expressions
        value, share = (n.sql(dialect="databricks") for n in (ordered.this, group.this.this))
        direction = ", false" if ordered.args.get("desc") else ""
        values = f"sort_array(collect_list({value}){direction})"
        place = f"greatest(cast(ceil(cast({share} as decimal(38, 18)) * count({value})) as int), 1)"
        group.replace(
            parse(
                f"select case when count({value}) > 0 then element_at({values}, {place}) end"
            ).tree.expressions[0]
        )
    return bool(found)


def _array_contains(tree: exp.Expr) -> bool:
    """`array_contains` is NULL, not false, where a NULL may be the value that is looked for."""
    found = list(tree.find_all(exp.ArrayContains))
    for function in reversed(found):
        if function.args.get("_done"):
            continue
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


_RULES: tuple[Callable[[exp.Expr], bool], ...] = (
    _frames,
    _percentile_disc,
    _array_contains,
    _half_even,
    _qualify,
)
