//! Requests: the waiting nodes that go now. Units are taken in the order of preference, each as a whole, as long as
//! every limit has room. A tick that is carried out only in part leaves each limit intact.

use super::Tick;
use super::candidates::{Candidates, Preference, explain, jobs};
use super::cluster::{Free, is_idle, unavailable};
use super::deadlines::latest_free;
use super::evidence::is_cancelled;
use super::hooks;
use super::qualification::{self, explain_in_full};
use super::rollouts::Rollout;
use super::scopes::Scopes;
use super::step::{Effect, Step};
use super::units::Unit;
use super::waves::Waves;
use crate::group::Group;
use crate::standing::{Member, Standing};
use crate::strategy::{Order, Strategy};
use crate::why::Why;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, Way};
use rollout_core::slurm::availability::Unavailable;
use std::collections::BTreeMap;
use std::time::Duration;

/// Nodes by the way of their request, and by the Reason of the drain that stays.
type Requests = BTreeMap<(Way, Option<String>), Vec<String>>;

/// A unit that can go, with the nodes that are requested now.
pub(super) struct Candidate<'b, 'a> {
    preference: Preference,
    pub(super) unit: &'b Unit<'a>,
    pub(super) goes: Goes<'b, 'a>,
}

/// The next step of a unit when its turn comes.
pub(super) enum Goes<'b, 'a> {
    /// These nodes are requested.
    Request(Vec<(&'b Member<'a>, Way)>),
    /// These nodes of a group stop taking jobs, before its first ones are requested.
    Drain(&'a Group, Vec<&'b Member<'a>>),
}

impl<'a> Tick<'_, 'a> {
    /// Requests the nodes of a rollout that may go, and adds the reasons for which others wait.
    pub(super) fn request(
        &mut self,
        index: usize,
        rollout: &Rollout<'a>,
        strategy: &'a Strategy,
        blocked: Option<&Why>,
        scopes: &mut Scopes,
        waves: &mut Waves<'a>,
    ) {
        let windows = strategy.windows.and(&self.cluster.input.limits.windows);
        let closes_ms =
            windows.open_at(self.cluster.now_ms, rollout.id()).filter(|_| !windows.is_always_open());
        if let Some(closes_ms) = closes_ms {
            self.look_again(Some(closes_ms.saturating_sub(rollout.visit_ms()).saturating_add(1)));
        }
        let qualification = qualification::why(rollout, self.cluster.now_ms);
        let candidates = Candidates { cluster: self.cluster, rollout, strategy, closes_ms, qualification };
        self.explain_others(&candidates);
        self.repeat(index, &candidates, scopes);
        self.reserve_again(&candidates);
        let mut requests = Requests::new();
        let mut ready = self.ready(&candidates, blocked, waves);
        if strategy.order == Order::SoonestFree {
            ready.sort_by_key(|candidate| candidate.preference);
        }
        if let Some(job) = &strategy.verify_job {
            ready = self.qualify_first(index, &candidates, job, ready, (scopes, waves));
        }
        // Those whose hooks have begun keep their place.
        ready.sort_by_key(|candidate| !hooks::has_begun(rollout, candidate.unit));
        for candidate in &ready {
            self.take(index, rollout, candidate, (scopes, waves), &mut requests);
        }
        self.call_before_request(rollout);
        for ((way, drained), nodes) in requests {
            let nodes = NodeSet::from_iter(nodes);
            let line = Entry::Requested { nodes: nodes.clone(), way, drained };
            self.ask(&candidates, nodes, way, Some(line));
        }
    }

    /// Has Slurm asked for reboots, and for the reservations that come before.
    fn ask(&mut self, candidates: &Candidates<'_, 'a>, nodes: NodeSet, way: Way, mut line: Option<Entry>) {
        let rollout = candidates.rollout;
        let reserved = nodes.iter().filter(|_| way == Way::Reserved);
        let members = reserved.filter_map(|name| rollout.member(name));
        let mut effects: Vec<Effect> =
            members.filter_map(|member| self.reservation(candidates, member)).collect();
        effects.push(Effect::Request { nodes, way });
        for effect in effects {
            let (before, effect) = (line.take(), Some(effect));
            self.push(Step { rollout: rollout.id().to_owned(), before, effect, after: None });
        }
    }

    /// Returns the reason if no window is open, or the one that is has no room for a visit.
    pub(super) fn closed_window(&mut self, rollout: &Rollout<'_>, strategy: &Strategy) -> Option<Why> {
        let windows = strategy.windows.and(&self.cluster.input.limits.windows);
        let (now_ms, key) = (self.cluster.now_ms, rollout.id());
        if windows.fits(now_ms, rollout.visit, key) {
            return None;
        }
        let fits_ms = windows.next_fit(now_ms, rollout.visit, key);
        self.look_again(fits_ms);
        Some(match windows.open_at(now_ms, key) {
            Some(_) => Why::WindowTooShort { takes_ms: rollout.visit_ms(), fits_ms },
            None if fits_ms.is_none() && windows.next_opening(now_ms, key).is_some() => {
                Why::WindowTooShort { takes_ms: rollout.visit_ms(), fits_ms }
            }
            None => Why::Window { opens_ms: fits_ms },
        })
    }

    /// Adds the reasons of nodes of a rollout that requests nothing.
    pub(super) fn explain(&mut self, rollout: &Rollout<'a>, blocked: Option<&Why>) {
        let Some(blocked) = blocked else { return };
        for member in rollout.members.iter().filter(|member| member.standing != Standing::Updated) {
            match member.standing {
                Standing::Waiting | Standing::Requested => self.wait(member.name, blocked.clone()),
                _ => self.wait(member.name, explain_in_full(self.cluster, rollout, member)),
            }
        }
    }

    /// Adds the reasons of nodes that do not wait for their turn.
    fn explain_others(&mut self, candidates: &Candidates<'_, 'a>) {
        for member in &candidates.rollout.members {
            let is_never = candidates.strategy.never.contains(member.name);
            let why = match member.standing {
                Standing::Updated => continue,
                Standing::Waiting if is_never => Why::Never,
                Standing::Waiting => continue,
                Standing::Requested => match self.to_withdraw(candidates.rollout, member) {
                    Some(why) => why,
                    None if is_cancelled(member) => Why::Cancelled,
                    None if member.is_queued() => jobs(self.cluster, member),
                    None => Why::Now,
                },
                _ => explain_in_full(self.cluster, candidates.rollout, member),
            };
            self.wait(member.name, why);
        }
    }

    /// Repeats requests that are written and that Slurm does not show: they may never have been made. One that no
    /// longer suits the state of its node is given up, and the node waits again. So is one for which a limit has no room
    /// any more: other nodes may have gone out since its line was written.
    fn repeat(&mut self, index: usize, candidates: &Candidates<'_, 'a>, scopes: &Scopes) {
        let mut repeated: BTreeMap<Way, Vec<String>> = BTreeMap::new();
        let (mut unsuited, mut crowded): (Vec<String>, Vec<String>) = Default::default();
        for member in &candidates.rollout.members {
            let Some(request) = member.record.request.as_ref().filter(|request| !request.taken) else {
                continue;
            };
            let is_shown = member.info.is_none() || member.is_queued();
            if member.standing != Standing::Requested || is_shown {
                continue;
            }
            if self.to_withdraw(candidates.rollout, member).is_some() {
                continue;
            }
            let waiting = Member { standing: Standing::Waiting, ..member.clone() };
            // One that is out of service by itself takes no more room.
            let takes_room = member.info.is_some_and(|info| unavailable(info).is_none());
            let has_room = !takes_room || !scopes.exceeded(index, member.name);
            match candidates.way(&waiting) {
                Ok(_) if !has_room && self.is_in_flight(request) => self.wait(member.name, Why::Requested),
                Ok(_) if !has_room => crowded.push(member.name.to_owned()),
                Ok(way) if way == request.way => {
                    repeated.entry(way).or_default().push(member.name.to_owned());
                }
                Ok(_) if self.is_in_flight(request) => {}
                Ok(_) => unsuited.push(member.name.to_owned()),
                Err(why) => self.wait(member.name, why),
            }
        }
        for (way, nodes) in repeated {
            self.ask(candidates, NodeSet::from_iter(nodes), way, None);
        }
        let reasons =
            [(unsuited, "the state of the node has changed"), (crowded, "a limit has no more room for it")];
        for (nodes, why) in reasons.into_iter().filter(|(nodes, _)| !nodes.is_empty()) {
            let (nodes, why) = (NodeSet::from_iter(nodes), why.to_owned());
            self.record(candidates.rollout, Entry::Withdrawn { nodes, why, cancelled: false });
        }
    }

    /// Returns the units that can go if limits permit, and adds the reasons of all others.
    fn ready<'b>(
        &mut self,
        candidates: &Candidates<'b, 'a>,
        blocked: Option<&Why>,
        waves: &Waves<'a>,
    ) -> Vec<Candidate<'b, 'a>> {
        let (rollout, mut ready) = (candidates.rollout, Vec::new());
        for unit in &rollout.units {
            let waiting: Vec<&Member<'a>> =
                rollout.members_of(unit).filter(|member| member.standing == Standing::Waiting).collect();
            if waiting.is_empty() {
                continue;
            }
            let turn = waves.blocks_unit(waiting.iter().map(|member| member.name));
            let turn = turn.map(|turn| candidates.qualification.clone().unwrap_or(turn));
            if let Some(why) = blocked.cloned().or(turn) {
                waiting.iter().for_each(|member| self.wait(member.name, why.clone()));
                continue;
            }
            match self.unit_ready(candidates, unit, &waiting) {
                Ok((preference, goes)) => ready.push(Candidate { preference, unit, goes }),
                Err(whys) => {
                    for (member, why) in waiting.iter().zip(whys) {
                        self.wait(member.name, why);
                    }
                }
            }
        }
        ready
    }

    /// Returns the nodes of a unit that go now.
    ///
    /// # Errors
    /// The reason of each waiting node.
    fn unit_ready<'b>(
        &self,
        candidates: &Candidates<'b, 'a>,
        unit: &'b Unit<'a>,
        waiting: &[&'b Member<'a>],
    ) -> Result<(Preference, Goes<'b, 'a>), Vec<Why>> {
        let rollout = candidates.rollout;
        if let Some(down) = unit.cancelled_by(rollout) {
            return Err(of_group(unit, waiting, down.name, &explain(self.cluster, down)));
        }
        let mut ways = Vec::new();
        for member in waiting {
            match candidates.way(member) {
                // The nodes of such a group are drained first.
                Ok(Way::Reserved) if unit.bring_up().is_some() => {
                    return Err(of_group(unit, waiting, member.name, &jobs(self.cluster, member)));
                }
                Ok(way) => ways.push((*member, way)),
                Err(why) => return Err(of_group(unit, waiting, member.name, &why)),
            }
        }
        let preferences = ways.iter().map(|(member, way)| candidates.preference(member, *way));
        let preference = preferences.max().unwrap_or_default();
        match unit.bring_up() {
            None => Ok((preference, Goes::Request(ways))),
            Some(group) => {
                if let Some(why) = self.closes_too_soon(candidates, group, &ways) {
                    return Err(waiting.iter().map(|_| why.clone()).collect());
                }
                Ok((preference, self.in_order(candidates, group, unit, ways)?))
            }
        }
    }

    /// Returns the reason if the window has no room for the visits of the sets that are left.
    fn closes_too_soon(
        &self,
        candidates: &Candidates<'_, 'a>,
        group: &Group,
        ways: &[(&Member<'a>, Way)],
    ) -> Option<Why> {
        let (closes_ms, now_ms) = (candidates.closes_ms?, self.cluster.now_ms);
        let is_left = |set: &&NodeSet| ways.iter().any(|(member, _)| set.contains(member.name));
        let sets = u64::try_from(group.bring_up.iter().filter(is_left).count()).unwrap_or(u64::MAX);
        let free = ways.iter().filter_map(|(member, _)| Some(self.cluster.free(member.info?)));
        let free = free.filter_map(|free| latest_free(self.cluster, candidates.strategy, free)).max();
        let from_ms = free.unwrap_or(now_ms);
        let back_ms = from_ms.saturating_add(sets.saturating_mul(candidates.rollout.visit_ms()));
        if back_ms <= closes_ms {
            return None;
        }
        let takes_ms = back_ms.saturating_sub(now_ms);
        let windows = candidates.strategy.windows.and(&self.cluster.input.limits.windows);
        let fits_ms = windows.next_fit(now_ms, Duration::from_millis(takes_ms), candidates.rollout.id());
        Some(Why::WindowTooShort { takes_ms, fits_ms })
    }

    /// Returns what is due for a group whose nodes come back one after another.
    fn in_order<'b>(
        &self,
        candidates: &Candidates<'b, 'a>,
        group: &'a Group,
        unit: &'b Unit<'a>,
        ways: Vec<(&'b Member<'a>, Way)>,
    ) -> Result<Goes<'b, 'a>, Vec<Why>> {
        let rollout = candidates.rollout;
        // All nodes stop taking jobs first: users of the later nodes may need the first ones.
        let takes_jobs =
            |(member, way): &&(&Member<'_>, Way)| *way == Way::Asap && !member.has_our_drain(rollout.id());
        let open: Vec<&Member<'a>> = ways.iter().filter(takes_jobs).map(|(member, _)| *member).collect();
        if !open.is_empty() {
            return Ok(Goes::Drain(group, open));
        }
        let all = |why: &Why| ways.iter().map(|_| why.clone()).collect::<Vec<Why>>();
        let has_jobs = |(member, _): &&(&Member<'_>, Way)| match member.info {
            Some(info) => self.cluster.free(info) != Free::Now || !is_idle(info),
            None => true,
        };
        let busy = ways.iter().filter(|(_, way)| *way == Way::Asap).find(has_jobs);
        if let Some((member, _)) = busy {
            return Err(all(&Why::GroupDrains {
                group: group.name.clone(),
                node: Some(member.name.to_owned()),
            }));
        }
        for set in &group.bring_up {
            let members = rollout.members_of(unit).filter(|member| set.contains(member.name));
            let is_back = |member: &&Member<'_>| {
                matches!(member.standing, Standing::Skipped(_)) || is_in_service(member)
            };
            let away: Vec<&Member<'a>> = members.filter(|member| !is_back(member)).collect();
            let moving = away.iter().find(|member| member.standing != Standing::Waiting);
            if let Some(member) = moving {
                let (group, node) = (group.name.clone(), member.name.to_owned());
                return Err(all(&Why::BringUp { group, node, standing: member.standing }));
            }
            if !away.is_empty() {
                let goes = ways.into_iter().filter(|(member, _)| set.contains(member.name));
                return Ok(Goes::Request(goes.collect()));
            }
        }
        Ok(Goes::Request(Vec::new()))
    }

    /// Takes a unit if there is room for it.
    fn take(
        &mut self,
        index: usize,
        rollout: &Rollout<'a>,
        candidate: &Candidate<'_, 'a>,
        (scopes, waves): (&mut Scopes, &mut Waves<'a>),
        requests: &mut Requests,
    ) {
        let waiting =
            || rollout.members_of(candidate.unit).filter(|member| member.standing == Standing::Waiting);
        let names = || waiting().map(|member| member.name);
        let limit = self.cluster.input.limits.requests_per_tick;
        let nodes = match &candidate.goes {
            Goes::Request(nodes) => nodes.len(),
            Goes::Drain(_, nodes) => nodes.len(),
        };
        let is_full = self.requested > 0 && self.requested.saturating_add(nodes) > limit;
        // An earlier unit may have filled the wave.
        let why = waves.blocks_unit(names());
        let why =
            why.or_else(|| scopes.blocked(index, names())).map(|why| self.too_large(rollout, candidate, why));
        if let Some(why) = why.or_else(|| is_full.then_some(Why::NextTick { limit })) {
            for name in names() {
                self.wait(name, why.clone());
            }
            return;
        }
        scopes.take(names());
        waves.take(names());
        self.requested = self.requested.saturating_add(nodes);
        self.go(rollout, candidate, requests);
    }

    /// Requests or drains the nodes of a unit.
    fn go(&mut self, rollout: &Rollout<'a>, candidate: &Candidate<'_, 'a>, requests: &mut Requests) {
        let members = rollout.members_of(candidate.unit);
        let waiting = members.filter(|member| member.standing == Standing::Waiting);
        match &candidate.goes {
            Goes::Request(ways) => {
                let are_hooks_done = self.are_hooks_done(rollout, ways.iter().map(|(member, _)| *member));
                for (member, way) in ways.iter().filter(|_| are_hooks_done) {
                    add(requests, self.cluster_drain(rollout, member), member.name, *way);
                    self.wait(member.name, Why::Now);
                }
                let first = ways.first().map(|(member, _)| *member);
                let later = waiting.filter(|member| ways.iter().all(|(goes, _)| goes.name != member.name));
                for (member, first) in later.zip(std::iter::repeat(first)) {
                    let (Some(group), Some(first)) = (candidate.unit.group, first) else { continue };
                    let (group, node) = (group.name.clone(), first.name.to_owned());
                    let standing = if are_hooks_done { Standing::Requested } else { Standing::Waiting };
                    self.wait(member.name, Why::BringUp { group, node, standing });
                }
            }
            Goes::Drain(group, members) => {
                let nodes: NodeSet = members.iter().map(|member| member.name.to_owned()).collect();
                let is_new = members.iter().any(|member| member.kept_out.is_none());
                let line = is_new.then(|| Entry::KeptOut { nodes: nodes.clone(), reason: None });
                self.drain(rollout, nodes, line);
                for member in waiting {
                    self.wait(member.name, Why::GroupDrains { group: group.name.clone(), node: None });
                }
            }
        }
    }

    /// Returns the reason of a group that exceeds the limit of its rollout by itself.
    fn too_large(&self, rollout: &Rollout<'_>, candidate: &Candidate<'_, '_>, why: Why) -> Why {
        let (Some(group), Some(strategy)) = (candidate.unit.group, rollout.strategy) else { return why };
        let nodes = candidate.unit.members.len();
        match why {
            Why::MaxOut { limit: max_out, .. } if nodes > strategy.max_out => {
                Why::GroupTooLarge { group: group.name.clone(), nodes, max_out }
            }
            why => why,
        }
    }

    /// Returns the Reason of the drain that outlives the request of a node.
    fn cluster_drain(&self, rollout: &Rollout<'_>, member: &Member<'a>) -> Option<String> {
        let (reason, _) = self.cluster.foreign_drain(rollout.id(), member.info?)?;
        Some(reason.to_owned())
    }
}

fn add(requests: &mut Requests, drained: Option<String>, name: &str, way: Way) {
    let drained = drained.filter(|_| way == Way::Drained);
    requests.entry((way, drained)).or_default().push(name.to_owned());
}

/// Returns the reasons of the waiting nodes of a unit of which one is not ready.
fn of_group(unit: &Unit<'_>, waiting: &[&Member<'_>], node: &str, why: &Why) -> Vec<Why> {
    let whys = waiting.iter().map(|member| match unit.group {
        Some(group) if member.name != node => {
            Why::Group { group: group.name.clone(), node: node.to_owned(), why: Box::new(why.clone()) }
        }
        _ => why.clone(),
    });
    whys.collect()
}

/// Returns whether a node is updated and takes jobs again, or is only kept from it by the drain of somebody else.
fn is_in_service(member: &Member<'_>) -> bool {
    let unavailable = member.info.map(unavailable);
    member.standing == Standing::Updated
        && matches!(unavailable, Some(None | Some(Unavailable::Drained | Unavailable::InMaintenance)))
}
