//! Which cells of the cache are taken, and by how many sequences.
//!
//! llama.cpp keeps the same account for itself; this one lets the scheduler know what is shared.

/// Names a cell. The numbers are ours: llama.cpp places cells where it likes.
pub(super) type Cell = u32;

/// The account.
#[derive(Debug, Default)]
pub(super) struct Cells {
    /// Sequences that hold each cell; 0 for free ones.
    holders: Vec<u16>,
    free: Vec<Cell>,
}

impl Cells {
    /// A free cell, for one sequence.
    pub(super) fn take(&mut self) -> Cell {
        if let Some(cell) = self.free.pop() {
            self.holders[cell as usize] = 1;
            return cell;
        }
        self.holders.push(1);
        Cell::try_from(self.holders.len() - 1).expect("a cache has fewer than 2^32 cells")
    }

    /// One more sequence holds each of these.
    pub(super) fn share(&mut self, cells: &[Cell]) {
        for cell in cells {
            self.holders[*cell as usize] += 1;
        }
    }

    /// One sequence less holds each of these.
    pub(super) fn release(&mut self, cells: impl IntoIterator<Item = Cell>) {
        for cell in cells {
            let holders = &mut self.holders[cell as usize];
            *holders -= 1;
            if *holders == 0 {
                self.free.push(cell);
            }
        }
    }

    /// Whether more than one sequence holds a cell.
    pub(super) fn is_shared(&self, cell: Cell) -> bool {
        self.holders[cell as usize] > 1
    }

    /// Cells that some sequence holds.
    pub(super) fn taken(&self) -> usize {
        self.holders.len() - self.free.len()
    }

    /// How many different cells these are.
    pub(super) fn count<'a>(&self, cells: impl IntoIterator<Item = &'a Cell>) -> usize {
        let mut seen = vec![false; self.holders.len()];
        let mut count = 0;
        for cell in cells {
            count += usize::from(!std::mem::replace(&mut seen[*cell as usize], true));
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_free_when_its_last_sequence_lets_it_go() {
        let mut cells = Cells::default();
        let pair = [cells.take(), cells.take()];
        cells.share(&pair[..1]);
        assert!(cells.is_shared(pair[0]) && !cells.is_shared(pair[1]));
        assert_eq!(cells.count([pair[0], pair[0], pair[1]].iter()), 2);
        cells.release(pair);
        assert_eq!(cells.taken(), 1);
        cells.release([pair[0]]);
        assert_eq!(cells.taken(), 0);
        cells.take();
        assert_eq!(cells.taken(), 1);
    }
}
