//! Grammars followed over a small vocabulary: texts that fit, masks, and what is sent to do harm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::guide::{Guide, Guided};
use super::parse::parse;
use super::trigger::{Trigger, Triggers};
use super::{GrammarError, MAX_BYTES, MAX_NESTING};
use crate::engine::scheduler::Token;
use crate::engine::vocabulary::Vocabulary;

/// Tokens 0 to 255 are bytes; then these words; the last one ends a text.
const WORDS: [&str; 6] = ["ab", "abc", "{\"", "\": ", "true", "€x"];
const END: Token = 256 + 6;

fn vocabulary() -> Arc<Vocabulary> {
    let mut vocabulary = Vocabulary::default();
    (0..=u8::MAX).for_each(|byte| vocabulary.push(&[byte], false));
    for word in WORDS {
        vocabulary.push(word.as_bytes(), false);
    }
    vocabulary.push(&[], true);
    Arc::new(vocabulary)
}

fn guided(grammar: &str) -> Result<Guided, GrammarError> {
    let rules = Arc::new(parse(grammar, MAX_BYTES, &|name| (name == "<end>").then_some(END))?);
    Ok(Guided { rules, triggers: None, vocabulary: vocabulary() })
}

fn guide(grammar: &str) -> Guide {
    Guide::new(&guided(grammar).unwrap()).unwrap()
}

/// Whether a text is read to its end.
fn reads(grammar: &str, text: &str) -> bool {
    let mut guide = guide(grammar);
    for byte in text.bytes() {
        if guide.accept(Token::from(byte)).is_err() {
            return false;
        }
    }
    guide.allows(END).unwrap()
}

fn allowed(guide: &mut Guide) -> Vec<Token> {
    let mask = guide.mask().unwrap();
    (0..=END).filter(|token| mask.allows(*token)).collect()
}

#[test]
fn texts_that_fit_are_read_and_others_are_not() {
    for (grammar, good, bad) in [
        ("root ::= \"abc\"", vec!["abc"], vec!["", "ab", "abcd", "x"]),
        ("root ::= [a-c]+ | \"€\"?", vec!["", "abccba", "€"], vec!["d", "a€", "€€"]),
        (
            "root ::= \"a\"{2,3} \"b\"{2} \"c\"{0,}",
            vec!["aabb", "aaabbccc"],
            vec!["abb", "aaaabb", "aab"],
        ),
        ("root ::= x | \"y\"\nx ::= \"(\" root \")\"", vec!["y", "((y))"], vec!["(", "(y", "y)"]),
        ("root ::= (\"a\" | \"b\" # one\n \"c\")*", vec!["", "abca"], vec!["b", "ac"]),
        ("root ::= [^\"\\x00-\\x1F] .", vec!["a\n", "é\u{10FFFF}"], vec!["\"a", "\na", "a"]),
        ("root ::= \"\\u20AC\\n\\t\\\\\\\"\"", vec!["€\n\t\\\""], vec!["€n"]),
        ("root ::= a* \"x\"\na ::= \"y\"?", vec!["x", "yyx"], vec!["y", "yy"]),
        ("root ::= a{3} \"x\"\na ::= \"y\"?", vec!["x", "yx", "yyyx"], vec!["y"]),
        // A repetition that comes behind what may be nothing is not one that gains nothing.
        ("root ::= (\"k\"? \"\") \"b\"* \"c\"", vec!["c", "kc", "bbc"], vec!["b", "bk"]),
        ("root ::= \"ab\"{0,100000}", vec!["", "abab"], vec!["aba"]),
        ("root ::= a-b\r\na-b ::= \"1\"\r\n# end", vec!["1"], vec!["2"]),
    ] {
        for text in good {
            assert!(reads(grammar, text), "{grammar} should read {text:?}");
        }
        for text in bad {
            assert!(!reads(grammar, text), "{grammar} should not read {text:?}");
        }
    }
}

#[test]
fn a_mask_has_the_tokens_that_can_be_accepted() {
    let mut guide = guide("root ::= \"{\" [\"] \"ab\" [cd] [\"] \":\" \" \" (\"true\" | \"€\")");
    for text in ["{\"", "ab", "c", "\": "] {
        let token = (0..END).find(|token| vocabulary().bytes(*token) == text.as_bytes());
        let token = token.unwrap();
        assert!(allowed(&mut guide).contains(&token), "{text}");
        guide.accept(token).unwrap();
    }
    // `true` as a word or by its first letter; of the euro only its first byte, for the word has an x.
    assert_eq!(allowed(&mut guide), [Token::from(b't'), 0xE2, 256 + 4]);
    guide.accept(0xE2).unwrap();
    assert_eq!(allowed(&mut guide), [0x82]);
    guide.accept(0x82).unwrap();
    guide.accept(0xAC).unwrap();
    assert_eq!(allowed(&mut guide), [END], "nothing but the end");
    assert!(guide.accept(5).is_err());
}

#[test]
fn tokens_can_be_named() {
    let mut guide = guide("root ::= <[5]> !<[97]> \"x\" | \"ab\" <[257]>?");
    assert_eq!(allowed(&mut guide), [5, Token::from(b'a'), 256]);
    guide.accept(5).unwrap();
    assert!(!guide.allows(97).unwrap() && guide.allows(257).unwrap());
    guide.accept(257).unwrap();
    assert_eq!(allowed(&mut guide), [Token::from(b'x')]);
    let error = guided("root ::= <nobody>").unwrap_err().0;
    assert!(error.contains("`<nobody>` is no token"), "{error}");
}

#[test]
fn a_lazy_grammar_holds_from_its_trigger_on() {
    let triggers = |triggers| Some(Triggers::new(triggers).unwrap());
    let mut guided = guided("root ::= \"<x>\" [0-9]").unwrap();
    guided.triggers = triggers(vec![Trigger::Word("<x>".into())]);
    let mut guide = Guide::new(&guided).unwrap();
    for byte in b"any text <x" {
        assert!(guide.allows(END).unwrap() && guide.allows(Token::from(*byte)).unwrap());
        guide.accept(Token::from(*byte)).unwrap();
    }
    guide.accept(Token::from(b'>')).unwrap();
    assert_eq!(allowed(&mut guide), (b'0'..=b'9').map(Token::from).collect::<Vec<_>>());
    // A control token stands for its name.
    guided.triggers = triggers(vec![Trigger::Token(7, b"<x>".to_vec())]);
    let mut guide = Guide::new(&guided).unwrap();
    guide.accept(Token::from(b'<')).unwrap();
    guide.accept(7).unwrap();
    assert!(!guide.allows(7).unwrap() && guide.allows(Token::from(b'0')).unwrap());
    // What triggered must fit.
    guided.triggers = triggers(vec![Trigger::Word("y".into())]);
    let mut guide = Guide::new(&guided).unwrap();
    assert!(guide.accept(Token::from(b'y')).unwrap_err().0.contains("does not fit"));
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let deep =
        format!("root ::= {}\"a\"{}", "(".repeat(MAX_NESTING + 1), ")".repeat(MAX_NESTING + 1));
    let long_chain = lines(600, |n| format!("r{n} ::= r{}", n + 1));
    let long_chain = format!("root ::= r0\n{long_chain}r600 ::= \"x\"");
    for (grammar, text) in [
        ("", "no rule `root`"),
        ("root", "line 1: expected `::=`, found the end"),
        ("root ::= \"a", "expected `\"`"),
        ("root ::= [a", "expected `]`"),
        ("root ::= \"a\"\n\nx = 5", "line 3: expected `::=`, found `= 5`"),
        ("root ::= other", "no rule `other`"),
        ("root ::= (\"a\"", "expected `)`"),
        ("root ::= *", "a repetition of nothing"),
        ("root ::= \"a\"{3,2}", "3 to 2 times"),
        ("root ::= \"a\"{99999999999}", "expected a number"),
        ("root ::= \"\\q\"", "unknown escape `\\q`"),
        ("root ::= \"\\x1\"", "2 hexadecimal digits"),
        ("root ::= root \"a\" | \"b\"", "left recursion: the rule `root`"),
        ("root ::= a \"x\"\na ::= b\nb ::= a | \"y\"", "left recursion"),
        // llama.cpp takes this one and then fills the memory.
        ("root ::= n root \"b\" | \"c\"\nn ::= m\nm ::= \"x\" | \"\"", "left recursion"),
        (&deep, "nested deeper than 200"),
        (&"(".repeat(60_000), "expected the name of a rule"),
        (&format!("root ::= {}", "(".repeat(60_000)), "nested deeper than 200"),
        (&long_chain, "more than 500 rules begin with each other"),
        (&"a".repeat(MAX_BYTES + 1), "at most 65536"),
        ("root ::= \"a\" @", "expected the end of the rule, found `@`"),
    ] {
        let error = guided(grammar).unwrap_err().0;
        assert!(error.contains(text), "{grammar:.60}: {error}");
    }
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(|n| line(n) + "\n").collect()
}

/// Grammars that take exponential time or memory where every reading is kept apart.
fn hostile() -> Vec<(String, &'static str)> {
    let doubling = lines(40, |n| format!("r{n} ::= r{0} \"a\" | r{0} \"b\"", n + 1));
    let empty = lines(40, |n| format!("e{n} ::= e{0} e{0} |", n + 1));
    let words: Vec<String> = (0..6_000).map(|n| format!("\"w{n}\"")).collect();
    vec![
        ("root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"a\"".into(), "a"),
        ("root ::= (\"a\" | \"a\")* \"x\"".into(), "a"),
        ("root ::= ((\"a\"*)*)* \"x\"".into(), "a"),
        ("root ::= s s s s s s \"x\"\ns ::= \"a\" s \"a\" | \"a\" s | \"a\"".into(), "a"),
        (format!("root ::= r0\n{doubling}r40 ::= \"a\" r40 | \"x\""), "a"),
        (format!("root ::= e0 \"a\" root | \"x\"\n{empty}e40 ::= \"a\"?"), "a"),
        ("root ::= \"a\"{0,100000} \"a\"{0,100000} \"x\"".into(), "a"),
        ("root ::= ((\"a\"{1,1000}){1,1000}){1,1000} \"x\"".into(), "a"),
        ("root ::= [a-z]* [a-y]* [a-x]* [a-w]* [a-v]* \"x\"".into(), "a"),
        (format!("root ::= ({}) root | \"x\"", words.join(" | ")), "w5999"),
        ("root ::= \"a\" root | \"x\"".into(), "a"),
        ("root ::= \"a\" x\nx ::= root".into(), "a"),
    ]
}

#[test]
fn hostile_grammars_are_followed_or_given_up_soon() {
    for (grammar, text) in hostile() {
        let mut longest = Duration::ZERO;
        let mut before = Instant::now();
        if let Ok(mut guide) = guided(&grammar).and_then(|guided| Guide::new(&guided)) {
            for byte in text.bytes().cycle().take(400) {
                let given_up = guide.mask().is_err() || guide.accept(Token::from(byte)).is_err();
                longest = longest.max(before.elapsed());
                before = Instant::now();
                if given_up {
                    break;
                }
            }
            assert!(guide.size() < 2_000_000);
        }
        // A build without optimization is some twenty times slower.
        let most = if cfg!(debug_assertions) { 20 } else { 2 };
        assert!(longest < Duration::from_secs(most), "{grammar:.80}: {longest:?}");
    }
}

#[test]
fn a_long_text_takes_bounded_memory() {
    // Each item counts, so that no state comes twice.
    let mut guide = guide("root ::= item{0,200000}\nitem ::= \"a\" [b-d]{1,3} | \"(\" item \")\"");
    for at in 0..60_000 {
        guide.accept(Token::from([b'a', b'b', b'c'][at % 3])).unwrap();
    }
    assert!(guide.size() < 2_000_000, "{}", guide.size());
    assert!(guide.allows(Token::from(b'(')).unwrap() && guide.allows(END).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_that_is_sent_panics(grammar in "(root ::= )?[a-c\"\\[\\]{}()*+?|!<>0-9,.^\\\\\\-#:= \\n€-]{0,60}") {
        if let Ok(guided) = guided(&grammar)
            && let Ok(mut guide) = Guide::new(&guided)
        {
            for byte in [b'a', b'b', b'0', 0xE2] {
                let _ = guide.mask();
                let _ = guide.accept(Token::from(byte));
            }
        }
    }

    #[test]
    fn a_mask_allows_what_is_accepted(
        parts in prop::collection::vec("[a-c]|\"(ab|b|c|€)\"|\\[[a-c]{1,2}\\]|\\(\"a\" \\| \"bc\"\\)|\\.", 1..6),
        times in prop::collection::vec("[*+?]|\\{[0-3],[3-5]\\}|", 6),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
    ) {
        let root: Vec<String> = parts.iter().zip(&times).map(|(part, times)| part.clone() + times).collect();
        let root = root.join(" ");
        let grammar = format!("root ::= {root}\na ::= \"ab\" | \"c\" a\nb ::= \"b\"?\nc ::= [^a]");
        let mut guide = guide(&grammar);
        for pick in picks {
            let Ok(mask) = guide.mask() else { break };
            let mut all = Vec::new();
            for token in 0..=END {
                prop_assert_eq!(mask.allows(token), guide.allows(token).unwrap(), "{} {}", grammar, token);
                if mask.allows(token) && token != END {
                    all.push(token);
                }
            }
            if all.is_empty() {
                break;
            }
            guide.accept(all[pick.index(all.len())]).unwrap();
        }
    }
}
