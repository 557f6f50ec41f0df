//! Reads GBNF, as llama.cpp's own parser does.
//!
//! Repetitions are counted by the machine, so that `x{0,100000}` is as small as `x*`: a grammar never has
//! more elements than bytes.

use std::collections::HashMap;

use crate::engine::grammar::check::checked;
use crate::engine::grammar::rules::{Class, ENDLESS, Element, Rules};
use crate::engine::grammar::{GrammarError, MAX_NESTING};
use crate::engine::scheduler::Token;

type Alternatives = Vec<Vec<Element>>;

/// Reads and checks a grammar of at most `most_bytes` bytes. `token` finds the token of a name such as
/// `<|end|>`.
///
/// # Errors
/// [`GrammarError`] says what is wrong, and in which line.
pub fn parse(
    text: &str,
    most_bytes: usize,
    token: &dyn Fn(&str) -> Option<Token>,
) -> Result<Rules, GrammarError> {
    if text.len() > most_bytes {
        let given = text.len();
        return Err(GrammarError(format!("it has {given} bytes; at most {most_bytes} are read")));
    }
    let mut parser = Parser {
        text,
        at: 0,
        token,
        rules: Vec::new(),
        names: HashMap::new(),
        classes: Vec::new(),
        known: HashMap::new(),
    };
    parser.grammar()?;
    let Parser { rules, names, classes, .. } = parser;
    let mut by_rule = vec![""; rules.len()];
    for (name, rule) in &names {
        by_rule[*rule as usize] = name;
    }
    let root = *names.get("root").ok_or_else(|| GrammarError::new("it has no rule `root`"))?;
    checked(&rules, classes, root, &by_rule)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    token: &'a dyn Fn(&str) -> Option<Token>,
    /// `None` while a rule is only referred to.
    rules: Vec<Option<Alternatives>>,
    names: HashMap<&'a str, u32>,
    classes: Vec<Class>,
    known: HashMap<Class, u32>,
}

impl<'a> Parser<'a> {
    fn grammar(&mut self) -> Result<(), GrammarError> {
        self.space(true);
        while self.at < self.text.len() {
            self.rule()?;
        }
        Ok(())
    }

    fn rule(&mut self) -> Result<(), GrammarError> {
        let name = self.name()?;
        self.space(false);
        if !self.rest().starts_with("::=") {
            return Err(self.expected("`::=`"));
        }
        self.at += 3;
        self.space(true);
        let rule = self.rule_named(name);
        let alternatives = self.alternatives(0)?;
        self.rules[rule as usize] = Some(alternatives);
        match self.peek() {
            Some('\r' | '\n') | None => self.space(true),
            Some(_) => return Err(self.expected("the end of the rule")),
        }
        Ok(())
    }

    fn alternatives(&mut self, nesting: usize) -> Result<Alternatives, GrammarError> {
        let mut all = vec![self.sequence(nesting)?];
        while self.peek() == Some('|') {
            self.at += 1;
            self.space(true);
            all.push(self.sequence(nesting)?);
        }
        Ok(all)
    }

    fn sequence(&mut self, nesting: usize) -> Result<Vec<Element>, GrammarError> {
        let mut sequence = Vec::new();
        // Where the item begins that a repetition would repeat.
        let mut item = 0;
        while let Some(next) = self.peek() {
            match next {
                '"' => {
                    item = sequence.len();
                    self.literal(&mut sequence)?;
                }
                '[' => {
                    item = sequence.len();
                    sequence.extend(self.class()?);
                }
                '.' => {
                    item = sequence.len();
                    self.at += 1;
                    sequence.push(self.class_of(Class::new(vec![], true)));
                }
                '<' | '!' => {
                    item = sequence.len();
                    sequence.push(self.token()?);
                }
                '(' => {
                    item = sequence.len();
                    sequence.push(Element::Rule(self.group(nesting)?));
                }
                '*' | '+' | '?' | '{' => {
                    let (least, most) = self.times()?;
                    if item == sequence.len() {
                        return Err(self.wrong("a repetition of nothing"));
                    }
                    let rule = self.rule_of(sequence.split_off(item));
                    sequence.push(Element::Repeat { rule, least, most });
                }
                _ if is_word(next) => {
                    item = sequence.len();
                    let name = self.name()?;
                    sequence.push(Element::Rule(self.rule_named(name)));
                }
                _ => break,
            }
            self.space(nesting > 0);
        }
        Ok(sequence)
    }

    fn literal(&mut self, sequence: &mut Vec<Element>) -> Result<(), GrammarError> {
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(self.expected("`\"`")),
                Some('"') => break,
                Some(_) => {
                    let char = self.char()?;
                    sequence.push(self.class_of(Class::new(vec![(char, char)], false)));
                }
            }
        }
        self.at += 1;
        Ok(())
    }

    /// A class; nothing for an empty one, as in llama.cpp.
    fn class(&mut self) -> Result<Option<Element>, GrammarError> {
        self.at += 1;
        let negated = self.peek() == Some('^');
        self.at += usize::from(negated);
        let mut ranges = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.expected("`]`")),
                Some(']') => break,
                Some(_) => {
                    let low = self.char()?;
                    let rest = self.rest();
                    let mut high = low;
                    if rest.starts_with('-') && !rest.starts_with("-]") {
                        self.at += 1;
                        high = self.char()?;
                    }
                    ranges.push((low, high));
                }
            }
        }
        self.at += 1;
        if ranges.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.class_of(Class::new(ranges, negated))))
    }

    /// A character or an escape.
    fn char(&mut self) -> Result<u32, GrammarError> {
        let Some(char) = self.peek() else { return Err(self.expected("a character")) };
        self.at += char.len_utf8();
        if char != '\\' {
            return Ok(u32::from(char));
        }
        let Some(escape) = self.peek() else { return Err(self.expected("an escape")) };
        self.at += escape.len_utf8();
        let digits = match escape {
            't' => return Ok(9),
            'n' => return Ok(10),
            'r' => return Ok(13),
            '\\' | '"' | '[' | ']' | '-' => return Ok(u32::from(escape)),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return Err(self.wrong(&format!("an unknown escape `\\{escape}`"))),
        };
        let hex =
            self.rest().get(..digits).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(value) = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok()) else {
            return Err(self.expected(&format!("{digits} hexadecimal digits")));
        };
        self.at += digits;
        Ok(value)
    }

    fn token(&mut self) -> Result<Element, GrammarError> {
        let negated = self.peek() == Some('!');
        self.at += usize::from(negated);
        let rest = self.rest();
        let Some(end) = rest.find('>').filter(|_| rest.starts_with('<')) else {
            return Err(self.expected("a token such as `<[5]>` or `<name>`"));
        };
        let name = &rest[..=end];
        let number = name.strip_prefix("<[").and_then(|name| name.strip_suffix("]>"));
        let token = match number {
            Some(number) => number.parse().ok(),
            None => (self.token)(name),
        };
        let Some(token) = token else {
            let name: String = name.chars().take(40).collect();
            return Err(self.wrong(&format!("`{name}` is no token")));
        };
        self.at += end + 1;
        Ok(if negated { Element::NotToken(token) } else { Element::Token(token) })
    }

    fn group(&mut self, nesting: usize) -> Result<u32, GrammarError> {
        if nesting == MAX_NESTING {
            return Err(self.wrong(&format!("brackets nested deeper than {MAX_NESTING}")));
        }
        self.at += 1;
        self.space(true);
        let alternatives = self.alternatives(nesting + 1)?;
        if self.peek() != Some(')') {
            return Err(self.expected("`)`"));
        }
        self.at += 1;
        Ok(self.add(alternatives))
    }

    /// How often the item before is repeated.
    fn times(&mut self) -> Result<(u32, u32), GrammarError> {
        let sign = self.peek();
        self.at += 1;
        match sign {
            Some('*') => return Ok((0, ENDLESS)),
            Some('+') => return Ok((1, ENDLESS)),
            Some('?') => return Ok((0, 1)),
            Some(_) | None => {}
        }
        self.space(false);
        let least = self.number()?;
        self.space(false);
        let mut most = least;
        if self.peek() == Some(',') {
            self.at += 1;
            self.space(false);
            let open = self.peek() == Some('}');
            most = if open { ENDLESS } else { self.number()? };
            self.space(false);
        }
        if self.peek() != Some('}') {
            return Err(self.expected("`}`"));
        }
        self.at += 1;
        if most < least {
            return Err(self.wrong(&format!("a repetition of {least} to {most} times")));
        }
        Ok((least, most))
    }

    fn number(&mut self) -> Result<u32, GrammarError> {
        let rest = self.rest();
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let Some(number) = rest[..digits].parse().ok().filter(|number| *number < ENDLESS) else {
            return Err(self.expected("a number below 4294967295"));
        };
        self.at += digits;
        Ok(number)
    }

    fn name(&mut self) -> Result<&'a str, GrammarError> {
        let rest = self.rest();
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if length == 0 {
            return Err(self.expected("the name of a rule"));
        }
        self.at += length;
        Ok(&rest[..length])
    }

    fn rule_named(&mut self, name: &'a str) -> u32 {
        let next = number_of(self.rules.len());
        let rule = *self.names.entry(name).or_insert(next);
        if rule == next {
            self.rules.push(None);
        }
        rule
    }

    /// The rule of an item: itself when it is one.
    fn rule_of(&mut self, item: Vec<Element>) -> u32 {
        match item.as_slice() {
            [Element::Rule(rule)] => *rule,
            _ => self.add(vec![item]),
        }
    }

    fn add(&mut self, alternatives: Alternatives) -> u32 {
        let rule = number_of(self.rules.len());
        self.rules.push(Some(alternatives));
        rule
    }

    fn class_of(&mut self, class: Class) -> Element {
        let next = number_of(self.classes.len());
        let id = *self.known.entry(class.clone()).or_insert(next);
        if id == next {
            self.classes.push(class);
        }
        Element::Class(id)
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Skips spaces and comments, and line breaks where they may stand.
    fn space(&mut self, line_breaks: bool) {
        while let Some(next) = self.peek() {
            match next {
                ' ' | '\t' => self.at += 1,
                '\r' | '\n' if line_breaks => self.at += 1,
                '#' => self.at += self.rest().find(['\r', '\n']).unwrap_or(self.rest().len()),
                _ => break,
            }
        }
    }

    fn expected(&self, what: &str) -> GrammarError {
        let found: String = self.rest().chars().take(20).collect();
        let found = if found.is_empty() { "the end".into() } else { format!("`{found}`") };
        self.wrong(&format!("expected {what}, found {found}"))
    }

    fn wrong(&self, what: &str) -> GrammarError {
        let line = self.text[..self.at].matches('\n').count() + 1;
        GrammarError(format!("line {line}: {what}"))
    }
}

fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '-'
}

fn number_of(length: usize) -> u32 {
    u32::try_from(length).expect("a grammar has fewer parts than bytes")
}
