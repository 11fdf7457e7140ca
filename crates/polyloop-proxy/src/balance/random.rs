//! The numbers that look random: a generator with a seed, and hashes of addresses and names.
//!
//! One idea: one mixing function, whose every input bit moves half of the output bits, serves all three. Hashes have no
//! seed where loops and processes must agree on them.
//!
//! Deliberately absent: anything an adversary could not foresee. Where that matters, a seed is mixed in by the caller.

use std::net::IpAddr;

/// The generator of Steele, Lea and Flood ("Fast splittable pseudorandom number generators", OOPSLA 2014). Any seed
/// will do, zero included.
#[derive(Debug, Clone)]
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    #[inline]
    pub(crate) const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN_GAMMA);
        mix(self.0)
    }

    /// A number below `bound`; see [`scale_to`].
    #[inline]
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        scale_to(self.draw(), bound)
    }
}

/// A hash scaled to below `bound` by multiplication instead of division (Lemire 2019). The bias is below
/// `bound / 2^64` and is left in.
#[inline]
pub(crate) const fn scale_to(hash: u64, bound: u64) -> u64 {
    // The high half of the product is below `bound`, so it fits.
    ((hash as u128 * bound as u128) >> 64) as u64
}

/// The output function of splitmix64 (variant 13 of Stafford's mixers): a bijection.
#[inline]
pub(crate) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A v4 address and the same one mapped into v6 are one source.
pub(crate) fn hash_address(address: IpAddr) -> u64 {
    let (bits, family) = match address.to_canonical() {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 4),
        IpAddr::V6(v6) => (u128::from(v6), 6),
    };
    let (high, low) = ((bits >> 64) as u64, bits as u64);
    mix(mix(mix(family ^ GOLDEN_GAMMA) ^ high).wrapping_add(GOLDEN_GAMMA) ^ low)
}

/// A hash of a text, eight bytes at a time.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    // The length goes in, so that zeros at the end count.
    let mut hash = mix(bytes.len() as u64 ^ GOLDEN_GAMMA);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash.wrapping_add(GOLDEN_GAMMA) ^ u64::from_le_bytes(word));
    }
    hash
}

/// 2^64 divided by the golden ratio, made odd: the step of splitmix64.
pub(crate) const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // Goal: the sequence is the published one. Method: its first values for seed 1234567.
        let mut random = SplitMix64::new(1_234_567);
        let drawn = [random.draw(), random.draw(), random.draw()];
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn mapped_addresses_hash_alike_and_texts_differ() {
        // Goal: one source is one hash; close texts are not. Method: pairs.
        let v4: IpAddr = "10.1.2.3".parse().unwrap();
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
        let compatible: IpAddr = "::10.1.2.3".parse().unwrap();
        assert_eq!(hash_address(v4), hash_address(mapped));
        assert_ne!(hash_address(v4), hash_address(compatible));
        let texts: [&[u8]; 6] = [b"", b"\0", b"db1:5432", b"db2:5432", b"db1:5432\0", b"a"];
        for (i, one) in texts.iter().enumerate() {
            for other in &texts[i + 1..] {
                assert_ne!(hash_bytes(one), hash_bytes(other));
            }
        }
    }
}
