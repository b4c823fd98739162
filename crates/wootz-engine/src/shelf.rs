//! Models that are loaded when they are asked for, and put away when they were not asked for long enough.
//!
//! Where:  held by whoever serves several models; it knows nothing of what a model is.
//! Idea:   a budget of bytes and a time to live. To make room, what nobody holds goes first, the one that was asked for
//!         longest ago before the others; what somebody holds never goes. Loading happens outside the lock, once for all
//!         who wait for the same model. Time is an argument.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Loaded models by name.
pub struct Shelf<M> {
    max_bytes: u64,
    state: Mutex<BTreeMap<String, Place<M>>>,
    changed: Condvar,
}

enum Place<M> {
    /// Somebody loads it.
    Loading {
        n_bytes: u64,
    },
    Here(Stored<M>),
}

struct Stored<M> {
    model: Arc<M>,
    n_bytes: u64,
    last_asked: Instant,
    /// When it may be put away; `None`: only for another's sake.
    expires: Option<Instant>,
}

/// A model that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a str,
    /// Bytes that it will take, as well as that is known before it is loaded.
    pub n_bytes: u64,
    /// How long it stays after this; `None`: until room is needed.
    pub time_to_live: Option<Duration>,
}

/// What is said of a loaded model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelved {
    /// Its name.
    pub name: String,
    /// Bytes that were set aside for it.
    pub n_bytes: u64,
    /// When it may be put away.
    pub expires: Option<Instant>,
    /// Whether somebody holds it.
    pub is_held: bool,
}

/// Why a model cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError<E> {
    /// It is larger than all models together may be.
    #[error("it takes {n_bytes} bytes, and all models together may take {max_bytes}")]
    TooLarge {
        /// What it takes.
        n_bytes: u64,
        /// The budget.
        max_bytes: u64,
    },
    /// Other models are in use; later there may be room.
    #[error("{held_bytes} of {max_bytes} bytes are held by models that are in use, and it takes {n_bytes}")]
    Busy {
        /// What it takes.
        n_bytes: u64,
        /// What is in use.
        held_bytes: u64,
        /// The budget.
        max_bytes: u64,
    },
    /// It cannot be loaded.
    #[error(transparent)]
    Load(E),
}

impl<M> Shelf<M> {
    /// An empty shelf for models of `max_bytes` together.
    pub fn new(max_bytes: u64) -> Self {
        Self { max_bytes, state: Mutex::new(BTreeMap::new()), changed: Condvar::new() }
    }

    /// The model, loaded by `load` unless it is here. Blocks while it, or another who came before, loads it.
    ///
    /// # Errors
    /// No room, or what `load` returns.
    pub fn get<E>(
        &self,
        wanted: Wanted,
        now: Instant,
        load: impl FnOnce() -> Result<M, E>,
    ) -> Result<Arc<M>, ShelfError<E>> {
        let expires = wanted.time_to_live.and_then(|time| now.checked_add(time));
        let mut places = self.lock();
        loop {
            match places.get_mut(wanted.name) {
                Some(Place::Here(stored)) => {
                    (stored.last_asked, stored.expires) = (now, expires);
                    return Ok(stored.model.clone());
                }
                Some(Place::Loading { .. }) => {
                    places = self.changed.wait(places).expect("nothing panics while it holds the shelf");
                }
                None => break,
            }
        }
        let put_away = self.make_room(&mut places, wanted.n_bytes)?;
        places.insert(wanted.name.to_owned(), Place::Loading { n_bytes: wanted.n_bytes });
        drop(places);
        drop(put_away); // unloading may take a while too
        // Whoever waits must not wait for ever, should `load` panic.
        let mut loading = Loading { shelf: self, name: wanted.name, stored: None };
        let model = Arc::new(load().map_err(ShelfError::Load)?);
        let n_bytes = wanted.n_bytes;
        loading.stored = Some(Stored { model: model.clone(), n_bytes, last_asked: now, expires });
        Ok(model)
    }

    /// Puts models away whose time is over and which nobody holds; their names.
    pub fn sweep(&self, now: Instant) -> Vec<String> {
        let is_over = |place: &Place<M>| match place {
            Place::Here(stored) => !stored.is_held() && stored.expires.is_some_and(|expires| expires <= now),
            Place::Loading { .. } => false,
        };
        let mut places = self.lock();
        let over: Vec<String> =
            places.iter().filter(|(_, place)| is_over(place)).map(|(name, _)| name.clone()).collect();
        let put_away: Vec<_> = over.iter().filter_map(|name| places.remove(name)).collect();
        drop(places);
        drop(put_away);
        over
    }

    /// Puts a model away; those who hold it keep it as long as they do. Whether it was here.
    pub fn remove(&self, name: &str) -> bool {
        let mut places = self.lock();
        match places.get(name) {
            Some(Place::Here(_)) => {
                let put_away = places.remove(name);
                drop(places);
                put_away.is_some()
            }
            _ => false,
        }
    }

    /// What is loaded, by name.
    pub fn list(&self) -> Vec<Shelved> {
        let places = self.lock();
        let here = places.iter().filter_map(|(name, place)| match place {
            Place::Here(stored) => Some(Shelved {
                name: name.clone(),
                n_bytes: stored.n_bytes,
                expires: stored.expires,
                is_held: stored.is_held(),
            }),
            Place::Loading { .. } => None,
        });
        here.collect()
    }

    /// What is loaded, by name, with what is said of it. Looking makes nothing stay longer.
    pub fn loaded(&self) -> Vec<(Shelved, Arc<M>)> {
        // Said before the models are handed out, which would make them look held.
        let said = self.list();
        let places = self.lock();
        let with_model = said.into_iter().filter_map(|shelved| match places.get(&shelved.name) {
            Some(Place::Here(stored)) => Some((shelved, stored.model.clone())),
            _ => None,
        });
        with_model.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Place<M>>> {
        self.state.lock().expect("nothing panics while it holds the shelf")
    }

    /// Takes out what must go for `n_bytes` more.
    fn make_room<E>(
        &self,
        places: &mut BTreeMap<String, Place<M>>,
        n_bytes: u64,
    ) -> Result<Vec<Place<M>>, ShelfError<E>> {
        let max_bytes = self.max_bytes;
        if n_bytes > max_bytes {
            return Err(ShelfError::TooLarge { n_bytes, max_bytes });
        }
        let total = |places: &BTreeMap<String, Place<M>>| places.values().map(Place::n_bytes).sum::<u64>();
        let held: u64 =
            places.values().filter(|place| place.idle_since().is_none()).map(Place::n_bytes).sum();
        if held + n_bytes > max_bytes {
            return Err(ShelfError::Busy { n_bytes, held_bytes: held, max_bytes });
        }
        let mut put_away = Vec::new();
        while total(places) + n_bytes > max_bytes {
            let idle = places.iter().filter_map(|(name, place)| Some((place.idle_since()?, name)));
            let oldest = idle.min().map(|(_, name)| name.clone()).expect("what is not held is idle");
            put_away.extend(places.remove(&oldest));
        }
        Ok(put_away)
    }
}

impl<M> Stored<M> {
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.model) > 1
    }
}

impl<M> Place<M> {
    fn n_bytes(&self) -> u64 {
        match self {
            Place::Loading { n_bytes } => *n_bytes,
            Place::Here(stored) => stored.n_bytes,
        }
    }

    /// When it was asked for last, if it may go.
    fn idle_since(&self) -> Option<Instant> {
        match self {
            Place::Here(stored) if !stored.is_held() => Some(stored.last_asked),
            _ => None,
        }
    }
}

/// A model's place while it is loaded: given up or filled when this is dropped.
struct Loading<'a, M> {
    shelf: &'a Shelf<M>,
    name: &'a str,
    stored: Option<Stored<M>>,
}

impl<M> Drop for Loading<'_, M> {
    fn drop(&mut self) {
        let mut places = self.shelf.lock();
        match self.stored.take() {
            Some(stored) => drop(places.insert(self.name.to_owned(), Place::Here(stored))),
            None => drop(places.remove(self.name)),
        }
        drop(places);
        self.shelf.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn wanted(name: &str, n_bytes: u64) -> Wanted<'_> {
        Wanted { name, n_bytes, time_to_live: Some(Duration::from_secs(60)) }
    }

    fn names(shelf: &Shelf<String>) -> Vec<String> {
        shelf.list().into_iter().map(|shelved| shelved.name).collect()
    }

    fn get(shelf: &Shelf<String>, name: &str, now: Instant) -> Result<Arc<String>, ShelfError<String>> {
        shelf.get(wanted(name, 40), now, || Ok(name.to_owned()))
    }

    #[test]
    fn the_one_asked_for_longest_ago_makes_room_unless_it_is_held() {
        let shelf = Shelf::new(100);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        drop(get(&shelf, "a", at(0)).unwrap());
        let b = get(&shelf, "b", at(1)).unwrap();
        drop(get(&shelf, "a", at(2)).unwrap());
        drop(get(&shelf, "c", at(3)).unwrap());
        assert_eq!(names(&shelf), ["b", "c"], "b is held");
        let c = get(&shelf, "c", at(4)).unwrap();
        let error = get(&shelf, "d", at(5)).unwrap_err();
        assert!(matches!(error, ShelfError::Busy { held_bytes: 80, .. }), "{error}");
        drop((b, c));
        drop(get(&shelf, "d", at(6)).unwrap());
        assert_eq!(names(&shelf), ["c", "d"]);
        let error = shelf.get(wanted("e", 101), at(7), || Err("unused")).unwrap_err();
        assert!(matches!(error, ShelfError::TooLarge { n_bytes: 101, .. }), "{error}");
    }

    #[test]
    fn time_runs_out_from_the_last_time_it_was_asked_for() {
        let shelf = Shelf::new(100);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let held = get(&shelf, "a", at(0)).unwrap();
        assert!(shelf.sweep(at(61)).is_empty(), "it is held");
        drop(held);
        drop(get(&shelf, "a", at(30)).unwrap());
        assert!(shelf.sweep(at(89)).is_empty());
        assert_eq!(shelf.sweep(at(90)), ["a"]);
        let for_ever = Wanted { time_to_live: None, ..wanted("b", 1) };
        drop(shelf.get(for_ever, at(0), || Ok::<_, String>("b".to_owned())).unwrap());
        assert!(shelf.sweep(at(1_000_000)).is_empty());
        assert!(shelf.remove("b") && !shelf.remove("b"));
    }

    #[test]
    fn those_who_wait_for_one_model_get_the_same_and_a_failure_leaves_no_trace() {
        let shelf: Shelf<String> = Shelf::new(100);
        let n_loads = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let load = || {
                        n_loads.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(10));
                        Ok::<_, String>("a".to_owned())
                    };
                    assert_eq!(*shelf.get(wanted("a", 40), Instant::now(), load).unwrap(), "a");
                });
            }
        });
        assert_eq!(n_loads.into_inner(), 1);
        let failed = shelf.get(wanted("b", 40), Instant::now(), || Err("broken".to_owned()));
        assert_eq!(failed.unwrap_err().to_string(), "broken");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = shelf.get(wanted("b", 40), Instant::now(), || -> Result<String, String> {
                panic!("a test's panic")
            });
        }));
        assert!(panicked.is_err());
        drop(get(&shelf, "b", Instant::now()).unwrap());
        assert_eq!(names(&shelf), ["a", "b"]);
    }
}
