//! How the next token is chosen, and when a completion ends. Ranges are checked once, here.

/// Most stop strings of one generation.
pub const MAX_STOPS: usize = 64;
/// Longest stop string, in bytes.
pub const MAX_STOP_BYTES: usize = 1_024;

/// Sampling settings of one generation that are single numbers, all within their ranges. What takes
/// lists or texts stands in [`crate::domain::steering`].
///
/// Made only by [`Sampling::checked`] and [`Sampling::default`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Spread of the distribution; 0 takes the most likely token. 0 to 100.
    pub temperature: f32,
    /// Only the `top_k` most likely tokens; 0 turns it off. 0 to 1,000,000.
    pub top_k: i32,
    /// Only the most likely tokens that together reach this probability; 1 turns it off. 0 to 1.
    pub top_p: f32,
    /// Only tokens at least this fraction as likely as the most likely one; 0 turns it off. 0 to 1.
    pub min_p: f32,
    /// Locally typical sampling; 1 turns it off. 0 to 1.
    pub typical_p: f32,
    /// Divides the logits of recent tokens; 1 turns it off. 0.01 to 100.
    pub repeat_penalty: f32,
    /// How many tokens back the penalties look; -1 means the whole context, 0 none.
    pub repeat_last_n: i32,
    /// Taken from the logit of a token that occurred. -100 to 100.
    pub presence_penalty: f32,
    /// Taken from the logit of a token for each time it occurred. -100 to 100.
    pub frequency_penalty: f32,
    /// Whether the penalties count for line breaks too.
    pub penalize_nl: bool,
    /// Lets the temperature vary by so much around [`Self::temperature`], with the entropy; 0 turns it
    /// off. 0 to 100.
    pub dynatemp_range: f32,
    /// How the entropy becomes a temperature. 0 to 100.
    pub dynatemp_exponent: f32,
    /// Chance that the likeliest tokens are taken out; 0 turns it off. 0 to 1.
    pub xtc_probability: f32,
    /// What counts as likely for that; above 0.5 turns it off. 0 to 1.
    pub xtc_threshold: f32,
    /// Strength of the penalty for repeated sequences (DRY); 0 turns it off. 0 to 100.
    pub dry_multiplier: f32,
    /// How fast that penalty grows with the length of the sequence. 1 to 100.
    pub dry_base: f32,
    /// Sequences up to this length may be repeated. 0 to 1,000,000.
    pub dry_allowed_length: i32,
    /// How many tokens back DRY looks; -1 means the whole context, 0 none.
    pub dry_penalty_last_n: i32,
    /// Only tokens within so many standard deviations of the best logit; 0 and below turns it off.
    /// -1 to 100.
    pub top_n_sigma: f32,
    /// Tail free sampling; 1 turns it off. 0 to 1.
    pub tfs_z: f32,
    /// Probability that chosen tokens are to have on average; below 0 turns it off. -1 to 1.
    pub adaptive_target: f32,
    /// How long that average looks back. 0 to 0.99.
    pub adaptive_decay: f32,
    /// Mirostat replaces all other samplers but the temperature: 0 is off, 1 and 2 its versions.
    pub mirostat: i32,
    /// Surprise that Mirostat keeps, in bits. 0 to 100.
    pub mirostat_tau: f32,
    /// How fast Mirostat learns. 0 to 10.
    pub mirostat_eta: f32,
    /// Least tokens that `typical_p`, `top_p`, `min_p`, `tfs_z` and XTC leave. 0 to 1,000,000.
    pub min_keep: i32,
    /// Never ends the text by itself. Without effect under a grammar, which says where texts end.
    pub ignore_eos: bool,
    /// Seed of the generator; `None` takes a fresh one each time.
    pub seed: Option<u32>,
}

impl Default for Sampling {
    /// LoLLMs' defaults of its server configuration.
    fn default() -> Self {
        Self {
            temperature: 0.9,
            top_k: 50,
            top_p: 0.95,
            min_p: 0.0,
            typical_p: 1.0,
            repeat_penalty: 1.2,
            repeat_last_n: 40,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalize_nl: true,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: -1,
            top_n_sigma: -1.0,
            tfs_z: 1.0,
            adaptive_target: -1.0,
            adaptive_decay: 0.9,
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            min_keep: 0,
            ignore_eos: false,
            seed: None,
        }
    }
}

/// A setting outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{name}` is {value}; expected {expected}")]
pub struct OutOfRange {
    /// The setting, as clients spell it.
    pub name: &'static str,
    /// What was given.
    pub value: String,
    /// What is allowed.
    pub expected: &'static str,
}

impl Sampling {
    /// Checks every range.
    ///
    /// # Errors
    /// [`OutOfRange`] names the first setting that is outside its range or not a finite number.
    pub fn checked(self) -> Result<Self, OutOfRange> {
        const SHARE: (f32, f32, &str) = (0.0, 1.0, "a number from 0 to 1");
        const TO_100: (f32, f32, &str) = (0.0, 100.0, "a number from 0 to 100");
        const PENALTY: (f32, f32, &str) = (-100.0, 100.0, "a number from -100 to 100");
        const COUNT: (i32, i32, &str) = (0, 1_000_000, "a whole number from 0 to 1000000");
        const BACK: (i32, i32, &str) = (-1, 1_000_000, "a whole number from -1 to 1000000");
        within("temperature", self.temperature, TO_100)?;
        whole("top_k", self.top_k, COUNT)?;
        within("top_p", self.top_p, SHARE)?;
        within("min_p", self.min_p, SHARE)?;
        within("typical_p", self.typical_p, SHARE)?;
        let factor = (0.01, 100.0, "a number from 0.01 to 100");
        within("repeat_penalty", self.repeat_penalty, factor)?;
        whole("repeat_last_n", self.repeat_last_n, BACK)?;
        within("presence_penalty", self.presence_penalty, PENALTY)?;
        within("frequency_penalty", self.frequency_penalty, PENALTY)?;
        within("dynatemp_range", self.dynatemp_range, TO_100)?;
        within("dynatemp_exponent", self.dynatemp_exponent, TO_100)?;
        within("xtc_probability", self.xtc_probability, SHARE)?;
        within("xtc_threshold", self.xtc_threshold, SHARE)?;
        within("dry_multiplier", self.dry_multiplier, TO_100)?;
        within("dry_base", self.dry_base, (1.0, 100.0, "a number from 1 to 100"))?;
        whole("dry_allowed_length", self.dry_allowed_length, COUNT)?;
        whole("dry_penalty_last_n", self.dry_penalty_last_n, BACK)?;
        within("top_n_sigma", self.top_n_sigma, (-1.0, 100.0, "a number from -1 to 100"))?;
        within("tfs_z", self.tfs_z, SHARE)?;
        within("adaptive_target", self.adaptive_target, (-1.0, 1.0, "a number from -1 to 1"))?;
        within("adaptive_decay", self.adaptive_decay, (0.0, 0.99, "a number from 0 to 0.99"))?;
        whole("mirostat", self.mirostat, (0, 2, "0, 1 or 2"))?;
        within("mirostat_tau", self.mirostat_tau, TO_100)?;
        within("mirostat_eta", self.mirostat_eta, (0.0, 10.0, "a number from 0 to 10"))?;
        whole("min_keep", self.min_keep, COUNT)?;
        Ok(self)
    }
}

fn within(
    name: &'static str,
    value: f32,
    (low, high, expected): (f32, f32, &'static str),
) -> Result<(), OutOfRange> {
    // NaN is in no range.
    if (low..=high).contains(&value) { Ok(()) } else { Err(out(name, value, expected)) }
}

fn whole(
    name: &'static str,
    value: i32,
    (low, high, expected): (i32, i32, &'static str),
) -> Result<(), OutOfRange> {
    if (low..=high).contains(&value) { Ok(()) } else { Err(out(name, value, expected)) }
}

pub(super) fn out(
    name: &'static str,
    value: impl std::fmt::Display,
    expected: &'static str,
) -> OutOfRange {
    OutOfRange { name, value: value.to_string(), expected }
}

/// Texts that end a completion; none of them is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stops {
    /// Matched exactly.
    pub exact: Vec<String>,
    /// A personality's anti-prompts: matched without regard to case, as LoLLMs does.
    pub any_case: Vec<String>,
}

impl Stops {
    /// Drops empty strings, which would end every completion at once, and checks number and length.
    ///
    /// # Errors
    /// [`OutOfRange`] when there are more than [`MAX_STOPS`] or one is longer than [`MAX_STOP_BYTES`].
    pub fn checked(mut self) -> Result<Self, OutOfRange> {
        self.exact.retain(|stop| !stop.is_empty());
        self.any_case.retain(|stop| !stop.is_empty());
        let count = self.exact.len() + self.any_case.len();
        if count > MAX_STOPS {
            return Err(out("stop", format!("a list of {count}"), "at most 64 strings"));
        }
        let longest = self.exact.iter().chain(&self.any_case).map(String::len).max().unwrap_or(0);
        if longest > MAX_STOP_BYTES {
            return Err(out(
                "stop",
                format!("{longest} bytes long"),
                "at most 1024 bytes a string",
            ));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range() {
        assert!(Sampling::default().checked().is_ok());
    }

    #[test]
    fn what_is_outside_is_named() {
        let wrong = Sampling { temperature: f32::NAN, ..Sampling::default() };
        assert_eq!(wrong.checked().unwrap_err().name, "temperature");
        let wrong = Sampling { top_k: -5, ..Sampling::default() };
        let error = wrong.checked().unwrap_err().to_string();
        assert_eq!(error, "`top_k` is -5; expected a whole number from 0 to 1000000");
        let wrong = Sampling { repeat_penalty: 0.0, ..Sampling::default() };
        assert_eq!(wrong.checked().unwrap_err().name, "repeat_penalty");
    }

    #[test]
    fn no_number_is_taken_that_is_none_or_too_large() {
        type Field = fn(&mut Sampling) -> &mut f32;
        let fields: [(&str, Field); 18] = [
            ("temperature", |s| &mut s.temperature),
            ("top_p", |s| &mut s.top_p),
            ("min_p", |s| &mut s.min_p),
            ("typical_p", |s| &mut s.typical_p),
            ("repeat_penalty", |s| &mut s.repeat_penalty),
            ("presence_penalty", |s| &mut s.presence_penalty),
            ("frequency_penalty", |s| &mut s.frequency_penalty),
            ("dynatemp_range", |s| &mut s.dynatemp_range),
            ("dynatemp_exponent", |s| &mut s.dynatemp_exponent),
            ("xtc_probability", |s| &mut s.xtc_probability),
            ("xtc_threshold", |s| &mut s.xtc_threshold),
            ("dry_multiplier", |s| &mut s.dry_multiplier),
            ("dry_base", |s| &mut s.dry_base),
            ("top_n_sigma", |s| &mut s.top_n_sigma),
            ("tfs_z", |s| &mut s.tfs_z),
            ("adaptive_target", |s| &mut s.adaptive_target),
            ("mirostat_tau", |s| &mut s.mirostat_tau),
            ("mirostat_eta", |s| &mut s.mirostat_eta),
        ];
        for (name, field) in fields {
            for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30] {
                let mut sampling = Sampling::default();
                *field(&mut sampling) = wrong;
                assert_eq!(sampling.checked().unwrap_err().name, name, "{wrong}");
            }
        }
        let decay = Sampling { adaptive_decay: 1.0, ..Sampling::default() };
        assert_eq!(decay.checked().unwrap_err().name, "adaptive_decay");
    }

    #[test]
    fn whole_numbers_have_ranges_too() {
        type Field = fn(&mut Sampling) -> &mut i32;
        let fields: [(&str, Field); 6] = [
            ("top_k", |s| &mut s.top_k),
            ("repeat_last_n", |s| &mut s.repeat_last_n),
            ("dry_allowed_length", |s| &mut s.dry_allowed_length),
            ("dry_penalty_last_n", |s| &mut s.dry_penalty_last_n),
            ("mirostat", |s| &mut s.mirostat),
            ("min_keep", |s| &mut s.min_keep),
        ];
        for (name, field) in fields {
            for wrong in [i32::MIN, -2, i32::MAX] {
                let mut sampling = Sampling::default();
                *field(&mut sampling) = wrong;
                assert_eq!(sampling.checked().unwrap_err().name, name, "{wrong}");
            }
        }
    }

    #[test]
    fn empty_stops_are_dropped() {
        let stops = Stops { exact: vec![String::new(), "a".into()], any_case: vec![String::new()] };
        assert_eq!(stops.checked().unwrap(), Stops { exact: vec!["a".into()], any_case: vec![] });
    }
}
