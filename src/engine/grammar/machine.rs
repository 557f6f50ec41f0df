//! Follows a grammar character by character.
//!
//! A state is the set of places where the text may stand, each with the chain of rules that called it.
//! Equal chains are one `NodeId`, equal states one `StateId`, and every way from one to another is
//! remembered. So the work for a character grows with the grammar, never with the number of ways to read
//! the text. All of it is counted as fuel.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::grammar::GrammarError;
use crate::engine::grammar::rules::{END, ENDLESS, Element, Rules};
use crate::engine::scheduler::Token;

/// A state; numbers are valid until the next [`Machine::tidy`].
pub(super) type StateId = u32;
/// A set of callers.
type NodeId = u32;

/// The node that nobody called: reaching its end is the end of the text.
const BOTTOM: NodeId = 0;
/// States, and parts of nodes, at which what is no longer needed is thrown away.
const MOST_STATES: usize = 20_000;
const MOST_FRAMES: usize = 500_000;

/// A place in the rules, how often its repetition has been done, and who waits for the end of its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Frame {
    at: u32,
    count: u32,
    caller: NodeId,
}

/// Where the text may stand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// Places of characters and tokens.
    frames: Box<[Frame]>,
    /// Whether the text may end here.
    complete: bool,
}

/// A grammar in the middle of a text.
#[derive(Debug)]
pub(super) struct Machine {
    rules: Arc<Rules>,
    nodes: Vec<Box<[Frame]>>,
    node_ids: HashMap<Box<[Frame]>, NodeId>,
    /// Frames of all nodes.
    held: usize,
    states: Vec<State>,
    state_ids: HashMap<State, StateId>,
    /// States by the places behind what was just read; `None` when there are none.
    closed: HashMap<Box<[Frame]>, Option<StateId>>,
    steps: HashMap<(StateId, u32), Option<StateId>>,
    fuel: usize,
}

/// Who waits for the end of a rule, while one step is worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Caller {
    /// From before this step.
    Node(NodeId),
    /// Called in this step; all calls of one rule are one.
    Call(u32),
}

/// A place in this step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Item {
    at: u32,
    count: u32,
    caller: Caller,
}

/// What a rule was called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// A place that goes on behind it.
    Rule,
    /// A repetition: doing nothing once more changes nothing there.
    Repeat,
}

/// A rule that was called in this step.
#[derive(Debug, Default)]
struct Call {
    returns: Vec<(Item, By)>,
    /// It may stand for nothing, so that it ended where it was called.
    empty: bool,
    node: Option<NodeId>,
}

impl Machine {
    /// A machine at the beginning of a text, and its state there.
    pub(super) fn new(rules: &Arc<Rules>, fuel: usize) -> Result<(Self, StateId), GrammarError> {
        let mut machine = Self {
            rules: Arc::clone(rules),
            nodes: vec![Box::default()],
            node_ids: HashMap::new(),
            held: 0,
            states: Vec::new(),
            state_ids: HashMap::new(),
            closed: HashMap::new(),
            steps: HashMap::new(),
            fuel,
        };
        let starts = rules.starts[rules.root as usize].iter();
        let kernel = starts.map(|at| Frame { at: *at, count: 0, caller: BOTTOM }).collect();
        let state = machine.close(kernel)?;
        Ok((machine, state.ok_or_else(|| GrammarError::new("it allows no text"))?))
    }

    /// Allows so much work from now on.
    pub(super) fn refuel(&mut self, fuel: usize) {
        self.fuel = fuel;
    }

    /// The state after a character; `None` when it may not stand here.
    pub(super) fn step(
        &mut self,
        state: StateId,
        char: u32,
    ) -> Result<Option<StateId>, GrammarError> {
        if let Some(next) = self.steps.get(&(state, char)) {
            return Ok(*next);
        }
        let rules = Arc::clone(&self.rules);
        let next = self.advance(state, |element| {
            matches!(element, Element::Class(class) if rules.classes[class as usize].meets(char, char))
        })?;
        self.steps.insert((state, char), next);
        Ok(next)
    }

    /// The state after a token that the grammar names as such.
    pub(super) fn step_token(
        &mut self,
        state: StateId,
        token: Token,
    ) -> Result<Option<StateId>, GrammarError> {
        self.advance(state, |element| {
            element == Element::Token(token)
                || matches!(element, Element::NotToken(other) if other != token)
        })
    }

    /// Whether one of the characters from `low` to `high` may stand here.
    pub(super) fn allows_one_of(&self, state: StateId, low: u32, high: u32) -> bool {
        let classes = &self.rules.classes;
        self.elements(state).any(
            |element| matches!(element, Element::Class(class) if classes[class as usize].meets(low, high)),
        )
    }

    /// What may come next.
    pub(super) fn elements(&self, state: StateId) -> impl Iterator<Item = Element> {
        let frames = self.states[state as usize].frames.iter();
        frames.map(|frame| self.rules.elements[frame.at as usize])
    }

    /// Whether the text may end here.
    pub(super) fn is_complete(&self, state: StateId) -> bool {
        self.states[state as usize].complete
    }

    /// The state in which the text is where it is in either of two.
    pub(super) fn either(&mut self, one: StateId, other: StateId) -> StateId {
        let (a, b) = (&self.states[one as usize], &self.states[other as usize]);
        let mut frames = a.frames.to_vec();
        frames.extend_from_slice(&b.frames);
        frames.sort_unstable();
        frames.dedup();
        let complete = a.complete || b.complete;
        self.state_of(State { frames: frames.into(), complete })
    }

    /// Throws away what `state` does not need when there is much of it; returns the state's new number.
    ///
    /// # Errors
    /// [`GrammarError`] when what it needs is too much.
    pub(super) fn tidy(&mut self, state: StateId) -> Result<StateId, GrammarError> {
        if self.states.len() < MOST_STATES && self.held < MOST_FRAMES {
            return Ok(state);
        }
        let state = self.states[state as usize].clone();
        let mut needed = vec![false; self.nodes.len()];
        let mut todo: Vec<NodeId> = state.frames.iter().map(|frame| frame.caller).collect();
        while let Some(node) = todo.pop() {
            if !std::mem::replace(&mut needed[node as usize], true) {
                todo.extend(self.nodes[node as usize].iter().map(|frame| frame.caller));
            }
        }
        let old = std::mem::replace(&mut self.nodes, vec![Box::default()]);
        self.node_ids.clear();
        self.held = 0;
        // Callers are older than those they called, so they have their new numbers already.
        let mut new = vec![BOTTOM; old.len()];
        let moved =
            |frame: &Frame, new: &[NodeId]| Frame { caller: new[frame.caller as usize], ..*frame };
        for (at, node) in old.iter().enumerate().skip(1).filter(|(at, _)| needed[*at]) {
            let mut frames: Vec<Frame> = node.iter().map(|frame| moved(frame, &new)).collect();
            frames.sort_unstable();
            new[at] = self.node_of(frames);
        }
        if self.held > MOST_FRAMES / 2 {
            return Err(too_much());
        }
        self.states.clear();
        self.state_ids.clear();
        self.closed.clear();
        self.steps.clear();
        let mut frames: Vec<Frame> = state.frames.iter().map(|frame| moved(frame, &new)).collect();
        frames.sort_unstable();
        Ok(self.state_of(State { frames: frames.into(), complete: state.complete }))
    }

    /// States and parts of nodes that are held.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.states.len() + self.held + self.steps.len() + self.closed.len()
    }

    fn burn(&mut self, fuel: usize) -> Result<(), GrammarError> {
        self.fuel = self.fuel.checked_sub(fuel).ok_or_else(too_much)?;
        Ok(())
    }

    fn advance(
        &mut self,
        state: StateId,
        matches: impl Fn(Element) -> bool,
    ) -> Result<Option<StateId>, GrammarError> {
        let frames = &self.states[state as usize].frames;
        let work = 1 + frames.len() / 8;
        let matching = frames.iter().filter(|f| matches(self.rules.elements[f.at as usize]));
        let kernel: Vec<Frame> = matching
            .map(|frame| Frame { at: frame.at + 1, count: 0, caller: frame.caller })
            .collect();
        self.burn(work)?;
        if kernel.is_empty() {
            return Ok(None);
        }
        // From sorted frames, so it is sorted.
        if let Some(known) = self.closed.get(kernel.as_slice()) {
            return Ok(*known);
        }
        let key: Box<[Frame]> = kernel.as_slice().into();
        let next = self.close(kernel)?;
        self.closed.insert(key, next);
        Ok(next)
    }

    /// The state of all places that can be reached from these without reading anything.
    fn close(&mut self, kernel: Vec<Frame>) -> Result<Option<StateId>, GrammarError> {
        let rules = Arc::clone(&self.rules);
        let mut step = Step::default();
        for Frame { at, count, caller } in kernel {
            step.reach(Item { at, count, caller: Caller::Node(caller) });
        }
        while let Some(item) = step.todo.pop() {
            self.burn(1)?;
            let Item { at, count, caller } = item;
            let behind = Item { at: at + 1, count: 0, caller };
            match rules.elements[at as usize] {
                Element::End => match caller {
                    Caller::Node(BOTTOM) => step.complete = true,
                    Caller::Node(node) => {
                        self.burn(self.nodes[node as usize].len())?;
                        for frame in &*self.nodes[node as usize] {
                            let Frame { at, count, caller } = *frame;
                            step.reach(Item { at, count, caller: Caller::Node(caller) });
                        }
                    }
                    Caller::Call(rule) => step.end_empty(rule),
                },
                Element::Rule(rule) => step.call(rule, (behind, By::Rule), &rules),
                Element::Repeat { rule, least, most } => {
                    if count >= least {
                        step.reach(behind);
                    }
                    if count < most {
                        // Without a limit it does not matter how often beyond `least`.
                        let next = if most == ENDLESS { least.min(count + 1) } else { count + 1 };
                        step.call(rule, (Item { at, count: next, caller }, By::Repeat), &rules);
                    }
                }
                Element::Class(_) | Element::Token(_) | Element::NotToken(_) => {
                    step.found.push(item);
                }
            }
        }
        let mut frames = Vec::with_capacity(step.found.len());
        for Item { at, caller, .. } in std::mem::take(&mut step.found) {
            let caller = self.node_of_caller(caller, &mut step.calls, &rules)?;
            frames.push(Frame { at, count: 0, caller });
        }
        if frames.is_empty() && !step.complete {
            return Ok(None);
        }
        frames.sort_unstable();
        frames.dedup();
        Ok(Some(self.state_of(State { frames: frames.into(), complete: step.complete })))
    }

    /// The node of a caller. Recursion is as deep as rules begin with each other, which is checked.
    fn node_of_caller(
        &mut self,
        caller: Caller,
        calls: &mut HashMap<u32, Call>,
        rules: &Rules,
    ) -> Result<NodeId, GrammarError> {
        let rule = match caller {
            Caller::Node(node) => return Ok(node),
            Caller::Call(rule) => rule,
        };
        let call = calls.get_mut(&rule).expect("an item's caller was called");
        if let Some(node) = call.node {
            return Ok(node);
        }
        let returns = std::mem::take(&mut call.returns);
        let mut frames = Vec::with_capacity(returns.len());
        for (Item { at, count, caller }, _) in returns {
            let caller = self.node_of_caller(caller, calls, rules)?;
            if rules.elements[at as usize] != Element::End {
                frames.push(Frame { at, count, caller });
            } else if caller == BOTTOM {
                frames.push(Frame { at: END, count: 0, caller });
            } else {
                // Nothing is left to do there, so its callers are ours: chains of last calls stay short.
                self.burn(self.nodes[caller as usize].len())?;
                frames.extend_from_slice(&self.nodes[caller as usize]);
            }
        }
        frames.sort_unstable();
        frames.dedup();
        let node = self.node_of(frames);
        calls.get_mut(&rule).expect("it was there above").node = Some(node);
        Ok(node)
    }

    fn node_of(&mut self, frames: Vec<Frame>) -> NodeId {
        let frames: Box<[Frame]> = frames.into();
        if let Some(node) = self.node_ids.get(&frames) {
            return *node;
        }
        let node = NodeId::try_from(self.nodes.len()).expect("bounded by fuel and tidy");
        self.held += frames.len();
        self.nodes.push(frames.clone());
        self.node_ids.insert(frames, node);
        node
    }

    fn state_of(&mut self, state: State) -> StateId {
        if let Some(id) = self.state_ids.get(&state) {
            return *id;
        }
        let id = StateId::try_from(self.states.len()).expect("bounded by fuel and tidy");
        self.states.push(state.clone());
        self.state_ids.insert(state, id);
        id
    }
}

/// What one step has reached so far.
#[derive(Debug, Default)]
struct Step {
    todo: Vec<Item>,
    seen: std::collections::HashSet<Item>,
    calls: HashMap<u32, Call>,
    found: Vec<Item>,
    complete: bool,
}

impl Step {
    fn reach(&mut self, item: Item) {
        if self.seen.insert(item) {
            self.todo.push(item);
        }
    }

    /// Begins a rule; `then` is where its caller goes on.
    fn call(&mut self, rule: u32, then: (Item, By), rules: &Rules) {
        let first = !self.calls.contains_key(&rule);
        let call = self.calls.entry(rule).or_default();
        // The same place calls once in a step, or a second time with another count.
        call.returns.push(then);
        let empty = call.empty;
        if first {
            for at in &rules.starts[rule as usize] {
                self.reach(Item { at: *at, count: 0, caller: Caller::Call(rule) });
            }
        } else if empty {
            self.go_on(then);
        }
    }

    /// A rule ended where it was called.
    fn end_empty(&mut self, rule: u32) {
        let Some(call) = self.calls.get_mut(&rule) else { return };
        if std::mem::replace(&mut call.empty, true) {
            return;
        }
        for then in call.returns.clone() {
            self.go_on(then);
        }
    }

    /// Goes on behind a rule that stood for nothing.
    fn go_on(&mut self, (then, by): (Item, By)) {
        if by == By::Rule {
            self.reach(then);
        }
    }
}

fn too_much() -> GrammarError {
    GrammarError::new("the grammar is too ambiguous or too large to be followed here")
}
