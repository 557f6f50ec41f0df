//! Joins the bytes of tokens into characters.

/// Bytes in, whole characters out. Bytes that can still become a character wait.
///
/// Bytes that can never become one turn into U+FFFD, as [`String::from_utf8_lossy`] would do with the
/// whole text.
#[derive(Debug, Default)]
pub struct Utf8Stream {
    /// A proper prefix of one character: 0 to 3 bytes.
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// Feeds the bytes of one token; appends the characters that are now complete.
    pub fn push(&mut self, bytes: &[u8], out: &mut String) {
        if self.pending.is_empty() {
            let used = append_known(bytes, out);
            self.pending.extend_from_slice(&bytes[used..]);
        } else {
            self.pending.extend_from_slice(bytes);
            let used = append_known(&self.pending, out);
            self.pending.drain(..used);
        }
    }

    /// Whether half a character waits.
    pub fn is_open(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Ends the text: half a character becomes U+FFFD.
    pub fn finish(&mut self, out: &mut String) {
        if !self.pending.is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
            self.pending.clear();
        }
    }
}

/// Appends what is decided already and returns how many bytes that took; what is left is half a character.
fn append_known(bytes: &[u8], out: &mut String) -> usize {
    let mut used = 0;
    while used < bytes.len() {
        match std::str::from_utf8(&bytes[used..]) {
            Ok(text) => {
                out.push_str(text);
                return bytes.len();
            }
            Err(error) => {
                let good = used + error.valid_up_to();
                out.push_str(std::str::from_utf8(&bytes[used..good]).expect("just found valid"));
                // No length means that the bytes end too early, not that they are wrong.
                let Some(wrong) = error.error_len() else { return good };
                out.push(char::REPLACEMENT_CHARACTER);
                used = good + wrong;
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn joined(pieces: &[&[u8]]) -> String {
        let mut stream = Utf8Stream::default();
        let mut out = String::new();
        for piece in pieces {
            stream.push(piece, &mut out);
        }
        stream.finish(&mut out);
        out
    }

    #[test]
    fn an_emoji_of_four_tokens_appears_with_its_last_byte() {
        let mut stream = Utf8Stream::default();
        let mut out = String::new();
        for byte in &"😀".as_bytes()[..3] {
            stream.push(&[*byte], &mut out);
            assert_eq!(out, "");
        }
        stream.push(&"😀".as_bytes()[3..], &mut out);
        assert_eq!(out, "😀");
    }

    #[test]
    fn half_a_character_at_the_end_is_marked() {
        assert_eq!(joined(&["aé".as_bytes(), &[0xF0, 0x9F]]), "aé\u{FFFD}");
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_equal_the_lossy_whole(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x80_u8..0xC0, 0xE0_u8..0xF8], 0..40),
            at in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut cuts: Vec<usize> = at.iter().map(|i| i.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(joined(&pieces), String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
