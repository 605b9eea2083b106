//! HTTP for tests: a client, and a GET over a plain socket for those that only ask whether somebody is there.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A client for programs' own requests. The engine's crate gives reqwest its TLS without a provider, so one is named here.
pub fn client() -> reqwest::Client {
    // Whoever comes second finds it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// `host:port` of a `http://` URL.
pub fn address(url: &str) -> &str {
    let rest = url.strip_prefix("http://").expect("tests speak plain HTTP");
    rest.split('/').next().expect("split yields at least one part")
}

/// Status and body.
pub fn get(url: &str) -> (u16, String) {
    let address = address(url);
    let mut stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a minute is a timeout");
    let path = &url["http://".len() + address.len()..];
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .expect("the request is small");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("the reply is text");
    let (head, body) = reply.split_once("\r\n\r\n").expect("a reply has a head");
    (head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status line"), body.to_owned())
}
