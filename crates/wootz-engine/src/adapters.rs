//! Which adapters a model has now, and who uses them.
//!
//! Where:  owned by [`Runner`](crate::Runner); requests name an [`AdapterId`].
//! Idea:   an adapter that is loaded gets a slot of the bank and a number that no other ever has. What was computed with it
//!         is kept under that number, so that nothing of it is found again once it is gone. Who uses a slot is counted, and
//!         a slot in use is not given to another.
//! Elsewhere: what is added ([`wootz_graph::Addition`]), files (`wootz_model::AdapterFile`).

use wootz_graph::{Addition, Bank, MAX_ADAPTERS, Site};

use crate::identity::fingerprint;
use crate::{Error, Result};

/// The number of a loaded adapter; never that of another, nor 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AdapterId(pub(crate) u64);

/// The loaded adapters.
#[derive(Debug, Default)]
pub(crate) struct Adapters {
    slots: Vec<Option<Loaded>>,
    n_loaded: u64,
    bank: Bank,
}

#[derive(Debug)]
struct Loaded {
    id: AdapterId,
    fingerprint: u64,
    n_users: usize,
}

impl Adapters {
    /// The slot that the next adapter gets.
    pub(crate) fn free_slot(&self) -> Result<usize> {
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if free < MAX_ADAPTERS { Ok(free) } else { Err(Error::NoAdapterSlot(MAX_ADAPTERS)) }
    }

    /// Notes what a slot was filled with. Whether the bank has grown.
    pub(crate) fn insert(&mut self, slot: usize, additions: &[Addition]) -> (AdapterId, bool) {
        self.n_loaded += 1;
        let id = AdapterId(self.n_loaded);
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(Loaded { id, fingerprint: fingerprint(additions), n_users: 0 });
        let before = self.bank.clone();
        let new = additions.iter().map(|addition| addition.site);
        let mut sites: Vec<Site> = self.bank.sites.iter().copied().chain(new).collect();
        sites.sort_unstable();
        sites.dedup();
        let max_rank = additions.iter().map(|addition| addition.rank).max().unwrap_or(0);
        self.bank = Bank { sites, max_rank: self.bank.max_rank.max(max_rank) };
        (id, self.bank != before)
    }

    /// Forgets an adapter; the slot that it had.
    ///
    /// # Errors
    /// [`Error::AdapterInUse`], [`Error::NoAdapter`].
    pub(crate) fn remove(&mut self, id: AdapterId) -> Result<usize> {
        let slot = self.slot(id)?;
        let n_users = self.slots[slot].as_ref().map_or(0, |loaded| loaded.n_users);
        if n_users > 0 {
            return Err(Error::AdapterInUse { n_users });
        }
        self.slots[slot] = None;
        Ok(slot)
    }

    /// Where an adapter is.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if it was unloaded.
    pub(crate) fn slot(&self, id: AdapterId) -> Result<usize> {
        let is_it = |slot: &Option<Loaded>| slot.as_ref().is_some_and(|loaded| loaded.id == id);
        self.slots.iter().position(is_it).ok_or(Error::NoAdapter)
    }

    /// What tells it from other adapters, in other processes too.
    pub(crate) fn fingerprint(&self, id: AdapterId) -> Result<u64> {
        let slot = self.slot(id)?;
        self.slots[slot].as_ref().map(|loaded| loaded.fingerprint).ok_or(Error::NoAdapter)
    }

    /// Nobody uses any of them now.
    pub(crate) fn forget_users(&mut self) {
        self.slots.iter_mut().flatten().for_each(|loaded| loaded.n_users = 0);
    }

    /// One user more, or one less.
    pub(crate) fn count(&mut self, id: AdapterId, is_new: bool) {
        let mut all = self.slots.iter_mut().flatten();
        if let Some(loaded) = all.find(|loaded| loaded.id == id) {
            loaded.n_users = if is_new { loaded.n_users + 1 } else { loaded.n_users - 1 };
        }
    }

    /// What graphs must be able to add.
    pub(crate) fn bank(&self) -> &Bank {
        &self.bank
    }
}
