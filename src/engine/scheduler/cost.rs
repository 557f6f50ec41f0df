//! How long a decode step will take, learned from the steps so far.

use std::time::Duration;

/// A step that reads prompts while others write lasts at most this many decode steps …
const MIXED_STEPS: f64 = 6.0;
/// … or this long, whichever is longer, when nobody chose.
pub const MIXED_LEAST: Duration = Duration::from_millis(20);
/// A step that only reads lasts at most about this long (seconds), so that a cancel is quick.
const READING: f64 = 0.250;
/// Tokens of a first step while nothing is known. 32 tokens are 40 ms on a small machine with a model
/// of 125 M parameters, and a second with one of 3 B.
const FIRST_CHUNK: usize = 32;
/// Fewest tokens of a step that only reads: smaller ones cost more than they give back.
const LEAST_CHUNK: usize = 32;
/// How much of a new figure goes into the running one.
const WEIGHT: f64 = 0.25;

/// Running costs in seconds.
#[derive(Debug)]
pub struct Costs {
    /// A step that reads prompts while others write may always last this long.
    mixed_least: f64,
    /// A step in which every sequence writes one token.
    step: Option<f64>,
    /// One more token of a prompt.
    token: Option<f64>,
}

impl Default for Costs {
    fn default() -> Self {
        Self::new(MIXED_LEAST)
    }
}

impl Costs {
    /// Nothing is known yet. While others write, a step that reads prompts may always last `mixed_least`.
    pub fn new(mixed_least: Duration) -> Self {
        Self { mixed_least: mixed_least.as_secs_f64(), step: None, token: None }
    }

    /// How many tokens of prompts the next step may have beside `writing` tokens of completions.
    pub fn chunk(&self, writing: usize, most: usize) -> usize {
        let Some(token) = self.token else { return FIRST_CHUNK.min(most) };
        let (budget, least) = if writing == 0 {
            (READING, LEAST_CHUNK)
        } else {
            let step = self.step.unwrap_or(0.0);
            ((MIXED_STEPS * step).max(self.mixed_least) - step, 1)
        };
        // Far beyond any batch: no precision or sign can be lost that matters.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped here")]
        let fits = (budget / token).clamp(0.0, 1e6) as usize;
        fits.max(least).min(most)
    }

    /// Learns from a step with `writing` tokens of completions and `reading` tokens of prompts.
    pub fn observe(&mut self, writing: usize, reading: usize, took: Duration) {
        let took = took.as_secs_f64().max(1e-9);
        if reading == 0 {
            if writing > 0 {
                learn(&mut self.step, took);
            }
            return;
        }
        let base = if writing > 0 { self.step.unwrap_or(0.0) } else { 0.0 };
        // A mixed step that was quicker than a plain one says nothing about its prompt tokens.
        let rest = (took - base).max(took * 0.1);
        #[expect(clippy::cast_precision_loss, reason = "a batch has some thousand tokens")]
        learn(&mut self.token, rest / reading as f64);
    }
}

fn learn(running: &mut Option<f64>, new: f64) {
    *running = Some(running.map_or(new, |old| old + WEIGHT * (new - old)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(step_ms: u64, token_us: u64) -> Costs {
        let mut costs = Costs::default();
        costs.observe(4, 0, Duration::from_millis(step_ms));
        costs.observe(0, 100, Duration::from_micros(100 * token_us));
        costs
    }

    #[test]
    fn the_first_step_is_modest() {
        assert_eq!(Costs::default().chunk(0, 512), 32);
        assert_eq!(Costs::default().chunk(3, 8), 8);
    }

    #[test]
    fn a_mixed_step_lasts_six_decode_steps() {
        // 5 steps of 6 ms are left, at 1 ms a token.
        assert_eq!(learned(6, 1_000).chunk(4, 512), 30);
    }

    #[test]
    fn a_fast_model_gets_twenty_milliseconds() {
        // 19 ms are left, at 100 µs a token.
        assert_eq!(learned(1, 100).chunk(4, 512), 190);
    }

    #[test]
    fn a_step_that_only_reads_lasts_a_quarter_of_a_second() {
        assert_eq!(learned(6, 1_000).chunk(0, 512), 250);
        assert_eq!(learned(6, 10).chunk(0, 512), 512);
        assert_eq!(learned(6, 100_000).chunk(0, 512), 32);
    }

    #[test]
    fn a_slow_machine_still_reads_beside_decodes() {
        assert_eq!(learned(1, 100_000).chunk(4, 512), 1);
    }
}
