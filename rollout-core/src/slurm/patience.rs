//! ResumeTimeout compared with the time that nodes take, from their hand-over until they register.

use super::config::ResumeTimeout;

/// The shortest ResumeTimeout that is recommended, in seconds.
const SHORTEST_S: u64 = 1800;

/// Room that ResumeTimeout leaves to a node that takes a certain time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// Slurm gives the node up before it is back.
    Missing,
    /// A node that takes twice as long is given up.
    Tight,
    Enough,
}

impl ResumeTimeout {
    /// Returns the room that it leaves to a node that takes this long.
    #[must_use]
    pub fn room(self, takes_s: u64) -> Room {
        match self {
            Self::Infinite => Room::Enough,
            Self::Seconds(seconds) if takes_s > seconds => Room::Missing,
            Self::Seconds(seconds) if takes_s.saturating_mul(2) > seconds => Room::Tight,
            Self::Seconds(_) => Room::Enough,
        }
    }
}

/// Returns the ResumeTimeout to recommend, in seconds, if the slowest nodes take this long.
#[must_use]
pub fn recommended_s(takes_s: Option<u64>) -> u64 {
    let twice = takes_s.unwrap_or(0).saturating_mul(2);
    twice.checked_next_multiple_of(60).unwrap_or(u64::MAX).max(SHORTEST_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_and_recommendation_follow_the_time_that_nodes_take() {
        let timeout = ResumeTimeout::Seconds(1800);
        for (takes_s, room, recommended) in [
            (0, Room::Enough, 1800),
            (900, Room::Enough, 1800),
            (901, Room::Tight, 1860),
            (1800, Room::Tight, 3600),
            (1801, Room::Missing, 3660),
            (u64::MAX, Room::Missing, u64::MAX),
        ] {
            assert_eq!(timeout.room(takes_s), room, "{takes_s}");
            assert_eq!(recommended_s(Some(takes_s)), recommended, "{takes_s}");
            assert_eq!(ResumeTimeout::Infinite.room(takes_s), Room::Enough);
        }
        assert_eq!(recommended_s(None), 1800);
    }
}
