//! What an operator may ask for, and how a group does it.

use actors::{Consent, Group, LaneState, OperateError, ResetTo, TopicPartition, WhichParked};

/// Something an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Stop a partition, in whichever process it is.
    Pause(TopicPartition),
    /// Let it go on; a halted one of this process tries again.
    Resume(TopicPartition),
    /// Move it.
    Reset(TopicPartition, ResetTo, Consent),
    /// Run the head of a key's chain now.
    RetryNow {
        /// Where it waits.
        partition: TopicPartition,
        /// Its key or id.
        which: WhichParked,
    },
    /// Make the head of a key's chain a dead letter now.
    DeadLetterNow {
        /// Where it waits.
        partition: TopicPartition,
        /// Its key or id.
        which: WhichParked,
        /// Why, for whoever finds the dead letter.
        reason: String,
    },
}

impl Operation {
    /// Where it is done.
    pub(super) fn partition(&self) -> &TopicPartition {
        match self {
            Self::Pause(partition)
            | Self::Resume(partition)
            | Self::Reset(partition, ..)
            | Self::RetryNow { partition, .. }
            | Self::DeadLetterNow { partition, .. } => partition,
        }
    }

    /// Does it; what was done, in words.
    pub(super) async fn carry_out(self, group: &Group) -> Result<String, OperateError> {
        match self {
            Self::Pause(partition) => {
                let done = format!("{partition} takes nothing until it is resumed");
                group.pause(partition).await.map(|()| done)
            }
            Self::Resume(partition) => {
                let done = format!("{partition} goes on");
                group.resume(partition).await.map(|()| done)
            }
            Self::Reset(partition, to, consent) => {
                let (from, to) = group.reset(partition.clone(), to, consent).await?;
                Ok(format!("{partition} was at offset {from} and goes on at {to}"))
            }
            Self::RetryNow { partition, which } => {
                let state = group.retry_parked(partition.clone(), which.clone()).await?;
                Ok(format!("the waiting record with {which} runs {}", when(&partition, state)))
            }
            Self::DeadLetterNow { partition, which, reason } => {
                let state = group.dead_letter_parked(partition.clone(), which.clone(), &reason).await?;
                Ok(format!(
                    "the waiting record with {which} becomes a dead letter {}",
                    when(&partition, state)
                ))
            }
        }
    }
}

/// When something that is due runs, in a partition that is in `state`.
fn when(partition: &TopicPartition, state: LaneState) -> String {
    match state {
        LaneState::Running | LaneState::Claiming => "now".to_owned(),
        other => format!("once {partition} works again: it is {}", format!("{other:?}").to_lowercase()),
    }
}
