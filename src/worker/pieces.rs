//! Cuts written text into pieces that fit a line each.

use crate::engine::recipe::{Alternative, Likely};
use crate::engine::text::writer::Written;
use crate::protocol::event::{Piece, Probability, TopProbability};

/// Longest text of one line: escapes can make six bytes of one, and a line has at most 1 MiB.
const PIECE_BYTES: usize = 96 << 10;
/// Most tokens of one line: a border and a token are at most 20 bytes.
const PIECE_TOKENS: usize = 8 << 10;
/// Most bytes of probabilities in one line. Those of one token may be more by themselves.
const PROBABILITY_BYTES: usize = 128 << 10;

/// Memory of unsent text, about.
pub(super) fn weight(written: &Written) -> usize {
    let likely: usize = written.likely.iter().map(line_bytes).sum();
    written.text.len() + 8 * written.tokens.len() + likely
}

/// Whether it can be sent as it is, which is so but for probabilities and slow readers.
pub(super) fn fits_a_line(written: &Written) -> bool {
    written.text.len() <= PIECE_BYTES
        && written.tokens.len() <= PIECE_TOKENS
        && written.likely.is_empty()
}

/// Pieces that fit a line each, cut at token borders.
pub(super) fn split(generation: u64, written: &Written) -> Vec<Piece> {
    let empty = || Piece { id: generation, ..Piece::default() };
    let mut pieces = Vec::new();
    let mut piece = empty();
    let (mut from, mut likely_bytes) = (0, 0);
    for (at, (end, token)) in written.ends.iter().zip(&written.tokens).enumerate() {
        let end = *end as usize;
        let likely = written.likely.get(at);
        let more = likely.map_or(0, line_bytes);
        let full = piece.text.len() + (end - from) > PIECE_BYTES
            || piece.tok.len() >= PIECE_TOKENS
            || likely_bytes + more > PROBABILITY_BYTES;
        if full && !piece.tok.is_empty() {
            pieces.push(std::mem::replace(&mut piece, empty()));
            likely_bytes = 0;
        }
        piece.text.push_str(&written.text[from..end]);
        piece.ends.push(u32::try_from(piece.text.len()).unwrap_or(u32::MAX));
        piece.tok.push(*token);
        piece.probs.extend(likely.map(probability));
        likely_bytes += more;
        from = end;
    }
    pieces.push(piece);
    pieces
}

/// Bytes that a probability takes in a line, at most about.
fn line_bytes(likely: &Likely) -> usize {
    likely.top.iter().map(|other| 64 + 6 * other.bytes.len()).sum::<usize>() + 40
}

fn probability(likely: &Likely) -> Probability {
    Probability { logprob: likely.log, top: likely.top.iter().map(top_probability).collect() }
}

fn top_probability(other: &Alternative) -> TopProbability {
    let text = String::from_utf8_lossy(&other.bytes).into_owned();
    let bytes = if text.as_bytes() == other.bytes { Vec::new() } else { other.bytes.clone() };
    TopProbability { id: other.token, text, bytes, logprob: other.log }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::event::Event;
    use crate::protocol::{MAX_EVENT_BYTES, line};

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn written(count: u32, alternatives: usize, bytes: &[u8]) -> Written {
        let other = Alternative { token: 99_999, bytes: bytes.to_vec(), log: -1e30 };
        Written {
            text: "x".repeat(count as usize),
            ends: (1..=count).collect(),
            tokens: (0..count.cast_signed()).collect(),
            likely: (0..count)
                .map(|at| Likely { log: -(at as f32), top: vec![other.clone(); alternatives] })
                .collect(),
        }
    }

    #[test]
    fn each_piece_fits_a_line_and_keeps_its_probabilities() {
        let all = written(2_000, 100, "\u{1}\u{1}".as_bytes());
        let pieces = split(7, &all);
        assert!(pieces.len() > 10, "{}", pieces.len());
        let mut logs = Vec::new();
        for piece in pieces {
            assert_eq!((piece.tok.len(), piece.ends.len()), (piece.probs.len(), piece.tok.len()));
            logs.extend(piece.tok.iter().zip(&piece.probs).map(|(tok, p)| (*tok, p.logprob)));
            assert!(line::encode(&Event::Piece(piece)).unwrap().len() <= MAX_EVENT_BYTES);
        }
        assert_eq!(logs.len(), 2_000);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let aligned = logs.iter().all(|(tok, log)| (*tok as f32 + log).abs() < 0.5);
        assert!(aligned);
    }

    #[test]
    fn bytes_that_are_no_text_come_as_bytes_too() {
        let piece = &split(7, &written(1, 1, &[0xE2, 0x82]))[0];
        assert_eq!(piece.probs[0].top[0].bytes, [0xE2, 0x82]);
        let piece = &split(7, &written(1, 1, b" a"))[0];
        assert_eq!(
            (piece.probs[0].top[0].text.as_str(), piece.probs[0].top[0].bytes.len()),
            (" a", 0)
        );
    }
}
