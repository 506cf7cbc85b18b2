#!/bin/sh
# Reads front.refresh, committed records only, with the console consumer that Apache Kafka brings: key and headers, which
# are text. The values are Avro: `frontstream tail refresh` decodes them. See docs/consumers.md.
#
# For Apache Kafka 4.2 and later; before, --formatter-property was called --property.
set -eu

# What the tool is called here; Docker images and Debian packages leave the .sh out.
exec ${KAFKA_CONSOLE_CONSUMER:-kafka-console-consumer.sh} \
  --bootstrap-server "${KAFKA_BROKERS:-127.0.0.1:9092}" \
  --topic "${KAFKA_TOPIC:-front.refresh}" \
  --isolation-level read_committed \
  --from-beginning \
  --formatter-property print.partition=true \
  --formatter-property print.offset=true \
  --formatter-property print.key=true \
  --formatter-property print.headers=true \
  --formatter-property print.value=false \
  "$@"
