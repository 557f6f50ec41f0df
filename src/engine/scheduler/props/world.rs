//! A cache that remembers everything it was given, and generations whose text shows any mistake.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::engine::scheduler::cost::Costs;
use crate::engine::scheduler::host::StoredBlock;
use crate::engine::scheduler::queue::MOST_OVERTAKEN;
use crate::engine::scheduler::{
    Adapters, Admitted, Cancelled, Cutting, Entry, Limits, Move, NoRoom, OnFull, Outcome, Restored,
    Sampled, Scheduler, SeqIdx, Token, Verdict, Waiting,
};

/// A generation as the test follows it.
#[derive(Debug, Default)]
pub(super) struct Followed {
    pub(super) prompt: Vec<Token>,
    pub(super) most: usize,
    pub(super) adapters: Adapters,
    pub(super) shifts: bool,
    pub(super) made: Vec<Token>,
    pub(super) admitted: bool,
    pub(super) ends: usize,
    pub(super) cancelled: bool,
    /// Later ones that were admitted before it.
    pub(super) overtaken: u32,
}

/// A cell: what it says and what it was computed with.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    number: usize,
    token: Token,
    adapters: Adapters,
}

/// A cache and a rule for the next token: a hash of the whole context, so any mistake changes the text.
pub(super) struct World {
    pub(super) scheduler: Scheduler,
    limits: Limits,
    cache: Vec<Vec<Cell>>,
    cells_made: usize,
    in_seq: Vec<Option<u64>>,
    pub(super) all: BTreeMap<u64, Followed>,
    pub(super) on_disk: Vec<StoredBlock>,
    pub(super) state_fails: bool,
    /// Tokens that were decoded.
    pub(super) decoded: usize,
}

/// The token after a context; every eighth or so ends the text.
pub(super) fn next_token(context: &[Token], adapters: Adapters) -> (Token, Verdict) {
    let hash = context.iter().fold(17 + u64::from(adapters), |hash, token| {
        hash.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(9) ^ u64::from(token.unsigned_abs())
    });
    let token = Token::try_from(hash >> 40 & 0xFFFF).unwrap() + 1_000;
    let verdict = if hash % 8 == 0 { Verdict::Ends } else { Verdict::GoesOn };
    (token, verdict)
}

const KEEP: usize = 10;

impl World {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            scheduler: Scheduler::new(limits, Costs::default()),
            limits,
            cache: vec![Vec::new(); limits.sequences],
            cells_made: 0,
            in_seq: vec![None; limits.sequences],
            all: BTreeMap::new(),
            on_disk: vec![],
            state_fails: false,
            decoded: 0,
        }
    }

    pub(super) fn submit(&mut self, followed: Followed) {
        let id = self.all.len() as u64;
        let Followed { prompt, most, adapters, shifts, .. } = &followed;
        let (prompt, most, adapters) = (prompt.clone(), *most, *adapters);
        let on_full = if *shifts { OnFull::Shift { keep: KEEP } } else { OnFull::End };
        self.all.insert(id, followed);
        let stores = id.is_multiple_of(3);
        self.scheduler.submit(Waiting { id, ticket: id, prompt, most, adapters, on_full, stores });
    }

    pub(super) fn cancel(&mut self, id: u64) {
        let followed = self.all.get_mut(&id).unwrap();
        match self.scheduler.cancel(id) {
            Some(Cancelled::Running(seq)) => {
                assert_eq!(self.in_seq[seq].take(), Some(id));
            }
            Some(Cancelled::Waiting) => assert!(!self.in_seq.contains(&Some(id))),
            None => return assert_eq!(followed.ends, 1, "only an ended generation is unknown"),
        }
        followed.ends += 1;
        followed.cancelled = true;
    }

    fn fails(&mut self) -> bool {
        std::mem::take(&mut self.state_fails)
    }

    fn new_cell(&mut self, token: Token, adapters: Adapters) -> Cell {
        self.cells_made += 1;
        Cell { number: self.cells_made, token, adapters }
    }

    fn taken(&self) -> usize {
        self.cache.iter().flatten().map(|cell| cell.number).collect::<HashSet<_>>().len()
    }

    fn make_moves(&mut self) {
        while let Some(next) = self.scheduler.next_move() {
            match next {
                Move::Cut(seq, from) => {
                    assert!(from == 0 || self.limits.cutting == Cutting::Anywhere);
                    self.cache[seq].truncate(from);
                }
                Move::Share(from, to, range) => {
                    assert_eq!(self.cache[to].len(), range.start);
                    let cells = self.cache[from][range].to_vec();
                    self.cache[to].extend(cells);
                }
                Move::Save(seq, range) => {
                    assert_eq!(self.in_seq[seq], None, "only idle chats leave");
                    let tokens = self.cache[seq][range.clone()].iter().map(|cell| cell.token);
                    let start = Token::try_from(range.start).unwrap();
                    let words: Vec<Token> = std::iter::once(start).chain(tokens).collect();
                    let state = words.into_iter().flat_map(Token::to_le_bytes).collect();
                    let state = if self.fails() { None } else { Some(state) };
                    self.scheduler.saved(state);
                }
                Move::Restore(seq, restored) => self.restore(seq, &restored),
                Move::Own(seq) => {
                    if self.fails() {
                        self.cache[seq].clear();
                        self.scheduler.not_owned(seq);
                        self.end(seq);
                        continue;
                    }
                    let old = std::mem::take(&mut self.cache[seq]);
                    for cell in old {
                        let cell = self.new_cell(cell.token, cell.adapters);
                        self.cache[seq].push(cell);
                    }
                }
                Move::Shift(seq, gone) => {
                    for (at, cell) in self.cache[seq].iter().enumerate().skip(gone.start) {
                        let others =
                            self.cache.iter().enumerate().filter(|(other, _)| *other != seq);
                        let shared = others.flat_map(|(_, cells)| cells).any(|c| c == cell);
                        assert!(!shared, "cell {at} would move for a neighbour too");
                    }
                    self.cache[seq].drain(gone);
                }
                Move::Store(block) => self.on_disk.push(*block),
            }
        }
    }

    fn restore(&mut self, seq: SeqIdx, restored: &Restored) {
        if self.fails() {
            return self.scheduler.not_restored(seq, restored);
        }
        let words: Vec<Token> = self
            .scheduler
            .state(restored)
            .chunks_exact(4)
            .map(|bytes| Token::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        let start = usize::try_from(words[0]).unwrap();
        let range = restored.range.clone();
        assert_eq!(self.cache[seq].len(), range.start);
        let adapters = self.all[&self.in_seq[seq].expect("only those who read restore")].adapters;
        for token in &words[1 + range.start - start..1 + range.end - start] {
            let cell = self.new_cell(*token, adapters);
            self.cache[seq].push(cell);
        }
    }

    fn admit(&mut self) {
        loop {
            self.make_moves();
            let Some(admitted) = self.scheduler.admit() else { break };
            let Admitted { id, seq, cached, prompt } = admitted;
            assert_eq!(self.in_seq[seq].replace(id), None, "a sequence runs one generation");
            assert!(self.in_seq.iter().flatten().count() <= self.limits.running);
            assert!(cached < prompt, "the last token of a prompt is always read");
            if std::mem::replace(&mut self.all.get_mut(&id).unwrap().admitted, true) {
                continue;
            }
            for (_, earlier) in self.all.range_mut(..id) {
                earlier.overtaken += u32::from(!earlier.admitted && earlier.ends == 0);
                assert!(earlier.overtaken <= MOST_OVERTAKEN || earlier.ends > 0);
            }
        }
    }

    pub(super) fn step(&mut self, mut no_room: usize, breaks: bool) {
        self.admit();
        self.guess();
        assert_eq!(self.taken(), self.scheduler.kept().0, "the account is right");
        assert!(self.scheduler.kept().1 <= self.limits.host_bytes);
        loop {
            let batch = self.scheduler.plan().to_vec();
            if batch.is_empty() {
                return;
            }
            assert!(batch.len() <= self.limits.batch.max(self.limits.outputs));
            assert!(batch.iter().filter(|e| e.wants_logits).count() <= self.limits.outputs);
            if breaks {
                for seq in self.scheduler.broken() {
                    self.end(seq);
                }
                self.cache.iter_mut().for_each(Vec::clear);
                return;
            }
            if no_room == 0 && self.taken() + batch.len() <= self.limits.cells {
                return self.decode(&batch);
            }
            no_room = no_room.saturating_sub(1);
            self.make_room();
        }
    }

    /// Guesses what comes next: right for some tokens, and then wrong.
    fn guess(&mut self) {
        for seq in 0..self.limits.sequences {
            let Some(most) = self.scheduler.may_draft(seq) else { continue };
            let id = self.in_seq[seq].expect("it writes");
            let mut context = vec![];
            self.scheduler.append_text(seq, &mut context);
            let mut drafts = vec![];
            for _ in 0..most {
                let (mut token, _) = next_token(&context, self.all[&id].adapters);
                token += Token::from(token % 5 == 0);
                context.push(token);
                drafts.push(token);
            }
            self.scheduler.draft(seq, drafts);
        }
    }

    fn make_room(&mut self) {
        match self.scheduler.no_room() {
            NoRoom::PutBack(seq) => {
                let youngest = self.in_seq.iter().flatten().max().copied();
                assert_eq!(self.in_seq[seq].take(), youngest);
            }
            NoRoom::Ends(seq) => self.end(seq),
            NoRoom::Idle | NoRoom::Narrower => {}
            NoRoom::Nothing => panic!("there was a batch"),
        }
        self.make_moves();
    }

    fn decode(&mut self, batch: &[Entry]) {
        let adapters = self.scheduler.adapters();
        let mut samples = Vec::new();
        self.decoded += batch.len();
        let mut done_with = None;
        for (at, entry) in batch.iter().enumerate() {
            let id = self.in_seq[entry.seq].expect("only running sequences are decoded");
            let followed = &self.all[&id];
            assert!(!followed.cancelled, "a cancelled generation is gone after one step");
            assert_eq!(followed.adapters, adapters, "a batch has one set of adapters");
            assert_eq!(entry.position, self.cache[entry.seq].len(), "positions have no gap");
            assert!(entry.position < self.limits.ctx_size);
            let cell = self.new_cell(entry.token, adapters);
            self.cache[entry.seq].push(cell);
            if entry.wants_logits && done_with != Some(entry.seq) {
                let cells = &self.cache[entry.seq];
                assert!(cells.iter().all(|cell| cell.adapters == adapters));
                let context: Vec<Token> = cells.iter().map(|cell| cell.token).collect();
                let (token, verdict) = next_token(&context, adapters);
                samples.push(Sampled { seq: entry.seq, token, verdict });
                let next = batch.get(at + 1).filter(|next| next.seq == entry.seq);
                let goes_on = next.is_some_and(|next| next.token == token);
                if verdict == Verdict::Ends || !goes_on {
                    done_with = Some(entry.seq);
                }
            }
        }
        for sampled in &samples {
            let id = self.in_seq[sampled.seq].unwrap();
            self.all.get_mut(&id).unwrap().made.push(sampled.token);
        }
        let outcomes = self.scheduler.advance(&samples, Duration::from_millis(3)).to_vec();
        for outcome in outcomes {
            match outcome {
                Outcome::Reading(seq, done, total) => {
                    assert_eq!(done, self.cache[seq].len());
                    assert!(done <= total);
                }
                Outcome::Ended(seq) | Outcome::Limit(seq) => self.end(seq),
            }
        }
    }

    fn end(&mut self, seq: SeqIdx) {
        let id = self.in_seq[seq].take().expect("it ran");
        self.all.get_mut(&id).unwrap().ends += 1;
    }

    /// The text that a generation makes alone.
    fn alone(&self, followed: &Followed) -> Vec<Token> {
        let ctx_size = self.limits.ctx_size;
        let mut context = followed.prompt.clone();
        let room = if followed.shifts { usize::MAX } else { ctx_size - context.len() };
        let most = followed.most.min(room);
        let mut made = Vec::new();
        while made.len() < most {
            let (token, verdict) = next_token(&context, followed.adapters);
            made.push(token);
            if verdict == Verdict::Ends {
                break;
            }
            if context.len() >= ctx_size {
                context.drain(KEEP..KEEP + (context.len() - KEEP).div_ceil(2));
            }
            context.push(token);
        }
        made
    }

    pub(super) fn check(mut self, disturbed: bool) {
        for _ in 0..200_000 {
            if self.scheduler.running() + self.scheduler.waiting() == 0 {
                break;
            }
            self.step(0, false);
        }
        for (id, followed) in &self.all {
            assert_eq!(followed.ends, 1, "generation {id} ends exactly once");
            let alone = self.alone(followed);
            if followed.cancelled || disturbed {
                assert!(alone.starts_with(&followed.made), "generation {id}");
            } else {
                assert_eq!(followed.made, alone, "generation {id}");
            }
        }
    }
}
