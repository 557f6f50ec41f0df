//! Makes `NaN`, `Infinity` and `-Infinity` readable, so that they get an answer.
//!
//! They are no JSON, but Python writes them, and the Socket.IO layer ends the session of whoever sends one.
//! Here each becomes an empty object of the same length, which no field that holds a number takes: the
//! client gets the error of the field, and keeps its session. The length stays, so that frames stay as they
//! are; what stands in strings stays too.

/// Replaces the three words, over any number of cuts of one message.
#[derive(Debug, Default)]
pub struct Patch {
    in_string: bool,
    escaped: bool,
    /// What is left of a word that has begun.
    word: &'static [u8],
}

/// Divides the packets of one body of HTTP polling.
const SEPARATOR: u8 = 0x1e;

impl Patch {
    /// Goes over the next bytes of a message.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        for at in 0..bytes.len() {
            let byte = bytes[at];
            if byte == SEPARATOR {
                *self = Self::default();
            } else if self.in_string {
                self.in_string = self.escaped || byte != b'"';
                self.escaped = byte == b'\\' && !self.escaped;
            } else if let Some((expected, rest)) = self.word.split_first() {
                // Something else is no JSON either, and is left to the parser.
                self.word = if *expected == byte { rest } else { &[] };
                bytes[at] = if rest.is_empty() { b'}' } else { b' ' };
            } else {
                self.begin(bytes, at);
            }
        }
    }

    /// Outside of strings, no JSON has a capital letter.
    fn begin(&mut self, bytes: &mut [u8], at: usize) {
        match bytes[at] {
            b'"' => self.in_string = true,
            b'N' => self.word = b"aN",
            b'I' => {
                self.word = b"nfinity";
                if let Some(sign @ b'-') =
                    at.checked_sub(1).and_then(|before| bytes.get_mut(before))
                {
                    *sign = b' ';
                }
            }
            _ => return,
        }
        if !self.word.is_empty() {
            bytes[at] = b'{';
        }
    }
}

/// Finds the text in the frames that a WebSocket client sends, and goes over it.
#[derive(Debug, Default)]
pub struct Frames {
    /// Bytes of a head that is not whole yet.
    head: Vec<u8>,
    /// What is left of the payload of this frame.
    left: u64,
    mask: [u8; 4],
    masked: usize,
    /// Whether this frame holds text.
    text: bool,
    /// Whether the message that its parts belong to does; a control frame may stand between them.
    message_is_text: bool,
    patch: Patch,
}

/// Kinds of frames; 0 continues the one before, those from 8 on control the connection.
const TEXT: u8 = 1;
const BINARY: u8 = 2;

impl Frames {
    /// Goes over the next bytes from a client.
    pub fn apply(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.head.push(bytes[0]);
                bytes = &mut bytes[1..];
                self.begin_frame();
                continue;
            }
            let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            let (payload, rest) = bytes.split_at_mut(count);
            if self.text {
                self.unmask(payload);
                self.patch.apply(payload);
                self.unmask(payload);
            }
            self.masked += count;
            self.left -= u64::try_from(count).unwrap_or(self.left);
            bytes = rest;
        }
    }

    /// Reads the head once it is whole. Frames of clients are masked; others end the connection later.
    fn begin_frame(&mut self) {
        let [first, second, extended @ ..] = self.head.as_slice() else { return };
        let size = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((length, mask)) = extended.split_at_checked(size) else { return };
        let mask = if second & 0x80 == 0 { Some([0; 4]) } else { mask.try_into().ok() };
        let Some(mask) = mask else { return };
        self.left = match size {
            0 => u64::from(second & 0x7f),
            _ => length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        let kind = first & 0x0f;
        if matches!(kind, TEXT | BINARY) {
            self.patch = Patch::default();
            self.message_is_text = kind == TEXT;
        }
        self.text = kind <= TEXT && self.message_is_text;
        self.mask = mask;
        self.masked = 0;
        self.head.clear();
    }

    fn unmask(&self, payload: &mut [u8]) {
        for (at, byte) in payload.iter_mut().enumerate() {
            *byte ^= self.mask[(self.masked + at) % 4];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn patched(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        Patch::default().apply(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_three_words_become_objects_and_strings_stay() {
        let text = r#"42["e",{"a":NaN,"b":-Infinity,"c":[Infinity, 1],"d":"NaN \" -Infinity \\","e":NaN}]"#;
        let whole = patched(text);
        assert_eq!(whole.len(), text.len());
        let value: serde_json::Value = serde_json::from_str(&whole[2..]).unwrap();
        let empty = serde_json::json!({});
        assert_eq!(value[1]["a"], empty);
        assert_eq!(value[1]["b"], empty);
        assert_eq!(value[1]["c"][0], empty);
        assert_eq!(value[1]["d"], "NaN \" -Infinity \\");
        assert_eq!(value[1]["e"], empty);
    }

    #[test]
    fn a_body_of_several_packets_is_read_packet_by_packet() {
        let text = "42[\"open]\u{1e}42[\"e\",NaN]";
        assert!(patched(text).ends_with("[\"e\",{ }]"));
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [7, 99, 200, 31];
        let mut frame = vec![first];
        match u16::try_from(payload.len()).unwrap() {
            short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
            long => {
                frame.push(0xfe);
                frame.extend(long.to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        frame
    }

    proptest! {
        #[test]
        fn frames_are_found_however_they_are_cut(
            filler in "[a-z]{0,300}",
            cuts in prop::collection::vec(1_usize..40, 1..30),
        ) {
            let text = format!("42[\"{filler}\",Infinity,\"NaN\",NaN]");
            let wanted = patched(&text);
            let (early, late) = text.as_bytes().split_at(text.len() / 2);
            // In two parts with a ping between them, then a binary one that must stay.
            let frames = |early: &[u8], late: &[u8]| {
                [frame(0x01, early), frame(0x89, b"NaN"), frame(0x80, late), frame(0x82, b"NaN")].concat()
            };
            let mut bytes = frames(early, late);
            let mut reader = Frames::default();
            let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
            while at < bytes.len() {
                let end = (at + cuts.next().unwrap()).min(bytes.len());
                reader.apply(&mut bytes[at..end]);
                at = end;
            }
            let (early, late) = wanted.as_bytes().split_at(text.len() / 2);
            prop_assert_eq!(bytes, frames(early, late));
        }
    }
}
