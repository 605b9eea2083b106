//! Ends a server when the process is told to end: the first signal lets answers finish, a second one does not wait.
//! Until then SIGHUP, or a file that has changed, reads the configuration anew.
use std::io::Write;
use std::time::Duration;

use llm_core::{Error, Kind, Result};
use tokio::runtime::Builder;

use crate::{Reload, Server};

/// How often the configuration's files are looked at.
const LOOKS: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or Ctrl-C, and until running answers have ended; meanwhile the configuration is read anew when
/// it has changed, or on SIGHUP. `greet` is called when signals are heard: whoever is told that the server is up may tell
/// it to end.
///
/// # Errors
/// `Internal` if signals cannot be heard, or a server thread has died.
pub fn until_signal(server: Server, mut reload: Reload, greet: impl FnOnce(&Server)) -> Result<()> {
    let deaf = |e| Error::new(Kind::Internal, "cannot listen for signals").because(e);
    let runtime = Builder::new_current_thread().enable_all().build().map_err(deaf)?;
    let (mut ends, mut hangups) = {
        let _inside = runtime.enter();
        (Ends::new().map_err(deaf)?, hangups().map_err(deaf)?)
    };
    greet(&server);
    runtime.block_on(async {
        let mut clock = tokio::time::interval(LOOKS);
        loop {
            tokio::select! {
                () = ends.told() => return,
                Some(()) = hangups.recv() => reload.apply(&server),
                _ = clock.tick() => if reload.is_due() { reload.apply(&server) },
            }
        }
    });
    server.stop();
    say("stopping: running answers may end; once more to stop at once");
    std::thread::spawn(move || {
        runtime.block_on(ends.told());
        std::process::exit(130);
    });
    server.wait()
}

/// Tells whoever reads standard error. If nobody does, as when the reader of a pipe was told to end as well, answers may end
/// all the same.
fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

/// What tells the process to end.
#[cfg(unix)]
struct Ends([tokio::signal::unix::Signal; 2]);

#[cfg(unix)]
impl Ends {
    fn new() -> std::io::Result<Ends> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Ends([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?]))
    }

    async fn told(&mut self) {
        let [term, interrupt] = &mut self.0;
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

#[cfg(windows)]
struct Ends(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Ends {
    fn new() -> std::io::Result<Ends> {
        tokio::signal::windows::ctrl_c().map(Ends)
    }

    async fn told(&mut self) {
        self.0.recv().await;
    }
}

#[cfg(unix)]
fn hangups() -> std::io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
}

/// Where there is no such signal, nobody is told of any.
#[cfg(not(unix))]
fn hangups() -> std::io::Result<tokio::sync::mpsc::Receiver<()>> {
    Ok(tokio::sync::mpsc::channel(1).1)
}
