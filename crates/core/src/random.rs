//! Numbers that look drawn at random and follow from a seed, the same on every machine and in every version.

/// SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014). For spreading and for
/// drawing, never for secrets.
///
/// ```
/// use taskiq_flow_core::random::SplitMix64;
///
/// let mut numbers = SplitMix64::new(1_234_567);
/// assert_eq!(numbers.next_number(), 6_457_827_717_110_365_317);
/// ```
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Those that follow from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The first number that follows from a seed: seeds that differ little have numbers that differ much.
pub fn spread(seed: u64) -> u64 {
    SplitMix64::new(seed).next_number()
}
