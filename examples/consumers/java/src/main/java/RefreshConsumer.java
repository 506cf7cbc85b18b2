import com.fasterxml.jackson.core.json.JsonWriteFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.message.BinaryMessageDecoder;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Reads front.refresh, committed records only, and prints one JSON line for each refresh. See docs/consumers.md. */
public final class RefreshConsumer {
  private static final Set<String> PRIORITIES = Set.of("high", "medium", "low");

  // Escaped, because standard output may not be UTF-8.
  private final JsonMapper json = JsonMapper.builder().enable(JsonWriteFeature.ESCAPE_NON_ASCII).build();
  private final BinaryMessageDecoder<GenericRecord> decoder;

  private RefreshConsumer(Schema schema) {
    // Avro's single-object encoding: the decoder checks the marker and the schema's fingerprint.
    decoder = new BinaryMessageDecoder<>(GenericData.get(), schema);
  }

  public static void main(String[] args) throws Exception {
    var schema = new Schema.Parser().parse(Path.of(env("REFRESH_SCHEMA", "../../../schemas/front.refresh/v1.avsc")).toFile());
    var example = new RefreshConsumer(schema);
    var closed = new CountDownLatch(1);
    Map<String, Object> settings = Map.of(
        "bootstrap.servers", env("KAFKA_BROKERS", "127.0.0.1:9092"),
        "group.id", env("KAFKA_GROUP", "refresh-queue"),
        "isolation.level", "read_committed",
        "enable.auto.commit", false,
        "auto.offset.reset", "earliest");
    try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
      // A signal starts this hook; the JVM ends when it returns, which it does when the consumer is closed.
      Runtime.getRuntime().addShutdownHook(new Thread(() -> {
        consumer.wakeup();
        await(closed);
      }));
      example.run(consumer);
    } catch (WakeupException stopped) {
      // By the hook.
    } finally {
      closed.countDown();
    }
  }

  private void run(KafkaConsumer<String, byte[]> consumer) throws Exception {
    long count = Long.parseLong(env("COUNT", "0")); // 0: until it is told to stop
    consumer.subscribe(List.of(env("KAFKA_TOPIC", "front.refresh")));
    for (long handled = 0; ; ) {
      for (var record : consumer.poll(Duration.ofSeconds(1))) {
        try {
          handle(record);
        } catch (Exception error) {
          // Stop here, and again after a restart, rather than lose a refresh that nobody would miss.
          throw new IllegalStateException(
              "%s partition %d offset %d".formatted(record.topic(), record.partition(), record.offset()), error);
        }
        consumer.commitSync(Map.of(
            new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1)));
        if (++handled == count) {
          return;
        }
      }
    }
  }

  private void handle(ConsumerRecord<String, byte[]> record) throws Exception {
    // The headers are enough to choose a lane; a word that a later version added counts as high, so that it is never late.
    Header header = record.headers().lastHeader("frontstream-priority");
    String word = header == null ? "" : new String(header.value(), StandardCharsets.UTF_8);
    var refresh = decoder.decode(record.value());
    var line = new LinkedHashMap<String, Object>();
    line.put("tenant", refresh.get("tenant").toString());
    line.put("conversation", refresh.get("conversation").toString());
    line.put("priority", PRIORITIES.contains(word) ? word : "high");
    line.put("kinds", ((List<?>) refresh.get("kinds")).stream().map(Object::toString).toList());
    line.put("event_count", refresh.get("event_count"));
    line.put("closed_by", refresh.get("closed_by").toString());
    line.put("partition", record.partition());
    line.put("offset", record.offset());
    System.out.println(json.writeValueAsString(line));
  }

  private static void await(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private static String env(String name, String otherwise) {
    return System.getenv().getOrDefault(name, otherwise);
  }
}
