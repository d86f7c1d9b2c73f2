//! What an attempt needs of the machine that carries it out.

use std::fmt;
use std::sync::Arc;

use bytesize::ByteSize;

/// The amounts of named resources that one attempt takes while it is carried out. They are hints that bound how many
/// attempts go on at once; nothing measures or enforces what an attempt really uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources(Vec<(Arc<str>, Amount)>);

/// How much of a resource: bytes of `memory`, thousandths of anything else, such as of a core of `cpu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Amount(pub u64);

/// The resource that is counted in cores.
pub const CPU: &str = "cpu";
/// The resource that is counted in bytes.
pub const MEMORY: &str = "memory";

impl Resources {
    /// These amounts, each name once; of a name that comes twice the last counts.
    pub fn from_amounts(amounts: impl IntoIterator<Item = (Arc<str>, Amount)>) -> Self {
        let mut all: Vec<(Arc<str>, Amount)> = Vec::new();
        for (name, amount) in amounts {
            match all.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = amount,
                None => all.push((name, amount)),
            }
        }
        Self(all)
    }

    /// Names and amounts, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Amount)> {
        self.0.iter().map(|(name, amount)| (name, *amount))
    }

    /// How much of that resource; 0: none.
    pub fn amount(&self, name: &str) -> Amount {
        self.iter().find(|(known, _)| ***known == *name).map_or(Amount(0), |(_, amount)| amount)
    }

    /// Whether nothing is needed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Amount {
    /// So many of a resource that is counted, such as 0.5 cores. None: it is no number from 0.001 to 1,000,000.
    pub fn count(number: f64) -> Option<Self> {
        if !(0.001..=1_000_000.0).contains(&number) {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
        let thousandths = (number * 1000.0).round() as u64;
        Some(Self(thousandths))
    }

    /// As people write it: `512MiB` or a number of bytes of memory, a number of anything else.
    ///
    /// # Errors
    /// [`BadAmount`]; nothing is no amount either.
    pub fn parse(name: &str, text: &str) -> Result<Self, BadAmount> {
        let amount = if name == MEMORY {
            text.parse::<ByteSize>().ok().map(|size| Self(size.0)).filter(|size| *size > Self(0))
        } else {
            text.parse().ok().and_then(Self::count)
        };
        amount.ok_or(if name == MEMORY { BadAmount::Memory } else { BadAmount::Count })
    }

    /// The amount of that resource for people.
    pub fn show(self, name: &str) -> impl fmt::Display {
        let memory = name == MEMORY;
        fmt::from_fn(move |f| {
            if memory {
                return write!(f, "{}", ByteSize(self.0).display().iec());
            }
            #[allow(clippy::cast_precision_loss, reason = "amounts are small")]
            let number = self.0 as f64 / 1000.0;
            write!(f, "{number}")
        })
    }
}

/// A text that is no amount of its resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAmount {
    /// Of memory.
    #[error("expected an amount of memory such as `512MiB`, `2GiB` or a number of bytes")]
    Memory,
    /// Of anything else.
    #[error("expected a number from 0.001 to 1000000, such as `0.5` or `1`")]
    Count,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_shown_as_people_write_them() {
        for (name, text, amount, shown) in [
            (MEMORY, "512MiB", 512 << 20, "512.0 MiB"),
            (MEMORY, "2 GB", 2_000_000_000, "1.9 GiB"),
            (MEMORY, "1024", 1024, "1.0 KiB"),
            (CPU, "0.5", 500, "0.5"),
            ("gpu", "2", 2000, "2"),
        ] {
            let read = Amount::parse(name, text).unwrap();
            assert_eq!((read, read.show(name).to_string()), (Amount(amount), shown.to_owned()));
        }
        for (name, text) in [
            (MEMORY, "0"),
            (MEMORY, "-1"),
            (MEMORY, "many"),
            (CPU, "0"),
            (CPU, "NaN"),
            ("gpu", "1e9"),
            ("gpu", "inf"),
        ] {
            assert!(Amount::parse(name, text).is_err(), "{text}");
        }
    }
}
