"""A bare loop over a topic. Arguments: the topic, how many messages it holds, settings as JSON.

Reads every partition from its beginning, as the job does, and keeps nothing. With 0 messages only
begins and ends. Prints how many it has read.
"""

import json
import sys
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

topic, wanted = sys.argv[1], int(sys.argv[2])
consumer = Consumer(json.loads(sys.argv[3]))
partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in partitions])
read = 0
while read < wanted:
    # It returns when it has as many: the last call is not to wait for more than there are.
    messages: list[Any] = consumer.consume(min(10_000, wanted - read), timeout=10)
    if not messages:
        sys.exit(f"nothing came for 10 s after {read} messages")
    for message in messages:
        error = message.error()
        if error is None:
            read += 1
        elif error.code() != KafkaError._PARTITION_EOF:
            sys.exit(error.str())
consumer.close()
print(read)
