//! Reservations. Operators may manage them as well.

use super::arguments::{SlurmError, check_name, one_argument};
use super::{Scontrol, with_epochs};
use crate::run::RunError;
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::parsed::Parsed;
use rollout_core::slurm::reservations::{Reservation, parse_reservations};

/// A reservation to create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewReservation<'a> {
    pub name: &'a str,
    pub nodes: &'a NodeSet,
    /// Users with commas, such as `root`; `-root` is everybody else. 26.05 refuses to exclude some other users.
    pub users: &'a str,
    /// Start in seconds since 1970. `None` starts it now.
    pub start_s: Option<u64>,
    /// End in seconds since 1970. Jobs in the reservation are killed then.
    pub end_s: u64,
    pub flags: &'a [ReservationFlag],
}

/// A flag of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationFlag {
    /// May overlap other reservations; its nodes count as planned down.
    Maint,
    /// Running jobs do not stand in the way, and go on.
    IgnoreJobs,
    /// Takes jobs of its users that do not ask for it.
    Magnetic,
    /// May overlap other reservations.
    Overlap,
}

/// Changes of a reservation. The default changes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReservationChange<'a> {
    pub nodes: Option<NodesChange<'a>>,
    /// New end in seconds since 1970.
    pub end_s: Option<u64>,
}

/// A change of a reservation's nodes. Slurm refuses to remove the last one: delete the reservation instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodesChange<'a> {
    /// Exactly these nodes. The only change that 22.05 has.
    To(&'a NodeSet),
    /// Adds nodes, from 23.02.
    Add(&'a NodeSet),
    /// Removes nodes, from 23.02.
    Remove(&'a NodeSet),
}

impl ReservationFlag {
    fn as_str(self) -> &'static str {
        match self {
            Self::Maint => "maint",
            Self::IgnoreJobs => "ignore_jobs",
            Self::Magnetic => "magnetic",
            Self::Overlap => "overlap",
        }
    }
}

impl Scontrol {
    /// Returns all reservations.
    ///
    /// # Errors
    /// If scontrol fails or does not answer in time.
    pub fn show_reservations(&self) -> Result<Parsed<Reservation>, RunError> {
        let program = with_epochs(self.program(["show", "res", "-o", "-a"]));
        Ok(parse_reservations(&program.run()?.stdout))
    }

    /// Creates a reservation. Record its name before, so that it can be found after a crash.
    ///
    /// Times are passed as `utsSECONDS`, which no time zone changes (`parse_time` in `src/common/parse_time.c`, 22.05
    /// to 26.05). Slurm refuses a start more than 10 minutes ago.
    ///
    /// # Errors
    /// If an argument is refused, or scontrol fails or does not answer in time.
    pub fn create_reservation(&self, new: &NewReservation<'_>) -> Result<(), SlurmError> {
        check_name("reservation", new.name)?;
        check_users(new.users)?;
        let start = new.start_s.map_or_else(|| "now".to_owned(), uts);
        let mut arguments = vec![
            format!("reservationname={}", new.name),
            format!("users={}", new.users),
            format!("starttime={start}"),
            format!("endtime={}", uts(new.end_s)),
            format!("nodes={}", one_argument(new.nodes)?),
        ];
        if !new.flags.is_empty() {
            let flags: Vec<&str> = new.flags.iter().map(|flag| flag.as_str()).collect();
            arguments.push(format!("flags={}", flags.join(",")));
        }
        Ok(self.program(["create", "reservation"]).args(arguments).run().map(drop)?)
    }

    /// Changes a reservation.
    ///
    /// # Errors
    /// If an argument is refused, or scontrol fails or does not answer in time.
    pub fn update_reservation(&self, name: &str, change: ReservationChange<'_>) -> Result<(), SlurmError> {
        check_name("reservation", name)?;
        let mut arguments = vec![format!("reservationname={name}")];
        if let Some(nodes) = change.nodes {
            let (key, nodes) = match nodes {
                NodesChange::To(nodes) => ("nodes=", nodes),
                NodesChange::Add(nodes) => ("nodes+=", nodes),
                NodesChange::Remove(nodes) => ("nodes-=", nodes),
            };
            arguments.push(format!("{key}{}", one_argument(nodes)?));
        }
        arguments.extend(change.end_s.map(|end_s| format!("endtime={}", uts(end_s))));
        if arguments.len() == 1 {
            return Ok(());
        }
        Ok(self.program(["update"]).args(arguments).run().map(drop)?)
    }

    /// Deletes a reservation. Slurm refuses while jobs run in it.
    ///
    /// # Errors
    /// If the name is refused, or scontrol fails or does not answer in time.
    pub fn delete_reservation(&self, name: &str) -> Result<(), SlurmError> {
        check_name("reservation", name)?;
        Ok(self.program(["delete"]).arg(format!("reservationname={name}")).run().map(drop)?)
    }
}

fn check_users(users: &str) -> Result<(), SlurmError> {
    users.split(',').try_for_each(|user| check_name("user", user.strip_prefix('-').unwrap_or(user)))
}

fn uts(seconds: u64) -> String {
    format!("uts{seconds}")
}
