//! Resident memory of the gateway: idle, after the load, and whether 10,000 more requests leave a trace.

use std::sync::Arc;

use anyhow::Result;

use super::case;
use super::proxies::{KEY, Proxies};
use crate::load::{Clients, Plan, Question, post};

/// In bytes.
pub(super) struct Memory {
    pub nginx: u64,
    pub idle: u64,
    pub loaded: u64,
    pub later: u64,
}

/// 16 clients, 625 requests each.
const CLIENTS: usize = 16;
const EACH: usize = 625;

pub(super) async fn measure(proxies: &Proxies, idle: u64) -> Result<Memory> {
    let request = post("/v1/chat/completions", Some(KEY), case::small().as_bytes());
    let question = Arc::new(Question::learn(proxies.upstream.address, request).await?);
    let loaded = proxies.subject.resident()?;
    let mut clients = Clients::connect(proxies.subject.address, CLIENTS).await?;
    clients.run(&question, Plan::counting(EACH)).await?;
    Ok(Memory { nginx: proxies.nginx.resident()?, idle, loaded, later: proxies.subject.resident()? })
}
