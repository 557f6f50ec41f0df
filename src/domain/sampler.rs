//! The samplers that can stand in a chain, by their names.

use crate::domain::sampling::{OutOfRange, out};

/// Most names of one list.
const MAX_NAMES: usize = 32;
/// What a list of names may hold.
const KNOWN: &str = "a list of at most 32 of penalties, dry, top_n_sigma, top_k, tfs_z, typ_p, top_p, \
                     min_p, xtc, temperature, infill and adaptive_p";

/// One sampler of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerKind {
    /// Repetition, presence and frequency penalties.
    Penalties,
    /// The penalty for repeated sequences.
    Dry,
    /// Keeps what lies near the best logit.
    TopNSigma,
    /// Keeps a number of tokens.
    TopK,
    /// Tail free sampling.
    TfsZ,
    /// Locally typical sampling.
    TypicalP,
    /// Nucleus sampling.
    TopP,
    /// Keeps what is likely relative to the likeliest.
    MinP,
    /// Takes the likeliest out, sometimes.
    Xtc,
    /// Sharpens or flattens.
    Temperature,
    /// Joins tokens with the same beginning, for text that is filled in.
    Infill,
    /// Chooses by a target probability. It stands last wherever it is named.
    AdaptiveP,
}

impl SamplerKind {
    /// llama.cpp's order, with tail free sampling where it stood when llama.cpp had it.
    pub const USUAL: [Self; 10] = [
        Self::Penalties,
        Self::Dry,
        Self::TopNSigma,
        Self::TopK,
        Self::TfsZ,
        Self::TypicalP,
        Self::TopP,
        Self::MinP,
        Self::Xtc,
        Self::Temperature,
    ];

    /// Reads llama.cpp's name or one of its aliases: any case, `-` for `_` or neither.
    pub fn from_word(word: &str) -> Option<Self> {
        if word.len() > 20 {
            return None;
        }
        match word.to_ascii_lowercase().replace('-', "_").as_str() {
            "penalties" => Some(Self::Penalties),
            "dry" => Some(Self::Dry),
            "top_n_sigma" | "topnsigma" => Some(Self::TopNSigma),
            "top_k" | "topk" => Some(Self::TopK),
            "tfs_z" | "tfsz" | "tfs" => Some(Self::TfsZ),
            "typ_p" | "typp" | "typ" | "typical_p" | "typical" => Some(Self::TypicalP),
            "top_p" | "topp" | "nucleus" => Some(Self::TopP),
            "min_p" | "minp" => Some(Self::MinP),
            "xtc" => Some(Self::Xtc),
            "temperature" | "temp" => Some(Self::Temperature),
            "infill" => Some(Self::Infill),
            "adaptive_p" | "adaptivep" => Some(Self::AdaptiveP),
            _ => None,
        }
    }

    /// Reads a list of names.
    ///
    /// # Errors
    /// [`OutOfRange`] names what is not known, or the length of a list that is too long.
    pub fn list(words: &[String]) -> Result<Vec<Self>, OutOfRange> {
        if words.len() > MAX_NAMES {
            return Err(out("samplers", format!("a list of {}", words.len()), KNOWN));
        }
        let read = |word: &String| {
            let shown = || word.chars().take(40).collect::<String>();
            Self::from_word(word).ok_or_else(|| out("samplers", format!("`{}`", shown()), KNOWN))
        };
        words.iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_llama_cpp_reads_them() {
        let words = ["Top-K", "topp", "nucleus", "typical_p", "temp", "ADAPTIVE-P"];
        let words: Vec<String> = words.map(String::from).to_vec();
        let kinds = SamplerKind::list(&words).unwrap();
        assert_eq!(kinds[..2], [SamplerKind::TopK, SamplerKind::TopP]);
        assert_eq!(kinds[2..4], [SamplerKind::TopP, SamplerKind::TypicalP]);
        assert_eq!(kinds[4..], [SamplerKind::Temperature, SamplerKind::AdaptiveP]);
        assert_eq!(SamplerKind::list(&[]), Ok(vec![]));
    }

    #[test]
    fn unknown_names_are_named() {
        let error = SamplerKind::list(&["top_k".into(), "top_secret".into()]).unwrap_err();
        assert!(error.to_string().starts_with("`samplers` is `top_secret`; expected"), "{error}");
        let error = SamplerKind::list(&["x".repeat(1_000)]).unwrap_err();
        assert!(error.to_string().len() < 300, "{error}");
        let error = SamplerKind::list(&vec!["dry".into(); 33]).unwrap_err();
        assert!(error.to_string().contains("a list of 33"), "{error}");
    }
}
