//! Tests sealing and opening against a munged of our own and against MUNGE's own commands.
#![allow(
    clippy::disallowed_methods,
    reason = "rollout_host::run is not made for a daemon that runs beside the test"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

use rollout_host::munge::{MAX_PAYLOAD, Munge, MungeError};
use rollout_host::run::Program;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const MUNGED: &str = "/usr/sbin/munged";
const LIMIT: Duration = Duration::from_secs(20);

/// A user other than root and the user who runs the tests.
const SOMEBODY: u32 = 12345;

/// A munged with a key and a socket of its own, killed on drop.
struct Munged {
    dir: TempDir,
    process: Child,
}

impl Munged {
    fn start(key: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // munged requires that everybody can reach its socket and nobody else its key.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.path().join("key")).unwrap();
        file.write_all(key).unwrap();
        let option = |name: &str, file: &str| format!("--{name}={}", dir.path().join(file).display());
        let process = Command::new(MUNGED)
            .args(["--foreground", "--num-threads=2"])
            .arg(option("socket", "socket"))
            .arg(option("key-file", "key"))
            .arg(option("log-file", "log"))
            .arg(option("pid-file", "pid"))
            .arg(option("seed-file", "seed"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("munged is installed");
        let mut munged = Self { dir, process };
        let end = Instant::now() + LIMIT;
        while UnixStream::connect(munged.socket()).is_err() {
            let ended = munged.process.try_wait().unwrap();
            let log = fs::read_to_string(munged.dir.path().join("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < end, "munged does not come up: {ended:?}\n{log}");
            thread::sleep(Duration::from_millis(5));
        }
        munged
    }

    fn new() -> Self {
        Self::start(&[7; 128])
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    fn client(&self) -> Munge {
        Munge::at(self.socket())
    }

    /// Returns one of MUNGE's commands, using this munged.
    fn command(&self, path: &str) -> Program {
        Program::new(path, LIMIT).arg("--socket").arg(self.socket())
    }

    fn signal(&self, signal: &str) {
        Program::new("/bin/kill", LIMIT).args([signal, &self.process.id().to_string()]).run().unwrap();
    }
}

impl Drop for Munged {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn me() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Returns bytes without repetitions, which cannot be compressed.
fn payload(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn refused(result: Result<impl std::fmt::Debug, MungeError>) -> String {
    match result {
        Err(MungeError::Refused { message: why, .. }) => {
            assert!(!why.contains('\n') && !why.contains('\0'), "one line: {why:?}");
            why.to_lowercase()
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn what_is_sealed_is_opened_as_it_was() {
    let munged = Munged::new();
    for bytes in
        [&b""[..], b"\0", b"{\"purpose\":\"x\"}", "für cn[001-128] \u{1f4a1}\n".as_bytes(), &payload(100_000)]
    {
        let sealed = munged.client().seal(bytes, me()).unwrap();
        assert!(sealed.starts_with("MUNGE:") && sealed.ends_with(':') && sealed.is_ascii(), "{sealed:.20}…");
        let opened = munged.client().open(&sealed).unwrap();
        assert_eq!((opened.uid, opened.payload.as_slice()), (me(), bytes));
        assert!(opened.sealed_s.abs_diff(rollout_host::clock::now_s()) < 60, "{}", opened.sealed_s);
    }
}

#[test]
fn the_longest_payload_can_be_opened_and_a_longer_one_is_not_sealed() {
    let munged = Munged::new();
    let longest = payload(MAX_PAYLOAD);
    let sealed = munged.client().seal(&longest, me()).expect("sealed");
    assert!(munged.client().open(&sealed).expect("opened").payload == longest);
    for length in [MAX_PAYLOAD + 1, 1024 * 1024, 1024 * 1024 + 1, 4 * 1024 * 1024] {
        let error = munged.client().seal(&payload(length), me()).unwrap_err();
        assert!(matches!(error, MungeError::TooLong(_)), "{error}");
        assert!(error.to_string().contains(&length.to_string()), "{error}");
    }
    // The longest credential that fits is sent, and munged refuses it.
    refused(munged.client().open(&"A".repeat(1024 * 1024 - 5)));
    for length in [1024 * 1024 - 4, 4 * 1024 * 1024] {
        let error = munged.client().open(&"A".repeat(length)).unwrap_err();
        assert!(matches!(error, MungeError::CredentialTooLong(_)), "{error}");
    }
}

#[test]
fn a_credential_is_opened_once() {
    let munged = Munged::new();
    let sealed = munged.client().seal(b"once", me()).unwrap();
    assert_eq!(munged.client().open(&sealed).unwrap().payload, b"once");
    for _ in 0..3 {
        let why = refused(munged.client().open(&sealed));
        assert!(why.contains("replayed"), "{why}");
    }
}

#[test]
fn only_the_reader_opens_it() {
    let munged = Munged::new();
    let sealed = munged.client().seal(b"not for you", SOMEBODY).unwrap();
    let why = refused(munged.client().open(&sealed));
    assert!(why.contains("unauthorized"), "{why}");
}

#[test]
fn what_is_old_is_refused() {
    let munged = Munged::new();
    let sealed = munged.command("/usr/bin/munge").args(["--string=old", "--ttl=1"]).run().unwrap().stdout;
    thread::sleep(Duration::from_millis(2500));
    let why = refused(munged.client().open(sealed.trim()));
    assert!(why.contains("expired"), "{why}");
}

#[test]
fn what_is_forged_torn_or_no_credential_is_refused() {
    let (munged, other) = (Munged::new(), Munged::start(&[8; 128]));
    let foreign = other.client().seal(b"an order", me()).unwrap();
    refused(munged.client().open(&foreign));
    let sealed = munged.client().seal(b"an order", me()).unwrap();
    for length in [0, 1, 6, 7, sealed.len() / 2, sealed.len() - 2] {
        refused(munged.client().open(&sealed[..length]));
    }
    for text in
        ["MUNGE:", "MUNGE::", "MUNGE:AwQFAAAA:", "an order", "\0", "MUNGE:\u{fffd}:", &"A".repeat(100_000)]
    {
        refused(munged.client().open(text));
    }
    // Every byte is authenticated: the one in the middle belongs to the sealed part.
    let mut forged = sealed.clone().into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    refused(munged.client().open(std::str::from_utf8(&forged).unwrap()));
    assert_eq!(munged.client().open(&sealed).unwrap().payload, b"an order", "the genuine one still is");
}

#[test]
fn the_uid_is_that_of_the_process_that_sealed_it() {
    assert_eq!(me(), 0, "run this test as root, as ./check does: it seals as somebody else");
    let munged = Munged::new();
    let sealed = Program::new("/usr/bin/setpriv", LIMIT)
        .args(["--reuid", &SOMEBODY.to_string(), "--regid", &SOMEBODY.to_string(), "--clear-groups"])
        .args(["/usr/bin/munge", "--string=mine", "--socket"])
        .arg(munged.socket())
        .run()
        .unwrap()
        .stdout;
    let opened = munged.client().open(sealed.trim()).unwrap();
    assert_eq!((opened.uid, opened.payload.as_slice()), (SOMEBODY, &b"mine"[..]));
}

#[test]
fn munges_own_commands_read_ours_and_we_read_theirs() {
    let munged = Munged::new();
    let theirs = munged.command("/usr/bin/munge").arg("--string=from munge").run().unwrap().stdout;
    assert_eq!(munged.client().open(theirs.trim()).unwrap().payload, b"from munge");
    for compressed in ["zlib", "bzlib"] {
        let munge = munged.command("/usr/bin/munge").arg(format!("--zip={compressed}"));
        let theirs = munge.arg(format!("--string={}", "long ".repeat(1000))).run().unwrap().stdout;
        assert_eq!(munged.client().open(theirs.trim()).unwrap().payload, "long ".repeat(1000).as_bytes());
    }
    let ours = munged.client().seal(b"from us", me()).unwrap();
    let file = munged.dir.path().join("credential");
    fs::write(&file, ours).unwrap();
    let opened = munged.command("/usr/bin/unmunge").arg("--input").arg(&file).run().unwrap().stdout;
    assert!(opened.ends_with("\n\nfrom us") || opened.trim_end().ends_with("\n\nfrom us"), "{opened}");
    let field =
        |name: &str| opened.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(field("STATUS:").contains("Success"), "{opened}");
    assert!(field("UID_RESTRICTION:").contains(&format!("({})", me())), "{opened}");
    assert!(field("ZIP:").contains("none"), "{opened}");
}

#[test]
fn many_at_once_are_all_answered() {
    let munged = Munged::new();
    let threads: Vec<_> = (0..32_u8)
        .map(|number| {
            let client = munged.client();
            thread::spawn(move || {
                for round in 0..8 {
                    let sealed = client.seal(&[number, round], me()).unwrap();
                    assert_eq!(client.open(&sealed).unwrap().payload, [number, round]);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn without_munged_the_error_says_where_it_was_looked_for() {
    let mut munged = Munged::new();
    let client = munged.client();
    let sealed = client.seal(b"x", me()).unwrap();
    munged.process.kill().unwrap();
    munged.process.wait().unwrap();
    let gone = Munge::at(munged.dir.path().join("no-such-socket"));
    for error in [
        client.seal(b"x", 0).unwrap_err(),
        client.open(&sealed).unwrap_err(),
        gone.seal(b"x", 0).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(matches!(error, MungeError::Unreachable { .. }), "{text}");
        assert!(
            text.contains(munged.dir.path().to_str().unwrap()) && text.contains("is munge running?"),
            "{text}"
        );
    }
}

#[test]
fn a_munged_that_hangs_is_not_waited_for() {
    let munged = Munged::new();
    munged.signal("-STOP");
    let error = munged.client().seal(b"x", 0).unwrap_err().to_string();
    munged.signal("-CONT");
    assert!(error.contains("nothing came within 2 s"), "{error}");
}

#[test]
fn a_munged_whose_queue_is_full_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    // A queue for one connection.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _waits = UnixStream::connect(&socket).unwrap();
    for error in [
        Munge::at(&socket).seal(b"x", 0).unwrap_err().to_string(),
        Munge::at(&socket).open("MUNGE:x:").unwrap_err().to_string(),
    ] {
        assert!(error.contains("nothing came within 2 s"), "{error}");
    }
}

/// Any answer that is not in munged's protocol leads to an error, not to a panic.
#[test]
fn what_does_not_speak_munges_protocol_is_an_error() {
    let header = |kind: u8, length: u32| {
        let mut bytes = vec![0x00, 0x60, 0x6D, 0x4B, 4, kind, 0];
        bytes.extend(length.to_be_bytes());
        bytes
    };
    let with =
        |kind: u8, body: &[u8]| [header(kind, u32::try_from(body.len()).unwrap()), body.to_vec()].concat();
    let dir = tempfile::tempdir().unwrap();
    for (index, answer) in [
        Vec::new(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        header(3, u32::MAX),
        header(3, 100),
        with(1, b""),
        with(3, b""),
        with(3, &[0]),
        with(3, &[0, 200, b'x']),
        with(3, &[0, 0, 0xff, 0xff, 0xff, 0xff]),
        with(3, &[0, 0, 0, 0, 0, 1, 0xff]),
        with(5, &[0, 0, 1, 1, 1]),
    ]
    .into_iter()
    .enumerate()
    {
        let socket = dir.path().join(index.to_string());
        let listener = UnixListener::bind(&socket).unwrap();
        let answers = answer.clone();
        let server = thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let _ = std::io::Read::read(&mut stream, &mut request);
                let _ = stream.write_all(&answers);
            }
        });
        let sealed = Munge::at(&socket).seal(b"x", 0);
        let opened = Munge::at(&socket).open("MUNGE:x:");
        assert!(sealed.is_err() && opened.is_err(), "{answer:?}: {sealed:?} {opened:?}");
        server.join().unwrap();
    }
}
