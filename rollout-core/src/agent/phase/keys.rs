//! A phase as the keys `phase` and `registering`, for `#[serde(flatten, with = "keys")]`.
//!
//! [`Phase::Registering`] is younger than the format. Older agents and controllers read it as `verifying`, which is
//! true for them: the order is not settled, and the next step of an older agent proves the node once more.

use super::Phase;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
struct Keys {
    phase: Phase,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    registering: bool,
}

pub(crate) fn serialize<S: Serializer>(phase: &Phase, serializer: S) -> Result<S::Ok, S::Error> {
    Keys { phase: *phase, registering: *phase == Phase::Registering }.serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Phase, D::Error> {
    let Keys { phase, registering } = Keys::deserialize(deserializer)?;
    Ok(if registering && phase == Phase::Verifying { Phase::Registering } else { phase })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Status {
        id: u8,
        #[serde(flatten, with = "super")]
        phase: Phase,
    }

    #[test]
    fn a_younger_phase_has_an_older_word_and_a_key_of_its_own() {
        for phase in Phase::ALL {
            let status = Status { id: 1, phase };
            let written = serde_json::to_value(&status).unwrap();
            let expected = match phase {
                Phase::Registering => json!({ "id": 1, "phase": "verifying", "registering": true }),
                _ => json!({ "id": 1, "phase": phase.name() }),
            };
            assert_eq!(written, expected);
            assert_eq!(serde_json::from_value::<Status>(written).unwrap(), status);
        }
        let odd = json!({ "id": 1, "phase": "held", "registering": true });
        assert_eq!(serde_json::from_value::<Status>(odd).unwrap().phase, Phase::Held);
    }
}
