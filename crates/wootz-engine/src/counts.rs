//! What an engine has and has done, in numbers.
//!
//! Where:  read by metrics ([`Host`](crate::Host) adds times); nothing decides by them.

/// What an engine has now, and what it has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineCounts {
    /// Requests that have no sequence yet.
    pub n_waiting: usize,
    /// Requests with sequences.
    pub n_running: usize,
    /// Blocks of positions.
    pub n_blocks: usize,
    /// Those of them that nobody holds.
    pub n_free_blocks: usize,
    /// Those of them that only wait for another request with the same beginning.
    pub n_cached_blocks: usize,
    /// Steps so far.
    pub n_steps: u64,
    /// Tokens that went into the last step.
    pub last_tokens: usize,
    /// Sequences of the last step.
    pub last_sequences: usize,
    /// Tokens of prompts of finished requests.
    pub prompt_tokens: u64,
    /// Those of them that were in the cache.
    pub cached_tokens: u64,
    /// New tokens of finished requests.
    pub completion_tokens: u64,
    /// Tokens of finished requests that were guessed.
    pub guessed_tokens: u64,
    /// Those of them that were right.
    pub right_tokens: u64,
    /// How often a sequence gave its blocks to another and was computed again.
    pub n_preemptions: u64,
}
