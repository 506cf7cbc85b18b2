//! The protocol itself: versions, frames, connections, and whatever else arrives at a port.

use std::collections::BTreeMap;
use std::net::Shutdown;

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, FetchRequest, ListOffsetsRequest, MetadataRequest,
    ProduceRequest, ResponseHeader,
};
use kafka_protocol::protocol::Decodable as _;

use super::Check;
use super::raw::{
    FETCH, Fetch, LIST_OFFSETS, PRODUCE, Raw, error, fetch_request, frame, list_offsets_request, plain,
    produce_request, text, values, with_length,
};
use crate::support::Cluster;

const AREA: &str = "Protocol and bad input";

const METADATA: i16 = 12;

pub(super) const CHECKS: &[Check] = &[
    Check {
        area: AREA,
        name: "ApiVersions: every version is answered, with the same list",
        run: api_versions,
    },
    Check {
        area: AREA,
        name: "ApiVersions: a version that does not exist is answered with UNSUPPORTED_VERSION in version 0 and the right ones",
        run: api_versions_unsupported,
    },
    Check {
        area: AREA,
        name: "a version or an API that does not exist closes the connection; others go on",
        run: unsupported_versions,
    },
    Check {
        area: AREA,
        name: "a malformed request closes the connection; others go on",
        run: malformed,
    },
    Check {
        area: AREA,
        name: "a frame of 2 GB, of a negative length or beyond the limit closes the connection; others go on",
        run: bad_lengths,
    },
    Check {
        area: AREA,
        name: "other protocols and random bytes close the connection; others go on",
        run: strangers,
    },
    Check {
        area: AREA,
        name: "a connection that is dropped in the middle of a frame or a batch leaves nothing behind",
        run: dropped_halfway,
    },
    Check {
        area: AREA,
        name: "a frame that arrives in pieces is a whole one",
        run: pieces,
    },
    Check {
        area: AREA,
        name: "pipelined requests are answered in their order, a waiting fetch before what is behind it",
        run: pipelined,
    },
    Check {
        area: AREA,
        name: "whatever is behind a request that is refused is not answered",
        run: behind_a_refusal,
    },
    Check {
        area: AREA,
        name: "hundreds of connections are served side by side",
        run: many_connections,
    },
];

/// Asks a question that is always answered: the broker goes on.
fn assert_goes_on(raw: &mut Raw) {
    let answer = raw.ask(
        METADATA,
        &MetadataRequest::default().with_topics(Some(Vec::new())),
    );
    assert_eq!(answer.brokers.len(), 1);
}

fn ask_versions(raw: &mut Raw, version: i16) -> ApiVersionsResponse {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(text("conformance"))
        .with_client_software_version(text("1"));
    raw.ask(version, &request)
}

fn ranges(answer: &ApiVersionsResponse) -> BTreeMap<i16, (i16, i16)> {
    let keys = answer.api_keys.iter();
    keys.map(|key| (key.api_key, (key.min_version, key.max_version)))
        .collect()
}

fn api_versions(cluster: &Cluster) {
    let mut raw = Raw::connect(cluster);
    let first = ask_versions(&mut raw, 0);
    assert_eq!(error(first.error_code), None);
    let offered = ranges(&first);
    assert_eq!(offered.len(), first.api_keys.len(), "each API is listed once");
    for version in 1..=4 {
        let answer = ask_versions(&mut raw, version);
        assert_eq!(
            (error(answer.error_code), ranges(&answer)),
            (None, offered.clone()),
            "{version}"
        );
    }
    assert_eq!(offered[&18].0, 0);
    for (key, (min, max)) in offered {
        assert!(0 <= min && min <= max, "API {key}: {min} to {max}");
    }
}

fn api_versions_unsupported(cluster: &Cluster) {
    let mut raw = Raw::connect(cluster);
    let offered = ranges(&ask_versions(&mut raw, 0))[&18];
    for version in [offered.1 + 1, 99, i16::MAX] {
        // Its header is a flexible one, with tagged fields, of which there are none.
        raw.write(&with_length(&[&header(18, version, 7)[..], &[0]].concat()));
        let mut answer = raw.read_frame().expect("an answer");
        let header = ResponseHeader::decode(&mut answer, 0).expect("a header");
        assert_eq!(header.correlation_id, 7);
        let answer = ApiVersionsResponse::decode(&mut answer, 0).expect("version 0");
        assert_eq!(error(answer.error_code), Some(ResponseError::UnsupportedVersion));
        assert_eq!(ranges(&answer)[&18], offered);
    }
    assert_eq!(
        error(ask_versions(&mut raw, 4).error_code),
        None,
        "the connection goes on"
    );
}

/// Makes the header of a request as all versions have it, with a client id and without tagged fields.
fn header(key: i16, version: i16, correlation: i32) -> Bytes {
    let mut header = BytesMut::new();
    header.put_i16(key);
    header.put_i16(version);
    header.put_i32(correlation);
    header.put_i16(1);
    header.put_slice(b"c");
    header.freeze()
}

fn unsupported_versions(cluster: &Cluster) {
    let mut other = Raw::connect(cluster);
    assert_goes_on(&mut other);
    let metadata = ApiKey::Metadata as i16;
    for (key, version) in [
        (metadata, 99),
        (metadata, -1),
        (999, 0),
        (-1, 0),
        (ApiKey::Produce as i16, 99),
    ] {
        let mut raw = Raw::connect(cluster);
        raw.write(&with_length(&header(key, version, 1)));
        raw.assert_closed();
        assert_goes_on(&mut other);
    }
}

fn malformed(cluster: &Cluster) {
    let mut other = Raw::connect(cluster);
    let request = fetch_request("topic", &[(0, 0)], &Fetch::default());
    let good = frame(FETCH, 1, &request);
    let cut = &good[4..good.len() - 9];
    // A header that ends early, and a client id longer than the frame.
    let short = header(3, 1, 1).slice(..6);
    let mut long_id = header(3, 1, 1).to_vec();
    long_id[8..10].copy_from_slice(&i16::MAX.to_be_bytes());
    // More topics than any memory holds, in both ways to write a length.
    let mut many = BytesMut::from(&header(3, 1, 1)[..]);
    many.put_i32(i32::MAX);
    let mut many_compact = BytesMut::from(&header(3, 12, 1)[..]);
    many_compact.put_slice(&[0, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]);
    let mut endless_varint = BytesMut::from(&header(3, 12, 1)[..]);
    endless_varint.put_slice(&[0xFF; 20]);
    for (what, body) in [
        ("a request cut off", cut),
        ("a header cut off", &short),
        ("a client id too long", &long_id),
        ("too many topics", &many),
        ("too many topics, compact", &many_compact),
        ("an endless number", &endless_varint),
        ("an empty frame", &[]),
    ] {
        let mut raw = Raw::connect(cluster);
        raw.write(&with_length(body));
        assert!(raw.read_frame().is_none(), "{what} was answered");
        assert_goes_on(&mut other);
    }
}

fn bad_lengths(cluster: &Cluster) {
    let mut other = Raw::connect(cluster);
    for length in [i32::MAX, -1, i32::MIN, 104_857_601] {
        let mut raw = Raw::connect(cluster);
        raw.write(&length.to_be_bytes());
        assert!(raw.read_frame().is_none(), "{length} was answered");
        assert_goes_on(&mut other);
    }
}

/// A small generator (xorshift64), so that a failing run is the next one too.
fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn strangers(cluster: &Cluster) {
    let mut other = Raw::connect(cluster);
    let hello: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3];
    for bytes in [b"GET / HTTP/1.1\r\nhost: broker\r\n\r\n", hello] {
        let mut raw = Raw::connect(cluster);
        raw.write(bytes);
        raw.assert_closed();
    }
    for seed in 1..=200 {
        let mut body = random_bytes(seed, 40);
        // A known API in a known version, so that the body is looked at.
        body[..4].copy_from_slice(&[0, (seed % 4) as u8, 0, 5]);
        body[8..10].copy_from_slice(&[0, 2]);
        let mut raw = Raw::connect(cluster);
        raw.write(&with_length(&body));
        // Whatever it makes of it: an answer, or the end. Nothing more is sent, so it need not wait for more.
        raw.shutdown(Shutdown::Write);
        while raw.read_frame().is_some() {}
    }
    assert_goes_on(&mut other);
}

fn dropped_halfway(cluster: &Cluster) {
    let topic = cluster.unique_prefix("dropped");
    cluster.create_topic(&topic, 1);
    let mut other = Raw::connect(cluster);
    other.store(&topic, 0, &plain(&["a"]));
    let request = produce_request(&topic, &[(0, plain(&["b", &"x".repeat(5_000)]))]);
    let whole = frame(PRODUCE, 1, &request);
    for count in [1, 3, 4, 11, whole.len() / 2, whole.len() - 1] {
        let mut raw = Raw::connect(cluster);
        raw.write(&whole[..count]);
        raw.shutdown(Shutdown::Write);
        // The broker sees the end and closes its side too, without an answer.
        raw.assert_closed();
    }
    assert_eq!(other.list_offset(&topic, 0, -1).offset, 1);
    assert_eq!(other.store(&topic, 0, &plain(&["c"])), 1);
    assert_eq!(values(&other.fetch(&topic, 0, 0, &Fetch::default())), ["a", "c"]);
}

fn pieces(cluster: &Cluster) {
    let mut raw = Raw::connect(cluster);
    let request = MetadataRequest::default().with_topics(Some(Vec::new()));
    let one = frame(METADATA, 1, &request);
    let two = [one, frame(METADATA, 2, &request)].concat();
    // Byte by byte, so that the second's first bytes may come with the first's last.
    for byte in two.chunks(1) {
        raw.write(byte);
    }
    for correlation in [1, 2] {
        raw.receive::<MetadataRequest>(METADATA, correlation);
    }
}

fn pipelined(cluster: &Cluster) {
    let topic = cluster.unique_prefix("pipelined");
    cluster.create_topic(&topic, 1);
    let mut raw = Raw::connect(cluster);
    raw.store(&topic, 0, &plain(&["a"]));
    let waiting = Fetch {
        max_wait_ms: 300,
        ..Fetch::default()
    };
    let metadata = MetadataRequest::default().with_topics(Some(Vec::new()));
    let latest = list_offsets_request(&topic, 0, -1);
    let first = raw.send(PRODUCE, &produce_request(&topic, &[(0, plain(&["b"]))]));
    let second = raw.send(FETCH, &fetch_request(&topic, &[(0, 2)], &waiting));
    let third = raw.send(METADATA, &metadata);
    let fourth = raw.send(PRODUCE, &produce_request(&topic, &[(0, plain(&["c"]))]));
    let fifth = raw.send(LIST_OFFSETS, &latest);
    let stored = raw.receive::<ProduceRequest>(PRODUCE, first);
    assert_eq!(stored.responses[0].partition_responses[0].base_offset, 1);
    // What is behind it is not done before it is answered, so it cannot see it.
    let fetched = raw.receive::<FetchRequest>(FETCH, second);
    assert!(values(&fetched.responses[0].partitions[0]).is_empty());
    raw.receive::<MetadataRequest>(METADATA, third);
    let stored = raw.receive::<ProduceRequest>(PRODUCE, fourth);
    assert_eq!(stored.responses[0].partition_responses[0].base_offset, 2);
    let listed = raw.receive::<ListOffsetsRequest>(LIST_OFFSETS, fifth);
    assert_eq!(listed.topics[0].partitions[0].offset, 3);
}

fn behind_a_refusal(cluster: &Cluster) {
    let topic = cluster.unique_prefix("behind");
    cluster.create_topic(&topic, 1);
    let mut other = Raw::connect(cluster);
    other.store(&topic, 0, &plain(&["a"]));
    let mut raw = Raw::connect(cluster);
    let request = MetadataRequest::default().with_topics(Some(Vec::new()));
    let bytes = [
        frame(METADATA, 1, &request),
        with_length(&header(ApiKey::Metadata as i16, 99, 2)),
        frame(PRODUCE, 3, &produce_request(&topic, &[(0, plain(&["b"]))])),
    ];
    raw.write(&bytes.concat());
    raw.receive::<MetadataRequest>(METADATA, 1);
    raw.assert_closed();
    assert_eq!(
        other.list_offset(&topic, 0, -1).offset,
        1,
        "it was not stored either"
    );
}

fn many_connections(cluster: &Cluster) {
    let mut connections: Vec<Raw> = (0..300).map(|_| Raw::connect(cluster)).collect();
    let request = MetadataRequest::default().with_topics(Some(Vec::new()));
    let sent: Vec<i32> = connections
        .iter_mut()
        .map(|raw| raw.send(METADATA, &request))
        .collect();
    for (raw, correlation) in connections.iter_mut().zip(sent).rev() {
        raw.receive::<MetadataRequest>(METADATA, correlation);
    }
    let (left, gone) = connections.split_at_mut(100);
    for raw in gone {
        raw.shutdown(Shutdown::Both);
    }
    for raw in left {
        assert_goes_on(raw);
    }
}
