//! Takes a chunked body out of its chunks, in place: a token is a chunk, and none is worth an allocation.
use std::io;

use bytes::{Bytes, BytesMut};

/// The longest line of a chunk's size, or of a trailer.
const LONGEST_LINE: usize = 16 << 10;

/// Where in its chunks a body is.
#[derive(Default)]
pub(super) struct Chunks {
    at: At,
    left: usize,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum At {
    #[default]
    Size,
    Data,
    DataEnd,
    Trailer,
    End,
}

impl Chunks {
    pub(super) fn is_at_end(&self) -> bool {
        self.at == At::End
    }

    /// All data that is there, in one piece; what cannot be read yet stays.
    ///
    /// # Errors
    /// `InvalidData` for what is no chunk.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Bytes> {
        let (mut read, mut written) = (0, 0);
        loop {
            match self.step(&mut buffer[..], read, &mut written) {
                Ok(Some(next)) => read = next,
                Ok(None) => break,
                Err(error) if written == 0 => return Err(error),
                Err(_) => break, // what came before goes first; this is met again
            }
        }
        let mut data = buffer.split_to(read);
        data.truncate(written);
        Ok(data.freeze())
    }

    /// Reads one thing; `None` if it is not all there, or nothing is left. After an error it stands where it stood.
    fn step(&mut self, bytes: &mut [u8], read: usize, written: &mut usize) -> io::Result<Option<usize>> {
        match self.at {
            At::Size => {
                let Some((line, next)) = line(bytes, read)? else { return Ok(None) };
                self.left = size(line)?;
                self.at = if self.left == 0 { At::Trailer } else { At::Data };
                Ok(Some(next))
            }
            At::Data => {
                let length = self.left.min(bytes.len() - read);
                bytes.copy_within(read..read + length, *written);
                *written += length;
                self.left -= length;
                self.at = if self.left == 0 { At::DataEnd } else { At::Data };
                Ok((length > 0).then_some(read + length))
            }
            At::DataEnd => {
                let Some((line, next)) = line(bytes, read)? else { return Ok(None) };
                if !line.is_empty() {
                    return Err(wrong("a chunk is longer than its size"));
                }
                self.at = At::Size;
                Ok(Some(next))
            }
            At::Trailer => {
                let Some((line, next)) = line(bytes, read)? else { return Ok(None) };
                self.at = if line.is_empty() { At::End } else { At::Trailer }; // trailers mean nothing here
                Ok(Some(next))
            }
            At::End => Ok(None),
        }
    }
}

fn line(bytes: &[u8], from: usize) -> io::Result<Option<(&[u8], usize)>> {
    let rest = &bytes[from..];
    match memchr::memchr(b'\n', rest) {
        Some(end) => Ok(Some((rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]), from + end + 1))),
        None if rest.len() > LONGEST_LINE => Err(wrong("a chunk's size has no end")),
        None => Ok(None),
    }
}

/// The size in hexadecimal digits; what follows behind a semicolon says nothing to us.
fn size(line: &[u8]) -> io::Result<usize> {
    let digits = line.split(|byte| matches!(byte, b';' | b' ' | b'\t')).next().unwrap_or_default();
    if digits.is_empty() || digits.len() > 15 {
        return Err(wrong("a chunk without a size"));
    }
    digits.iter().try_fold(0, |size, &digit| {
        let digit = char::from(digit).to_digit(16).ok_or_else(|| wrong("a chunk's size is no number"))?;
        Ok(size << 4 | digit as usize)
    })
}

pub(super) fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"5\r\nhello\r\n1;x=y\r\n \r\n00A \r\n0123456789\r\n0\r\nx-trailer: 1\r\n\r\nnext";

    #[test]
    fn the_data_comes_out_right_wherever_it_is_cut() {
        for cut in 1..BODY.len() {
            let (mut chunks, mut buffer, mut data) = (Chunks::default(), BytesMut::new(), Vec::new());
            for piece in BODY.chunks(cut) {
                buffer.extend_from_slice(piece);
                data.extend_from_slice(&chunks.decode(&mut buffer).unwrap());
            }
            assert_eq!(String::from_utf8(data).unwrap(), "hello 0123456789");
            assert!(chunks.is_at_end());
            assert_eq!(&buffer[..], b"next", "what stands behind the body is not the body's");
        }
    }

    #[test]
    fn what_is_no_chunk_is_an_error_and_what_came_before_it_goes_first() {
        for wrong in [&b"x\r\n"[..], b"\r\n", b"-1\r\n", b"fffffffffffffffff\r\n"] {
            assert!(Chunks::default().decode(&mut BytesMut::from(wrong)).is_err(), "{wrong:?}");
            let mut buffer = BytesMut::from(&[b"2\r\nhi\r\n", wrong].concat()[..]);
            let mut chunks = Chunks::default();
            assert_eq!(chunks.decode(&mut buffer).unwrap(), "hi");
            assert!(chunks.decode(&mut buffer).is_err(), "{wrong:?}");
        }
        for longer in [&b"2\r\nabc\r\n"[..], b"1 1\n123\n"] {
            let (mut chunks, mut buffer) = (Chunks::default(), BytesMut::from(longer));
            chunks.decode(&mut buffer).unwrap();
            assert!(chunks.decode(&mut buffer).is_err(), "{longer:?}");
        }
        let endless = vec![b'1'; LONGEST_LINE + 1];
        assert!(Chunks::default().decode(&mut BytesMut::from(&endless[..])).is_err());
    }
}
