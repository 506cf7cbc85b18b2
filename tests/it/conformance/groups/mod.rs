//! Classic groups: members, generations, committed offsets.

mod admin;
mod clients;
mod fixed;
mod offsets;
mod rebalances;

use super::Check;

const CLIENTS: &str = "Groups: clients";
const REBALANCES: &str = "Groups: rebalances";
const STATIC: &str = "Groups: static members";
const OFFSETS: &str = "Groups: offsets";
const ADMIN: &str = "Groups: administration";

pub(super) const CHECKS: &[Check] = &[
    Check {
        area: CLIENTS,
        name: "a client that is alone has all partitions, and its successor goes on at the committed offset",
        run: clients::alone,
    },
    Check {
        area: CLIENTS,
        name: "eager clients share by range and by round robin; who leaves gives to the rest",
        run: clients::eager,
    },
    Check {
        area: CLIENTS,
        name: "cooperative clients keep what they need not give",
        run: clients::cooperative,
    },
    Check {
        area: CLIENTS,
        name: "a client takes over from a member whose session timed out, eager and cooperative",
        run: clients::takes_over_from_the_silent,
    },
    Check {
        area: CLIENTS,
        name: "a static client that restarts has its share back and nobody else rebalances",
        run: clients::static_restart,
    },
    Check {
        area: CLIENTS,
        name: "a client whose instance id was taken is fenced",
        run: clients::fenced_client,
    },
    Check {
        area: CLIENTS,
        name: "offsets that are reset from outside are where the next client begins",
        run: clients::reset,
    },
    Check {
        area: REBALANCES,
        name: "a first join is answered with a member id, the second makes the group; old versions join at once",
        run: rebalances::two_phase_join,
    },
    Check {
        area: REBALANCES,
        name: "a member id that nobody was given is refused",
        run: rebalances::unknown_id,
    },
    Check {
        area: REBALANCES,
        name: "the leader is told of all and assigns to all; a follower's sync waits for that",
        run: rebalances::leader_assigns,
    },
    Check {
        area: REBALANCES,
        name: "a member that the leader forgot is assigned nothing",
        run: rebalances::forgotten_member,
    },
    Check {
        area: REBALANCES,
        name: "the protocol is one that all know and most prefer",
        run: rebalances::common_protocol,
    },
    Check {
        area: REBALANCES,
        name: "protocols that do not go together are refused (INCONSISTENT_GROUP_PROTOCOL)",
        run: rebalances::inconsistent_protocols,
    },
    Check {
        area: REBALANCES,
        name: "sessions out of bounds and groups without a name are refused",
        run: rebalances::refused_joins,
    },
    Check {
        area: REBALANCES,
        name: "heartbeats: fine, ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS",
        run: rebalances::heartbeats,
    },
    Check {
        area: REBALANCES,
        name: "syncs out of place are refused",
        run: rebalances::refused_syncs,
    },
    Check {
        area: REBALANCES,
        name: "a sync that waits ends with the rebalance that replaces it",
        run: rebalances::interrupted_sync,
    },
    Check {
        area: REBALANCES,
        name: "a follower that joins again unchanged changes nothing; changed, or the leader, makes a rebalance",
        run: rebalances::joining_again,
    },
    Check {
        area: REBALANCES,
        name: "a member that leaves is missed at once",
        run: rebalances::leaving,
    },
    Check {
        area: REBALANCES,
        name: "a silent member is removed after its session, and not before",
        run: rebalances::session_timeout,
    },
    Check {
        area: REBALANCES,
        name: "a member that does not join again within the rebalance timeout is removed",
        run: rebalances::rebalance_timeout,
    },
    Check {
        area: REBALANCES,
        name: "a member that never asks for its assignment is removed",
        run: rebalances::sync_timeout,
    },
    Check {
        area: REBALANCES,
        name: "generations go on when a group was empty",
        run: rebalances::generations_go_on,
    },
    Check {
        area: STATIC,
        name: "a static member joins at once, under an id with its instance id in it",
        run: fixed::joins_at_once,
    },
    Check {
        area: STATIC,
        name: "a restart keeps generation and assignment under a new id",
        run: fixed::restart_without_a_rebalance,
    },
    Check {
        area: STATIC,
        name: "a leader's restart is no rebalance, and it need not assign",
        run: fixed::restart_of_the_leader,
    },
    Check {
        area: STATIC,
        name: "a restart with another subscription is no rebalance; one that changes the protocol is",
        run: fixed::restart_with_something_new,
    },
    Check {
        area: STATIC,
        name: "the former is fenced: heartbeat, sync, commit, join (FENCED_INSTANCE_ID)",
        run: fixed::former_is_fenced,
    },
    Check {
        area: STATIC,
        name: "the former is fenced while its join waits",
        run: fixed::former_is_fenced_while_it_waits,
    },
    Check {
        area: STATIC,
        name: "it is removed by its instance id, and by no other",
        run: fixed::removed_by_instance,
    },
    Check {
        area: STATIC,
        name: "it is removed after its session like any other",
        run: fixed::session_timeout,
    },
    Check {
        area: OFFSETS,
        name: "metadata come back up to 4,096 characters; larger are refused (OFFSET_METADATA_TOO_LARGE), each partition on its own",
        run: offsets::metadata,
    },
    Check {
        area: OFFSETS,
        name: "null metadata are empty, the leader epoch comes back",
        run: offsets::null_metadata_and_epoch,
    },
    Check {
        area: OFFSETS,
        name: "what was never committed is -1",
        run: offsets::uncommitted,
    },
    Check {
        area: OFFSETS,
        name: "all offsets of a group, and of several groups, are fetched at once",
        run: offsets::fetch_all,
    },
    Check {
        area: OFFSETS,
        name: "the oldest versions commit and fetch",
        run: offsets::old_versions,
    },
    Check {
        area: OFFSETS,
        name: "a group with members takes commits of its members and generation only",
        run: offsets::by_members_only,
    },
    Check {
        area: OFFSETS,
        name: "a group that is not there takes commits from outside only (GROUP_ID_NOT_FOUND, or ILLEGAL_GENERATION in old versions)",
        run: offsets::without_a_group,
    },
    Check {
        area: OFFSETS,
        name: "in a rebalance commits are taken until members have joined, then refused until they are assigned",
        run: offsets::in_a_rebalance,
    },
    Check {
        area: OFFSETS,
        name: "a commit for an unknown topic or partition is refused",
        run: offsets::unknown_topic,
    },
    Check {
        area: ADMIN,
        name: "a described group shows state, protocol, members and assignments, through its whole life",
        run: admin::described,
    },
    Check {
        area: ADMIN,
        name: "an unknown group is GROUP_ID_NOT_FOUND, or Dead in old versions",
        run: admin::described_unknown,
    },
    Check {
        area: ADMIN,
        name: "lists show state and type and filter by state",
        run: admin::listed,
    },
    Check {
        area: ADMIN,
        name: "librdkafka lists and describes groups",
        run: admin::seen_by_librdkafka,
    },
    Check {
        area: ADMIN,
        name: "a group with members is not deleted, an empty one with its offsets, an unknown one is an error",
        run: admin::deleted,
    },
    Check {
        area: ADMIN,
        name: "offsets are deleted, but not of a topic that a member reads",
        run: admin::offsets_deleted,
    },
    Check {
        area: ADMIN,
        name: "the offsets of a deleted topic go with it",
        run: admin::deleted_topic,
    },
    Check {
        area: ADMIN,
        name: "coordinators of groups and transactions are found, one or many at once",
        run: admin::coordinators,
    },
];
