//! Random weights that are the same on every machine.

use super::gguf::Type;

/// A splitmix64 generator: small, fast, and its numbers depend on nothing but the seed.
pub(crate) struct Random(u64);

impl Random {
    /// Starts a stream; `name` keeps the streams of two tensors apart.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        // FNV-1a, so that a stream does not depend on the standard library's hasher.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash)
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of about normal distribution, standard deviation 1.
    ///
    /// The sum of four uniform numbers: only additions of small whole numbers and one product, so that
    /// no libm can make two machines differ.
    pub(crate) fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: u32 = (0..4).map(|part| ((bits >> (part * 16)) & 0xffff) as u32).sum();
        #[expect(clippy::cast_precision_loss, reason = "the sum has 18 bits")]
        let centred = sum as f32 - 131_070.0;
        // Four uniform 16-bit numbers have the variance 4 × 65536² / 12.
        centred / 37_837.0
    }
}

/// Bytes of a random matrix of `n_rows` rows of `row_len` numbers.
pub(crate) struct Matrix {
    /// Numbers in a row.
    pub(crate) row_len: u64,
    /// Number of rows.
    pub(crate) n_rows: u64,
    /// Standard deviation of a number.
    pub(crate) scale: f32,
}

impl Matrix {
    /// Makes the bytes, in the layout of `kind`; rows that `keep` refuses are zero.
    pub(crate) fn bytes(
        &self,
        kind: Type,
        random: &mut Random,
        keep: &dyn Fn(u64) -> bool,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        for row in 0..self.n_rows {
            let kept = keep(row);
            match kind {
                Type::F32 => self.put_floats(&mut out, random, kept),
                Type::Q8_0 => self.put_blocks(&mut out, random, kept),
            }
        }
        out
    }

    fn put_floats(&self, out: &mut Vec<u8>, random: &mut Random, kept: bool) {
        let factor = if kept { self.scale } else { 0.0 };
        for _ in 0..self.row_len {
            out.extend_from_slice(&(random.normal() * factor).to_le_bytes());
        }
    }

    fn put_blocks(&self, out: &mut Vec<u8>, random: &mut Random, kept: bool) {
        // Uniform bytes have the standard deviation 73.9.
        let scale = if kept { half_bits(self.scale / 73.9) } else { 0 };
        for _ in 0..self.row_len / 32 {
            out.extend_from_slice(&scale.to_le_bytes());
            for _ in 0..4 {
                out.extend_from_slice(&random.next().to_le_bytes());
            }
        }
    }
}

/// Bits of a 16-bit float, cut off; `value` must be a normal number in its range.
fn half_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let exponent = (bits >> 23).checked_sub(112).expect("scales are above 2^-14");
    assert!(exponent > 0 && exponent < 31, "{value} does not fit a 16-bit float");
    u16::try_from((exponent << 10) | ((bits >> 13) & 0x3ff)).expect("15 bits were kept")
}
