"""Reads front.refresh, committed records only, and prints one JSON line for each refresh. See docs/consumers.md."""

import io
import json
import os
import signal
import sys

from confluent_kafka import Consumer, KafkaException
from fastavro import schemaless_reader
from fastavro.schema import fingerprint, load_schema, to_parsing_canonical_form

BROKERS = os.environ.get("KAFKA_BROKERS", "127.0.0.1:9092")
TOPIC = os.environ.get("KAFKA_TOPIC", "front.refresh")
GROUP = os.environ.get("KAFKA_GROUP", "refresh-queue")
COUNT = int(os.environ.get("COUNT", "0"))  # 0: until it is told to stop

SCHEMA = load_schema(os.environ.get("REFRESH_SCHEMA", "../../../schemas/front.refresh/v1.avsc"))
# Avro's single-object encoding: two bytes of marker, eight of the schema's fingerprint, then the value.
FRAME = b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(SCHEMA), "CRC-64-AVRO"))


def decode(value):
    if value is None or value[:10] != FRAME:
        raise ValueError(f"not framed as a Refresh of this schema: {(value or b'')[:10].hex()}")
    return schemaless_reader(io.BytesIO(value[10:]), SCHEMA, None)


def handle(message):
    # The headers are enough to choose a lane; a word that a later version added counts as high, so that it is never late.
    priority = dict(message.headers() or []).get("frontstream-priority", b"").decode()
    if priority not in ("high", "medium", "low"):
        priority = "high"
    refresh = decode(message.value())
    line = {
        "tenant": refresh["tenant"],
        "conversation": refresh["conversation"],
        "priority": priority,
        "kinds": refresh["kinds"],
        "event_count": refresh["event_count"],
        "closed_by": refresh["closed_by"],
        "partition": message.partition(),
        "offset": message.offset(),
    }
    print(json.dumps(line, separators=(",", ":")), flush=True)


def main():
    stopping = False

    def stop(*_):
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)

    consumer = Consumer(
        {
            "bootstrap.servers": BROKERS,
            "group.id": GROUP,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([TOPIC])
    handled = 0
    try:
        while not stopping and (COUNT == 0 or handled < COUNT):
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            try:
                handle(message)
            except Exception as error:
                # Stop here, and again after a restart, rather than lose a refresh that nobody would miss.
                sys.exit(f"{TOPIC} partition {message.partition()} offset {message.offset()}: {error}")
            consumer.commit(message=message, asynchronous=False)
            handled += 1
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
