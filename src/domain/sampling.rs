//! How the next token is chosen, and when a completion ends. Ranges are checked once, here.

/// Most stop strings of one generation.
pub const MAX_STOPS: usize = 64;
/// Longest stop string, in bytes.
pub const MAX_STOP_BYTES: usize = 1_024;

/// Sampling settings of one generation, all within their ranges.
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
        within("temperature", self.temperature, (0.0, 100.0), "a number from 0 to 100")?;
        if !(0..=1_000_000).contains(&self.top_k) {
            return Err(out("top_k", self.top_k, "a whole number from 0 to 1000000"));
        }
        within("top_p", self.top_p, (0.0, 1.0), "a number from 0 to 1")?;
        within("min_p", self.min_p, (0.0, 1.0), "a number from 0 to 1")?;
        within("typical_p", self.typical_p, (0.0, 1.0), "a number from 0 to 1")?;
        within("repeat_penalty", self.repeat_penalty, (0.01, 100.0), "a number from 0.01 to 100")?;
        if !(-1..=1_000_000).contains(&self.repeat_last_n) {
            return Err(out(
                "repeat_last_n",
                self.repeat_last_n,
                "a whole number from -1 to 1000000",
            ));
        }
        let penalty = "a number from -100 to 100";
        within("presence_penalty", self.presence_penalty, (-100.0, 100.0), penalty)?;
        within("frequency_penalty", self.frequency_penalty, (-100.0, 100.0), penalty)?;
        Ok(self)
    }
}

fn within(
    name: &'static str,
    value: f32,
    (low, high): (f32, f32),
    expected: &'static str,
) -> Result<(), OutOfRange> {
    // NaN is in no range.
    if (low..=high).contains(&value) { Ok(()) } else { Err(out(name, value, expected)) }
}

fn out(name: &'static str, value: impl std::fmt::Display, expected: &'static str) -> OutOfRange {
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
    fn empty_stops_are_dropped() {
        let stops = Stops { exact: vec![String::new(), "a".into()], any_case: vec![String::new()] };
        assert_eq!(stops.checked().unwrap(), Stops { exact: vec!["a".into()], any_case: vec![] });
    }
}
