//! Ends a server when the process is told to end: the first signal lets answers finish, a second one does not wait.
//! Until then SIGHUP, or a file that has changed, reads the configuration anew.
use std::time::Duration;

use llm_core::{Error, Kind, Result};
use tokio::runtime::Builder;

use crate::{Reload, Server};

/// How often the configuration's files are looked at.
const LOOKS: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or Ctrl-C, and until running answers have ended; meanwhile the configuration is read anew when
/// it has changed, or on SIGHUP.
///
/// # Errors
/// `Internal` if signals cannot be heard, or a server thread has died.
pub fn until_signal(server: Server, mut reload: Reload) -> Result<()> {
    let deaf = |e| Error::new(Kind::Internal, "cannot listen for signals").because(e);
    let runtime = Builder::new_current_thread().enable_all().build().map_err(deaf)?;
    runtime.block_on(until_stopped(&server, &mut reload)).map_err(deaf)?;
    eprintln!("stopping: running answers may end; once more to stop at once");
    std::thread::spawn(move || {
        if runtime.block_on(signal()).is_ok() {
            std::process::exit(130);
        }
    });
    server.stop();
    server.wait()
}

async fn until_stopped(server: &Server, reload: &mut Reload) -> std::io::Result<()> {
    let mut clock = tokio::time::interval(LOOKS);
    let mut told = hangups()?;
    let mut stopped = std::pin::pin!(signal());
    loop {
        tokio::select! {
            signal = stopped.as_mut() => return signal,
            Some(()) = told.recv() => reload.apply(server),
            _ = clock.tick() => if reload.is_due() { reload.apply(server) },
        }
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

async fn signal() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = term.recv() => Ok(()),
            interrupted = tokio::signal::ctrl_c() => interrupted,
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
