//! Prompts of a known number of tokens.

/// `count` words that depend on `number`; each is one token of the bench model and four of the micro
/// model. Two numbers have nothing in common.
pub(crate) fn words(number: u64, count: usize) -> String {
    (0..count as u64).map(|at| word(mixed(mixed(number) ^ at))).collect()
}

/// A prompt that nobody had before; `number` is counted on. The first token begins every prompt.
pub(crate) fn fresh(number: &mut u64, n_tokens: usize) -> String {
    *number += 1;
    words(*number, n_tokens - 1)
}

/// The longest pieces of the bench model's vocabulary begin with these letters.
const FIRST_LETTERS: u64 = 18;

fn word(from: u64) -> String {
    let letter =
        |n: u64, of: u64| char::from(b'a' + u8::try_from(n % of).expect("letters are few"));
    let (first, second, third) = (letter(from, FIRST_LETTERS), from / 18, from / 18 / 26);
    format!(" {first}{}{}", letter(second, 26), letter(third, 26))
}

/// A splitmix64 step.
fn mixed(from: u64) -> u64 {
    let mut mixed = from.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
