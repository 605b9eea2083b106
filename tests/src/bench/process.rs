//! Programs that the bench starts and stops: their end, their children, their CPU time and memory.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::upstream::Upstream;

/// A program that ends when this is dropped.
pub(super) struct Process(Child);

impl Process {
    pub(super) fn spawn(command: &mut Command) -> Result<Process> {
        let child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
        Ok(Process(child))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Its exit, if it has ended by itself.
    pub(super) fn ended(&mut self) -> Option<String> {
        self.0.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// The first line it prints.
    fn says(&mut self) -> Result<String> {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().context("no stdout")?).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Process {
    /// Asks first: killed at once, nginx would leave its workers behind.
    fn drop(&mut self) {
        terminate(&self.0);
        for _ in 0..200 {
            if self.ended().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The upstream runs in a process of its own: this one's other half, see [`serve_upstream`].
pub(super) fn upstream() -> Result<(Process, std::net::SocketAddr)> {
    let program = std::env::current_exe()?;
    let mut process =
        Process::spawn(Command::new(program).arg("upstream").stdin(Stdio::piped()).stdout(Stdio::piped()))?;
    let address = process.says()?.parse().context("the upstream's address")?;
    Ok((process, address))
}

/// Prints its address and serves.
pub async fn serve_upstream() -> Result<()> {
    open_files()?;
    let upstream = Upstream::start().await?;
    println!("{}", upstream.address());
    upstream.serve().await;
    Ok(())
}

/// A process, its children and theirs.
pub(super) fn family(eldest: u32) -> Result<Vec<u32>> {
    let processes = std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parents: Vec<(u32, u32)> = processes.filter_map(|id| Some((id, parent_of(id)?))).collect();
    let (mut family, mut at) = (vec![eldest], 0);
    while let Some(&parent) = family.get(at) {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| id));
        at += 1;
    }
    Ok(family)
}

fn parent_of(id: u32) -> Option<u32> {
    // The name in brackets may hold anything; the parent is the second field behind it.
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Time on a CPU, user and system, of all its threads, those that ended too.
#[cfg(target_os = "linux")]
pub(super) fn cpu(id: u32) -> Result<Duration> {
    let clock = nix::time::clock_getcpuclockid(nix::unistd::Pid::from_raw(id as i32))?;
    Ok(Duration::from(clock.now()?))
}

/// Raises how many files this process may open as far as it may, and says how many that is.
#[cfg(target_os = "linux")]
pub(super) fn open_files() -> Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most)
}

#[cfg(target_os = "linux")]
fn terminate(child: &Child) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::SIGTERM);
}

#[cfg(not(target_os = "linux"))]
pub(super) fn cpu(_: u32) -> Result<Duration> {
    anyhow::bail!("the bench reads the CPU clocks of other processes, which only Linux shows")
}

#[cfg(not(target_os = "linux"))]
pub(super) fn open_files() -> Result<u64> {
    anyhow::bail!("the bench raises the limit of open files on Linux alone")
}

#[cfg(not(target_os = "linux"))]
fn terminate(_: &Child) {}
