//! `freeze` and `thaw`: nothing is requested in any rollout, and everything that can still stop, stops.

use serde::{Deserialize, Serialize};

/// A freeze of the whole site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// The admin who froze it.
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Start, in milliseconds since 1970.
    pub since_ms: u64,
}

impl Freeze {
    /// Returns the freeze that a file stands for. One that cannot be read or understood is a freeze as well: only an
    /// admin ends it.
    #[must_use]
    pub fn read(content: Result<&[u8], String>) -> Self {
        let read = content.and_then(|bytes| serde_json::from_slice(bytes).map_err(|error| error.to_string()));
        read.unwrap_or_else(|error| Self {
            by: "an unknown user".to_owned(),
            why: Some(format!("freeze.json cannot be read: {error}")),
            since_ms: 0,
        })
    }

    /// Returns the sentence for people, with the remedy.
    #[must_use]
    pub fn describe(&self) -> String {
        let why = self.why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        format!("frozen by {}{why}: no reboot is requested before `slurm-rollout thaw`", self.by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_a_freeze() {
        let freeze = Freeze { by: "root@ctl".into(), why: Some("power cut".into()), since_ms: 7 };
        let text = serde_json::to_vec(&freeze).unwrap();
        assert_eq!(Freeze::read(Ok(&text)), freeze);
        assert_eq!(Freeze::read(Ok(br#"{"by":"a","since_ms":1,"newer":[]}"#)).by, "a");
        for content in [Ok(&b""[..]), Ok(b"{torn"), Ok(b"[]"), Err("Permission denied".to_owned())] {
            let read = Freeze::read(content.clone());
            assert_eq!(read.since_ms, 0, "{content:?}");
            assert!(read.describe().contains("freeze.json cannot be read: "), "{content:?}");
        }
    }

    #[test]
    fn it_is_described_with_the_remedy() {
        let freeze =
            |why: Option<&str>| Freeze { by: "ann@ctl".into(), why: why.map(Into::into), since_ms: 7 };
        let end = "no reboot is requested before `slurm-rollout thaw`";
        assert_eq!(freeze(None).describe(), format!("frozen by ann@ctl: {end}"));
        assert_eq!(freeze(Some("smoke")).describe(), format!("frozen by ann@ctl (smoke): {end}"));
    }
}
