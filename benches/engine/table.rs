//! Figures of both sides beside each other: medians, spreads, ratios and goals.

use crate::side::Side;

/// What is hoped for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// Ours divided by theirs is at least this.
    RatioFrom(f64),
    /// Ours divided by theirs is at most this.
    RatioTo(f64),
    /// Ours is below this.
    OursBelow(f64),
    /// Nothing; the figure explains others.
    Open,
}

/// A table that fills while the sides take turns.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    rivals: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    label: String,
    goal: Goal,
    ours: Vec<f64>,
    theirs: Vec<Vec<f64>>,
}

impl Table {
    /// An empty table; `rivals` are the names of the other sides.
    pub(crate) fn new(title: impl Into<String>, rivals: Vec<String>) -> Self {
        Self { title: title.into(), rivals, rows: vec![] }
    }

    /// Adds a figure to a row, which begins with its first figure.
    pub(crate) fn put(&mut self, label: &str, goal: Goal, (side, figure): (Side, f64)) {
        let known = self.rows.iter().position(|row| row.label == label);
        let idx = known.unwrap_or_else(|| {
            let theirs = vec![vec![]; self.rivals.len()];
            self.rows.push(Row { label: label.to_owned(), goal, ours: vec![], theirs });
            self.rows.len() - 1
        });
        match side {
            Side::Ours => self.rows[idx].ours.push(figure),
            Side::Theirs(number) => self.rows[idx].theirs[number].push(figure),
        }
    }

    /// Prints one line for each row and rival.
    pub(crate) fn print(&self) {
        println!("\n{}: median (lowest to highest)", self.title);
        println!("{:44} {:27} {:27} {:24} goal", "", "ours", "theirs", "ours/theirs");
        for row in &self.rows {
            if self.rivals.is_empty() {
                println!(
                    "{:44} {:27} {:27} {:24} {}",
                    row.label,
                    shown(&row.ours),
                    "",
                    "",
                    row.goal
                );
            }
            for (name, theirs) in self.rivals.iter().zip(&row.theirs) {
                row.print(name, theirs, self.rivals.len() > 1);
            }
        }
    }
}

impl Row {
    fn print(&self, rival: &str, theirs: &[f64], named: bool) {
        // Figures of one round belong together, because the machine changes with time.
        let pairs = self.ours.iter().zip(theirs);
        let ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
        let label = if named { format!("{} | {rival}", self.label) } else { self.label.clone() };
        let (ours, theirs, ratio) = (shown(&self.ours), shown(theirs), shown(&ratios));
        println!("{label:44} {ours:27} {theirs:27} {ratio:24} {}", self.goal);
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RatioFrom(least) => write!(f, "ratio >= {least}"),
            Self::RatioTo(most) => write!(f, "ratio <= {most}"),
            Self::OursBelow(limit) => write!(f, "ours < {limit}"),
            Self::Open => Ok(()),
        }
    }
}

/// The middle value; 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn shown(values: &[f64]) -> String {
    if values.is_empty() {
        return "-".into();
    }
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let middle = median(values);
    let digits = if middle < 10.0 { 3 } else { 1 };
    format!("{middle:.digits$} ({lowest:.digits$} to {highest:.digits$})")
}
