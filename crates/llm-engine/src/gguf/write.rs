//! Writes a GGUF file: first the header, then each tensor's bytes in the order they were announced.

use std::io::{self, Write};

const VERSION: u32 = 3;
const ALIGNMENT: u64 = 32;

/// The value of a key.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(missing_docs)] // The names say it.
pub enum Setting<'a> {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(&'a str),
    Texts(&'a [String]),
    I32s(&'a [i32]),
}

/// How a tensor's numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // The names say it.
pub enum Stored {
    F32,
    F16,
}

impl Stored {
    /// Bytes that one number takes.
    pub fn bytes(self) -> u64 {
        match self {
            Stored::F32 => 4,
            Stored::F16 => 2,
        }
    }

    fn id(self) -> u32 {
        match self {
            Stored::F32 => 0,
            Stored::F16 => 1,
        }
    }
}

/// Collects the header, then writes the file.
#[derive(Debug, Default)]
pub struct Writer {
    keys: u64,
    metadata: Vec<u8>,
    tensors: u64,
    table: Vec<u8>,
    offset: u64,
}

impl Writer {
    /// Adds a key; the order of calls is the order in the file.
    pub fn set(&mut self, key: &str, value: Setting<'_>) {
        self.keys += 1;
        put_text(&mut self.metadata, key);
        put_setting(&mut self.metadata, &value);
    }

    /// Announces a tensor; `shape` counts from the fastest-moving side, as GGUF does.
    pub fn tensor(&mut self, name: &str, shape: &[u64], stored: Stored) {
        self.tensors += 1;
        put_text(&mut self.table, name);
        self.table.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|side| self.table.extend(side.to_le_bytes()));
        self.table.extend(stored.id().to_le_bytes());
        self.table.extend(self.offset.to_le_bytes());
        self.offset += (shape.iter().product::<u64>() * stored.bytes()).next_multiple_of(ALIGNMENT);
    }

    /// Writes the header with its padding.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_header(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(b"GGUF")?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&self.tensors.to_le_bytes())?;
        out.write_all(&self.keys.to_le_bytes())?;
        out.write_all(&self.metadata)?;
        out.write_all(&self.table)?;
        pad(out, 24 + self.metadata.len() + self.table.len())
    }

    /// Writes one tensor's bytes with their padding; the tensors come in the order they were announced.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_tensor(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        out.write_all(bytes)?;
        pad(out, bytes.len())
    }
}

fn pad(out: &mut impl Write, length: usize) -> io::Result<()> {
    let missing = length.next_multiple_of(ALIGNMENT as usize) - length;
    out.write_all(&[0; ALIGNMENT as usize][..missing])
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_setting(out: &mut Vec<u8>, value: &Setting<'_>) {
    match value {
        Setting::U32(number) => put(out, 4, &number.to_le_bytes()),
        Setting::F32(number) => put(out, 6, &number.to_le_bytes()),
        Setting::Bool(truth) => put(out, 7, &[(*truth).into()]),
        Setting::Text(text) => {
            put(out, 8, &[]);
            put_text(out, text);
        }
        Setting::Texts(texts) => {
            put_list(out, 8, texts.len());
            texts.iter().for_each(|text| put_text(out, text));
        }
        Setting::I32s(numbers) => {
            put_list(out, 5, numbers.len());
            numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
        }
    }
}

fn put(out: &mut Vec<u8>, kind: u32, bytes: &[u8]) {
    out.extend(kind.to_le_bytes());
    out.extend(bytes);
}

fn put_list(out: &mut Vec<u8>, kind: u32, count: usize) {
    out.extend(9u32.to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend((count as u64).to_le_bytes());
}
