//! Vectors and scores of texts: what a model offers, and the arithmetic on its numbers.
//!
//! The model gives one row of numbers for each token; pooling is done here, over all rows of a text. So
//! it makes no difference in how many steps the text was read.

use crate::engine::brake::Brake;
use crate::engine::model::{ModelError, Threads};
use crate::engine::scheduler::Token;

/// How the rows of a text's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Not at all.
    None,
    /// Their mean.
    Mean,
    /// The first one.
    First,
    /// The last one.
    Last,
}

/// What a model says about its own vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnPooling {
    /// Nothing.
    Unsaid,
    /// They are pooled so.
    Named(Pooling),
    /// It makes scores of pairs, not vectors.
    Ranks,
}

/// What a model offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Numbers of a row; 0 when it makes none.
    pub size: usize,
    /// Tokens of the longest text.
    pub ctx_size: usize,
    /// What it says itself.
    pub pooling: OwnPooling,
    /// Whether it has a head that scores pairs.
    pub ranks: bool,
}

/// Why there are no numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoVectors {
    /// The brake was pulled.
    Cancelled,
    /// The model failed.
    Failed(ModelError),
}

impl From<ModelError> for NoVectors {
    fn from(error: ModelError) -> Self {
        Self::Failed(error)
    }
}

/// Texts to be read, as long as the brake is not pulled.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Their tokens.
    pub texts: &'a [Vec<Token>],
    /// Ends the reading.
    pub brake: &'a Brake,
}

/// Makes vectors and scores. Shared by threads; one of them reads at a time, the others wait.
pub trait Embedder: Send + Sync {
    /// What can be had.
    fn offer(&self) -> Offer;

    /// Reads texts of 1 to [`Offer::ctx_size`] tokens of the vocabulary, and hands on the numbers of each,
    /// in order: a row, or with [`Pooling::None`] a row for each token.
    ///
    /// # Errors
    /// [`NoVectors`].
    fn embed(
        &self,
        reading: Reading<'_>,
        pooling: Pooling,
        found: &mut dyn FnMut(usize, Vec<f32>),
    ) -> Result<(), NoVectors>;

    /// Reads pairs of 1 to [`Offer::ctx_size`] tokens of the vocabulary, and returns a score for each.
    ///
    /// # Errors
    /// [`NoVectors`].
    fn rank(&self, pairs: Reading<'_>) -> Result<Vec<f32>, NoVectors>;

    /// Changes the threads of later steps.
    fn set_threads(&self, threads: Threads);
}

/// Collects the rows of one text, in order.
#[derive(Debug)]
pub struct Pool {
    pooling: Pooling,
    rows: Vec<f32>,
    /// For the mean; the sum of thousands of rows wants more digits than they have.
    sums: Vec<f64>,
    count: usize,
}

impl Pool {
    /// An empty pool.
    pub fn new(pooling: Pooling) -> Self {
        Self { pooling, rows: Vec::new(), sums: Vec::new(), count: 0 }
    }

    /// Takes the row of the next token.
    pub fn push(&mut self, row: &[f32]) {
        match self.pooling {
            Pooling::None => self.rows.extend_from_slice(row),
            Pooling::First if self.count > 0 => {}
            Pooling::First | Pooling::Last => {
                self.rows.clear();
                self.rows.extend_from_slice(row);
            }
            Pooling::Mean => {
                self.sums.resize(row.len(), 0.0);
                for (sum, x) in self.sums.iter_mut().zip(row) {
                    *sum += f64::from(*x);
                }
            }
        }
        self.count += 1;
    }

    /// The numbers of the text.
    ///
    /// # Errors
    /// When one of them is not finite.
    pub fn finish(self) -> Result<Vec<f32>, ModelError> {
        let numbers = match self.pooling {
            Pooling::Mean => {
                #[expect(clippy::cast_precision_loss, reason = "texts have some thousand tokens")]
                let count = self.count as f64;
                self.sums.iter().map(|sum| narrowed(sum / count)).collect()
            }
            Pooling::None | Pooling::First | Pooling::Last => self.rows,
        };
        if numbers.iter().all(|x| x.is_finite()) {
            Ok(numbers)
        } else {
            Err(ModelError("the model made numbers that are not finite".into()))
        }
    }
}

/// Gives a row the length that llama.cpp's `embd_normalize` names: −1 leaves it, 0 makes its largest
/// number 32,760, any other `p` makes its p-norm 1. A row of zeros stays one.
pub fn normalize(row: &mut [f32], norm: i32) {
    let largest = row.iter().fold(0.0, |most, x| f64::from(x.abs()).max(most));
    if norm < 0 || largest == 0.0 {
        return;
    }
    let length = if norm == 0 {
        largest / 32_760.0
    } else {
        // Divided by the largest number first, so that no power is out of range.
        let power = f64::from(norm);
        let sum: f64 = row.iter().map(|x| (f64::from(x.abs()) / largest).powf(power)).sum();
        largest * sum.powf(1.0 / power)
    };
    for x in row {
        *x = narrowed(f64::from(*x) / length);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the numbers came with this precision")]
fn narrowed(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(pooling: Pooling) -> Vec<f32> {
        let mut pool = Pool::new(pooling);
        for row in [[1.0, 2.0], [3.0, 5.0], [2.0, -1.0]] {
            pool.push(&row);
        }
        pool.finish().unwrap()
    }

    fn normalized(norm: i32) -> Vec<f32> {
        let mut row = [3.0, -4.0];
        normalize(&mut row, norm);
        row.to_vec()
    }

    #[test]
    fn rows_become_one_as_asked() {
        assert_eq!(pooled(Pooling::None), [1.0, 2.0, 3.0, 5.0, 2.0, -1.0]);
        assert_eq!(pooled(Pooling::Mean), [2.0, 2.0]);
        assert_eq!(pooled(Pooling::First), [1.0, 2.0]);
        assert_eq!(pooled(Pooling::Last), [2.0, -1.0]);
    }

    #[test]
    fn numbers_that_are_not_finite_are_no_vector() {
        for pooling in [Pooling::None, Pooling::Mean] {
            let mut pool = Pool::new(pooling);
            pool.push(&[f32::NAN]);
            assert!(pool.finish().is_err());
        }
    }

    #[test]
    fn lengths_are_those_of_llama_cpp() {
        assert_eq!(normalized(-1), [3.0, -4.0]);
        assert_eq!(normalized(0), [24_570.0, -32_760.0]);
        assert_eq!(normalized(1), [3.0 / 7.0, -4.0 / 7.0]);
        assert_eq!(normalized(2), [0.6, -0.8]);
        assert!((normalized(3)[0] - 3.0 / 91_f32.cbrt()).abs() < 1e-6);
        // The greatest number remains, whatever the power.
        assert!((normalized(5_000)[1] + 1.0).abs() < 1e-6);
        let mut zeros = [0.0; 3];
        normalize(&mut zeros, 2);
        assert!(zeros.iter().all(|x| x.abs() < f32::MIN_POSITIVE));
    }
}
