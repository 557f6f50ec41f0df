//! Makes a grammar that can be followed of `grammar`, `json_schema` and triggers.
//!
//! Runs on the preparation threads: parsing and converting take a while, and the converter recurses.

use std::sync::Arc;

use crate::domain::error::{ErrorCode, Failure};
use crate::domain::steering::Tokens;
use crate::engine::grammar::guide::{Guide, Guided};
use crate::engine::grammar::parse::parse;
use crate::engine::grammar::trigger::{Trigger, Triggers};
use crate::engine::grammar::{GrammarError, MAX_BYTES, MAX_MADE_BYTES, schema};
use crate::engine::model::{Control, Lexicon, Special};
use crate::engine::scheduler::Token;
use crate::protocol::sampling::{GrammarTrigger, SamplingParams};
use crate::worker::recipe::tokens;

/// What the text must look like; `None` when nothing is said about it.
///
/// # Errors
/// A grammar, schema or trigger that is wrong or too large.
pub(super) fn guided(
    params: &mut SamplingParams,
    lexicon: &dyn Lexicon,
) -> Result<Option<Guided>, Failure> {
    let grammar = std::mem::take(&mut params.grammar);
    let token = |name: &str| one_token(name, lexicon);
    let rules = match (grammar.is_empty(), params.json_schema.take()) {
        (true, None) => return Ok(None),
        (false, None) => parse(&grammar, MAX_BYTES, &token).map_err(|e| wrong("grammar", &e))?,
        (true, Some(schema)) => {
            let text = schema::checked(&schema).map_err(|error| wrong("json_schema", &error))?;
            let grammar = lexicon.schema_grammar(&text);
            let grammar = grammar.map_err(|error| wrong("json_schema", &GrammarError(error.0)))?;
            parse(&grammar, MAX_MADE_BYTES, &token).map_err(|e| wrong("json_schema", &e))?
        }
        (false, Some(_)) => {
            let text = "`grammar` and `json_schema` exclude each other";
            return Err(Failure::new(ErrorCode::InvalidRequest, text));
        }
    };
    let triggers = if params.grammar_lazy {
        let triggers = std::mem::take(&mut params.grammar_triggers);
        let triggers: Result<Vec<_>, _> =
            triggers.into_iter().map(|trigger| read(trigger, lexicon)).collect();
        Some(Triggers::new(triggers?).map_err(|error| wrong("grammar_triggers", &error))?)
    } else {
        None
    };
    let guided = Guided { rules: Arc::new(rules), triggers, vocabulary: lexicon.vocabulary() };
    // The sorted vocabulary and the first mask are the dear ones; a grammar too ambiguous to begin is
    // refused here, before it costs anybody a step.
    guided.vocabulary.sorted();
    let mut guide = Guide::new(&guided).map_err(|error| wrong("grammar", &error))?;
    guide.mask().map_err(|error| wrong("grammar", &error))?;
    Ok(Some(guided))
}

fn read(trigger: GrammarTrigger, lexicon: &dyn Lexicon) -> Result<Trigger, Failure> {
    Ok(match trigger {
        GrammarTrigger::Word(word) => Trigger::Word(word),
        GrammarTrigger::Pattern(pattern) => Trigger::Pattern(pattern),
        GrammarTrigger::PatternFull(pattern) => Trigger::WholePattern(pattern),
        GrammarTrigger::Token(token) => {
            let token = tokens("grammar_triggers", &Tokens::Listed(vec![token]), lexicon)?[0];
            let mut bytes = lexicon.vocabulary().bytes(token).to_vec();
            if bytes.is_empty() {
                // Control tokens are known by their names.
                bytes = lexicon.detokenize(&[token]).unwrap_or_default().into_bytes();
            }
            Trigger::Token(token, bytes)
        }
    })
}

/// The token of a name such as `<|end|>`.
fn one_token(name: &str, lexicon: &dyn Lexicon) -> Option<Token> {
    let tokens = lexicon.tokenize(name, Special::Leave, Control::Parse).ok()?;
    if let [token] = tokens.as_slice() { Some(*token) } else { None }
}

fn wrong(name: &str, error: &GrammarError) -> Failure {
    Failure::new(ErrorCode::InvalidRequest, format!("`{name}`: {error}"))
}
