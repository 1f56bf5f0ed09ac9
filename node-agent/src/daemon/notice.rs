//! Warning of users who are logged in: a file that a login message or a prolog can show, and a message to their
//! terminals when an order begins.

use super::channel::Published;
use crate::log;
use rollout_core::agent::phase::Phase;
use rollout_core::protocol::answer::AgentStatus;
use rollout_core::protocol::order::OrderId;
use rollout_host::durable;
use rollout_host::run::Program;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;

/// The file. It is there while a change is staged on the node or being made. `/run/slurm-rollout` is for root alone.
pub(crate) const PATH: &str = "/run/slurm-rollout-notice";

pub(crate) const WALL: &str = "/usr/bin/wall";

/// Time limit for wall, and for each terminal, in seconds. A terminal that is stopped would block it.
const WALL_LIMIT_S: u8 = 5;

/// Shows the state of the agent to users until the agent ends.
pub(crate) async fn show(mut published: watch::Receiver<Published>, path: &Path, wall: &str) {
    let (mut written, mut told): (Option<Option<String>>, Option<OrderId>) = (None, None);
    loop {
        let (text, begins) = {
            let status = &published.borrow_and_update().status;
            (text(status), begins(status))
        };
        if written.as_ref() != Some(&text) {
            if let Err(error) = write(path, text.as_deref()) {
                log::warning(&format!("{}: {error}", path.display()));
            }
            written = Some(text.clone());
        }
        if let (Some(order), Some(text)) = (begins.filter(|order| told.as_ref() != Some(order)), text) {
            told = Some(order);
            let wall = wall.to_owned();
            tokio::task::spawn_blocking(move || tell(&wall, &text));
        }
        if published.changed().await.is_err() {
            return;
        }
    }
}

/// Returns what users should know. `None` if nothing is to be done on the node.
fn text(status: &AgentStatus) -> Option<String> {
    let order = status.order.as_ref().filter(|order| !order.phase.has_ended());
    match (order, &status.staged) {
        (Some(order), _) => Some(match &order.rollout {
            Some(rollout) => format!(
                "slurm-rollout: {rollout} is being carried out on this node ({}); it reboots without further notice",
                order.phase.name()
            ),
            None => "slurm-rollout: this node is being rebooted".to_owned(),
        }),
        (None, Some(rollout)) => Some(format!(
            "slurm-rollout: {rollout} is staged for this node; it reboots as soon as Slurm hands it over"
        )),
        (None, None) => None,
    }
}

/// Returns the order whose changes have just begun. It is not told again after a boot.
fn begins(status: &AgentStatus) -> Option<OrderId> {
    let order = status.order.as_ref().filter(|order| order.phase == Phase::Applying)?;
    Some(order.id.clone())
}

fn write(path: &Path, text: Option<&str>) -> std::io::Result<()> {
    match text {
        Some(text) => durable::replace(path, format!("{text}\n").as_bytes(), 0o644),
        None => match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    }
}

fn tell(wall: &str, text: &str) {
    let limit = Duration::from_secs(u64::from(WALL_LIMIT_S));
    let told = Program::new(wall, limit).args(["--timeout", &WALL_LIMIT_S.to_string(), text]).run();
    if let Err(error) = told {
        log::info(&format!("users were not told: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::protocol::answer::OrderStatus;
    use std::os::unix::fs::PermissionsExt;

    fn status(order: Option<(u128, Phase, Option<&str>)>, staged: Option<&str>) -> AgentStatus {
        let order = order.map(|(id, phase, rollout)| OrderStatus {
            id: OrderId::from_random(id),
            rollout: rollout.map(str::to_owned),
            phase,
            since_s: 1,
            error: None,
            notes: Vec::new(),
            changed: false,
            took_s: None,
        });
        AgentStatus { order, staged: staged.map(str::to_owned), ..AgentStatus::default() }
    }

    #[test]
    fn users_are_told_while_something_is_to_be_done() {
        for (order, staged, expected) in [
            (None, None, None),
            (Some((1, Phase::Updated, Some("r1"))), None, None),
            (Some((1, Phase::Held, Some("r1"))), None, None),
            (None, Some("r1"), Some("r1 is staged for this node; it reboots")),
            (Some((1, Phase::RolledBack, Some("r1"))), Some("r2"), Some("r2 is staged")),
            (
                Some((1, Phase::Applying, Some("r1"))),
                Some("r2"),
                Some("r1 is being carried out on this node (applying)"),
            ),
            (Some((1, Phase::Rebooting, None)), None, Some("this node is being rebooted")),
        ] {
            let text = text(&status(order, staged));
            assert!(
                match (&text, expected) {
                    (Some(text), Some(expected)) => text.contains(expected),
                    (None, None) => true,
                    _ => false,
                },
                "{text:?}, not {expected:?}"
            );
        }
    }

    #[tokio::test]
    async fn the_file_follows_the_agent_and_terminals_get_one_message_for_an_order() {
        let dir = tempfile::tempdir().unwrap();
        let (path, wall, told) =
            (dir.path().join("notice"), dir.path().join("wall"), dir.path().join("told"));
        let script = format!("#!/bin/sh\necho \"$*\" >>{}\n", told.display());
        durable::replace(&wall, script.as_bytes(), 0o755).unwrap();
        durable::replace(&path, b"left by an agent that died", 0o644).unwrap();
        let (publish, published) = watch::channel(Published::default());
        let (shown_at, wall) = (path.clone(), wall.display().to_string());
        let shows = tokio::spawn(async move { show(published, &shown_at, &wall).await });
        let publish_and_wait = async |status: AgentStatus, there: bool| {
            publish.send_replace(Published { status, ..Published::default() });
            for _ in 0..500 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                if path.exists() == there {
                    return;
                }
            }
            panic!("{}: {there}", path.display());
        };
        publish_and_wait(AgentStatus::default(), false).await;
        publish_and_wait(status(None, Some("r1")), true).await;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        publish_and_wait(status(Some((1, Phase::Applying, Some("r1"))), None), true).await;
        while !told.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        publish_and_wait(status(Some((1, Phase::Rebooting, Some("r1"))), None), true).await;
        publish_and_wait(status(Some((1, Phase::Applying, Some("r1"))), None), true).await;
        publish_and_wait(status(Some((1, Phase::Updated, Some("r1"))), None), false).await;
        drop(publish);
        shows.await.unwrap();
        let told = std::fs::read_to_string(told).unwrap();
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.starts_with("--timeout 5 slurm-rollout: r1 is being carried out"), "{told}");
    }
}
