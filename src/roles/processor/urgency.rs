//! The order of refreshes within one transaction.

use std::collections::HashMap;

use crate::model::Refresh;

/// Puts the more urgent refreshes first, keeping those of one conversation in their order.
///
/// A conversation whose window closed twice since the last commit may have a calm refresh before an urgent one:
/// the calm one then goes as early as the urgent one needs it.
pub(super) fn most_urgent_first(refreshes: &mut Vec<Refresh>) {
    let mut ranks = Vec::with_capacity(refreshes.len());
    {
        let mut later = HashMap::with_capacity(refreshes.len());
        for refresh in refreshes.iter().rev() {
            let key = (
                refresh.partition,
                refresh.tenant.as_str(),
                refresh.conversation.as_str(),
            );
            let rank = later.entry(key).or_insert(refresh.priority);
            *rank = (*rank).max(refresh.priority);
            ranks.push(*rank);
        }
        ranks.reverse();
    }
    let mut ranked: Vec<_> = ranks.into_iter().zip(std::mem::take(refreshes)).collect();
    ranked.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    refreshes.extend(ranked.into_iter().map(|(_, refresh)| refresh));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        CloseReason, ConversationId, Kind, Offset, Partition, Priority, Run, RunCause, TenantId, Timestamp,
    };

    fn refresh(conversation: &str, priority: Priority, offset: i64) -> Refresh {
        let at = Timestamp::from_millis(0);
        let offset = Offset::new(offset).unwrap();
        Refresh {
            tenant: TenantId::new("cmp_1").unwrap(),
            conversation: ConversationId::new(conversation).unwrap(),
            priority,
            kinds: vec![Kind::new("message.received").unwrap()],
            event_count: 1,
            event_ids: Vec::new(),
            event_ids_truncated: true,
            first_emitted_at: at,
            last_emitted_at: at,
            first_received_at: at,
            last_received_at: at,
            partition: Partition::new(0).unwrap(),
            first_offset: offset,
            last_offset: offset,
            run: Run {
                started_at: at,
                start: Offset::ZERO,
                cause: RunCause::First,
            },
            closed_by: CloseReason::Gap,
        }
    }

    #[test]
    fn urgent_first_and_each_conversation_in_order() {
        let mut refreshes = vec![
            refresh("a", Priority::Low, 1),
            refresh("b", Priority::Medium, 2),
            refresh("a", Priority::High, 3),
            refresh("c", Priority::Low, 4),
            refresh("d", Priority::High, 5),
        ];
        most_urgent_first(&mut refreshes);
        let order: Vec<_> = refreshes
            .iter()
            .map(|refresh| refresh.first_offset.number())
            .collect();
        assert_eq!(order, [1, 3, 5, 2, 4]);
    }
}
