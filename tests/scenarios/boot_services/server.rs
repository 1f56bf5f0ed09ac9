//! An HTTP server for simulated services.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::spawn;

use serde_json::{Value, json};

use crate::prelude::*;

/// A request as a service gets it.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Value,
}

impl Request {
    fn of(stream: &TcpStream) -> Option<Request> {
        let mut reader = BufReader::new(stream);
        let lines = reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        // Names of headers have any case; everything that is used here is in lower case.
        let head: Vec<String> = lines.map(|line| line.to_ascii_lowercase()).collect();
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        let mut words = head.first()?.split(' ').map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let body = serde_json::from_slice(&body).unwrap_or_default();
        Some(Request { method, path: path.to_owned(), query: query.to_owned(), body })
    }

    /// Values of a parameter of the query.
    pub(super) fn list(&self, key: &str) -> Vec<String> {
        let values = self.query.split('&').filter_map(|pair| pair.split_once('='));
        values
            .filter(|(name, _)| *name == key)
            .flat_map(|(_, text)| text.split(','))
            .map(str::to_owned)
            .collect()
    }
}

/// Serves on a port of the controller itself until the test program ends.
pub(super) fn serve(site: &Site, port: u16, answer: impl Fn(&Request) -> (u16, Value) + Send + 'static) {
    let listen = move || TcpListener::bind(("127.0.0.1", port)).unwrap();
    let listener = site.cluster.controller().in_network(listen).unwrap();
    spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Some(request) = Request::of(&stream) else { continue };
            let (status, body) = answer(&request);
            let body = body.to_string();
            let head =
                format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).ok();
        }
    });
}

pub(super) fn no_such_page() -> (u16, Value) {
    (404, json!({ "title": "Not Found", "detail": "no such page", "status": 404 }))
}
