//! An HTTP server for tests, with or without TLS, and a certificate authority for it.

use rollout_control::boot::{BootNode, ServiceConfig};
use rollout_core::time_limit::TimeLimit;
use rollout_host::run::Program;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A limit that no test reaches: these tests do not measure speed.
pub const LONG: Duration = Duration::from_secs(120);

/// A limit for requests that must be cut off.
pub const SHORT: Duration = Duration::from_secs(2);

pub fn deadline() -> Instant {
    Instant::now() + LONG
}

/// A request as the server receives it.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    pub token: Option<String>,
    /// Header of this name.
    pub authorization: Option<String>,
    /// Null if there is none.
    pub body: Value,
}

impl Request {
    /// Returns a parameter of the query as a list.
    pub fn list(&self, key: &str) -> Vec<String> {
        let values = self.query.split('&').filter_map(|pair| pair.split_once('='));
        let found = values.filter(|(name, _)| *name == key).flat_map(|(_, value)| value.split(','));
        found.map(str::to_owned).collect()
    }
}

/// Reaction of the server to a request.
pub enum Reaction {
    /// Responds with a status and a body.
    Respond(u16, String),
    /// Sends these bytes and hangs up.
    SendRaw(Vec<u8>),
    /// Sends nothing for a long time.
    Hang,
}

impl Reaction {
    pub fn json(status: u16, body: &Value) -> Self {
        Self::Respond(status, body.to_string())
    }
}

/// A running server and all requests to it.
pub struct Server {
    pub port: u16,
    pub requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Request) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&requests));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log, tls) = (Arc::clone(&answer), Arc::clone(&log), tls.clone());
                thread::spawn(move || match tls {
                    None => serve(stream, &*answer, &log),
                    Some(tls) => {
                        serve(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream), &*answer, &log)
                    }
                });
            }
        });
        Self { port, requests }
    }

    pub fn config(&self) -> ServiceConfig {
        ServiceConfig {
            url: format!("http://127.0.0.1:{}", self.port),
            ca_file: None,
            token_file: None,
            time_limit: TimeLimit::from_secs(60),
        }
    }

    /// Returns the number of requests with this method.
    pub fn count(&self, method: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| request.method == method).count()
    }
}

fn serve(mut stream: impl Read + Write, answer: &dyn Fn(&Request) -> Reaction, log: &Mutex<Vec<Request>>) {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if !stream.read(&mut byte).is_ok_and(|count| count > 0) {
            return;
        }
        bytes.extend(byte);
    }
    let head = String::from_utf8(bytes).unwrap();
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
    };
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        authorization: header("authorization"),
        token: header("authorization").and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned)),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    log.lock().unwrap().push(request.clone());
    match answer(&request) {
        Reaction::Respond(status, body) => {
            let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(body.as_bytes());
        }
        Reaction::SendRaw(bytes) => drop(stream.write_all(&bytes)),
        Reaction::Hang => thread::sleep(LONG),
    }
    let _ = stream.flush();
}

/// Returns a node as in the site's file of nodes.
pub fn node(name: &str, values: &[(&str, &str)]) -> BootNode {
    let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    BootNode { name: name.to_owned(), values }
}

/// Returns nodes `cn01` and so on, with xnames `x1000c0s0b0n1` and so on.
pub fn nodes(count: usize) -> Vec<BootNode> {
    (1..=count).map(|n| node(&format!("cn{n:02}"), &[("xname", &xname(n))])).collect()
}

pub fn xname(n: usize) -> String {
    format!("x1000c0s0b0n{n}")
}

/// A certificate authority, which issues certificates for servers.
pub struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Self { dir };
        authority.openssl(
            &["req", "-x509", "-subj", "/CN=Test CA", "-addext", "basicConstraints=critical,CA:TRUE"],
            "ca",
        );
        authority
    }

    pub fn file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn openssl(&self, arguments: &[&str], name: &str) {
        let path = |end: &str| self.path(&format!("{name}{end}"));
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
        let openssl = Program::new("/usr/bin/openssl", LONG).args(arguments).args(key);
        openssl.arg("-keyout").arg(path(".key")).arg("-out").arg(path(".pem")).run().unwrap();
    }

    /// Returns the TLS configuration of a server with these names (`DNS:localhost,IP:127.0.0.1`).
    pub fn server(&self, names: &str) -> Arc<ServerConfig> {
        let (certificate, key) = self.server_files(names);
        let certificates = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_no_client_auth().with_single_cert(certificates, key).unwrap())
    }

    /// Issues a certificate for a server with these names. Returns its file and that of its key.
    pub fn server_files(&self, names: &str) -> (PathBuf, PathBuf) {
        let (ca, key) = (self.file(), self.path("ca.key"));
        let (ca, key) = (ca.to_str().unwrap(), key.to_str().unwrap());
        let names = format!("subjectAltName={names}");
        let of = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", &names];
        let signed = ["req", "-x509", "-subj", "/CN=service", "-CA", ca, "-CAkey", key];
        self.openssl(&[&signed[..], &of].concat(), "server");
        (self.path("server.pem"), self.path("server.key"))
    }
}

pub fn write(path: &Path, text: &str) -> PathBuf {
    rollout_host::durable::replace(path, text.as_bytes(), 0o600).unwrap();
    path.to_owned()
}
