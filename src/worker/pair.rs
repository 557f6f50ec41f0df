//! Puts a query and a document together as a ranking model was trained to read them.
//!
//! With the model's own template where it has one, otherwise as llama.cpp's server does: begin, query,
//! end, separator, document, end, of which each mark is there when the model wants it.

use crate::domain::error::{ErrorCode, Failure};
use crate::engine::model::{Control, Lexicon, Mark, ModelError, Special};
use crate::engine::scheduler::Token;

/// How often a document is shortened until its pair fits; each time comes closer.
const TRIES: usize = 4;

/// A query that is put together with documents.
pub(super) struct Query<'a> {
    lexicon: &'a dyn Lexicon,
    text: &'a str,
    form: Form,
}

enum Form {
    /// A text with `{query}` and `{document}` in it.
    Template(String),
    /// Tokens around the document's.
    Marks { before: Vec<Token>, after: Vec<Token> },
}

impl<'a> Query<'a> {
    /// # Errors
    /// When the tokenizer fails.
    pub(super) fn new(text: &'a str, lexicon: &'a dyn Lexicon) -> Result<Self, ModelError> {
        if let Some(template) = lexicon.pair_template() {
            return Ok(Self { lexicon, text, form: Form::Template(template) });
        }
        let marks = lexicon.marks();
        // A vocabulary without an end has its separator there.
        let end = Mark { token: marks.end.token.or(marks.separator.token), ..marks.end };
        let wanted = |mark: Mark| mark.token.filter(|_| mark.wanted);
        let mut before: Vec<Token> = wanted(marks.begin).into_iter().collect();
        before.extend(lexicon.tokenize(text, Special::Leave, Control::Text)?);
        before.extend(wanted(end));
        before.extend(wanted(marks.separator));
        let after = wanted(end).into_iter().collect();
        Ok(Self { lexicon, text, form: Form::Marks { before, after } })
    }

    /// The tokens of the query and a document.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(super) fn with(&self, document: &str) -> Result<Vec<Token>, ModelError> {
        match &self.form {
            Form::Template(template) => {
                let text = filled(template, self.text, document);
                self.lexicon.tokenize(&text, Special::Leave, Control::Parse)
            }
            Form::Marks { before, after } => {
                let tokens = self.lexicon.tokenize(document, Special::Leave, Control::Text)?;
                Ok([before.as_slice(), &tokens, after].concat())
            }
        }
    }

    /// The same with a document that is cut until both fit `most` tokens.
    ///
    /// # Errors
    /// When the query alone does not fit, or the tokenizer fails.
    pub(super) fn within(&self, document: &str, most: usize) -> Result<Vec<Token>, Failure> {
        let wrong = |error: ModelError| Failure::new(ErrorCode::InvalidRequest, error.0);
        let mut pair = self.with(document).map_err(wrong)?;
        if pair.len() <= most {
            return Ok(pair);
        }
        let tokenize = |text: &str| self.lexicon.tokenize(text, Special::Leave, Control::Text);
        let mut tokens = tokenize(document).map_err(wrong)?;
        for _ in 0..TRIES {
            let surplus = pair.len() - most;
            if surplus > tokens.len() {
                break;
            }
            tokens.truncate(tokens.len() - surplus);
            pair = match &self.form {
                Form::Marks { before, after } => [before.as_slice(), &tokens, after].concat(),
                Form::Template(_) => {
                    let text = self.lexicon.detokenize(&tokens).map_err(wrong)?;
                    self.with(&text).map_err(wrong)?
                }
            };
            if pair.len() <= most {
                return Ok(pair);
            }
        }
        let text = format!("the query leaves no room for a document; the context holds {most}");
        Err(Failure::new(ErrorCode::ContextExceeded, text))
    }
}

/// The template with both texts in it. What looks like a place in a text is none.
fn filled(template: &str, query: &str, document: &str) -> String {
    let mut out = String::with_capacity(template.len() + query.len() + document.len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let (before, place) = rest.split_at(at);
        out.push_str(before);
        rest = if let Some(rest) = place.strip_prefix("{query}") {
            out.push_str(query);
            rest
        } else if let Some(rest) = place.strip_prefix("{document}") {
            out.push_str(document);
            rest
        } else {
            out.push('{');
            &place[1..]
        };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::Marks;
    use crate::worker::fake::{FakeLexicon, Template};

    const PLAIN: FakeLexicon = FakeLexicon { pairs: None, ..FakeLexicon::new(Template::None) };
    const SHAPED: FakeLexicon =
        FakeLexicon { pairs: Some("Q{query}D{document}{x}"), ..FakeLexicon::new(Template::None) };

    fn marked(end: Option<Token>) -> FakeLexicon {
        let wanted = |token| Mark { token, wanted: true };
        let marks = Marks {
            begin: wanted(Some(1)),
            end: wanted(end),
            separator: wanted(Some(3)),
            ..Marks::default()
        };
        FakeLexicon { marks, ..PLAIN }
    }

    #[test]
    fn marks_stand_around_both_texts_where_the_model_wants_them() {
        let q = |lexicon: &FakeLexicon| Query::new("q", lexicon).unwrap().with("d").unwrap();
        assert_eq!(q(&PLAIN), [113, 100]);
        assert_eq!(q(&marked(Some(2))), [1, 113, 2, 3, 100, 2]);
        assert_eq!(q(&marked(None)), [1, 113, 3, 3, 100, 3]);
    }

    #[test]
    fn a_template_is_filled_once() {
        let pair = Query::new("{document}", &SHAPED).unwrap().with("d").unwrap();
        assert_eq!(SHAPED.detokenize(&pair).unwrap(), "Q{document}Dd{x}");
    }

    #[test]
    fn a_long_document_is_cut_and_a_long_query_is_not() {
        let cut = |lexicon: &FakeLexicon, query: &str, most| {
            Query::new(query, lexicon).unwrap().within("0123456789", most)
        };
        assert_eq!(cut(&marked(Some(2)), "q", 9).unwrap(), [1, 113, 2, 3, 48, 49, 50, 51, 2]);
        assert_eq!(SHAPED.detokenize(&cut(&SHAPED, "q", 8).unwrap()).unwrap(), "QqD01{x}");
        let failure = cut(&PLAIN, "a long query", 8).unwrap_err();
        assert_eq!(failure.code, ErrorCode::ContextExceeded);
    }
}
