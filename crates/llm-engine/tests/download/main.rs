//! Downloads from servers that break off, forget, lie and refuse: the file arrives as it is there, or not at all.
#[path = "../sample/mod.rs"]
mod sample;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use llm_core::{Error, Kind};
use llm_engine::defaults::{Download, Progress, Stage, Store, client};
use sha2::{Digest, Sha256};

use server::{Answer, Server, asked_for, chunked, cut, partial, ranged, status, whole};

/// A folder to download into.
struct Scene {
    folder: tempfile::TempDir,
    server: Server,
}

impl Scene {
    async fn with(answers: Vec<Answer>) -> Scene {
        Scene { folder: tempfile::tempdir().unwrap(), server: Server::start(answers).await }
    }

    fn to(&self) -> PathBuf {
        self.folder.path().join("model.gguf")
    }

    fn download(&self) -> Download {
        let download = Download::new(&self.server.url).unwrap();
        Download { sha256: Some(hash(&body())), pause: Duration::from_millis(1), ..download }
    }

    async fn run(&self) -> Result<Vec<u8>, Error> {
        self.run_as(self.download()).await
    }

    async fn run_as(&self, download: Download) -> Result<Vec<u8>, Error> {
        download.run(&client().unwrap(), &self.to(), &mut |_| {}).await?;
        assert_eq!(std::fs::read_dir(self.folder.path()).unwrap().count(), 1, "something was left lying about");
        Ok(std::fs::read(self.to()).unwrap())
    }

    /// The range that each request asked for.
    fn ranges(&self) -> Vec<Option<String>> {
        self.server.asked().iter().map(|head| asked_for(head, "range").map(str::to_owned)).collect()
    }
}

fn body() -> Vec<u8> {
    (0..100_000u32).flat_map(|number| number.to_le_bytes()).collect()
}

fn other() -> Vec<u8> {
    body().into_iter().rev().collect()
}

fn hash(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn from(byte: u32) -> Option<String> {
    Some(format!("bytes={byte}-"))
}

#[tokio::test]
async fn a_file_arrives_and_tells_how_far_it_is() {
    let (scene, mut told) = (Scene::with(vec![whole("\"a\"", body())]).await, Vec::<Progress>::new());
    scene.download().run(&client().unwrap(), &scene.to(), &mut |step| told.push(step)).await.unwrap();
    assert_eq!(std::fs::read(scene.to()).unwrap(), body());
    assert!(told.iter().all(|step| step.total == 400_000));
    assert!(told.is_sorted_by_key(|step| (step.stage == Stage::Checking, step.done)), "{told:?}");
    assert_eq!(told.last(), Some(&Progress { stage: Stage::Checking, done: 400_000, total: 400_000 }));
}

#[tokio::test]
async fn a_transfer_that_breaks_off_goes_on_where_it_broke() {
    let scene = Scene::with(vec![cut("\"a\"", body(), 150_000), ranged("\"a\"", body(), usize::MAX)]).await;
    assert_eq!(scene.run().await.unwrap(), body());
    assert_eq!(scene.ranges(), [None, from(150_000)]);
}

#[tokio::test]
async fn a_download_that_was_given_up_goes_on_in_the_next_run() {
    let scene = Scene::with(vec![cut("\"a\"", body(), 150_000), ranged("\"a\"", body(), usize::MAX)]).await;
    let error = scene.run_as(Download { attempts: 0, ..scene.download() }).await.unwrap_err();
    assert_eq!((error.kind(), scene.to().exists()), (Kind::Upstream, false));
    assert!(error.to_string().contains("broke off at byte 150000"), "{error}");
    assert_eq!(scene.run().await.unwrap(), body());
    assert_eq!(scene.ranges(), [None, from(150_000)]);
}

#[tokio::test]
async fn a_dropped_download_stops_and_goes_on_in_the_next_run() {
    let scene = Scene::with(vec![ranged("\"a\"", body(), usize::MAX)]).await;
    let begun = tokio::sync::Notify::new();
    let (download, client, to) = (scene.download(), client().unwrap(), scene.to());
    let mut tell = |_| begun.notify_one();
    tokio::select! {
        biased;
        () = begun.notified() => (),
        done = download.run(&client, &to, &mut tell) => panic!("it was not dropped: {done:?}"),
    }
    assert!(!scene.to().exists() && scene.folder.path().join("model.gguf.part").exists());
    assert_eq!(scene.run().await.unwrap(), body());
}

#[tokio::test]
async fn a_file_cut_a_hundred_times_arrives() {
    let scene = Scene::with(vec![ranged("\"a\"", body(), 4_001)]).await;
    assert_eq!(scene.run().await.unwrap(), body());
    assert_eq!(scene.server.asked().len(), 100);
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_sends_all_of_it_again() {
    let scene = Scene::with(vec![cut("\"a\"", body(), 150_000), whole("\"a\"", body())]).await;
    assert_eq!(scene.run().await.unwrap(), body());
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_is_never_mixed_with_the_old_one() {
    let scene = Scene::with(vec![cut("\"old\"", other(), 150_000), ranged("\"new\"", body(), usize::MAX)]).await;
    assert_eq!(scene.run().await.unwrap(), body());
    assert_eq!(asked_for(&scene.server.asked()[1], "if-range"), Some("\"old\""));
}

#[tokio::test]
async fn a_partial_answer_from_the_wrong_place_or_file_is_not_believed() {
    for wrong in [partial(149_999, 400_000, &body(), 10), partial(150_000, 999_999, &body(), 10)] {
        let wrong: Answer = Box::new(move |_| wrong.clone());
        let scene = Scene::with(vec![cut("\"a\"", body(), 150_000), wrong, whole("\"a\"", body())]).await;
        assert_eq!(scene.run().await.unwrap(), body());
        assert_eq!(scene.ranges(), [None, from(150_000), None]);
    }
}

#[tokio::test]
async fn a_range_that_the_server_cannot_give_is_asked_for_no_more() {
    let refusal = status("416 Range Not Satisfiable", "content-range: bytes */3\r\n");
    let scene = Scene::with(vec![cut("\"a\"", body(), 150_000), refusal, whole("\"a\"", body())]).await;
    assert_eq!(scene.run().await.unwrap(), body());
    assert_eq!(scene.ranges(), [None, from(150_000), None]);
}

#[tokio::test]
async fn a_weak_tag_promises_nothing_so_the_file_comes_anew() {
    let scene = Scene::with(vec![cut("W/\"a\"", body(), 150_000), whole("W/\"a\"", body())]).await;
    assert_eq!(scene.run().await.unwrap(), body());
    assert_eq!(scene.ranges(), [None, None]);
}

#[tokio::test]
async fn a_file_with_the_wrong_hash_is_thrown_away() {
    let scene = Scene::with(vec![whole("\"a\"", other()), whole("\"a\"", body())]).await;
    let error = scene.run().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Upstream);
    assert!(error.to_string().contains(&hash(&other())), "{error}");
    assert!(!scene.to().exists());
    assert_eq!(scene.run().await.unwrap(), body());
    assert_eq!(scene.ranges(), [None, None]);
}

#[tokio::test]
async fn what_is_left_of_another_address_is_not_used() {
    let scene = Scene::with(vec![cut("\"a\"", other(), 150_000)]).await;
    scene.run_as(Download { attempts: 0, ..scene.download() }).await.unwrap_err();
    let elsewhere = Server::start(vec![ranged("\"a\"", body(), usize::MAX)]).await;
    let url = Download::new(&elsewhere.url).unwrap().url;
    assert_eq!(scene.run_as(Download { url, ..scene.download() }).await.unwrap(), body());
    assert_eq!(asked_for(&elsewhere.asked()[0], "range"), None);
}

#[tokio::test]
async fn a_refusal_is_final_and_says_what_to_do() {
    let cases =
        [("404 Not Found", Kind::NotFound), ("410 Gone", Kind::NotFound), ("401 Unauthorized", Kind::Unauthorized)];
    for (line, kind) in cases.into_iter().chain([("400 Bad Request", Kind::Upstream)]) {
        let scene = Scene::with(vec![status(line, "")]).await;
        let error = scene.run().await.unwrap_err();
        assert_eq!((error.kind(), scene.server.asked().len()), (kind, 1));
        assert!(error.to_string().contains(&line[..3]), "{error}");
    }
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_not_for_ever() {
    let scene =
        Scene::with(vec![status("503 Service Unavailable", "retry-after: 0\r\n"), whole("\"a\"", body())]).await;
    assert_eq!(scene.run().await.unwrap(), body());
    let scene = Scene::with(vec![status("500 Internal Server Error", "")]).await;
    assert_eq!(scene.run().await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(scene.server.asked().len(), 5);
}

#[tokio::test]
async fn a_file_of_unknown_length_ends_where_the_server_says_so() {
    let scene = Scene::with(vec![chunked(body(), "10\r\ncut"), chunked(body(), "0\r\n\r\n")]).await;
    assert_eq!(scene.run().await.unwrap(), body());
    assert_eq!(scene.server.asked().len(), 2);
}

#[tokio::test]
async fn a_redirect_is_followed() {
    let goal = Server::start(vec![whole("\"a\"", body())]).await;
    let location = format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", goal.url);
    let scene = Scene::with(vec![Box::new(move |_| location.clone().into_bytes())]).await;
    assert_eq!(scene.run().await.unwrap(), body());
}

#[tokio::test]
async fn an_error_does_not_show_what_the_address_holds() {
    let scene = Scene::with(vec![status("200 OK", "")]).await;
    let mut download =
        Download { attempts: 1, ..Download::new("http://user:secret@127.0.0.1:1/secret?key=secret").unwrap() };
    download.pause = Duration::from_millis(1);
    let error = scene.run_as(download).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("127.0.0.1") && !format!("{error:?}").contains("secret"), "{error:?}");
}

#[test]
fn addresses_and_names_are_looked_at_before_they_are_used() {
    for wrong in ["model.gguf", "file:///etc/passwd", "ftp://host/model.gguf", "http://", ""] {
        assert_eq!(Download::new(wrong).unwrap_err().kind(), Kind::Invalid, "{wrong}");
    }
    let name = |url: &str| Download::new(url).unwrap().file_name().map(str::to_owned);
    assert_eq!(name("https://host/a/b/model-1.Q4_0.gguf?download=true"), Some("model-1.Q4_0.gguf".to_owned()));
    for strange in
        ["https://host/", "https://host/..", "https://host/.hidden", "https://host/a%2Fb", "https://host/a%00"]
    {
        assert_eq!(name(strange), None, "{strange}");
    }
}

#[tokio::test]
async fn a_model_comes_into_the_store_once_and_only_if_it_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path());
    let scene = Scene::with(vec![whole("\"a\"", body())]).await;
    let download = Download { pause: Duration::from_millis(1), ..Download::new(&scene.server.url).unwrap() };
    let error = store.download(&download, &mut |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("model.gguf is not a GGUF file"), "{error}");
    assert!(store.files().is_empty());

    let model = sample::Sample::new(&sample::tokens()).bytes();
    let scene = Scene::with(vec![cut("\"a\"", model.clone(), 200), ranged("\"a\"", model.clone(), usize::MAX)]).await;
    let download = Download { url: Download::new(&scene.server.url).unwrap().url, ..download };
    for _ in 0..2 {
        let path = store.download(&download, &mut |_| {}).await.unwrap();
        assert_eq!((std::fs::read(&path).unwrap() == model, store.files()), (true, vec![path]));
    }
    assert_eq!(scene.server.asked().len(), 2);
}

#[tokio::test]
async fn an_address_that_names_no_model_file_is_refused() {
    let store = Store::at("/nonexistent");
    let download = Download::new("https://host/page.html").unwrap();
    assert_eq!(store.download(&download, &mut |_| {}).await.unwrap_err().kind(), Kind::Invalid);
}
