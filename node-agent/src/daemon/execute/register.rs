//! The last proof: slurmd starts, and Slurm accepts the node.

use super::{Executor, Stop};
use crate::failpoint;
use crate::log;
use rollout_core::agent::Outcome;
use rollout_core::agent::ledger::Ledger;
use rollout_core::agent::registration::{AWAY_LIMIT, BeforeStart, Next, Registration, Unit, pause};
use rollout_core::slurm::node::NodeInfo;
use rollout_core::time_limit::TimeLimit;
use std::time::Duration;

impl Executor {
    /// Asks Slurm for its view of the node before slurmd may start. A node on which Slurm cannot be asked goes back
    /// now, while it has no jobs. Returns `None` if only a running slurmd lets Slurm's commands ask.
    pub(super) fn look_before_start(&self) -> Result<Option<BeforeStart>, Stop> {
        if self.tools.commands_need_slurmd() {
            return Ok(self.tools.ask_slurm().ok().as_ref().map(BeforeStart::from));
        }
        let begun = self.tools.clock();
        let info = self.ask_slurm(|elapsed| elapsed < AWAY_LIMIT).map_err(|error| {
            let within = TimeLimit::from_secs(self.tools.clock().saturating_sub(begun).as_secs());
            format!(
                "Slurm could not be asked about this node within {within}, so nothing would show that it accepts it: \
                 {error}"
            )
        })?;
        Ok(Some(BeforeStart::from(&info)))
    }

    /// Starts slurmd, and proves that Slurm accepts the node.
    pub(super) fn register(&self, ledger: &mut Ledger) -> Result<Outcome, Stop> {
        let limit = ledger.registration_timeout();
        log::info(&format!("{}: verified; Slurm has {limit} to accept the node", ledger.subject()));
        let mut proof = Registration::of(ledger);
        if let Err(why) = self.check_agent() {
            return self.give_up(ledger, &proof, why);
        }
        // At boot, slurmd's own start waits for the gate, and the proof has just kept the drain.
        match self.unit() {
            Unit::Down(_) => self.start_drained(ledger)?,
            Unit::Starts | Unit::Runs => self.start_slurmd(ledger),
        }
        failpoint::here("registering");
        let (mut begun, mut logged) = (self.tools.clock(), false);
        loop {
            let elapsed = self.tools.clock().saturating_sub(begun);
            let unit = self.unit();
            let slurm = (unit == Unit::Runs).then(|| self.tools.ask_slurm());
            if let (false, Some(Err(error))) = (logged, &slurm) {
                log::warning(&format!(
                    "slurmd runs, and Slurm cannot be asked whether it accepts the node; it is asked until it answers: \
                     {error}"
                ));
                logged = true;
            }
            match proof.look(elapsed, &unit, slurm.as_ref()) {
                Next::Accepted => break,
                Next::Wait(pause) => self.tools.pause(pause),
                Next::Failed(why) => return self.give_up(ledger, &proof, why),
                next @ (Next::Start | Next::Restart) => {
                    let stopped = self.tools.clock();
                    if next == Next::Restart {
                        log::warning("Slurm refuses the node's registration; restarting slurmd");
                        self.stop_slurmd()?;
                    }
                    self.start_drained(ledger)?;
                    // slurmd could not register while Slurm was asked for the drain.
                    begun += self.tools.clock().saturating_sub(stopped);
                }
            }
        }
        failpoint::here("registered");
        Ok(Outcome::Registered)
    }

    /// Gives the node up, unless Slurm has accepted it: it may have jobs then. Stops slurmd first, so that none begin
    /// after the answer, except where nobody can ask once slurmd is down.
    fn give_up(&self, ledger: &Ledger, proof: &Registration, why: String) -> Result<Outcome, Stop> {
        let is_accepted = match self.tools.commands_need_slurmd() {
            true => self.tools.ask_slurm().is_ok_and(|info| proof.is_accepted(&info)),
            false => {
                self.stop_slurmd()?;
                proof.is_accepted(&self.ask_slurm(|_| true)?)
            }
        };
        if !is_accepted {
            self.stop_slurmd()?;
            return Err(Stop::Failed(why));
        }
        self.start_slurmd(ledger);
        failpoint::here("registered");
        Ok(Outcome::Registered)
    }

    /// Starts slurmd once a drain of somebody else is kept: one that was set since the last look would be removed by
    /// the registration. Without an answer slurmd stays down, and is started later.
    fn start_drained(&self, ledger: &mut Ledger) -> Result<(), Stop> {
        match self.keep_drain(ledger) {
            Ok(()) => self.start_slurmd(ledger),
            Err(Stop::Failed(why)) => log::error(&format!("slurmd is not started yet: {why}")),
            Err(ledger @ Stop::Ledger(_)) => return Err(ledger),
        }
        Ok(())
    }

    /// Asks Slurm about the node until it answers, as long as `goes_on` with the time that has passed.
    fn ask_slurm(&self, goes_on: impl Fn(Duration) -> bool) -> Result<NodeInfo, String> {
        let (begun, mut logged) = (self.tools.clock(), false);
        loop {
            let error = match self.tools.ask_slurm() {
                Ok(info) => return Ok(info),
                Err(error) => error,
            };
            let elapsed = self.tools.clock().saturating_sub(begun);
            if !goes_on(elapsed) {
                return Err(error);
            }
            if !logged {
                log::warning(&format!("Slurm cannot be asked about this node, and is asked again: {error}"));
                logged = true;
            }
            self.tools.pause(pause(elapsed));
        }
    }

    fn unit(&self) -> Unit {
        self.tools.slurmd().map_or_else(Unit::Down, |(_, unit)| unit)
    }
}
