"""Spark: envelopes in a bronze table to the current rows. Arguments: the table, a folder to write.

Runs in an environment of its own (see cdc.py) and needs Java. Prints the seconds, without the start
of the session. It is given the table's Parquet files: nothing was deleted from it.
"""

import sys
import time

from pyspark.sql import SparkSession

ENVELOPE = (
    "op string, before struct<id: bigint>, after struct<id: bigint, name: string, email: string,"
    " region: string, status: string, amount: string, created_at: bigint, updated_at: bigint>,"
    " source struct<lsn: bigint>"
)

NEWEST = """
with parsed as (
    select from_json(value, '{envelope}') as envelope from landed
),
numbered as (
    select
        envelope.op,
        coalesce(envelope.after.id, envelope.before.id) as id,
        envelope.after.name,
        envelope.after.email,
        envelope.after.region,
        envelope.after.status,
        cast(envelope.after.amount as decimal(12, 2)) as amount,
        cast(timestamp_micros(envelope.after.created_at) as timestamp_ntz) as created_at,
        cast(timestamp_micros(envelope.after.updated_at) as timestamp_ntz) as updated_at,
        row_number() over (
            partition by coalesce(envelope.after.id, envelope.before.id)
            order by envelope.source.lsn desc
        ) as place
    from parsed
)
select id, name, email, region, status, amount, created_at, updated_at
from numbered
where place = 1 and op <> 'd'
""".replace("{envelope}", ENVELOPE)


def main(table: str, to: str) -> None:
    """Write the newest row of every key that is not deleted."""
    settings = {
        "spark.driver.memory": "6g",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "4",
        "spark.ui.enabled": "false",
    }
    spark = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
    spark.sql("select 1").collect()
    began = time.perf_counter()
    spark.read.parquet(f"{table}/*.parquet").createOrReplaceTempView("landed")
    spark.sql(NEWEST).write.parquet(to)
    print(time.perf_counter() - began)
    spark.stop()


main(*sys.argv[1:])
