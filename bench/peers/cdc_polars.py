"""polars: envelopes in a Delta table to the current rows. Arguments: the table, the file to write.

Runs in an environment of its own (see cdc.py). Prints the seconds, without the imports.
"""

import sys
import time

import polars as pl

TEXT, WHOLE = pl.String, pl.Int64
AFTER = pl.Struct(
    {
        "id": WHOLE,
        "name": TEXT,
        "email": TEXT,
        "region": TEXT,
        "status": TEXT,
        "amount": TEXT,
        "created_at": WHOLE,
        "updated_at": WHOLE,
    }
)
ENVELOPE = pl.Struct(
    {
        "op": TEXT,
        "before": pl.Struct({"id": WHOLE}),
        "after": AFTER,
        "source": pl.Struct({"lsn": WHOLE}),
    }
)


def main(table: str, to: str) -> None:
    """Write the newest row of every key that is not deleted."""
    began = time.perf_counter()
    envelope = pl.col("value").str.json_decode(ENVELOPE)
    after = pl.col("after").struct
    (
        pl.scan_delta(table)
        .select(envelope.alias("envelope"))
        .unnest("envelope")
        .with_columns(
            id=pl.coalesce(after.field("id"), pl.col("before").struct.field("id")),
            lsn=pl.col("source").struct.field("lsn"),
        )
        .sort("lsn")
        .unique("id", keep="last")
        .filter(pl.col("op") != "d")
        .select(
            "id",
            *(after.field(name) for name in ("name", "email", "region", "status")),
            after.field("amount").cast(pl.Decimal(12, 2)),
            *(after.field(f"{n}_at").cast(pl.Datetime("us")) for n in ("created", "updated")),
        )
        .sink_parquet(to)
    )
    print(time.perf_counter() - began)


main(*sys.argv[1:])
