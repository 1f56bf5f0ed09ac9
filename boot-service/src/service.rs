//! HTTP exchanges with a site's boot service, over TLS if its URL begins with `https:`.
//!
//! The host name is resolved like those of nodes, without NSS. Redirects are not followed: a token goes to the site's
//! URL only.

use base64::prelude::{BASE64_STANDARD, Engine};
use rollout_control::agents::address;
use rollout_control::agents::dispatch::dispatch;
use rollout_control::boot::{BootNode, Outcomes, ServiceConfig};
use rollout_core::text::one_line;
use rollout_host::regular_file;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Timeout};

/// Files with the certificate authorities that the system trusts: on Debian and SUSE, on Red Hat.
const SYSTEM_CA: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Number of concurrent requests. Each may be about many nodes, and the services are small.
const CONCURRENCY: usize = 8;

/// Length limit of an answer, which may contain the cloud-init data of a hundred nodes.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// Length limit of a token file.
const MAX_TOKEN: u64 = 64 * 1024;

/// Length limit of a file with certificate authorities.
const MAX_CA: u64 = 4 * 1024 * 1024;

/// Length limit of an error message of a service, in characters.
const MAX_MESSAGE: usize = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// The answer to a request, with any status.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) text: String,
}

/// A client of a service, with a deadline.
#[derive(Clone)]
pub(crate) struct Service {
    /// Name of its table in `controller.toml`.
    name: &'static str,
    config: ServiceConfig,
    http: Agent,
    /// Value of the header of this name.
    authorization: Option<String>,
    until: Instant,
}

impl Service {
    /// Creates a client. Reads the token and the certificate authorities from their files.
    pub(crate) fn open(name: &'static str, config: &ServiceConfig, until: Instant) -> Result<Self, String> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timeout_message(name));
        }
        let file = |path: &Path, limit| {
            regular_file::read(path, limit).map_err(|why| format!("[{name}] {}: {why}", path.display()))
        };
        let authorization = match &config.token_file {
            Some(path) => {
                let token = token(&file(path, MAX_TOKEN)?).ok_or_else(|| {
                    format!("[{name}] {}: no token is in it: one line of letters and digits", path.display())
                })?;
                Some(format!("Bearer {token}"))
            }
            None => None,
        };
        let mut http = Agent::config_builder()
            .timeout_global(Some(left.min(config.time_limit.get())))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            // Use one connection per request: an idle connection that the service has closed would look like a refusal.
            .max_idle_connections(0)
            .user_agent(concat!("slurm-rollout/", env!("CARGO_PKG_VERSION")));
        if config.url.starts_with("https:") {
            let path = config.ca_file.clone().or_else(system_ca).ok_or_else(|| {
                format!("[{name}] no CA certificates on this system: name a file with them as ca_file")
            })?;
            let roots = roots(&file(&path, MAX_CA)?)
                .ok_or_else(|| format!("[{name}] {}: holds no certificate in PEM", path.display()))?;
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider);
            http = http.tls_config(tls.build());
        }
        let names = NameResolver(address::Resolver::default());
        let http = Agent::with_parts(http.build(), DefaultConnector::default(), names);
        Ok(Self { name, config: config.clone(), http, authorization, until })
    }

    /// Sends this user and password with each request (RFC 7617).
    pub(crate) fn with_password(self, user: &str, password: &str) -> Self {
        let pair = BASE64_STANDARD.encode(format!("{user}:{password}"));
        Self { authorization: Some(format!("Basic {pair}")), ..self }
    }

    /// Sends a request and returns the answer, with any status.
    ///
    /// # Errors
    /// If there is no answer, with the URL and the reason.
    pub(crate) fn exchange(&self, method: Method, path: &str, body: &Value) -> Result<Reply, String> {
        let url = format!("{}{path}", self.config.url.trim_end_matches('/'));
        let no_answer = |error| format!("{}: {}", shortened(&url), self.describe(error));
        let head = |mut request: ureq::RequestBuilder<ureq::typestate::WithBody>| {
            if let Some(authorization) = &self.authorization {
                request = request.header("Authorization", authorization);
            }
            request.content_type("application/json").send(body.to_string())
        };
        let answered = match method {
            Method::Get => {
                let mut request = self.http.get(&url);
                if let Some(authorization) = &self.authorization {
                    request = request.header("Authorization", authorization);
                }
                request.call()
            }
            Method::Post => head(self.http.post(&url)),
            Method::Put => head(self.http.put(&url)),
            Method::Patch => head(self.http.patch(&url)),
            Method::Delete => head(self.http.delete(&url).force_send_body()),
        };
        let mut answer = answered.map_err(no_answer)?;
        let text = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_string().map_err(no_answer)?;
        Ok(Reply { status: answer.status().as_u16(), text })
    }

    /// Sends a GET request, and requires success and JSON of type `T`.
    ///
    /// # Errors
    /// If there is no answer, or it is not a success, or not of this type.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let reply = self.exchange(Method::Get, path, &Value::Null)?;
        self.require_success(&reply)?;
        self.parse(&reply)
    }

    /// Checks with a HEAD request that a file of a different host can be fetched, and returns the reason if not.
    /// Sends no token to that host.
    pub(crate) fn fetch_problem(&self, url: &str) -> Option<String> {
        let why = match self.http.head(url).call() {
            Ok(answer) if answer.status().is_success() => return None,
            Ok(answer) => format!("HTTP {}", answer.status().as_u16()),
            Err(error) => self.describe(error),
        };
        Some(format!("{url} cannot be fetched from here: {why}"))
    }

    /// Parses an answer.
    ///
    /// # Errors
    /// If it is not JSON of type `T`.
    pub(crate) fn parse<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T, String> {
        serde_json::from_str(&reply.text).map_err(|error| {
            let why = one_line(&error.to_string(), MAX_MESSAGE);
            format!("{}: not an answer of this service: {why}; is url right?", self.config.url)
        })
    }

    /// Requires that an answer has a status of success.
    ///
    /// # Errors
    /// If it has a different status, with the service's message and the remedy.
    pub(crate) fn require_success(&self, reply: &Reply) -> Result<(), String> {
        if (200..300).contains(&reply.status) {
            return Ok(());
        }
        let said = reply.problem_detail().map(|said| format!(": {said}")).unwrap_or_default();
        let token_file = self.config.token_file.as_deref();
        let cure = match (reply.status, token_file) {
            (401, None) => format!("; it wants a token: set token_file in [{}]", self.name),
            (401, Some(path)) => format!("; is the token in {} out of date?", path.display()),
            (403, Some(path)) => format!("; the token in {} has not the right", path.display()),
            (300..=399, _) => format!("; redirects are not followed: set url in [{}]", self.name),
            (404, _) => format!("; is url in [{}] right?", self.name),
            _ => String::new(),
        };
        Err(format!("{}: HTTP {}{said}{cure}", self.config.url, reply.status))
    }

    /// Runs `work` on all items, [`CONCURRENCY`] at a time. Results that are not there by the deadline are missing.
    pub(crate) fn run_all<T: Send + 'static, R: Send + 'static>(
        &self,
        items: Vec<T>,
        work: impl Fn(&Self, T) -> R + Send + Sync + 'static,
    ) -> Vec<R> {
        let service = self.clone();
        dispatch(items, CONCURRENCY, self.until, move |item| work(&service, item)).all()
    }

    /// Runs `work` on the service's ids of the nodes, and returns the outcomes by NodeName.
    pub(crate) fn for_each_node<I: Ord + Clone, T: Clone>(
        (name, config): (&'static str, &ServiceConfig),
        nodes: &[BootNode],
        id: impl Fn(&BootNode) -> Result<I, String>,
        until: Instant,
        work: impl FnOnce(&Self, BTreeSet<I>) -> BTreeMap<I, Result<T, String>>,
    ) -> Outcomes<T> {
        let ids: Vec<(&String, Result<I, String>)> =
            nodes.iter().map(|node| (&node.name, id(node))).collect();
        let (done, late) = match Self::open(name, config, until) {
            Ok(service) => {
                let known = ids.iter().filter_map(|(_, id)| id.clone().ok()).collect();
                (work(&service, known), service.timeout_message())
            }
            Err(why) => (BTreeMap::new(), why),
        };
        let outcome = |id: Result<I, String>| done.get(&id?).cloned().unwrap_or_else(|| Err(late.clone()));
        ids.into_iter().map(|(name, id)| (name.clone(), outcome(id))).collect()
    }

    /// Returns the error for a node that was not reached by the deadline.
    pub(crate) fn timeout_message(&self) -> String {
        timeout_message(self.name)
    }

    /// Returns a warning if everybody can read the token file.
    pub(crate) fn token_warnings(&self) -> Vec<String> {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.permissions().mode());
        let open = self.config.token_file.iter().filter(|path| mode(path) & 0o004 != 0);
        open.map(|path| format!("{} can be read by everybody: chmod o-r {0}", path.display())).collect()
    }

    /// Describes an error in one line, with the remedy for an unknown certificate authority.
    fn describe(&self, error: ureq::Error) -> String {
        let ca = match &self.config.ca_file {
            Some(path) => format!("the authority of its certificate is not in {}", path.display()),
            None => format!(
                "the system does not know the authority of its certificate: set ca_file in [{}]",
                self.name
            ),
        };
        let unknown = |error: &rustls::Error| {
            use rustls::CertificateError::{BadSignature, UnknownIssuer};
            matches!(error, rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature))
        };
        let why = match error {
            ureq::Error::Timeout(Timeout::Connect) => "it cannot be reached in time".to_owned(),
            ureq::Error::Timeout(_) => "no answer in time".to_owned(),
            ureq::Error::Rustls(error) if unknown(&error) => ca,
            ureq::Error::Io(error) => {
                let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                if tls.is_some_and(unknown) { ca } else { error.to_string() }
            }
            ureq::Error::Other(error) => error.to_string(),
            other => other.to_string(),
        };
        one_line(&why, MAX_MESSAGE)
    }
}

impl Reply {
    /// Returns the service's error message: in the format of RFC 7807, or in that of OpenCHAMI's boot-service.
    pub(crate) fn problem_detail(&self) -> Option<String> {
        let problem: Value = serde_json::from_str(&self.text).ok()?;
        let said = ["detail", "title", "error"].iter().find_map(|key| problem.get(key)?.as_str())?;
        Some(one_line(said, MAX_MESSAGE))
    }
}

/// Number of addresses of a host that are tried. ureq has room for 16.
const MAX_ADDRESSES: usize = 8;

/// Resolves the host names of URLs like those of nodes, without NSS.
#[derive(Debug)]
struct NameResolver(address::Resolver);

impl Resolver for NameResolver {
    fn resolve(&self, uri: &Uri, _: &Config, time: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let port = uri.port_u16().or(match uri.scheme_str() {
            Some("https") => Some(443),
            Some("http") => Some(80),
            _ => None,
        });
        let host = uri.host().map(|host| host.trim_start_matches('[').trim_end_matches(']'));
        let (Some(host), Some(port)) = (host, port) else { return Err(ureq::Error::HostNotFound) };
        let limit = Duration::min(*time.after, Duration::from_secs(3600));
        let addresses =
            self.0.resolve(host, limit).map_err(|why| ureq::Error::Other(Box::new(NoAddress(why))))?;
        let mut found = self.empty();
        addresses.at_port(port).take(MAX_ADDRESSES).for_each(|address| found.push(address));
        Ok(found)
    }
}

#[derive(Debug)]
struct NoAddress(String);

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAddress {}

fn timeout_message(name: &str) -> String {
    format!("[{name}] not come to in time")
}

/// Cuts the query off a URL, which may contain the names of a hundred nodes.
fn shortened(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

fn system_ca() -> Option<PathBuf> {
    SYSTEM_CA.iter().map(PathBuf::from).find(|path| path.exists())
}

/// Returns the token in a file, if it may be sent in a header (RFC 6750).
fn token(bytes: &[u8]) -> Option<String> {
    let token = std::str::from_utf8(bytes).ok()?.trim();
    (!token.is_empty() && token.chars().all(|c| c.is_ascii_graphic())).then(|| token.to_owned())
}

fn roots(pem: &[u8]) -> Option<RootCerts> {
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.ok()? {
            certificates.push(certificate);
        }
    }
    (!certificates.is_empty()).then(|| RootCerts::new_with_certs(&certificates))
}
