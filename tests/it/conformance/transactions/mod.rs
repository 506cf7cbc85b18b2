//! Transactions: what readers see, who may go on, offsets that belong to them.

mod admin;
mod clients;
mod offsets;
mod states;
mod visibility;
mod writer;

use super::Check;

const CLIENTS: &str = "Transactions: clients";
const READERS: &str = "Transactions: what readers see";
const STATES: &str = "Transactions: who may go on";
const OFFSETS: &str = "Transactions: offsets";
const ADMIN: &str = "Transactions: administration";

pub(super) const CHECKS: &[Check] = &[
    Check {
        area: CLIENTS,
        name: "records and offsets come with a commit and go with an abort",
        run: clients::commits_and_aborts,
    },
    Check {
        area: CLIENTS,
        name: "a reader that waits gets what is committed when it is, and nothing of what is aborted",
        run: clients::live_reader,
    },
    Check {
        area: CLIENTS,
        name: "a producer whose id was taken is fenced and cannot commit",
        run: clients::fenced,
    },
    Check {
        area: CLIENTS,
        name: "a producer that crashed is replaced, its transaction aborted",
        run: clients::crashed,
    },
    Check {
        area: CLIENTS,
        name: "a transaction that took too long cannot be committed",
        run: clients::timed_out,
    },
    Check {
        area: CLIENTS,
        name: "a stale generation must abort, and the producer goes on (KIP-447)",
        run: clients::stale_generation,
    },
    Check {
        area: CLIENTS,
        name: "a record that the broker refuses costs the transaction, not the producer (KIP-360)",
        run: clients::refused_record,
    },
    Check {
        area: READERS,
        name: "the newest timestamp is not told before its transaction is over to those who read what is committed",
        run: visibility::newest_timestamp,
    },
    Check {
        area: STATES,
        name: "a batch that is sent again after its transaction is over is refused, and stored once",
        run: visibility::sent_again,
    },
    Check {
        area: READERS,
        name: "committed records are seen, aborted ones left out; the marks take offsets",
        run: visibility::commit_and_abort,
    },
    Check {
        area: READERS,
        name: "marks are control records that name the end, the producer and its epoch",
        run: visibility::marks,
    },
    Check {
        area: READERS,
        name: "an open transaction holds back all behind it, also what belongs to none; list offsets says so too",
        run: visibility::held_back,
    },
    Check {
        area: READERS,
        name: "the end of a transaction wakes a reader that waits",
        run: visibility::wakes_readers,
    },
    Check {
        area: READERS,
        name: "interleaved producers in one partition end each on its own",
        run: visibility::interleaved,
    },
    Check {
        area: READERS,
        name: "of a producer that aborts and commits by turns only the aborted ranges are left out",
        run: visibility::aborted_ranges,
    },
    Check {
        area: READERS,
        name: "a transaction over several partitions and topics is seen in all or in none",
        run: visibility::several_partitions,
    },
    Check {
        area: READERS,
        name: "records are deleted up to within an open transaction",
        run: visibility::records_deleted,
    },
    Check {
        area: READERS,
        name: "a transaction goes on although one of its topics is deleted",
        run: visibility::deleted_topic,
    },
    Check {
        area: STATES,
        name: "a transactional id keeps its producer id, each new producer has the next epoch",
        run: states::epochs,
    },
    Check {
        area: STATES,
        name: "a new producer of the id aborts what the former left open, records and offsets",
        run: states::crash_recovery,
    },
    Check {
        area: STATES,
        name: "the former is refused whatever it asks (PRODUCER_FENCED, INVALID_PRODUCER_EPOCH)",
        run: states::zombie,
    },
    Check {
        area: STATES,
        name: "another's producer id, or an id that nobody has, is refused (INVALID_PRODUCER_ID_MAPPING)",
        run: states::wrong_producer,
    },
    Check {
        area: STATES,
        name: "transaction timeouts out of bounds are refused (INVALID_TRANSACTION_TIMEOUT)",
        run: states::bad_timeouts,
    },
    Check {
        area: STATES,
        name: "a transaction that times out is aborted and its producer fenced",
        run: states::timed_out,
    },
    Check {
        area: STATES,
        name: "the same end twice is fine, the other end is INVALID_TXN_STATE",
        run: states::ended_twice,
    },
    Check {
        area: STATES,
        name: "records for a partition that was not added are refused",
        run: states::not_added,
    },
    Check {
        area: STATES,
        name: "partitions are added all or none",
        run: states::unknown_partitions,
    },
    Check {
        area: STATES,
        name: "a producer asks for its next epoch, which aborts, and goes on (KIP-360)",
        run: states::next_epoch,
    },
    Check {
        area: STATES,
        name: "asked again for the next epoch, the same one comes; a zombie gets none",
        run: states::next_epoch_asked_again,
    },
    Check {
        area: STATES,
        name: "sequence gaps are refused, retries are not stored twice, a new epoch begins at zero",
        run: states::sequences,
    },
    Check {
        area: STATES,
        name: "the oldest versions of all requests make a transaction",
        run: states::old_versions,
    },
    Check {
        area: OFFSETS,
        name: "offsets come with the commit and go with an abort; meanwhile the old ones stand, or UNSTABLE_OFFSET_COMMIT",
        run: offsets::with_the_end,
    },
    Check {
        area: OFFSETS,
        name: "the last commit in a transaction counts, metadata come back, too large ones are refused",
        run: offsets::metadata,
    },
    Check {
        area: OFFSETS,
        name: "stale generations, unknown members and fenced instances are refused (KIP-447)",
        run: offsets::stale_members,
    },
    Check {
        area: OFFSETS,
        name: "a refused commit of offsets leaves a transaction that can be aborted, and a producer that goes on",
        run: offsets::refused_and_gone_on,
    },
    Check {
        area: OFFSETS,
        name: "members commit in a transaction through a whole rebalance",
        run: offsets::in_a_rebalance,
    },
    Check {
        area: OFFSETS,
        name: "two producers commit for one group without touching each other",
        run: offsets::two_producers,
    },
    Check {
        area: OFFSETS,
        name: "offsets of a group that was not added are refused",
        run: offsets::not_added,
    },
    Check {
        area: OFFSETS,
        name: "a client that asks for stable offsets waits for the end of the transaction",
        run: offsets::client_waits,
    },
    Check {
        area: ADMIN,
        name: "a described transaction shows state, producer, timeout and partitions, through its whole life",
        run: admin::described,
    },
    Check {
        area: ADMIN,
        name: "lists filter by state, producer and duration",
        run: admin::listed,
    },
    Check {
        area: ADMIN,
        name: "the producers of a partition are described, with the start of the open transaction",
        run: admin::producers_described,
    },
];
