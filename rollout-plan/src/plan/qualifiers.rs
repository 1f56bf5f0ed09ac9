//! The choice of the nodes that qualify a wave. They are chosen together and reserved first. Their reboots are requested
//! once Slurm shows the reservation. All others wait until the wave is qualified.

use super::Tick;
use super::candidates::Candidates;
use super::cluster::{is_down, unavailable};
use super::deadlines::millis;
use super::qualification::{self, pending};
use super::requests::{Candidate, Goes};
use super::scopes::Scopes;
use super::step::Step;
use super::waves::Waves;
use crate::standing::{Member, Standing};
use crate::strategy::VerifyJob;
use crate::why::Why;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, Way};
use rollout_core::slurm::availability::Unavailable;
use std::collections::BTreeSet;
use std::time::Duration;

impl<'a> Tick<'_, 'a> {
    /// Returns those of the units that can go which may go before, or beside, the qualification of the current wave.
    pub(super) fn qualify_first<'b>(
        &mut self,
        index: usize,
        candidates: &Candidates<'b, 'a>,
        job: &VerifyJob,
        ready: Vec<Candidate<'b, 'a>>,
        (scopes, waves): (&mut Scopes, &Waves<'a>),
    ) -> Vec<Candidate<'b, 'a>> {
        let rollout = candidates.rollout;
        if let Some((wave, members)) = pending(rollout, self.cluster.now_ms) {
            return self.only_chosen(candidates, wave, &members, ready);
        }
        let number = waves.current_number();
        if rollout.state.conduct.qualified.contains(&number) {
            return ready;
        }
        let wanted = self.number_to_choose(candidates, job, waves);
        let mut chosen: BTreeSet<&str> = BTreeSet::new();
        let mut others: Vec<(&str, Option<Why>)> = Vec::new();
        for candidate in &ready {
            let names = || waiting(candidates, candidate).map(|member| member.name);
            let why = match chosen.len() < wanted {
                true => self
                    .check_choice(candidates, (number, job), candidate)
                    .err()
                    .or_else(|| scopes.blocked(index, chosen.iter().copied().chain(names()))),
                false => None,
            };
            match why {
                None if chosen.len() < wanted => chosen.extend(names()),
                why => others.extend(names().map(|name| (name, why.clone()))),
            }
        }
        let is_complete = wanted > 0 && chosen.len() >= wanted;
        let nodes = NodeSet::from_iter(chosen.iter().map(|name| (*name).to_owned()));
        let why = match is_complete {
            true => Why::Qualification { wave: number, nodes: nodes.to_string(), job: None },
            false => Why::Qualifiers { wave: number, nodes: wanted.max(1), ready: chosen.len() },
        };
        for name in &chosen {
            self.wait(name, if is_complete { Why::Now } else { why.clone() });
        }
        for (name, other) in others {
            self.wait(name, other.unwrap_or_else(|| why.clone()));
        }
        if is_complete {
            scopes.take(chosen.iter().copied());
            let before = Some(Entry::ToQualify { nodes: nodes.clone(), wave: number });
            let effect = Some(self.reserve_wave(rollout, number, nodes, false));
            self.push(Step { rollout: rollout.id().to_owned(), before, effect, after: None });
        }
        Vec::new()
    }

    /// Returns the chosen nodes, if Slurm shows their reservation.
    fn only_chosen<'b>(
        &mut self,
        candidates: &Candidates<'b, 'a>,
        wave: u32,
        members: &[&Member<'a>],
        ready: Vec<Candidate<'b, 'a>>,
    ) -> Vec<Candidate<'b, 'a>> {
        let rollout = candidates.rollout;
        let is_chosen = |name: &str| members.iter().any(|member| member.name == name);
        let shown = self.cluster.reservation_of_wave(rollout.id(), wave);
        let is_reserved =
            shown.is_some_and(|shown| members.iter().all(|member| shown.nodes.contains(member.name)));
        let (mut goes, mut whys) = (Vec::new(), Vec::new());
        for candidate in ready {
            let names: Vec<&str> = waiting(candidates, &candidate).map(|member| member.name).collect();
            match names.iter().all(|name| is_chosen(name)) {
                true if is_reserved => goes.push(candidate),
                true => whys.extend(names.into_iter().map(|name| (name, Some(Why::Now)))),
                false => {
                    let why = qualification::why(rollout, self.cluster.now_ms);
                    whys.extend(names.into_iter().map(|name| (name, why.clone())));
                }
            }
        }
        for (name, why) in whys.into_iter().filter_map(|(name, why)| Some((name, why?))) {
            self.wait(name, why);
        }
        goes
    }

    /// Returns the number of nodes to choose: as many as the job has, or as the wave can have.
    fn number_to_choose(&self, candidates: &Candidates<'_, 'a>, job: &VerifyJob, waves: &Waves<'a>) -> usize {
        let rollout = candidates.rollout;
        let units = rollout.units.iter().filter(|unit| unit.bring_up().is_none());
        let members = units.flat_map(|unit| rollout.members_of(unit));
        let fits = members.filter(|member| {
            let is_due = member.standing == Standing::Waiting && waves.blocks(member.name).is_none();
            is_due && self.can_run_jobs(candidates, member)
        });
        let room = waves.room_left().unwrap_or(usize::MAX);
        job.nodes.min(fits.count()).min(room)
    }

    /// Returns whether a node that waits will run jobs after its update.
    fn can_run_jobs(&self, candidates: &Candidates<'_, 'a>, member: &Member<'a>) -> bool {
        let Some(info) = member.info else { return false };
        let is_never = self.cluster.input.limits.never.contains(member.name);
        let is_drained = self.cluster.foreign_drain(candidates.rollout.id(), info).is_some();
        let is_usable =
            matches!(unavailable(info), None | Some(Unavailable::Drained | Unavailable::InMaintenance));
        is_usable && !is_never && !is_drained && !is_down(info) && !member.record.cancelled
    }

    /// Checks that a unit can qualify a wave.
    fn check_choice(
        &self,
        candidates: &Candidates<'_, 'a>,
        (wave, job): (u32, &VerifyJob),
        candidate: &Candidate<'_, 'a>,
    ) -> Result<(), Why> {
        let what = "not to be reserved, because Slurm's reservations could not be read";
        self.cluster.input.reservations.ok_or(Why::Unavailable { what })?;
        if self.cluster.reservation_of_wave(candidates.rollout.id(), wave).is_some() {
            return Err(Why::Unavailable { what: "reserved for an earlier qualification of the wave" });
        }
        let unfit = Why::Unavailable { what: "not able to qualify the wave" };
        let Goes::Request(ways) = &candidate.goes else { return Err(unfit) };
        if candidate.unit.bring_up().is_some() {
            return Err(unfit);
        }
        let (now_ms, visit_ms) = (self.cluster.now_ms, candidates.rollout.visit_ms());
        let limit_ms = millis(job.time_limit);
        for (member, way) in ways {
            if !matches!(way, Way::Asap | Way::Reserved) {
                return Err(unfit);
            }
            let info = member.info.ok_or(Why::NotInSlurm)?;
            candidates.check_reservation(info, now_ms.saturating_add(limit_ms))?;
        }
        let takes_ms = visit_ms.saturating_add(limit_ms);
        match candidates.closes_ms.filter(|closes_ms| now_ms.saturating_add(takes_ms) > *closes_ms) {
            None => Ok(()),
            Some(_) => {
                let windows = candidates.strategy.windows.and(&self.cluster.input.limits.windows);
                let fits_ms =
                    windows.next_fit(now_ms, Duration::from_millis(takes_ms), candidates.rollout.id());
                Err(Why::WindowTooShort { takes_ms, fits_ms })
            }
        }
    }
}

/// Returns the waiting nodes of a unit.
fn waiting<'c, 'b: 'c, 'a>(
    candidates: &'c Candidates<'b, 'a>,
    candidate: &Candidate<'b, 'a>,
) -> impl Iterator<Item = &'b Member<'a>> + use<'c, 'b, 'a> {
    let members = candidates.rollout.members_of(candidate.unit);
    members.filter(|member| member.standing == Standing::Waiting)
}
