//! What a request costs when much else is there: open streams, models, keys. It must cost the same.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use llm_server::keys::Entry;

use super::case::Case;
use super::cost::{self, Cost, Pair};
use super::crowd::Crowd;
use super::proxies::{self, KEY, Proxies, Proxy};
use super::{Options, case};

/// How many times a request's cost without all that.
const GATE: f64 = 1.15;
const STREAMS: usize = 4_000;
const MODELS: usize = 200;
const KEYS: usize = 1_000;

/// A gateway that may hold thousands of streams at once, and more settings.
pub(super) fn settings(upstream: SocketAddr, more: &str) -> String {
    format!("[server]\napi_key = '{KEY}'\n[queue]\nlimit = 10000\n{}{more}", model("tiny", upstream))
}

fn model(name: &str, upstream: SocketAddr) -> String {
    format!("[models.{name}]\nprovider = 'vllm'\nbase_url = 'http://{upstream}'\nmodel = 'tiny'\n")
}

/// Each beside a gateway of the same program that has nothing of it.
pub(super) async fn measure(proxies: &Proxies, options: &Options) -> Result<Vec<(Case, Cost)>> {
    let (upstream, folder, program) = (proxies.upstream.address, proxies.folder.path(), options.server()?);
    let start = async |settings: String| proxies::gateway(&program, folder, &settings).await;
    let plain = start(settings(upstream, "")).await?;
    let mut measured = Vec::new();

    let crowded = start(settings(upstream, "")).await?;
    let crowd = Crowd::open(crowded.address, options.streams(STREAMS)).await?;
    let name = format!("small chat beside {} open streams", crowd.len());
    measured.push(compare(proxies, &plain, &crowded, options, &name).await?);
    drop((crowd, crowded));

    let models: String = (1..MODELS).map(|n| model(&format!("other-{n}"), upstream)).collect();
    let stocked = start(settings(upstream, &models)).await?;
    measured.push(compare(proxies, &plain, &stocked, options, &format!("small chat beside {MODELS} models")).await?);
    drop(stocked);

    let (one, many) = (keys(folder, 1)?, keys(folder, KEYS)?);
    let with_keys =
        |file: &str| settings(upstream, "").replace(&format!("api_key = '{KEY}'"), &format!("keys = '{file}'"));
    let (one, many) = (start(with_keys(&one)).await?, start(with_keys(&many)).await?);
    measured.push(compare(proxies, &one, &many, options, &format!("small chat with one of {KEYS} keys")).await?);
    Ok(measured)
}

async fn compare(
    proxies: &Proxies,
    base: &Proxy,
    subject: &Proxy,
    options: &Options,
    name: &str,
) -> Result<(Case, Cost)> {
    let pair = Pair { upstream: &proxies.upstream, base, subject };
    let mut cases = vec![case::beside_much(options, name, GATE)];
    let mut costs = cost::measure(pair, &cases, options).await?;
    Ok((cases.remove(0), costs.remove(0)))
}

/// A file with so many keys, the bench's own in their middle.
fn keys(folder: &Path, count: usize) -> Result<String> {
    let mut entries = String::new();
    for n in 0..count {
        let entry = if n == count / 2 { Entry::of("bench", KEY) } else { Entry::new(&format!("client-{n}"))?.1 };
        entries += &entry.toml();
    }
    let file = folder.join(format!("{count}-keys.toml"));
    std::fs::write(&file, entries)?;
    Ok(file.display().to_string())
}
