//! API keys: who may come in, to what, and how often.
//!
//! Where:  checked for every request but `/health` and `/ready`.
//! Idea:   only digests are kept, so neither memory dumps nor files give a key away, and comparing two of them takes the
//!         same time wherever they differ. Rates and budgets are buckets that fill by the second.
//! Source: token buckets as in RFC 2697.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Instant;

use ring::digest::{SHA256, digest};

/// A key, as its digest, and what it opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    digest: [u8; 32],
    /// What it opens; `None`: everything.
    scopes: Option<BTreeSet<Scope>>,
    requests_per_minute: Option<u32>,
    tokens_per_minute: Option<u32>,
}

/// What a key may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Texts: chat, completions, messages, responses.
    Generate,
    /// Vectors, rankings, scores.
    Embed,
    /// Files and batches.
    Files,
    /// Numbers about the server.
    Metrics,
    /// Fetching models.
    Pull,
    /// Loading and unloading adapters.
    Admin,
}

impl Scope {
    const ALL: [(&str, Scope); 6] = [
        ("generate", Self::Generate),
        ("embed", Self::Embed),
        ("files", Self::Files),
        ("metrics", Self::Metrics),
        ("pull", Self::Pull),
        ("admin", Self::Admin),
    ];

    /// What an address needs; lists of models are open to every key.
    pub(crate) fn of(path: &str) -> Option<Self> {
        const EMBED: [&str; 6] =
            ["/v1/embeddings", "/v1/rerank", "/v2/rerank", "/v1/score", "/api/embed", "/rerank"];
        match path {
            "/metrics" => Some(Self::Metrics),
            "/api/pull" => Some(Self::Pull),
            "/v1/load_lora_adapter" | "/v1/unload_lora_adapter" => Some(Self::Admin),
            "/score" => Some(Self::Embed),
            _ if path.starts_with("/v1/files") || path.starts_with("/v1/batches") => Some(Self::Files),
            _ if EMBED.iter().any(|start| path.starts_with(start)) => Some(Self::Embed),
            _ if path.starts_with("/v1/models")
                || ["/api/tags", "/api/ps", "/api/version"].contains(&path) =>
            {
                None
            }
            _ => Some(Self::Generate),
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, scope)| *scope == self).map_or("", |(name, _)| name)
    }
}

/// Why a text is no key, or a line none of a file of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct KeyError {
    message: String,
}

impl KeyError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl ApiKey {
    /// Fewest characters.
    pub const MIN_LEN: usize = 8;
    /// Most characters.
    pub const MAX_LEN: usize = 256;

    /// A key from its text, which opens everything.
    ///
    /// # Errors
    /// Too short, too long, or characters that no header can carry.
    pub fn new(key: &str) -> Result<Self, KeyError> {
        let expected =
            format!("an API key has {} to {} visible ASCII characters", Self::MIN_LEN, Self::MAX_LEN);
        if !(Self::MIN_LEN..=Self::MAX_LEN).contains(&key.len()) {
            return Err(KeyError::new(format!("{expected}, got {} bytes", key.len())));
        }
        match key.chars().find(|c| !c.is_ascii_graphic()) {
            Some(c) => Err(KeyError::new(format!("{expected}, got {c:?} in it"))),
            None => Ok(Self::of_digest(sha256(key))),
        }
    }

    fn of_digest(digest: [u8; 32]) -> Self {
        Self { digest, scopes: None, requests_per_minute: None, tokens_per_minute: None }
    }

    /// A line of a file of keys: `sha256:HEX`, then any of `scopes=generate,embed,files,metrics`, `rpm=60`, `tpm=100000`.
    /// Comments begin with `#`; nothing and comments give `None`.
    ///
    /// # Errors
    /// What cannot be understood, by word.
    pub fn from_line(line: &str) -> Result<Option<Self>, KeyError> {
        let mut words = line.split('#').next().unwrap_or("").split_whitespace();
        let Some(first) = words.next() else { return Ok(None) };
        let hex = first.strip_prefix("sha256:").ok_or_else(|| {
            KeyError::new(
                "expected `sha256:` and the key's digest, not the key\nhint: printf %s KEY | sha256sum",
            )
        })?;
        let digest =
            unhex(hex).ok_or_else(|| KeyError::new("expected 64 hexadecimal digits after `sha256:`"))?;
        let mut key = Self::of_digest(digest);
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let number = || {
                let number = value.parse().ok().filter(|&n: &u32| n > 0);
                number.ok_or_else(|| {
                    KeyError::new(format!("`{name}`: expected a whole number above 0, got `{value}`"))
                })
            };
            match name {
                "scopes" => key.scopes = Some(scopes(value)?),
                "rpm" => key.requests_per_minute = Some(number()?),
                "tpm" => key.tokens_per_minute = Some(number()?),
                _ => return Err(KeyError::new(format!("`{name}`: expected `scopes=`, `rpm=` or `tpm=`"))),
            }
        }
        Ok(Some(key))
    }

    fn is(&self, key: &str) -> bool {
        let other = sha256(key);
        // No early exit: the time says nothing about where the digests differ.
        self.digest.iter().zip(&other).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
    }
}

fn scopes(names: &str) -> Result<BTreeSet<Scope>, KeyError> {
    let one = |name: &str| {
        let found = Scope::ALL.iter().find(|(known, _)| *known == name).map(|(_, scope)| *scope);
        found.ok_or_else(|| {
            KeyError::new(format!(
                "`scopes`: expected `generate`, `embed`, `files`, `metrics` or `pull`, got `{name}`"
            ))
        })
    };
    names.split(',').map(one).collect()
}

fn sha256(key: &str) -> [u8; 32] {
    digest(&SHA256, key.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn unhex(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().as_chunks::<2>().0) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// A key in use, with what is left of its rates.
#[derive(Debug)]
pub(crate) struct Holder {
    key: ApiKey,
    requests: Option<Mutex<Bucket>>,
    tokens: Option<Mutex<Bucket>>,
}

/// Why a holder has to wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub what: &'static str,
    pub seconds: u64,
}

impl Holder {
    pub(crate) fn new(key: ApiKey, now: Instant) -> Self {
        let bucket =
            |per_minute: Option<u32>| per_minute.map(|n| Mutex::new(Bucket::full(f64::from(n), now)));
        Self { requests: bucket(key.requests_per_minute), tokens: bucket(key.tokens_per_minute), key }
    }

    pub(crate) fn is(&self, key: &str) -> bool {
        self.key.is(key)
    }

    pub(crate) fn opens(&self, scope: Scope) -> bool {
        self.key.scopes.as_ref().is_none_or(|scopes| scopes.contains(&scope))
    }

    /// Takes one request from the rate, if the budget of tokens is not overdrawn.
    pub(crate) fn take_request(&self, now: Instant) -> Result<(), Wait> {
        if let Some(bucket) = &self.tokens {
            lock(bucket).wait(0.0, now).map_or(Ok(()), |seconds| Err(Wait { what: "tokens", seconds }))?;
        }
        let Some(bucket) = &self.requests else { return Ok(()) };
        let mut bucket = lock(bucket);
        match bucket.wait(1.0, now) {
            Some(seconds) => Err(Wait { what: "requests", seconds }),
            None => {
                bucket.level -= 1.0;
                Ok(())
            }
        }
    }

    /// Charges tokens that were used; the budget may be overdrawn by one request.
    pub(crate) fn charge(&self, n_tokens: usize, now: Instant) {
        if let Some(bucket) = &self.tokens {
            let mut bucket = lock(bucket);
            bucket.fill(now);
            bucket.level -= n_tokens as f64;
        }
    }
}

fn lock(bucket: &Mutex<Bucket>) -> std::sync::MutexGuard<'_, Bucket> {
    bucket.lock().expect("nothing panics while it counts")
}

/// Fills evenly up to what a minute allows.
#[derive(Debug)]
struct Bucket {
    per_minute: f64,
    level: f64,
    filled: Instant,
}

impl Bucket {
    fn full(per_minute: f64, now: Instant) -> Self {
        Self { per_minute, level: per_minute, filled: now }
    }

    fn fill(&mut self, now: Instant) {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * self.per_minute / 60.0;
        self.level = (self.level + gained).min(self.per_minute);
        self.filled = now;
    }

    /// Seconds until `wanted` is there; `None`: it is.
    fn wait(&mut self, wanted: f64, now: Instant) -> Option<u64> {
        self.fill(now);
        let lacking = wanted - self.level;
        (lacking > 0.0).then(|| (lacking * 60.0 / self.per_minute).ceil().max(1.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LINE: &str = "sha256:0d1fc90b8adb36c87ec8ee5b0d7e8d1ec6a0f1a7ff8f8d1fb8d2b66e4a14cbb1";

    #[test]
    fn a_key_is_compared_by_digest() {
        let key = ApiKey::new("correct-horse").unwrap();
        assert!(key.is("correct-horse") && !key.is("correct-hors") && !key.is(""));
        assert!(!format!("{key:?}").contains("horse"));
        assert!(ApiKey::new("short").is_err() && ApiKey::new("with a space").is_err());
    }

    #[test]
    fn a_line_holds_a_digest_and_its_limits() {
        let hex: String = sha256("correct-horse").iter().map(|byte| format!("{byte:02x}")).collect();
        let line = format!("sha256:{hex} scopes=embed,files rpm=60 # Ada's");
        let key = ApiKey::from_line(&line).unwrap().unwrap();
        assert!(key.is("correct-horse"));
        let holder = Holder::new(key, Instant::now());
        assert!(holder.opens(Scope::Embed) && !holder.opens(Scope::Generate));
        assert_eq!(ApiKey::from_line("  # nobody"), Ok(None));
        let check = |line: &str, said: &str| {
            let error = ApiKey::from_line(line).unwrap_err().to_string();
            assert!(error.contains(said), "{line}: {error}");
        };
        check("correct-horse", "not the key");
        check("sha256:12", "64 hexadecimal");
        check(&format!("{LINE} rpm=0"), "`rpm`");
        check(&format!("{LINE} rpm=x"), "`rpm`");
        check(&format!("{LINE} scopes=all"), "`scopes`");
        check(&format!("{LINE} colour=red"), "`colour`");
    }

    #[test]
    fn rates_fill_by_the_second_and_budgets_may_be_overdrawn_once() {
        let start = Instant::now();
        let holder = Holder::new(ApiKey::from_line(&format!("{LINE} rpm=2 tpm=60")).unwrap().unwrap(), start);
        assert_eq!(holder.take_request(start), Ok(()));
        assert_eq!(holder.take_request(start), Ok(()));
        assert_eq!(holder.take_request(start), Err(Wait { what: "requests", seconds: 30 }));
        let later = start + Duration::from_secs(60);
        assert_eq!(holder.take_request(later), Ok(()));
        holder.charge(100, later);
        assert_eq!(holder.take_request(later), Err(Wait { what: "tokens", seconds: 40 }));
        assert_eq!(holder.take_request(later + Duration::from_secs(40)), Ok(()));
    }

    #[test]
    fn addresses_need_what_they_do() {
        assert_eq!(Scope::of("/v1/chat/completions"), Some(Scope::Generate));
        assert_eq!(Scope::of("/api/embed"), Some(Scope::Embed));
        assert_eq!(Scope::of("/v1/batches/x/cancel"), Some(Scope::Files));
        assert_eq!(Scope::of("/v1/models"), None);
    }
}
