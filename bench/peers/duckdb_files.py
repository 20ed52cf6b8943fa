"""DuckDB: files to one Parquet file. Arguments: csv or ndjson, the folder, the file to write.

Without a folder nothing is done: the time is that of the start. Prints the number of rows.
"""

import sys

import duckdb

with duckdb.connect() as connection:
    connection.execute("set threads = 2")
    if len(sys.argv) > 2:
        kind, folder, to = sys.argv[1:]
        files = f"'{folder}/*.{kind}'"
        reader = {
            "csv": f"read_csv({files})",
            "ndjson": f"read_json({files}, format = 'newline_delimited')",
        }[kind]
        query = f"select * from {reader}"  # noqa: S608 - our own paths
        copied = connection.execute(f"copy ({query}) to '{to}' (format parquet)")
        print(copied.fetchall()[0][0])
