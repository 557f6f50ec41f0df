//! Turns the tokens of one generation into text that may be shown, whole tokens at a time.
//!
//! Guarantees: what was written joins to the model's text up to the first stop string; only whole
//! characters; nothing of a stop string; each token of the text appears exactly once, with its border.

use crate::domain::sampling::Stops;
use crate::engine::recipe::{Chosen, Likely};
use crate::engine::text::stops::{Met, StopMatcher};
use crate::engine::text::utf8::Utf8Stream;

/// Text that may be shown, with the borders of its tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// Whole characters of whole tokens.
    pub text: String,
    /// Where each token's text ends, in bytes of `text`.
    pub ends: Vec<u32>,
    /// The tokens, in the order of `ends`.
    pub tokens: Vec<i32>,
    /// How likely they were, in the same order; empty when nobody asked.
    pub likely: Vec<Likely>,
}

impl Written {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.tokens.clear();
        self.likely.clear();
    }

    /// Whether there is neither text nor a token.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.tokens.is_empty()
    }

    /// Adds what was written later.
    pub fn append(&mut self, later: &Written) {
        let base = offset(self.text.len());
        self.text.push_str(&later.text);
        self.ends.extend(later.ends.iter().map(|end| base + end));
        self.tokens.extend_from_slice(&later.tokens);
        self.likely.extend_from_slice(&later.likely);
    }
}

/// Text of one generation on its way out.
#[derive(Debug, Default)]
pub struct Writer {
    utf8: Utf8Stream,
    stops: StopMatcher,
    /// Text that was not written yet.
    held: String,
    /// Tokens that were not written yet, and where their text ends in `held`.
    borders: Vec<(i32, usize)>,
    /// How likely these tokens were; empty when nobody asked.
    likely: Vec<Likely>,
}

impl Writer {
    /// A writer that ends at these strings.
    pub fn new(stops: &Stops) -> Self {
        Self { stops: StopMatcher::new(stops), ..Self::default() }
    }

    /// Feeds a token; appends to `out` what may be shown now. Returns the stop string that was met;
    /// then everything before it is written, and the writer is done. Probabilities are there for all
    /// tokens of a text or for none.
    pub fn push(&mut self, chosen: Chosen, bytes: &[u8], out: &mut Written) -> Option<String> {
        let Chosen { token, likely } = chosen;
        self.likely.extend(likely);
        let from = self.held.len();
        self.utf8.push(bytes, &mut self.held);
        self.borders.push((token, self.held.len()));
        if let Some(met) = self.stops.scan(&self.held[from..]) {
            self.stop_at(from, met);
            self.write(self.borders.len(), out);
            return Some(self.stops.stop(met).to_owned());
        }
        let safe = self.held.len() - self.open_bytes();
        let mut whole = self.borders.iter().take_while(|(_, end)| *end <= safe).count();
        if self.utf8.is_open() {
            // Its last character is not complete, so where this token ends is not known yet.
            whole = whole.min(self.borders.len() - 1);
        }
        self.write(whole, out);
        None
    }

    /// Ends the text without a stop string: appends all that was held back.
    pub fn finish(&mut self, out: &mut Written) {
        self.utf8.finish(&mut self.held);
        if let Some((_, end)) = self.borders.last_mut() {
            *end = self.held.len();
        }
        self.write(self.borders.len(), out);
    }

    /// Bytes at the end of `held` that may be the beginning of a stop string.
    fn open_bytes(&self) -> usize {
        last_chars(&self.held, self.stops.open_chars())
    }

    /// Cuts the stop string off, and the tokens that lie in it or after it.
    fn stop_at(&mut self, from: usize, met: Met) {
        self.held.truncate(from + met.end);
        let start = self.held.len() - last_chars(&self.held, met.chars);
        self.held.truncate(start);
        let begins = std::iter::once(0).chain(self.borders.iter().map(|(_, end)| *end));
        let kept = begins.take(self.borders.len()).take_while(|begin| *begin < start).count();
        self.borders.truncate(kept);
        self.likely.truncate(kept);
        if let Some((_, end)) = self.borders.last_mut() {
            *end = start.min(*end);
        }
    }

    /// Moves the first `tokens` tokens to `out`, and their text.
    fn write(&mut self, tokens: usize, out: &mut Written) {
        let Some(&(_, end)) = tokens.checked_sub(1).and_then(|last| self.borders.get(last)) else {
            return;
        };
        let base = out.text.len();
        out.text.push_str(&self.held[..end]);
        self.held.drain(..end);
        for (token, border) in self.borders.drain(..tokens) {
            out.ends.push(offset(base + border));
            out.tokens.push(token);
        }
        for (_, border) in &mut self.borders {
            *border -= end;
        }
        out.likely.extend(self.likely.drain(..tokens.min(self.likely.len())));
    }
}

/// Bytes of the last `chars` characters of `text`.
fn last_chars(text: &str, chars: usize) -> usize {
    text.chars().rev().take(chars).map(char::len_utf8).sum()
}

/// An offset as the protocol writes it.
fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("unsent text is bounded at a few MiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stops(exact: &[String], any_case: &[String]) -> Stops {
        Stops { exact: exact.to_vec(), any_case: any_case.to_vec() }
    }

    /// What comes out when `tokens` go in one by one.
    fn written(tokens: &[&[u8]], stops: &Stops) -> (Written, Option<String>) {
        let mut writer = Writer::new(stops);
        let mut all = Written::default();
        for (id, bytes) in (0_i32..).zip(tokens) {
            let mut step = Written::default();
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let likely = Likely { log: -(id as f32), top: vec![] };
            let met = writer.push(Chosen { token: id, likely: Some(likely) }, bytes, &mut step);
            assert_eq!(step.ends.last().map_or(0, |end| *end as usize), step.text.len());
            all.append(&step);
            if met.is_some() {
                return (all, met);
            }
        }
        writer.finish(&mut all);
        (all, None)
    }

    #[test]
    fn borders_are_where_the_tokens_end() {
        let (all, _) = written(&[b"Hel", b"lo", "é".as_bytes()], &Stops::default());
        assert_eq!(all.text, "Helloé");
        assert_eq!((all.ends, all.tokens), (vec![3, 5, 7], vec![0, 1, 2]));
    }

    #[test]
    fn a_character_of_two_tokens_belongs_to_the_second() {
        let euro = "€".as_bytes();
        let (all, _) = written(&[b"a", &euro[..1], &euro[1..]], &Stops::default());
        assert_eq!((all.text.as_str(), all.ends), ("a€", vec![1, 1, 4]));
    }

    #[test]
    fn text_before_a_stop_string_is_kept_and_its_tokens_are_not() {
        let end = stops(&["\nUser:".into()], &[]);
        let (all, met) = written(&[b"Hi.", b" Bye\nUs", b"er", b":", b" x"], &end);
        assert_eq!((all.text.as_str(), met.as_deref()), ("Hi. Bye", Some("\nUser:")));
        assert_eq!((all.ends, all.tokens), (vec![3, 7], vec![0, 1]));
    }

    #[test]
    fn a_beginning_that_comes_to_nothing_is_shown_after_all() {
        let end = stops(&["<end>".into()], &[]);
        let (all, met) = written(&[b"a<e", b"nd", b"]"], &end);
        assert_eq!((all.text.as_str(), met), ("a<end]", None));
        assert_eq!(all.tokens, [0, 1, 2]);
    }

    #[test]
    fn a_half_character_at_the_end_is_marked() {
        let (all, _) = written(&[b"a", &[0xE2, 0x82]], &Stops::default());
        assert_eq!(all.text, "a\u{FFFD}");
    }

    /// The same answer by looking at the whole text at once.
    fn expected(text: &str, stops: &Stops) -> String {
        let lower: Vec<char> = text.chars().map(|c| c.to_ascii_lowercase()).collect();
        let chars: Vec<char> = text.chars().collect();
        let exact = stops.exact.iter().map(|stop| (stop.chars().collect::<Vec<_>>(), &chars));
        let folded = stops
            .any_case
            .iter()
            .map(|stop| (stop.chars().map(|c| c.to_ascii_lowercase()).collect::<Vec<_>>(), &lower));
        let first =
            exact.chain(folded).filter(|(stop, _)| !stop.is_empty()).filter_map(|(stop, text)| {
                let start = text.windows(stop.len()).position(|window| window == stop)?;
                Some((start + stop.len(), start))
            });
        first.min().map_or(text.to_owned(), |(_, start)| chars[..start].iter().collect())
    }

    proptest! {
        #[test]
        fn cutting_into_tokens_does_not_change_the_text(
            text in "[abAB€]{0,40}",
            exact in prop::collection::vec("[abAB€]{1,4}", 0..3),
            any_case in prop::collection::vec("[abAB€]{1,4}", 0..3),
            at in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = at.iter().map(|i| i.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let tokens: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            let stops = stops(&exact, &any_case);
            let (all, met) = written(&tokens, &stops);
            prop_assert_eq!(&all.text, &expected(&text, &stops));
            prop_assert_eq!(all.ends.len(), all.tokens.len());
            prop_assert!(all.ends.is_sorted());
            prop_assert_eq!(all.tokens.clone(), (0..).take(all.tokens.len()).collect::<Vec<i32>>());
            // Each token has its own probability, whatever was held back or cut off.
            let logs: Vec<f32> = all.likely.iter().map(|likely| likely.log).collect();
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let wanted: Vec<f32> = all.tokens.iter().map(|token| -(*token as f32)).collect();
            prop_assert_eq!(logs, wanted);
            if met.is_none() {
                prop_assert_eq!(all.tokens.len(), tokens.len());
            }
        }
    }
}
