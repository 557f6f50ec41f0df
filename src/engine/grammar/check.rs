//! Checks the rules of a grammar and lays them out: rules that are missing, rules that begin with
//! themselves, calls that nest too deeply. Takes time in proportion to the grammar.

use crate::engine::grammar::GrammarError;
use crate::engine::grammar::rules::{Class, Element, Rules};

/// Longest chain of rules that begin with each other: the machine follows it by recursion.
const MAX_DEPTH: u32 = 500;

/// Checks rules and makes one list of them.
pub(super) fn checked(
    rules: &[Option<Vec<Vec<Element>>>],
    classes: Vec<Class>,
    root: u32,
    names: &[&str],
) -> Result<Rules, GrammarError> {
    if let Some(missing) = rules.iter().position(Option::is_none) {
        return Err(GrammarError(format!("there is no rule `{}`", shown(names[missing]))));
    }
    let mut rules: Vec<Vec<Vec<Element>>> = rules.iter().flatten().cloned().collect();
    let empty = may_be_empty(&rules);
    for element in rules.iter_mut().flatten().flatten() {
        if let Element::Repeat { rule, least, .. } = element
            && empty[*rule as usize]
        {
            // As often as wanted, each time with nothing.
            *least = 0;
        }
    }
    check_beginnings(&rules, &empty, names)?;
    let mut elements = vec![Element::End];
    let mut starts = Vec::with_capacity(rules.len());
    for rule in &rules {
        let mut own = Vec::with_capacity(rule.len());
        for alternative in rule {
            own.push(u32::try_from(elements.len()).expect("fewer elements than bytes"));
            elements.extend_from_slice(alternative);
            elements.push(Element::End);
        }
        starts.push(own);
    }
    Ok(Rules { elements, classes, starts, root })
}

/// Which rules may stand for nothing at all.
fn may_be_empty(rules: &[Vec<Vec<Element>>]) -> Vec<bool> {
    // For each alternative, how many of its parts are not yet known to be empty; for each rule, where it
    // is such a part.
    let mut open = Vec::new();
    let mut users = vec![Vec::new(); rules.len()];
    let mut empty = vec![false; rules.len()];
    let mut todo = Vec::new();
    for (rule, alternative) in
        rules.iter().enumerate().flat_map(|(rule, all)| all.iter().map(move |one| (rule, one)))
    {
        let mut parts = Vec::new();
        let mut possible = true;
        for element in alternative {
            match element {
                Element::Rule(part) => parts.push(*part as usize),
                Element::Repeat { rule: part, least, .. } if *least > 0 => {
                    parts.push(*part as usize);
                }
                Element::Repeat { .. } | Element::End => {}
                Element::Class(_) | Element::Token(_) | Element::NotToken(_) => possible = false,
            }
        }
        if !possible {
            continue;
        }
        if parts.is_empty() {
            todo.push(rule);
        }
        for part in &parts {
            users[*part].push(open.len());
        }
        open.push((rule, parts.len()));
    }
    while let Some(rule) = todo.pop() {
        if std::mem::replace(&mut empty[rule], true) {
            continue;
        }
        for at in &users[rule] {
            let (whose, left) = &mut open[*at];
            *left -= 1;
            if *left == 0 {
                todo.push(*whose);
            }
        }
    }
    empty
}

/// The rules that a rule can begin with.
fn beginnings(rule: &[Vec<Element>], empty: &[bool]) -> Vec<usize> {
    let mut found = Vec::new();
    for alternative in rule {
        for element in alternative {
            let (part, optional) = match element {
                Element::Rule(part) => (*part as usize, false),
                Element::Repeat { rule: part, least, .. } => (*part as usize, *least == 0),
                Element::End | Element::Class(_) | Element::Token(_) | Element::NotToken(_) => {
                    break;
                }
            };
            found.push(part);
            if !optional && !empty[part] {
                break;
            }
        }
    }
    found
}

/// Refusers rules that begin with themselves, and long chains of beginnings.
fn check_beginnings(
    rules: &[Vec<Vec<Element>>],
    empty: &[bool],
    names: &[&str],
) -> Result<(), GrammarError> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        Open,
        /// With the length of its longest chain.
        Done(u32),
    }
    let mut seen = vec![Seen::No; rules.len()];
    for first in 0..rules.len() {
        if seen[first] != Seen::No {
            continue;
        }
        seen[first] = Seen::Open;
        let mut path = vec![(first, beginnings(&rules[first], empty), 0_u32)];
        while let Some((rule, parts, depth)) = path.last_mut() {
            let Some(part) = parts.pop() else {
                let (rule, depth) = (*rule, *depth + 1);
                if depth > MAX_DEPTH {
                    let text = format!("more than {MAX_DEPTH} rules begin with each other");
                    return Err(GrammarError(text));
                }
                seen[rule] = Seen::Done(depth);
                path.pop();
                if let Some((_, _, longest)) = path.last_mut() {
                    *longest = depth.max(*longest);
                }
                continue;
            };
            match seen[part] {
                Seen::Done(found) => *depth = found.max(*depth),
                Seen::Open => {
                    let circle = path.iter().map(|(rule, ..)| *rule).chain([part]).rev();
                    let name = circle.map(|rule| names[rule]).find(|name| !name.is_empty());
                    let name = shown(name.unwrap_or("root"));
                    return Err(GrammarError(format!(
                        "left recursion: the rule `{name}` can begin with itself"
                    )));
                }
                Seen::No => {
                    seen[part] = Seen::Open;
                    path.push((part, beginnings(&rules[part], empty), 0));
                }
            }
        }
    }
    Ok(())
}

fn shown(name: &str) -> String {
    name.chars().take(40).collect()
}
