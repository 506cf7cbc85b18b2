//! Any requests in any order: what must hold in every state, and that everybody is answered in the end.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Join(usize),
    Sync(usize),
    Beat(usize),
    Leave(usize),
    Restart(usize),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let client = 0_usize..5;
    prop_oneof![
        4 => client.clone().prop_map(Act::Join),
        3 => client.clone().prop_map(Act::Sync),
        2 => client.clone().prop_map(Act::Beat),
        1 => client.clone().prop_map(Act::Leave),
        1 => client.prop_map(Act::Restart),
        2 => (0_u64..15_000).prop_map(Act::Wait),
    ]
}

/// What one client has been told, and what it waits for.
struct Actor {
    client: Client,
    generation: i32,
    joins: Vec<Receiver<JoinGroupResponse>>,
    syncs: Vec<Receiver<SyncGroupResponse>>,
}

impl Actor {
    fn new(number: usize) -> Self {
        let client = match number {
            0 => Client::instance("a"),
            1 => Client::instance("b"),
            _ => Client::new(),
        };
        Self {
            client,
            generation: 0,
            joins: Vec::new(),
            syncs: Vec::new(),
        }
    }

    /// Takes in the answers that came; a request may not lose the one who answers it.
    fn listen(&mut self) {
        let (client, generation) = (&mut self.client, &mut self.generation);
        self.joins.retain_mut(|waiting| match waiting.try_recv() {
            Ok(told) => {
                if told.error_code == 0 || told.error_code == ResponseError::MemberIdRequired.code() {
                    client.id = told.member_id;
                    *generation = told.generation_id;
                }
                if told.error_code == ResponseError::UnknownMemberId.code() {
                    client.id = StrBytes::new();
                }
                false
            }
            Err(lost) => {
                assert_eq!(lost, oneshot::error::TryRecvError::Empty);
                true
            }
        });
        self.syncs.retain_mut(|waiting| match waiting.try_recv() {
            Ok(_) => false,
            Err(lost) => {
                assert_eq!(lost, oneshot::error::TryRecvError::Empty);
                true
            }
        });
    }
}

fn perform(lab: &mut Lab, actors: &mut [Actor], act: &Act) {
    match *act {
        Act::Join(number) => {
            let waiting = lab.joins(&actors[number].client);
            actors[number].joins.push(waiting);
        }
        Act::Sync(number) => {
            let waiting = lab.syncs(&actors[number].client, actors[number].generation, &[]);
            actors[number].syncs.push(waiting);
        }
        Act::Beat(number) => {
            // Whether it is answered with an error is a matter of other tests.
            let _ = lab.beats(&actors[number].client, actors[number].generation);
        }
        Act::Leave(number) => {
            let client = &actors[number].client;
            lab.group
                .leave(&[(client.id.clone(), client.instance.clone())], lab.now);
        }
        Act::Restart(number) => actors[number].client.id = StrBytes::new(),
        Act::Wait(ms) => lab.waits(Duration::from_millis(ms)),
    }
    for actor in actors {
        actor.listen();
    }
}

fn check(group: &Group, now: Duration) {
    assert_eq!(
        group.state == GroupState::Empty,
        group.members.is_empty() && group.join_due.is_none()
    );
    assert!(
        group.next_deadline().is_none_or(|due| due > now) || group.state == GroupState::PreparingRebalance
    );
    let led = group
        .leader
        .as_ref()
        .is_some_and(|leader| group.members.contains_key(leader));
    assert_eq!(led, !group.members.is_empty());
    for (instance, member_id) in &group.statics {
        assert_eq!(group.members[member_id].instance.as_ref(), Some(instance));
    }
    for member_id in group.unsynced.iter() {
        assert!(group.members.contains_key(member_id));
    }
    for member in group.members.values() {
        assert!(member.joining.is_none() || group.state == GroupState::PreparingRebalance);
        assert!(member.syncing.is_none() || group.state == GroupState::CompletingRebalance);
        // Somebody removes it one day: its own session, or the timer that its group has now.
        assert!(member.session_due.is_some() || group.join_due.is_some() || group.sync_due.is_some());
    }
    if group.state == GroupState::Stable || group.state == GroupState::CompletingRebalance {
        assert!(group.protocol_name.is_some());
    }
}

proptest! {
    #[test]
    fn everybody_is_answered_and_the_group_empties(acts in proptest::collection::vec(act(), 0..120)) {
        let mut lab = Lab::new();
        let mut actors: Vec<_> = (0..5).map(Actor::new).collect();
        for act in &acts {
            perform(&mut lab, &mut actors, act);
            check(&lab.group, lab.now);
        }
        // Joins of new members may take five minutes; then rebalance and session end.
        perform(&mut lab, &mut actors, &Act::Wait(1_000_000));
        prop_assert_eq!(lab.group.state(), GroupState::Empty);
        prop_assert_eq!(lab.group.next_deadline(), None);
        for actor in &actors {
            prop_assert_eq!((actor.joins.len(), actor.syncs.len()), (0, 0));
        }
    }
}
