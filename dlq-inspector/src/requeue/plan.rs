//! What would be put back, what would not, and what to know before. Pure.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use chrono::{DateTime, Utc};
use dead_letters::{Offset, TopicPartition, letter_id};
use uuid::Uuid;

use crate::{
    act::{LeftOut, Target},
    snapshot::{Letter, Place, State},
};

/// The first generation that needs `--force`: what died three times will hardly live the fourth.
const FORCED_GENERATION: u32 = 4;

/// A letter to put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The letter's id.
    pub id: Uuid,
    /// The group it goes back to.
    pub group: String,
    /// Its class.
    pub class: &'static str,
    /// Where the record was first read.
    pub origin: TopicPartition,
    /// Its offset there.
    pub offset: Offset,
    /// Its timestamp there, milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The generation it will run as.
    pub generation: u32,
    /// Where the letter lies.
    pub place: Place,
    /// When it died.
    pub failed_at: DateTime<Utc>,
    /// What became of it so far: whoever names a letter, or its state, may put it back more than once.
    pub state: State,
}

impl Target for Item {
    fn id(&self) -> Uuid {
        self.id
    }

    fn group(&self) -> &str {
        &self.group
    }
}

impl Item {
    /// The id of the letter it becomes if it dies again.
    pub fn dead_again_as(&self) -> Uuid {
        letter_id(&self.origin, self.offset, self.timestamp_ms, &self.group, self.generation)
    }
}

/// An open letter's place in the order of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenKey {
    id: Uuid,
    /// Of group, origin and key. A collision would give a needless warning.
    hash: u64,
    offset: i64,
}

impl OpenKey {
    /// The letter's; `None` without a key, which promises no order.
    pub fn of(letter: &Letter) -> Option<Self> {
        let (dead, key) = (letter.dead()?, letter.key.as_deref()?);
        let mut hasher = DefaultHasher::new();
        (&dead.group, &dead.origin, key).hash(&mut hasher);
        Some(Self { id: letter.id, hash: hasher.finish(), offset: dead.offset.0 })
    }
}

/// What would be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To put back, by group, each group in the order of the origin.
    pub items: Vec<Item>,
    /// Selected, and not put back.
    pub left_out: Vec<LeftOut>,
    /// Items whose key has an older open letter that is not among them: they would overtake it.
    pub overtaking: Vec<Uuid>,
}

impl Plan {
    /// The items that are in `state`.
    pub fn in_state(&self, state: State) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(move |item| item.state == state)
    }

    /// Judges the selected letters.
    pub fn new(
        selected: Vec<(Letter, State)>,
        mut left_out: Vec<LeftOut>,
        open: &[OpenKey],
        force: bool,
    ) -> Self {
        let mut items = Vec::new();
        let mut keys = Vec::new();
        for (letter, state) in selected {
            match judge(&letter, state, force) {
                Ok(item) => {
                    keys.extend(OpenKey::of(&letter));
                    items.push(item);
                }
                Err(left) => left_out.push(left),
            }
        }
        items.sort_by(|a, b| (&a.group, &a.origin, a.offset.0).cmp(&(&b.group, &b.origin, b.offset.0)));

        let planned: HashSet<_> = items.iter().map(|item| item.id).collect();
        let mut oldest: HashMap<u64, i64> = HashMap::new();
        for other in open.iter().filter(|other| !planned.contains(&other.id)) {
            oldest.entry(other.hash).and_modify(|o| *o = other.offset.min(*o)).or_insert(other.offset);
        }
        let overtakes = |key: &&OpenKey| oldest.get(&key.hash).is_some_and(|oldest| *oldest < key.offset);
        let overtaking = keys.iter().filter(overtakes).map(|key| key.id).collect();
        Self { items, left_out, overtaking }
    }
}

fn judge(letter: &Letter, state: State, force: bool) -> Result<Item, LeftOut> {
    let Some(dead) = letter.dead() else {
        return Err(LeftOut::new(letter.id, "it is no dead letter: nobody knows where it belongs"));
    };
    let generation = dead.generation.saturating_add(1);
    match state {
        State::Discarded => return Err(LeftOut::new(letter.id, "it was discarded: `restore` it first")),
        State::DeadAgain => {
            let next = dead.id_in(generation);
            return Err(LeftOut::new(letter.id, format!("it died again as {next}: requeue that one")));
        }
        State::Open | State::Requeued | State::Resolved | State::Foreign => {}
    }
    if generation >= FORCED_GENERATION && !force {
        let why =
            format!("it died {} times already and would run as generation {generation}", dead.generation);
        return Err(LeftOut { id: letter.id, why, allowed_by: Some("--force") });
    }
    Ok(Item {
        id: letter.id,
        group: dead.group.clone(),
        class: letter.class(),
        origin: dead.origin.clone(),
        offset: dead.offset,
        timestamp_ms: dead.timestamp_ms,
        generation,
        place: letter.place.clone(),
        failed_at: dead.failed_at,
        state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::dead;

    fn plan(selected: &[(i64, u32, State)], open: &[i64], force: bool) -> Plan {
        let selected =
            selected.iter().map(|(offset, generation, state)| (dead(*offset, *generation), *state));
        let open: Vec<_> = open.iter().filter_map(|offset| OpenKey::of(&dead(*offset, 1))).collect();
        Plan::new(selected.collect(), Vec::new(), &open, force)
    }

    #[test]
    fn items_run_in_the_order_of_their_origin_as_the_next_generation() {
        let plan = plan(&[(9, 1, State::Open), (2, 2, State::Resolved), (5, 1, State::Requeued)], &[], false);
        let order: Vec<_> = plan.items.iter().map(|item| (item.offset.0, item.generation)).collect();
        assert_eq!(order, [(2, 3), (5, 2), (9, 2)]);
        assert!(plan.left_out.is_empty());
        assert_eq!(plan.items[1].dead_again_as(), dead(5, 2).id);
        let resolved: Vec<_> = plan.in_state(State::Resolved).map(|item| item.id).collect();
        assert_eq!(resolved, [dead(2, 2).id]);
    }

    #[test]
    fn what_may_not_be_put_back_is_left_out_with_its_reason() {
        let selected = [
            (1, 3, State::Open),
            (2, 1, State::DeadAgain),
            (3, 1, State::Discarded),
            (4, u32::MAX, State::Open),
        ];
        let plan = plan(&selected, &[], false);
        assert!(plan.items.is_empty());
        assert_eq!(plan.left_out[0].allowed_by, Some("--force"));
        assert!(plan.left_out[1].why.contains(&dead(2, 2).id.to_string()), "{}", plan.left_out[1].why);
        assert!(plan.left_out[2].why.contains("`restore`") && plan.left_out[2].allowed_by.is_none());
        assert_eq!(
            super::Plan::new(vec![(dead(1, 3), State::Open)], vec![], &[], true).items[0].generation,
            4
        );
    }

    #[test]
    fn overtaking_an_older_open_letter_of_the_key_is_seen() {
        assert_eq!(plan(&[(5, 1, State::Open)], &[5, 3], false).overtaking, [dead(5, 1).id]);
        assert!(plan(&[(5, 1, State::Open)], &[5, 7], false).overtaking.is_empty(), "a younger one follows");
        let both = [(5, 1, State::Open), (3, 1, State::Open)];
        assert!(plan(&both, &[5, 3], false).overtaking.is_empty(), "the older one goes first");
    }
}
