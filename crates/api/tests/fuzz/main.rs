//! The fuzz targets, without a fuzzer: every input that is kept in `fuzz/corpus`, and mutations of each.
//!
//! What `make fuzz` finds is added to the corpus when it is fixed.

#![allow(clippy::unwrap_used, unreachable_pub, missing_docs, reason = "a test, and a crate that is included")]

#[path = "../../../../fuzz/src/lib.rs"]
mod targets;

use std::path::{Path, PathBuf};

/// Mutations of a target's corpus in one run of the tests. An expression may take its whole fuel.
fn mutations(target: &str) -> usize {
    match target {
        "expression" => 1_500,
        "audit" | "pipeline" | "parameters" | "token" => 6_000,
        _ => 20_000,
    }
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

fn replay(target: &str) {
    let corpus = corpus(target);
    for (file, data) in &corpus {
        run(target, data, &file.display().to_string());
    }
    // A seed of its own for each target, the same in each run.
    let mut random =
        Random(target.bytes().fold(0x9e37_79b9, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte)));
    for number in 0..mutations(target) {
        let data = mutate(&corpus, &mut random);
        run(target, &data, &format!("mutation {number}"));
    }
}

fn run(target: &str, data: &[u8], what: &str) {
    let caught = std::panic::catch_unwind(|| targets::run(target, data));
    assert!(caught.is_ok(), "{target}, {what}: {:?}", String::from_utf8_lossy(data));
}

/// SplitMix64 (Steele, Lea and Flood 2014): small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// One to four changes of one input, some of them with a piece of another.
fn mutate(corpus: &[(PathBuf, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    const ODD: [&[u8]; 12] = [
        b"\0",
        b"\xff",
        b"\r\n",
        b"-1",
        b"18446744073709551616",
        b"1e999",
        b"\xe2\x80\xae",
        b"\"",
        b"{{",
        b"[[[[[[[[",
        b"..",
        b"\xf0\x9f\x92\xa5",
    ];
    let mut data = corpus[random.below(corpus.len())].1.clone();
    for _ in 0..=random.below(4) {
        let (from, to) = {
            let (a, b) = (random.below(data.len() + 1), random.below(data.len() + 1));
            (a.min(b), a.max(b))
        };
        match random.below(6) {
            0 if from < data.len() => data[from] ^= 1 << random.below(8),
            1 => drop(data.drain(from..to.min(from + 16))),
            2 => drop(data.splice(from..from, ODD[random.below(ODD.len())].iter().copied())),
            3 => {
                let piece = data[from..to.min(from + 64)].to_vec();
                data.splice(from..from, piece);
            }
            4 => {
                let other = &corpus[random.below(corpus.len())].1;
                let start = random.below(other.len() + 1);
                let end = (start + random.below(64)).min(other.len());
                data.splice(from..to.min(from + 64), other[start..end].iter().copied());
            }
            _ => data.truncate(to),
        }
    }
    data
}

macro_rules! replays {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*

        /// No target without a test, and none without a binary for the fuzzer.
        #[test]
        fn every_target_is_run() {
            let here = [$(stringify!($target)),*];
            let there: Vec<&str> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(here.to_vec(), there);
            let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
            for name in here {
                assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).exists(), "{name}");
            }
        }
    };
}

replays!(token forwarded limit key whitelist origin pipeline parameters expression request audit certificate issuer);
