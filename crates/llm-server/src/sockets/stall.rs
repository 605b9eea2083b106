//! A socket that gives up a client which takes nothing of its answer. hyper asks for no more of a body while its buffer is
//! full, and would keep the turn, the upstream's connection and the socket for as long as the client likes.
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The socket, below TLS where there is any: what TLS has taken into its own buffer, the client has not.
pub(super) struct Stall<S> {
    stream: S,
    longest: Duration,
    alarm: Option<Pin<Box<Sleep>>>, // since it takes nothing
}

impl<S: Unpin> Stall<S> {
    /// Writes fail once nothing was taken for so long.
    pub(super) fn new(stream: S, longest: Duration) -> Stall<S> {
        Stall { stream, longest, alarm: None }
    }

    fn inner(&mut self) -> Pin<&mut S> {
        Pin::new(&mut self.stream)
    }

    fn watched<T>(&mut self, cx: &mut Context<'_>, taken: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if taken.is_ready() {
            self.alarm = None;
            return taken;
        }
        let longest = self.longest;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(longest)));
        alarm.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stall<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = self.inner().poll_write(cx, bytes);
        self.watched(cx, taken)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = self.inner().poll_write_vectored(cx, parts);
        self.watched(cx, taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.inner().poll_flush(cx);
        self.watched(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = self.inner().poll_shutdown(cx);
        self.watched(cx, shut)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stall<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_read(cx, room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LONGEST: Duration = Duration::from_millis(500);

    #[tokio::test]
    async fn a_reader_that_stops_is_given_up() {
        let (_reader, writer) = tokio::io::duplex(8);
        let mut writer = Stall::new(writer, LONGEST);
        writer.write_all(b"12345678").await.unwrap();
        assert_eq!(writer.write_all(b"9").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_slow_reader_is_waited_for_however_long_it_takes_in_all() {
        let (mut reader, writer) = tokio::io::duplex(1);
        let mut writer = Stall::new(writer, LONGEST);
        let reads = async {
            let mut read = [0; 1];
            for _ in 0..6 {
                tokio::time::sleep(LONGEST / 4).await;
                reader.read_exact(&mut read).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(writer.write_all(b"123456"), reads);
        written.unwrap();
    }
}
