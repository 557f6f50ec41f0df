//! Keys: who may use the server when it asks for one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Wrong keys of one address within [`WINDOW`] before its next tries are refused unread.
const MAX_WRONG: u32 = 20;
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses whose wrong keys are counted; beyond it the oldest counts are forgotten.
const MAX_ADDRESSES: usize = 10_000;

/// The keys of the server, as hashes, and who has tried wrong ones.
#[derive(Debug, Default)]
pub struct Keys {
    hashes: Vec<[u8; 32]>,
    wrong: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

/// What a request's key is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass.
    Pass,
    /// The key is missing or wrong.
    Wrong,
    /// The key is wrong, and its address has tried too many wrong ones just now.
    TooMany,
}

impl Keys {
    /// These keys; with none, everybody may pass.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let hashes = keys.into_iter().map(|key| Sha256::digest(key.as_bytes()).into()).collect();
        Self { hashes, wrong: Mutex::default() }
    }

    /// Whether a key is asked for.
    pub fn are_needed(&self) -> bool {
        !self.hashes.is_empty()
    }

    /// Judges the key of a request from `peer`.
    pub fn judge(&self, peer: IpAddr, key: Option<&str>) -> Verdict {
        if !self.are_needed() {
            return Verdict::Pass;
        }
        let Some(key) = key else { return Verdict::Wrong };
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        // Every hash is compared, so that the time says nothing about which one was near.
        let good =
            self.hashes.iter().fold(subtle::Choice::from(0), |good, own| good | own.ct_eq(&hash));
        if bool::from(good) {
            // However many wrong ones came from there: behind a proxy all clients have one address.
            return Verdict::Pass;
        }
        if self.tried_too_often(peer) {
            return Verdict::TooMany;
        }
        self.count_wrong(peer);
        Verdict::Wrong
    }

    fn tried_too_often(&self, peer: IpAddr) -> bool {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong
            .get(&peer)
            .is_some_and(|(count, since)| *count >= MAX_WRONG && since.elapsed() < WINDOW)
    }

    fn count_wrong(&self, peer: IpAddr) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.len() >= MAX_ADDRESSES {
            wrong.retain(|_, (_, since)| since.elapsed() < WINDOW);
        }
        if wrong.len() >= MAX_ADDRESSES {
            wrong.clear();
        }
        let entry = wrong.entry(peer).or_insert((0, Instant::now()));
        if entry.1.elapsed() >= WINDOW {
            *entry = (0, Instant::now());
        }
        entry.0 += 1;
    }
}

/// The key of a request: `Authorization: Bearer …` or `X-Api-Key: …`.
pub fn key_of(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key")?.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn only_a_right_key_passes_and_guessing_is_slowed() {
        let keys = Keys::new(["alpha", "beta"]);
        assert_eq!(keys.judge(HERE, Some("beta")), Verdict::Pass);
        assert_eq!(keys.judge(HERE, None), Verdict::Wrong);
        for _ in 0..MAX_WRONG {
            assert_eq!(keys.judge(HERE, Some("gamma")), Verdict::Wrong);
        }
        assert_eq!(keys.judge(HERE, Some("gamma")), Verdict::TooMany);
        assert_eq!(keys.judge(HERE, Some("alpha")), Verdict::Pass);
        let other = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(keys.judge(other, Some("gamma")), Verdict::Wrong);
        assert_eq!(Keys::default().judge(HERE, None), Verdict::Pass);
    }

    #[test]
    fn a_key_comes_in_either_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(key_of(&headers), None);
        headers.insert("x-api-key", "one".parse().unwrap());
        assert_eq!(key_of(&headers), Some("one"));
        headers.insert(AUTHORIZATION, "bearer two".parse().unwrap());
        assert_eq!(key_of(&headers), Some("two"));
    }
}
