//! Keys with names: each opens, each has its own quota, and a running server takes over what the file says.
use llm_server::keys::Entry;
use llm_tests::house::House;
use llm_tests::http;
use reqwest::{Response, StatusCode};
use serde_json::Value;

const QUESTION: &str = r#"{"model":"m","messages":[{"role":"user","content":"?"}]}"#;

async fn ask(house: &House, key: &str) -> Response {
    let request = http::client().post(format!("{}/v1/chat/completions", house.url())).bearer_auth(key);
    request.body(QUESTION).send().await.unwrap()
}

#[tokio::test]
async fn each_key_opens_and_each_has_its_own_quota() {
    let ((alice, first), (bob, second)) = (Entry::new("alice").unwrap(), Entry::new("bob").unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), first.toml() + &second.toml()).unwrap();
    let house = House::of(&format!(
        "[server]\nkeys = '{}'\n[quota]\nrequests_per_minute = 2\n[models.m]\nprovider = 'fake'\nsays = 'hi'",
        file.path().display()
    ));
    for _ in 0..2 {
        assert_eq!(ask(&house, alice.reveal()).await.status(), StatusCode::OK);
    }
    let refused = ask(&house, alice.reveal()).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    let error: Value = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
    assert_eq!(error["error"]["code"], "rate_limit_exceeded");
    assert_eq!(ask(&house, bob.reveal()).await.status(), StatusCode::OK);
    for wrong in ["sk-wrong", "", &first.sha256] {
        assert_eq!(ask(&house, wrong).await.status(), StatusCode::UNAUTHORIZED, "{wrong}");
    }
}

#[tokio::test]
async fn a_key_is_exchanged_while_the_server_runs_and_two_are_valid_meanwhile() {
    let ((old, first), (new, second)) = (Entry::new("alice").unwrap(), Entry::new("alice").unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = format!("[server]\nkeys = '{}'\n[models.m]\nprovider = 'fake'\nsays = 'hi'", file.path().display());
    let write = |text: &str| std::fs::write(file.path(), text).unwrap();
    write(&first.toml());
    let house = House::of(&config);
    let opens = |old_opens, new_opens| {
        let (house, old, new) = (&house, old.reveal(), new.reveal());
        let status = |opens| if opens { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        async move {
            assert_eq!(
                (ask(house, old).await.status(), ask(house, new).await.status()),
                (status(old_opens), status(new_opens))
            )
        }
    };
    opens(true, false).await;
    write(&(first.toml() + &second.toml()));
    house.reload(&config).unwrap();
    opens(true, true).await;
    write(&second.toml());
    house.reload(&config).unwrap();
    opens(false, true).await;
    for wrong in ["", "[[keys]]\nname = 'alice'"] {
        write(wrong);
        assert!(house.reload(&config).unwrap_err().to_string().starts_with("server.keys: "));
        opens(false, true).await; // an empty file is no open door, and a wrong one changes nothing
    }
}

#[test]
fn a_file_of_keys_that_cannot_be_read_is_an_error_and_not_an_open_door() {
    let missing = House::try_of("[server]\nkeys = '/no/such.toml'\n[models.m]\nprovider = 'fake'");
    let error = missing.err().unwrap().to_string();
    assert!(error.starts_with("server.keys: /no/such.toml: cannot be read"), "{error}");
}

/// As a proxy sends it that has let somebody in.
async fn ask_as(house: &House, user: &str, connection: &str) -> StatusCode {
    let request = http::client().post(format!("{}/v1/chat/completions", house.url())).header("x-forwarded-user", user);
    request.header("connection", connection).body(QUESTION).send().await.unwrap().status()
}

#[tokio::test]
async fn a_trusted_proxy_says_who_asks_and_nobody_else_does() {
    let limited = "[quota]\nrequests_per_minute = 1\n[models.m]\nprovider = 'fake'\nsays = 'hi'";
    let proxies = "trusted_proxies = ['127.0.0.0/8']\n";
    let trusting = House::of(&format!("[server]\n{proxies}trusted_user_header = 'X-Forwarded-User'\n{limited}"));
    // One way is straight on the socket, the other is hyper's.
    for (connection, users) in [("keep-alive", ["alice", "bob"]), ("close", ["carol", "dave"])] {
        for user in users {
            assert_eq!(ask_as(&trusting, user, connection).await, StatusCode::OK, "{user}");
            assert_eq!(ask_as(&trusting, user, connection).await, StatusCode::TOO_MANY_REQUESTS, "{user}");
        }
    }
    let wary = House::of(&format!(
        "[server]\ntrusted_proxies = ['192.0.2.1']\ntrusted_user_header = 'x-forwarded-user'\n{limited}"
    ));
    assert_eq!(ask_as(&wary, "alice", "keep-alive").await, StatusCode::OK);
    assert_eq!(ask_as(&wary, "bob", "close").await, StatusCode::TOO_MANY_REQUESTS);
    // A proxy that names nobody passes on what its client says, which is no name then.
    let plain = House::of(&format!("[server]\n{proxies}{limited}"));
    assert_eq!(ask_as(&plain, "alice", "keep-alive").await, StatusCode::OK);
    assert_eq!(ask_as(&plain, "bob", "close").await, StatusCode::TOO_MANY_REQUESTS);
}
