//! A node as slurmctld keeps it.

use super::By;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// IDLE, MIXED or ALLOCATED, by its jobs.
    Up,
    Down,
}

/// Power saving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    On,
    Off,
    ComingUp,
}

/// `nextstate=`, and the state that ASAP alone sets up to 24.05.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Resume,
    Down,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetReason {
    pub text: String,
    pub user: String,
    pub at_ms: u64,
}

/// A reboot that was requested and is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requested {
    pub by: By,
    pub at_ms: u64,
}

/// A drain of somebody else, who expects it to stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignDrain {
    pub reason: String,
    pub since_ms: u64,
    /// A request of ours was on its way when it was set: Slurm has no way to tell us.
    pub has_raced: bool,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub name: String,
    pub cpus: u32,
    pub base: Base,
    pub drain: bool,
    pub fail: bool,
    pub requested: bool,
    pub issued: bool,
    pub not_responding: bool,
    pub invalid_reg: bool,
    pub power: Power,
    pub next: Option<Next>,
    /// The node was not drained when ASAP was asked for: the end of the reboot ends the drain.
    pub undrain: bool,
    pub reason: Option<SetReason>,
    /// Time from which ResumeTimeout counts, and after which the node must have booted.
    pub boot_wanted_ms: Option<u64>,
    /// BootTime, unless that is not known.
    pub boot_ms: Option<u64>,
    pub slurmd_start_ms: Option<u64>,
    /// Time since which slurmd does not answer.
    pub silent_since_ms: Option<u64>,
    /// The rest is true and Slurm does not know it.
    pub request: Option<Requested>,
    pub foreign_drain: Option<ForeignDrain>,
    /// The drain is that of a request of ours, or one that keeps jobs off before an update.
    pub our_drain: bool,
}

impl Node {
    #[must_use]
    pub fn new(name: String, cpus: u32, booted_ms: u64) -> Self {
        Self {
            name,
            cpus,
            base: Base::Up,
            drain: false,
            fail: false,
            requested: false,
            issued: false,
            not_responding: false,
            invalid_reg: false,
            power: Power::On,
            next: None,
            undrain: false,
            reason: None,
            boot_wanted_ms: None,
            boot_ms: Some(booted_ms),
            slurmd_start_ms: Some(booted_ms),
            silent_since_ms: None,
            request: None,
            foreign_drain: None,
            our_drain: false,
        }
    }

    /// Returns whether no state or flag keeps jobs away.
    #[must_use]
    pub fn accepts_jobs(&self) -> bool {
        self.base == Base::Up
            && !self.drain
            && !self.fail
            && !self.issued
            && !self.not_responding
            && !self.invalid_reg
    }

    /// Replaces the Reason. `None` erases it.
    pub fn set_reason(&mut self, text: Option<&str>, user: &str, at_ms: u64) {
        self.reason = text.map(|text| SetReason { text: text.to_owned(), user: user.to_owned(), at_ms });
    }

    /// Appends one of Slurm's notes. A note that is there already gets only a new time (`set_node_reason` in
    /// `src/slurmctld/node_mgr.c`, 23.02 to 26.05).
    pub fn note(&mut self, note: &str, at_ms: u64) {
        let text = match &self.reason {
            None => note.to_owned(),
            Some(reason) if reason.text.contains(note) => reason.text.clone(),
            Some(reason) => format!("{} : {note}", reason.text),
        };
        self.set_reason(Some(&text), "slurm", at_ms);
    }

    /// Erases the Reason of a node that is in service, as Slurm does if it `erases` any.
    pub fn tidy(&mut self, erases: bool) {
        if erases && self.base == Base::Up && !self.drain && !self.fail {
            self.reason = None;
        }
        if !self.drain {
            self.our_drain = false;
        }
    }

    /// Removes DRAIN. Unless `by` are others, the one who set it still expects it.
    pub fn remove_drain(&mut self, by: By) {
        self.drain = false;
        self.our_drain = false;
        if by == By::Others {
            self.foreign_drain = None;
        }
    }

    pub fn forget_request(&mut self) {
        self.requested = false;
        self.issued = false;
        self.next = None;
        self.undrain = false;
        self.request = None;
        self.boot_wanted_ms = None;
    }
}
