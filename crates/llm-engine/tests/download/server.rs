//! A web server that says exactly what a test wants, one answer a connection, and remembers what it was asked.
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// From the request's head to the bytes that go back before the connection closes.
pub(crate) type Answer = Box<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

/// Ends when it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Gives the answers in turn, the last one for ever.
    pub(crate) async fn start(answers: Vec<Answer>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/some/model.gguf", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(serve(listener, answers, asked.clone()));
        Server { url, asked, task }
    }

    /// The heads of all requests, in lower case.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, answers: Vec<Answer>, asked: Arc<Mutex<Vec<String>>>) {
    for turn in 0.. {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await;
        asked.lock().unwrap().push(head.clone());
        let answer = answers[turn.min(answers.len() - 1)](&head);
        // A client that has left is no concern of the server's.
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

/// The value of a header in a head.
pub(crate) fn asked_for<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

/// The whole file, whatever was asked.
pub(crate) fn whole(tag: &'static str, body: Vec<u8>) -> Answer {
    cut(tag, body, usize::MAX)
}

/// The whole file promised, and so many bytes of it sent.
pub(crate) fn cut(tag: &'static str, body: Vec<u8>, at: usize) -> Answer {
    Box::new(move |_| {
        let headers = format!("etag: {tag}\r\ncontent-length: {}\r\n", body.len());
        response("200 OK", &headers, &body[..at.min(body.len())])
    })
}

/// A server that does it right: the rest, if the tag is still that of the file; cut after so many bytes.
pub(crate) fn ranged(tag: &'static str, body: Vec<u8>, most: usize) -> Answer {
    Box::new(move |head| {
        let from = asked_for(head, "range").filter(|_| asked_for(head, "if-range") == Some(tag));
        let Some(from) = from.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok())
        else {
            return cut(tag, body.clone(), most)(head);
        };
        partial(from, body.len(), &body[from..], most)
    })
}

/// A partial answer that says where it begins and how long the whole is.
pub(crate) fn partial(from: usize, total: usize, rest: &[u8], most: usize) -> Vec<u8> {
    let last = from + rest.len() - 1;
    let headers = format!("content-range: bytes {from}-{last}/{total}\r\ncontent-length: {}\r\n", rest.len());
    response("206 Partial Content", &headers, &rest[..most.min(rest.len())])
}

/// No file but a status, with further headers.
pub(crate) fn status(line: &'static str, headers: &'static str) -> Answer {
    Box::new(move |_| response(line, &format!("content-length: 0\r\n{headers}"), b""))
}

/// The file in chunks, its length unknown; without the last chunk it was cut.
pub(crate) fn chunked(body: Vec<u8>, last: &'static str) -> Answer {
    Box::new(move |_| {
        let chunk = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n", last.as_bytes()].concat();
        response("200 OK", "transfer-encoding: chunked\r\n", &chunk)
    })
}
