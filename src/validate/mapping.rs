//! Front's two vocabularies and EP-0033's names, as one table (front-protocol section 9).

use crate::model::Priority;

/// What a type means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    /// The mapped name.
    pub(super) kind: &'static str,
    /// How urgent it is.
    pub(super) priority: Priority,
}

/// One row: every name that Front has for a thing, and ours.
struct Row {
    /// Types of application envelopes.
    application: &'static [&'static str],
    /// Types of rule webhooks and of the Events API, which is also what an envelope's payload carries.
    events_api: &'static [&'static str],
    kind: &'static str,
    priority: Priority,
}

/// The application type that stands for two things; its rows are told apart by [`Assignment`].
const ASSIGNEE_CHANGED: &str = "assignee_changed";

/// The rows in the document's order; a test compares them with it.
#[rustfmt::skip]
const TABLE: &[Row] = {
    use Priority::{High, Low, Medium};
    &[
        Row { application: &["inbound_received"], events_api: &["inbound"], kind: "message.received", priority: High },
        Row { application: &["outbound_sent"], events_api: &["outbound", "out_reply", "forward"], kind: "message.sent", priority: High },
        Row { application: &["message_delivery_failed"], events_api: &["sending_error", "message_bounce_error"], kind: "conversation.updated", priority: High },
        Row { application: &["new_comment_added"], events_api: &["comment", "mention"], kind: "comment.added", priority: High },
        Row { application: &["conversation_archived"], events_api: &["archive"], kind: "conversation.archived", priority: High },
        Row { application: &["conversation_reopened"], events_api: &["reopen"], kind: "conversation.reopened", priority: High },
        Row { application: &["conversation_snooze_expired"], events_api: &["reminder"], kind: "conversation.reopened", priority: High },
        Row { application: &["conversation_snoozed"], events_api: &[], kind: "conversation.updated", priority: High },
        Row { application: &["conversation_deleted"], events_api: &["trash"], kind: "conversation.deleted", priority: High },
        Row { application: &["conversation_restored"], events_api: &["restore"], kind: "conversation.restored", priority: High },
        Row { application: &["conversation_moved"], events_api: &["move"], kind: "conversation.updated", priority: High },
        Row { application: &["link_added", "link_removed"], events_api: &["link_added", "link_removed"], kind: "conversation.updated", priority: High },
        Row { application: &[], events_api: &[MERGED], kind: "conversation.updated", priority: High },
        Row { application: &[], events_api: &["custom_field_updated", "ticket_status_update"], kind: "conversation.updated", priority: High },
        Row { application: &[ASSIGNEE_CHANGED], events_api: &["assign"], kind: "conversation.assigned", priority: Medium },
        Row { application: &[ASSIGNEE_CHANGED], events_api: &["unassign"], kind: "conversation.unassigned", priority: Medium },
        Row { application: &["tag_added"], events_api: &["tag"], kind: "conversation.tagged", priority: Low },
        Row { application: &["tag_removed"], events_api: &["untag"], kind: "conversation.untagged", priority: Low },
    ]
};

/// The one kind of EP-0033 that none of Front's types maps to; a relay may send it.
const CREATED: Meaning = Meaning {
    kind: "conversation.created",
    priority: Priority::High,
};

/// The Events API type that concerns several conversations.
pub(super) const MERGED: &str = "conversations_merged";

/// The type of a handshake and of nothing else: answered, not stored.
pub(super) const SYNC: &str = "sync";

/// What an unknown type is worth: stored under its own name, flagged, refreshed last.
pub(super) const UNKNOWN: Priority = Priority::Low;

/// Which of its two things `assignee_changed` stands for, where the inner type does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Assignment {
    Assigned,
    Unassigned,
}

/// Finds the meaning of an event by its outer and inner type.
///
/// The outer type decides where the table knows it as one; else the inner one; else the outer one taken for an
/// inner one (an older edition of Front's documentation printed those names on the outside).
pub(super) fn meaning(
    outer: Option<&str>,
    inner: Option<&str>,
    assignment: impl FnOnce() -> Assignment,
) -> Option<Meaning> {
    let outer_row = match outer {
        Some(ASSIGNEE_CHANGED) => by_events_api(match inner {
            Some(inner @ ("assign" | "unassign")) => inner,
            _ => match assignment() {
                Assignment::Assigned => "assign",
                Assignment::Unassigned => "unassign",
            },
        }),
        Some(outer) => TABLE.iter().find(|row| row.application.contains(&outer)),
        None => None,
    };
    outer_row
        .or_else(|| inner.and_then(by_events_api))
        .or_else(|| outer.and_then(by_events_api))
        .map(Row::meaning)
}

/// Finds the meaning of one of EP-0033's dotted names.
pub(super) fn meaning_of_kind(kind: &str) -> Option<Meaning> {
    let rows = TABLE.iter().map(Row::meaning);
    rows.chain([CREATED]).find(|meaning| meaning.kind == kind)
}

fn by_events_api(inner: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.events_api.contains(&inner))
}

impl Row {
    fn meaning(&self) -> Meaning {
        Meaning {
            kind: self.kind,
            priority: self.priority,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document's table, as its rows of cells.
    fn document() -> Vec<Vec<String>> {
        let text = include_str!("../../tests/data/mapping.md");
        let rows = text.lines().skip(2).map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        });
        rows.collect()
    }

    /// The names in backticks of a cell, leaving out what stands in brackets.
    fn names(cell: &str) -> Vec<&str> {
        let cell = cell.split('(').next().unwrap_or_default();
        cell.split('`').skip(1).step_by(2).collect()
    }

    #[test]
    fn the_table_is_the_documents_row_by_row() {
        let document = document();
        let (mapped, rest) = document.split_at(document.len() - 2);
        assert_eq!(TABLE.len(), mapped.len());
        for (row, cells) in TABLE.iter().zip(mapped) {
            let application = names(&cells[0]);
            assert_eq!(row.application, application);
            let events_api = if cells[1] == "the same" {
                application
            } else {
                names(&cells[1])
            };
            assert_eq!(row.events_api, events_api);
            assert_eq!(names(&cells[2]), [row.kind]);
            assert_eq!(cells[3], row.priority.as_str());
        }
        assert_eq!(names(&rest[0][0]), [SYNC]);
        assert_eq!(
            (rest[0][2].as_str(), rest[0][3].as_str()),
            ("none: answered, not stored", "none")
        );
        assert_eq!(rest[1][0], "anything else");
        assert_eq!(rest[1][3], UNKNOWN.as_str());
        for unknown in names(&rest[1][1]) {
            assert_eq!(meaning(None, Some(unknown), || Assignment::Assigned), None);
        }
    }

    #[test]
    fn every_name_finds_its_row() {
        let row = |kind, priority| Some(Meaning { kind, priority });
        for one in TABLE {
            for &inner in one.events_api {
                assert_eq!(
                    meaning(None, Some(inner), || Assignment::Assigned),
                    Some(one.meaning())
                );
                assert_eq!(
                    meaning(Some(inner), None, || Assignment::Assigned),
                    Some(one.meaning())
                );
                assert_eq!(
                    meaning(Some("new"), Some(inner), || Assignment::Assigned),
                    Some(one.meaning())
                );
            }
            for &outer in one.application.iter().filter(|&&outer| outer != ASSIGNEE_CHANGED) {
                assert_eq!(
                    meaning(Some(outer), Some("new"), || Assignment::Assigned),
                    Some(one.meaning())
                );
            }
            assert_eq!(meaning_of_kind(one.kind), row(one.kind, one.priority));
        }
        assert_eq!(
            meaning_of_kind("conversation.created"),
            row("conversation.created", Priority::High)
        );
        assert_eq!(meaning_of_kind("inbound"), None);
        assert_eq!(meaning(Some("new"), Some("newer"), || Assignment::Assigned), None);
        assert_eq!(meaning(None, None, || Assignment::Assigned), None);
    }

    #[test]
    fn a_kind_has_one_priority() {
        for one in TABLE {
            for other in TABLE.iter().filter(|other| other.kind == one.kind) {
                assert_eq!(one.priority, other.priority, "{}", one.kind);
            }
        }
    }

    #[test]
    fn assignee_changed_stands_for_two_things() {
        use Assignment::{Assigned, Unassigned};
        let cases = [
            (Some("assign"), Unassigned, "conversation.assigned"),
            (Some("unassign"), Assigned, "conversation.unassigned"),
            (None, Assigned, "conversation.assigned"),
            (Some("new"), Unassigned, "conversation.unassigned"),
        ];
        for (inner, assignment, kind) in cases {
            let meaning = meaning(Some(ASSIGNEE_CHANGED), inner, || assignment);
            assert_eq!(meaning.map(|meaning| meaning.kind), Some(kind), "{inner:?}");
        }
    }
}
