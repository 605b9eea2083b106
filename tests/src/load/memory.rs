//! What a process weighs.

use anyhow::{Context, Result};

/// Resident memory in bytes.
///
/// # Errors
/// If there is no such process, or no /proc.
pub fn resident(id: u32) -> Result<u64> {
    let path = format!("/proc/{id}/status");
    let status = std::fs::read_to_string(&path).context(path)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes << 10)
}
