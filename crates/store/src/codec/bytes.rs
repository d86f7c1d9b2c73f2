//! Numbers, texts and JSON one after another. Numbers have 7 bits a byte, the lowest first; texts and JSON have their
//! length before them.

use std::io;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::json::{Unreadable, excess, from_json};

/// Writes bytes, at most so many.
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
    /// Bytes beyond which no value is written to its end.
    limit: usize,
}

/// Why a value is not written.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "sqlite"),
    expect(dead_code, reason = "a store in memory keeps such a run as it is")
)]
pub(crate) enum Unwritable {
    /// It could not be read back: the unit that it has too many of, and how many it may have.
    TooLarge(&'static str, usize),
    /// It is nothing that JSON has.
    Json(serde_json::Error),
}

impl Writer {
    /// Writes behind what is there already.
    pub(crate) fn new(bytes: Vec<u8>, limit: usize) -> Self {
        Self { bytes, limit }
    }

    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// A number that is mostly small, on either side of 0.
    pub(crate) fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)) as u64);
    }

    pub(crate) fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text);
    }

    /// A value as JSON.
    pub(crate) fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        let place = self.bytes.len();
        // Room for the length of what is short, which most is.
        self.bytes.push(0);
        let json =
            Limited { limit: place.saturating_add(1).saturating_add(self.limit), bytes: &mut self.bytes };
        serde_json::to_writer(json, value).map_err(|error| match error.is_io() {
            true => Unwritable::TooLarge("bytes", self.limit),
            false => Unwritable::Json(error),
        })?;
        let written = &self.bytes[place + 1..];
        if let Some((unit, limit)) = excess(written) {
            return Err(Unwritable::TooLarge(unit, limit));
        }
        let mut length = Self::new(Vec::new(), 0);
        match u8::try_from(written.len()) {
            Ok(short) if short < 0x80 => self.bytes[place] = short,
            _ => {
                length.number(written.len() as u64);
                self.bytes.splice(place..=place, length.bytes);
            }
        }
        Ok(())
    }
}

/// Refuses what would make it longer.
struct Limited<'a> {
    bytes: &'a mut Vec<u8>,
    limit: usize,
}

impl io::Write for Limited<'_> {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads what a [`Writer`] wrote.
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
    pub(crate) what: &'a dyn Fn() -> String,
}

/// Why bytes cannot be read; none: they end where they should not, or have a number where none can be.
#[derive(Debug)]
pub(crate) struct Broken(Option<Unreadable>);

impl From<Unreadable> for Broken {
    fn from(unreadable: Unreadable) -> Self {
        Self(Some(unreadable))
    }
}

impl Broken {
    pub(crate) const CUT_OFF: Self = Self(None);

    /// What is known, of what `what` names.
    pub(crate) fn told(self, what: &dyn Fn() -> String) -> Unreadable {
        self.0.unwrap_or_else(|| Unreadable(format!("{} is cut off", what())))
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn byte(&mut self) -> Result<u8, Broken> {
        let (&byte, rest) = self.rest.split_first().ok_or(Broken::CUT_OFF)?;
        self.rest = rest;
        Ok(byte)
    }

    pub(crate) fn small(&mut self) -> Result<u32, Broken> {
        u32::try_from(self.number()?).map_err(|_| Broken::CUT_OFF)
    }

    pub(crate) fn number(&mut self) -> Result<u64, Broken> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            // The tenth byte has room for the highest bit alone.
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Broken::CUT_OFF)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Broken> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    pub(crate) fn text(&mut self) -> Result<&'a [u8], Broken> {
        let length = usize::try_from(self.number()?).map_err(|_| Broken::CUT_OFF)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Broken::CUT_OFF)?;
        self.rest = rest;
        Ok(text)
    }

    pub(crate) fn name(&mut self) -> Result<Arc<str>, Broken> {
        std::str::from_utf8(self.text()?).map(Arc::from).map_err(|_| Broken::CUT_OFF)
    }

    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Result<T, Broken> {
        Ok(from_json(self.text()?, self.what)?)
    }
}
