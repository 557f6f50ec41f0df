//! Puts a gap in a text together as models read it that were trained to fill gaps in.
//!
//! As llama.cpp's server has it: repository, other files, begin, prefix, suffix, middle. Three quarters of
//! a window belong to the prefix and one to the suffix; other files get what both leave of the context.

use crate::domain::error::{ErrorCode, Failure};
use crate::engine::model::{Control, FillMarks, Lexicon, ModelError, Special};
use crate::engine::scheduler::Token;
use crate::protocol::command::Infill;
use crate::worker::prepare::{BYTES_PER_TOKEN, Room, refused};

/// Most tokens of prefix and suffix together: the batch of llama.cpp's server, which it crops them to.
const WINDOW: usize = 2_048;
/// Begin, prefix, suffix and middle have a token each.
const MARKS: usize = 4;
/// Name of the repository, which no client tells; the model has seen one in this place.
const REPOSITORY: &str = "myproject\n";
/// Name of the file with the gap, likewise.
const FILE: &str = "filename\n";
/// Between other files for a vocabulary without a token for it.
const SNIPPET: &str = "\n\n--- snippet ---\n\n";

/// The three tokens without which nothing can be filled in.
#[derive(Clone, Copy)]
struct Needed {
    prefix: Token,
    suffix: Token,
    middle: Token,
}

/// Whether a model has the tokens for filling in.
pub(super) fn can_fill(lexicon: &dyn Lexicon) -> bool {
    needed(&lexicon.marks().fill).is_ok()
}

/// The tokens of the prompt.
///
/// # Errors
/// Names the token that the model lacks; or the tokenizer fails.
pub(super) fn tokens(
    gap: &Infill,
    lexicon: &dyn Lexicon,
    room: Room,
) -> Result<Vec<Token>, Failure> {
    let marks = lexicon.marks();
    let Needed { prefix, suffix, middle } = needed(&marks.fill)?;
    let bytes = BYTES_PER_TOKEN * room.ctx_size;
    let plain = |text: &str| lexicon.tokenize(text, Special::Leave, Control::Text);
    let mut before = plain(end_of(&gap.prefix, bytes)).map_err(refused)?;
    let mut behind = plain(start_of(&gap.suffix, bytes)).map_err(refused)?;
    let begun = lexicon.tokenize(start_of(&gap.prompt, bytes), Special::Leave, Control::Parse);
    let begun = begun.map_err(refused)?;

    let free = room.ctx_size.saturating_sub(room.for_completion() + MARKS);
    let quarter = WINDOW.min(free) / 4;
    before.drain(..before.len().saturating_sub(3 * quarter));
    behind.truncate(quarter.saturating_sub(2 + begun.len()));
    let used = before.len() + begun.len() + behind.len();

    let mut extra = extra(gap, &marks.fill, &plain, bytes).map_err(refused)?;
    let surplus = extra.len().saturating_sub(free.saturating_sub(used));
    extra.drain(..surplus);

    before.insert(0, prefix);
    before.extend(begun);
    behind.insert(0, suffix);
    let (first, second) = if gap.suffix_first { (behind, before) } else { (before, behind) };
    let mut all = extra;
    all.extend(marks.begin.token.filter(|_| marks.begin.wanted));
    all.extend(first);
    all.extend(second);
    all.push(middle);
    Ok(all)
}

fn needed(fill: &FillMarks) -> Result<Needed, Failure> {
    let missing = |name: &str| {
        let text = format!("this model cannot fill gaps in: its vocabulary has no {name} token");
        Failure::new(ErrorCode::Unsupported, text)
    };
    Ok(Needed {
        prefix: fill.prefix.ok_or_else(|| missing("prefix"))?,
        suffix: fill.suffix.ok_or_else(|| missing("suffix"))?,
        middle: fill.middle.ok_or_else(|| missing("middle"))?,
    })
}

/// Repository and other files. The end of a long list counts, so earlier files need not be read.
fn extra(
    gap: &Infill,
    fill: &FillMarks,
    plain: &dyn Fn(&str) -> Result<Vec<Token>, ModelError>,
    bytes: usize,
) -> Result<Vec<Token>, ModelError> {
    let mut all = Vec::new();
    if let Some(repository) = fill.repository {
        all.push(repository);
        all.extend(plain(REPOSITORY)?);
    }
    let mut first = gap.extra.len();
    let mut read = 0;
    while first > 0 && read <= bytes {
        first -= 1;
        read += gap.extra[first].text.len();
    }
    for file in &gap.extra[first..] {
        match fill.file {
            Some(mark) => {
                all.push(mark);
                all.extend(plain(&format!("{}\n", end_of(&file.name, bytes)))?);
            }
            None => all.extend(plain(SNIPPET)?),
        }
        all.extend(plain(end_of(&file.text, bytes))?);
    }
    if let Some(mark) = fill.file {
        all.push(mark);
        all.extend(plain(FILE)?);
    }
    Ok(all)
}

fn end_of(text: &str, bytes: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..]
}

fn start_of(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::{Mark, Marks};
    use crate::protocol::command::ExtraFile;
    use crate::worker::fake::{FakeLexicon, Template};

    /// Marks that are letters, so that a prompt can be read.
    const FILL: FillMarks = FillMarks {
        prefix: Some(b'P' as Token),
        suffix: Some(b'S' as Token),
        middle: Some(b'M' as Token),
        repository: None,
        file: None,
    };

    fn prompt(gap: &Infill, fill: FillMarks, ctx_size: usize) -> Result<String, Failure> {
        let begin = Mark { token: Some(Token::from(b'B')), wanted: true };
        let marks = Marks { begin, fill, ..Marks::default() };
        let lexicon = FakeLexicon { marks, ..FakeLexicon::new(Template::None) };
        let tokens = tokens(gap, &lexicon, Room { ctx_size, most: 8 })?;
        Ok(lexicon.detokenize(&tokens).unwrap())
    }

    fn gap(prefix: &str, suffix: &str) -> Infill {
        Infill { prefix: prefix.into(), suffix: suffix.into(), ..Infill::default() }
    }

    #[test]
    fn prefix_and_suffix_stand_behind_their_marks() {
        assert_eq!(prompt(&gap("ab", "yz"), FILL, 100).unwrap(), "BPabSyzM");
        let begun = Infill { prompt: "c".into(), ..gap("ab", "yz") };
        assert_eq!(prompt(&begun, FILL, 100).unwrap(), "BPabcSyzM");
        let turned = Infill { suffix_first: true, ..begun };
        assert_eq!(prompt(&turned, FILL, 100).unwrap(), "BSyzPabcM");
    }

    #[test]
    fn what_is_far_from_the_gap_goes() {
        // 60 cells: 8 for the completion, 4 marks, so 36 for the prefix and 12 − 2 for the suffix.
        let made = prompt(&gap(&"p".repeat(99), &"s".repeat(99)), FILL, 60).unwrap();
        assert_eq!(made, format!("BP{}S{}M", "p".repeat(36), "s".repeat(10)));
    }

    #[test]
    fn other_files_come_first_as_far_as_they_fit() {
        let file = |name: &str, text: &str| ExtraFile { name: name.into(), text: text.into() };
        let extra = vec![file("a.h", "int a;"), file("b.h", "int b;")];
        let gap = Infill { extra, ..gap("ab", "yz") };
        let marked = FillMarks {
            repository: Some(Token::from(b'R')),
            file: Some(Token::from(b'F')),
            ..FILL
        };
        assert_eq!(
            prompt(&gap, marked, 200).unwrap(),
            "Rmyproject\nFa.h\nint a;Fb.h\nint b;Ffilename\nBPabSyzM"
        );
        // 40 cells: 28 for all texts, 4 of them for prefix and suffix.
        assert_eq!(prompt(&gap, marked, 40).unwrap(), " a;Fb.h\nint b;Ffilename\nBPabSyzM");
        let snippet = "\n\n--- snippet ---\n\n";
        assert_eq!(
            prompt(&gap, FILL, 200).unwrap(),
            format!("{snippet}int a;{snippet}int b;BPabSyzM")
        );
    }

    #[test]
    fn the_missing_token_is_named() {
        let failure = prompt(&gap("a", "b"), FillMarks { middle: None, ..FILL }, 100).unwrap_err();
        assert_eq!(failure.code, ErrorCode::Unsupported);
        assert!(failure.message.contains("no middle token"));
    }
}
