"""A local SQL warehouse for the tests: Databricks' wire protocol in front of Spark Connect."""
