//! The way to a host: headers of one's own, proxies, private authorities, and a connection that went stale meanwhile.
use std::sync::Arc;

use llm_core::{Config, Kind, Llm, Result};
use llm_tests::raw::{Raw, Step, answer};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

const GOOD: &str =
    r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"fine"},"finish_reason":"stop"}]}"#;

/// Asks once: nothing but the connection itself may try again.
fn llm(settings: &str) -> Llm {
    let text = format!("retry = {{ max_retries = 0 }}\n[models.m]\nprovider = 'vllm'\n{settings}");
    Llm::new(&Config::from_toml(&text).unwrap()).unwrap()
}

async fn says(llm: &Llm) -> Result<String> {
    Ok(llm.chat("?").await?.text)
}

fn good() -> Step {
    Step::Send(answer("200 OK", "content-type: application/json\r\n", GOOD))
}

#[tokio::test]
async fn headers_of_ones_own_are_sent_with_every_request() {
    let host = Raw::start(vec![vec![Step::Read, good()]]).await;
    let llm = llm(&format!("base_url = '{}'\napi_key = 'k'\nheaders = {{ X-Team = 'red' }}", host.url()));
    assert_eq!(says(&llm).await.unwrap(), "fine");
    let request = host.requests().remove(0).to_lowercase();
    assert!(
        request.contains("\r\nx-team: red\r\n") && request.contains("\r\nauthorization: bearer k\r\n"),
        "{request}"
    );
}

#[tokio::test]
async fn a_plain_request_goes_to_the_proxy_whole() {
    let proxy = Raw::start(vec![vec![Step::Read, good()]]).await;
    let with_user = proxy.url().replace("http://", "http://me:p%40ss@");
    let llm = llm(&format!("base_url = 'http://gpu.invalid:8000/x/v1'\nproxy = '{with_user}'"));
    assert_eq!(says(&llm).await.unwrap(), "fine");
    let request = proxy.requests().remove(0);
    assert!(request.starts_with("POST http://gpu.invalid:8000/x/v1/chat/completions HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("host: gpu.invalid:8000\r\n"), "{request}");
    assert!(request.contains("proxy-authorization: Basic bWU6cEBzcw==\r\n"), "{request}");
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let llm = llm("base_url = 'http://gpu.invalid:8000'\nproxy = 'http://127.0.0.1:1'");
    let error = says(&llm).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::Unavailable, "the proxy refuses connections: is it running?"));
}

#[tokio::test]
async fn a_proxy_that_opens_no_tunnel_is_told_from_the_host() {
    for (status, kind, says_so) in [
        ("407 Proxy Authentication Required", Kind::Unauthorized, "the proxy wants a user and a password"),
        ("403 Forbidden", Kind::Unavailable, "the proxy opens no tunnel: it answered 403"),
    ] {
        let proxy = Raw::start(vec![vec![Step::Read, Step::Send(answer(status, "", ""))]]).await;
        let llm = llm(&format!("base_url = 'https://gpu.invalid'\nproxy = '{}'", proxy.url()));
        let error = says(&llm).await.unwrap_err();
        assert!(error.kind() == kind && error.message().starts_with(says_so), "{error:?}");
    }
}

/// A host with https whose certificate nobody has heard of, and that certificate as a file.
struct Secure {
    port: u16,
    authority: tempfile::NamedTempFile,
    _running: JoinSet<()>,
}

impl Secure {
    async fn start() -> Secure {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let authority = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(authority.path(), made.cert.pem()).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), free_port().await);
        let port = listener.local_addr().unwrap().port();
        let mut running = JoinSet::new();
        running.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
                let mut request = [0u8; 4096]; // a small question comes in one record
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&answer("200 OK", "connection: close\r\n", GOOD)).await;
                let _ = stream.shutdown().await;
            }
        });
        Secure { port, authority, _running: running }
    }

    fn trusted(&self) -> String {
        format!("ca_file = '{}'", self.authority.path().display())
    }
}

async fn free_port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_its_file_is_named_and_not_before() {
    let host = Secure::start().await;
    let at = format!("base_url = 'https://localhost:{}'", host.port);
    assert_eq!(says(&llm(&format!("{at}\n{}", host.trusted()))).await.unwrap(), "fine");
    let error = says(&llm(&at)).await.unwrap_err();
    assert!(error.message().contains("is not trusted") && error.message().contains("`ca_file`"), "{error}");
}

#[tokio::test]
async fn a_file_without_an_authority_is_refused_while_building() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    for (path, says) in
        [("/no/such.pem".to_owned(), "cannot be read"), (empty.path().display().to_string(), "holds no certificate")]
    {
        let text = format!("[models.m]\nprovider = 'vllm'\nbase_url = 'https://gpu'\nca_file = '{path}'");
        let error = Llm::new(&Config::from_toml(&text).unwrap()).err().unwrap().to_string();
        assert!(error.starts_with("models.m.ca_file: ") && error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn tls_goes_through_the_tunnel_of_a_proxy() {
    let host = Secure::start().await;
    let (listener, port) = (free_port().await, host.port);
    let proxy = listener.local_addr().unwrap();
    let tunnel = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(client.read_u8().await.unwrap());
        }
        client.write_all(b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n").await.unwrap();
        let mut there = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let _ = copy_bidirectional(&mut client, &mut there).await;
        String::from_utf8(asked).unwrap()
    });
    let settings = format!("base_url = 'https://localhost:{port}'\nproxy = 'http://me:pw@{proxy}'\n{}", host.trusted());
    let llm = llm(&settings);
    assert_eq!(says(&llm).await.unwrap(), "fine");
    drop(llm);
    let asked = tunnel.await.unwrap();
    assert!(asked.starts_with(&format!("CONNECT localhost:{port} HTTP/1.1\r\n")), "{asked}");
    assert!(asked.contains("proxy-authorization: Basic bWU6cHc=\r\n"), "{asked}");
}

/// The host closes an idle connection at the moment in which the next question is on its way: it has been sent, and nobody
/// reads it. Only the connection is to blame, so it is asked once more on a new one, and the caller hears nothing of it.
#[tokio::test]
async fn a_connection_that_the_host_closes_as_the_next_question_comes_is_silently_replaced() {
    for end in [vec![Step::Read], vec![Step::Read, Step::Reset]] {
        let stale = [vec![Step::Read, good()], end].concat();
        let host = Raw::start(vec![stale, vec![Step::Read, good()]]).await;
        let llm = llm(&format!("base_url = '{}'", host.url()));
        for _ in 0..2 {
            assert_eq!(says(&llm).await.unwrap(), "fine");
        }
        assert_eq!(host.requests().len(), 3, "answered, swallowed by the stale connection, and sent again");
    }
}

#[tokio::test]
async fn a_new_connection_that_is_closed_is_no_stale_one() {
    let host = Raw::start(vec![vec![Step::Read], vec![Step::Read, good()]]).await;
    let error = says(&llm(&format!("base_url = '{}'", host.url()))).await.unwrap_err();
    assert_eq!((error.kind(), host.requests().len()), (Kind::Upstream, 1));
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_was_idle_is_not_used_again() {
    let host = Raw::start(vec![vec![Step::Read, good()]]).await;
    let llm = llm(&format!("base_url = '{}'", host.url()));
    for asked in 1..=3 {
        assert_eq!(says(&llm).await.unwrap(), "fine");
        assert_eq!(host.requests().len(), asked);
    }
}

/// One vLLM serves one model: who says where it is need not say what it is called.
#[tokio::test]
async fn a_model_without_a_name_is_the_first_that_its_host_lists() {
    let listed = r#"{"object":"list","data":[{"id":"org/first","object":"model"},{"id":"second","object":"model"}]}"#;
    let lists = Step::Send(answer("200 OK", "content-type: application/json\r\n", listed));
    let host = Raw::start(vec![vec![Step::Read, lists, Step::Read, good()]]).await;
    let llm = llm(&format!("base_url = '{}'\nmodel = ''", host.url()));
    let question = llm_core::ChatRequest::new("?").model("m");
    assert_eq!(llm.chat(question).await.unwrap().text, "fine");
    assert!(host.requests()[1].contains(r#""model":"org/first""#), "{:?}", host.requests());
}
