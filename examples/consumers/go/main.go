// Reads front.refresh, committed records only, and prints one JSON line for each refresh. See docs/consumers.md.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What is read of the value; the other fields of the schema are passed over.
type refresh struct {
	Tenant       string   `avro:"tenant"`
	Conversation string   `avro:"conversation"`
	Kinds        []string `avro:"kinds"`
	EventCount   int64    `avro:"event_count"`
	ClosedBy     string   `avro:"closed_by"`
}

type line struct {
	Tenant       string   `json:"tenant"`
	Conversation string   `json:"conversation"`
	Priority     string   `json:"priority"`
	Kinds        []string `json:"kinds"`
	EventCount   int64    `json:"event_count"`
	ClosedBy     string   `json:"closed_by"`
	Partition    int32    `json:"partition"`
	Offset       int64    `json:"offset"`
}

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	count, err := strconv.Atoi(env("COUNT", "0")) // 0: until it is told to stop
	if err != nil {
		return err
	}
	text, err := os.ReadFile(env("REFRESH_SCHEMA", "../../../schemas/front.refresh/v1.avsc"))
	if err != nil {
		return err
	}
	schema, err := avro.Parse(string(text))
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(env("KAFKA_BROKERS", "127.0.0.1:9092"), ",")...),
		kgo.ConsumerGroup(env("KAFKA_GROUP", "refresh-queue")),
		kgo.ConsumeTopics(env("KAFKA_TOPIC", "front.refresh")),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.WithLogger(kgo.BasicLogger(os.Stderr, kgo.LogLevelWarn, nil)),
		// No partition moves to another member between the poll and the commit.
		kgo.BlockRebalanceOnPoll(),
	)
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()

	stopped, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	for handled := 0; count == 0 || handled < count; {
		fetches := client.PollRecords(stopped, 1)
		if stopped.Err() != nil {
			return nil
		}
		if err := fetches.Err(); err != nil {
			return err
		}
		for _, record := range fetches.Records() {
			if err := handle(schema, record); err != nil {
				// Stop here, and again after a restart, rather than lose a refresh that nobody would miss.
				return fmt.Errorf("%s partition %d offset %d: %w", record.Topic, record.Partition, record.Offset, err)
			}
			// A signal must not keep what was done from being committed: hence not the context that it cancels.
			if err := client.CommitRecords(context.Background(), record); err != nil {
				return err
			}
			handled++
		}
		client.AllowRebalance()
	}
	return nil
}

func handle(schema *avro.Schema, record *kgo.Record) error {
	priority := lane(record)
	var value refresh
	// Avro's single-object encoding: this checks the marker and the schema's fingerprint before it decodes.
	if _, err := schema.DecodeSingleObject(record.Value, &value, avro.SkipUnknown()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(line{
		value.Tenant, value.Conversation, priority, value.Kinds, value.EventCount, value.ClosedBy,
		record.Partition, record.Offset,
	})
}

// The headers are enough to choose a lane; a word that a later version added counts as high, so that it is never late.
func lane(record *kgo.Record) string {
	for _, header := range record.Headers {
		if header.Key == "frontstream-priority" {
			switch word := string(header.Value); word {
			case "high", "medium", "low":
				return word
			}
		}
	}
	return "high"
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
