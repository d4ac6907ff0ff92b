//! Net effect: what several changes of one row amount to. Pure.

/// One change, seen by the key it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Insert,
    Update,
    Delete,
}

/// What a row of the target needs, given all changes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It came and went.
    Nothing,
    Insert,
    Update,
    Delete,
    /// It was deleted and came back: delete, then insert, so that columns that only
    /// the target has are as they would be.
    Replace,
}

impl Effect {
    /// `None` where the changes contradict each other: the rows decide then, one by one.
    #[must_use]
    pub fn of(before: Option<Self>, operation: Operation) -> Option<Self> {
        match (before, operation) {
            (None | Some(Self::Nothing), Operation::Insert) => Some(Self::Insert),
            (None | Some(Self::Update), Operation::Update) => Some(Self::Update),
            (None | Some(Self::Update | Self::Replace), Operation::Delete) => Some(Self::Delete),
            (Some(Self::Insert), Operation::Update) => Some(Self::Insert),
            (Some(Self::Insert), Operation::Delete) => Some(Self::Nothing),
            (Some(Self::Delete), Operation::Insert) => Some(Self::Replace),
            (Some(Self::Replace), Operation::Update) => Some(Self::Replace),
            (Some(Self::Insert | Self::Update | Self::Replace), Operation::Insert)
            | (Some(Self::Nothing | Self::Delete), Operation::Update | Operation::Delete) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row and its last change, as one by one would leave them; `None` on a contradiction.
    fn one_by_one(existed: bool, operations: &[Operation]) -> Option<Option<usize>> {
        let mut row = existed.then_some(usize::MAX);
        for (at, operation) in operations.iter().enumerate() {
            row = match (row, operation) {
                (None, Operation::Insert) | (Some(_), Operation::Update) => Some(at),
                (Some(_), Operation::Delete) => None,
                _ => return None,
            };
        }
        Some(row)
    }

    fn at_once(existed: bool, operations: &[Operation]) -> Option<Option<usize>> {
        let mut effect = None;
        for operation in operations {
            effect = Some(Effect::of(effect, *operation)?);
        }
        let last = operations.len().wrapping_sub(1);
        match (existed, effect) {
            (_, None) => Some(existed.then_some(usize::MAX)),
            (false, Some(Effect::Nothing)) | (true, Some(Effect::Delete)) => Some(None),
            (false, Some(Effect::Insert)) | (true, Some(Effect::Update | Effect::Replace)) => Some(Some(last)),
            // The target's count of affected rows tells.
            _ => None,
        }
    }

    #[test]
    fn the_net_effect_is_what_the_changes_one_by_one_leave() {
        let operations = [Operation::Insert, Operation::Update, Operation::Delete];
        let mut sequences: Vec<Vec<Operation>> = vec![Vec::new()];
        for _ in 0..6 {
            let longer: Vec<Vec<Operation>> = sequences
                .iter()
                .flat_map(|sequence| operations.map(|operation| sequence.iter().copied().chain([operation]).collect()))
                .collect();
            for sequence in &longer {
                for existed in [false, true] {
                    assert_eq!(at_once(existed, sequence), one_by_one(existed, sequence), "{existed} {sequence:?}");
                }
            }
            sequences = longer;
        }
    }
}
