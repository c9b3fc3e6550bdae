//! Which sequences of five characters some text holds, as a Bloom filter: how a search skips chunks of lines that
//! cannot match. Pure. Refuses to know where filters are kept.
//!
//! Five, because shorter sequences of digits are in every chunk of an ordinary log, and longer ones would leave short
//! words without any. Only ASCII counts, its letters as small ones; text is compared in the same way by the statements.

/// Characters of a sequence.
const GRAM: usize = 5;
/// Bits of a filter that is being filled; a power of two.
const BITS_MAX: usize = 1 << 19;
/// No filter is smaller.
const BITS_MIN: usize = 1 << 10;
/// Hashes of one search text; more rule out little more.
const HASHES_MAX: usize = 48;

/// A filter that is being filled.
#[derive(Debug)]
pub struct Filter {
    words: Vec<u64>,
}

impl Default for Filter {
    fn default() -> Self {
        Self { words: vec![0; BITS_MAX / 64] }
    }
}

impl Filter {
    /// Takes every sequence of a text.
    pub fn add(&mut self, text: &str) {
        each(text, |hash| {
            let bit = hash & (BITS_MAX as u64 - 1);
            let at = usize::try_from(bit / 64).unwrap_or(0);
            self.words[at] |= 1 << (bit % 64);
        });
    }

    /// The filter as it is stored: folded in half for as long as at most half of its bits are set.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        while self.words.len() * 64 > BITS_MIN {
            let (low, high) = self.words.split_at(self.words.len() / 2);
            let folded: Vec<u64> = low.iter().zip(high).map(|(a, b)| a | b).collect();
            let set: u32 = folded.iter().map(|word| word.count_ones()).sum();
            if set as usize * 2 > folded.len() * 64 {
                break;
            }
            self.words = folded;
        }
        // Bit n of a bytea is bit n % 8, from the lowest, of byte n / 8.
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// Hashes of sequences that every text has that holds `text`; none when it is too short. Bit `hash % length` of a
/// filter that lacks one is not set.
#[must_use]
pub fn hashes(text: &str) -> Vec<i64> {
    let mut hashes = Vec::new();
    each(text, |hash| hashes.push(i64::try_from(hash).unwrap_or_default()));
    hashes.sort_unstable();
    hashes.dedup();
    hashes.truncate(HASHES_MAX);
    hashes
}

/// Calls `found` with the hash, below 2^62, of each sequence.
fn each(text: &str, mut found: impl FnMut(u64)) {
    let mut gram: u64 = 0;
    let mut length = 0;
    for byte in text.bytes() {
        if !byte.is_ascii() {
            length = 0;
            continue;
        }
        gram = (gram << 8 | u64::from(byte.to_ascii_lowercase())) & 0xff_ffff_ffff;
        length += 1;
        if length >= GRAM {
            // Spread over all bits (the finaliser of MurmurHash3): filters use the lowest ones.
            let mut hash = gram;
            hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
            found((hash ^ (hash >> 33)) & 0x3fff_ffff_ffff_ffff);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(filter: &[u8], text: &str) -> bool {
        hashes(text).iter().all(|hash| {
            let bit = usize::try_from(*hash).unwrap() & (filter.len() * 8 - 1);
            filter[bit / 8] & (1 << (bit % 8)) != 0
        })
    }

    #[test]
    fn what_is_there_is_found_and_most_of_what_is_not_is_ruled_out() {
        let mut filter = Filter::default();
        for n in 0..4096 {
            filter.add(&format!("Processed order {n} of customer {} in {}.{:03} s", n * 7919, n % 3, n % 1000));
        }
        let filter = filter.finish();
        assert!(filter.len() * 8 >= BITS_MIN && filter.len() * 8 <= BITS_MAX);
        for text in ["order 4095 of", "PROCESSED", "customer 7919 ", "s", "", "ßabc"] {
            assert!(may(&filter, text), "{text}");
        }
        let absent = (0..200).filter(|n| may(&filter, &format!("deadlock {n} detected"))).count();
        assert!(absent < 4, "{absent} of 200 absent texts were not ruled out");
    }

    #[test]
    fn a_few_lines_need_a_small_filter_and_other_scripts_need_none() {
        let mut filter = Filter::default();
        filter.add("one short line");
        filter.add("Größe");
        assert_eq!(filter.finish().len() * 8, BITS_MIN);
        assert!(hashes("größ").is_empty() && hashes("abcd").is_empty());
        assert_eq!(hashes("ABCDE"), hashes("abcde"));
    }
}
