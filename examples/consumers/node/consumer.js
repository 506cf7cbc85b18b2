// Reads front.refresh, committed records only, and prints one JSON line for each refresh. See docs/consumers.md.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'

import confluent from '@confluentinc/kafka-javascript'
import avro from 'avsc'

const { Kafka, logLevel } = confluent.KafkaJS
const { env } = process
const count = Number(env.COUNT ?? 0) // 0: until it is told to stop

const schema = avro.Type.forSchema(JSON.parse(readFileSync(env.REFRESH_SCHEMA ?? '../../../schemas/front.refresh/v1.avsc', 'utf8')))
// Avro's single-object encoding: two bytes of marker, eight of the schema's fingerprint (docs/consumers.md), then the value.
const frame = Buffer.from('c3014c7358cbc9798e4b', 'hex')

function decode(value) {
  if (!value?.subarray(0, frame.length).equals(frame)) {
    throw new Error(`not framed as a Refresh of this schema: ${value?.subarray(0, frame.length).toString('hex')}`)
  }
  return schema.fromBuffer(value.subarray(frame.length))
}

function handle(partition, message) {
  // The headers are enough to choose a lane; a word that a later version added counts as high, so that it is never late.
  const word = String(message.headers?.['frontstream-priority'])
  const priority = ['high', 'medium', 'low'].includes(word) ? word : 'high'
  const { tenant, conversation, kinds, event_count, closed_by } = decode(message.value)
  const offset = Number(message.offset)
  console.log(JSON.stringify({ tenant, conversation, priority, kinds, event_count, closed_by, partition, offset }))
}

const consumer = new Kafka({
  kafkaJS: { brokers: (env.KAFKA_BROKERS ?? '127.0.0.1:9092').split(','), logLevel: logLevel.ERROR }
}).consumer({
  'group.id': env.KAFKA_GROUP ?? 'refresh-queue',
  'isolation.level': 'read_committed',
  'enable.auto.commit': false,
  'auto.offset.reset': 'earliest'
})
await consumer.connect()
const stop = new AbortController()
process.once('SIGINT', () => stop.abort()).once('SIGTERM', () => stop.abort())
await consumer.subscribe({ topic: env.KAFKA_TOPIC ?? 'front.refresh' })

let handled = 0
await consumer.run({
  eachMessage: async ({ topic, partition, message }) => {
    if (stop.signal.aborted) return // neither handled nor committed: it comes again
    try {
      handle(partition, message)
      await consumer.commitOffsets([{ topic, partition, offset: String(BigInt(message.offset) + 1n) }])
    } catch (error) {
      // Stop here, and again after a restart, rather than lose a refresh that nobody would miss.
      console.error(`${topic} partition ${partition} offset ${message.offset}: ${error.message}`)
      process.exitCode = 1
      stop.abort()
    }
    if (++handled === count) stop.abort()
  }
})

if (!stop.signal.aborted) await once(stop.signal, 'abort')
await consumer.disconnect()
