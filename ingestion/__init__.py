"""The ingestion job: Kafka topics and files to bronze Delta tables, exactly once."""
