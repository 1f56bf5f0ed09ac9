//! The power of one node through the Redfish service of its management controller.
//!
//! Written after DSP0266 1.20 and the schema ComputerSystem 1.22, and tested with sushy-tools. User and password go with
//! each request: many controllers have few sessions, and keep those of clients that died.

use crate::deadline;
use crate::service::{Method, Reply, Service};
use rollout_control::boot::ServiceConfig;
use rollout_control::power::config::is_path;
use rollout_control::power::question::{PowerAnswer, PowerQuestion, STATUS};
use rollout_control::power::{PowerState, Switch};
use rollout_core::text::one_line;
use rollout_core::time_limit::{LONGEST, TimeLimit};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Name of the table in `controller.toml`, in the brackets of an array of tables.
const NAME: &str = "[power]";

/// The systems of a controller.
const SYSTEMS: &str = "/redfish/v1/Systems";

/// Length limit of texts of a controller, in characters.
const MAX_SAID: usize = 200;

/// The task, which is the program's last argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Status,
    Switch(Switch),
}

impl Verb {
    /// Returns the verb of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let switch = || Switch::ALL.into_iter().find(|switch| switch.name() == name).map(Self::Switch);
        if name == STATUS { Some(Self::Status) } else { switch() }
    }
}

/// Answers a question. Failures of the controller are part of the answer.
///
/// # Errors
/// If the answer cannot be serialized, which never happens.
pub fn answer(verb: Verb, question: &PowerQuestion) -> Result<Value, String> {
    let answer = match carry_out(verb, question) {
        Ok(power) => PowerAnswer { power, error: None },
        Err(why) => PowerAnswer { power: None, error: Some(why) },
    };
    serde_json::to_value(answer).map_err(|error| error.to_string())
}

fn carry_out(verb: Verb, question: &PowerQuestion) -> Result<Option<PowerState>, String> {
    let config = ServiceConfig {
        url: format!("https://{}", question.address),
        ca_file: question.ca_file.clone(),
        token_file: None,
        time_limit: TimeLimit::from_secs(LONGEST.as_secs()),
    };
    let credentials = &question.credentials;
    let service = Service::open(NAME, &config, deadline(question.within_ms))?
        .with_password(&credentials.user, credentials.password.expose());
    let controller = Controller { service, url: config.url };
    let path = match &question.system {
        Some(path) => path.clone(),
        None => controller.only_system()?,
    };
    let system: Value = controller.get(&path)?;
    match verb {
        Verb::Status => power(&system).map(Some),
        Verb::Switch(switch) => controller.reset(&path, &system, switch).map(|()| None),
    }
}

/// A management controller.
struct Controller {
    service: Service,
    url: String,
}

impl Controller {
    /// Returns the path of the only system.
    fn only_system(&self) -> Result<String, String> {
        let systems: Value = self.get(SYSTEMS)?;
        let members = systems.get("Members").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let path = |member: &Value| member.get("@odata.id").and_then(Value::as_str).map(str::to_owned);
        match members {
            [member] => path(member)
                .filter(|path| is_path(path))
                .ok_or_else(|| format!("{}{SYSTEMS}: its system has no path", self.url)),
            [] => Err(format!("{}{SYSTEMS}: it has no system", self.url)),
            _ => {
                let paths: Vec<String> = members.iter().filter_map(path).collect();
                let paths = one_line(&paths.join(", "), MAX_SAID);
                let count = members.len();
                Err(format!(
                    "{}{SYSTEMS}: it has {count} systems: set system in its table to one of {paths}",
                    self.url
                ))
            }
        }
    }

    /// Requests a change. Of the values that do it, the first that the controller allows.
    fn reset(&self, path: &str, system: &Value, switch: Switch) -> Result<(), String> {
        let values: &[&str] = match switch {
            Switch::On => &["On", "ForceOn"],
            Switch::Off => &["ForceOff"],
            Switch::SoftOff => &["GracefulShutdown"],
        };
        let action = system.pointer("/Actions/#ComputerSystem.Reset");
        let allowed = action.and_then(|action| action.get("ResetType@Redfish.AllowableValues")?.as_array());
        let is_allowed =
            |value: &&&str| allowed.is_none_or(|allowed| allowed.iter().any(|other| other == **value));
        let value = values.iter().find(is_allowed).ok_or_else(|| {
            let allowed: Vec<&str> = allowed.into_iter().flatten().filter_map(Value::as_str).collect();
            let allowed = one_line(&allowed.join(", "), MAX_SAID);
            format!("{}{path}: it cannot be switched {}: it offers {allowed}", self.url, switch.name())
        })?;
        let target = action.and_then(|action| action.get("target")?.as_str());
        let target = target.map_or_else(|| format!("{path}/Actions/ComputerSystem.Reset"), str::to_owned);
        if !is_path(&target) {
            return Err(format!("{}{path}: the target of its reset is no path", self.url));
        }
        let reply = self.service.exchange(Method::Post, &target, &json!({ "ResetType": value }))?;
        self.require_success(&target, &reply)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let reply = self.service.exchange(Method::Get, path, &Value::Null)?;
        self.require_success(path, &reply)?;
        self.service.parse(&reply)
    }

    fn require_success(&self, path: &str, reply: &Reply) -> Result<(), String> {
        let cure = match reply.status {
            200..=299 => return Ok(()),
            401 => "; are user and password in credentials_file right?",
            403 => "; the user may not do this",
            404 => "; has its controller Redfish? is system in its table right?",
            _ => "",
        };
        let said = said(reply).map(|said| format!(": {said}")).unwrap_or_default();
        Err(format!("{}{path}: HTTP {}{said}{cure}", self.url, reply.status))
    }
}

/// Returns the power of a system. Anything but on and off, such as between the two, is unknown.
fn power(system: &Value) -> Result<PowerState, String> {
    match system.get("PowerState").and_then(Value::as_str) {
        Some("On") => Ok(PowerState::On),
        Some("Off") => Ok(PowerState::Off),
        Some(other) => Err(format!("its power is {}: neither on nor off", one_line(other, MAX_SAID))),
        None => Err("its controller does not tell its power".to_owned()),
    }
}

/// Returns the first message of an error.
fn said(reply: &Reply) -> Option<String> {
    let body: Value = serde_json::from_str(&reply.text).ok()?;
    let error = body.get("error")?;
    let message = error.pointer("/@Message.ExtendedInfo/0/Message").or_else(|| error.get("message"))?;
    Some(one_line(message.as_str()?, MAX_SAID))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_on_and_off_are_known() {
        for (state, expected) in [
            (json!("On"), Ok(PowerState::On)),
            (json!("Off"), Ok(PowerState::Off)),
            (json!("PoweringOff"), Err("its power is PoweringOff: neither on nor off")),
            (json!("off"), Err("its power is off: neither on nor off")),
            (json!(null), Err("its controller does not tell its power")),
            (json!(0), Err("its controller does not tell its power")),
        ] {
            assert_eq!(power(&json!({ "PowerState": state })), expected.map_err(str::to_owned), "{state}");
        }
        assert!(power(&json!([])).is_err());
    }

    #[test]
    fn verbs_are_those_of_the_question() {
        let verbs: Vec<_> = ["status", "on", "off", "soft-off"].into_iter().map(Verb::of).collect();
        let switches = [Switch::On, Switch::Off, Switch::SoftOff].map(|switch| Some(Verb::Switch(switch)));
        assert_eq!((verbs[0], &verbs[1..]), (Some(Verb::Status), &switches[..]));
        assert_eq!(Verb::of("cycle"), None);
    }
}
